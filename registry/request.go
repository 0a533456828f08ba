package registry

import (
	"time"

	"github.com/hearth-faas/hearth"
)

// Create asks for a new function.
type Create struct {
	// Function gives account, name and configuration. Its version, state,
	// package and identifiers are the Registry's to fill in.
	// Of PackageType Image it has an Image, whose URI is looked for.
	Function hearth.Function
	Zip      []byte
	Publish  bool // make version 1 too, and return it
	// LatestPublished is to make $LATEST.PUBLISHED instead.
	LatestPublished bool
	Tags            map[string]string
	Caller          hearth.Identity // who asks, for layers of other accounts; zero is the account itself
	// CodeSigningConfig is the ARN of the configuration that the function is
	// under from the start; "" is none.
	CodeSigningConfig string
}

// UpdateCode asks for new code.
type UpdateCode struct {
	Zip           []byte
	ImageURI      string   // instead, for PackageType Image
	Architectures []string // nil is unchanged
	Publish       bool     // make a version too, and return it
	// LatestPublished is to make $LATEST.PUBLISHED instead.
	LatestPublished bool
	DryRun          bool   // check everything, change nothing
	RevisionID      string // "" is any
}

// UpdateConfiguration asks for another configuration. What is nil stays as it
// is; an empty map or slice removes what was there. Of layers only the ARNs
// count.
type UpdateConfiguration struct {
	Runtime          *string
	Handler          *string
	Role             *string
	Description      *string
	MemoryMiB        *int
	Timeout          *time.Duration
	TmpMiB           *int
	Env              map[string]string
	Layers           []hearth.Layer
	Logging          *hearth.Logging
	TracingMode      *string
	DeadLetterTarget *string
	KMSKeyARN        *string
	SnapStart        *string
	VPC              *hearth.VPC
	FileSystems      []hearth.FileSystem
	CapacityProvider *hearth.CapacityProvider
	Durable          *Durable        // of a function that was created as durable
	Image            *hearth.Image   // of which URI and Resolved stay as they are
	RevisionID       string          // "" is any
	Caller           hearth.Identity // as in Create
}

// apply sets in f what u sets.
func (u *UpdateConfiguration) apply(f *hearth.Function) {
	set(&f.Runtime, u.Runtime)
	set(&f.Handler, u.Handler)
	set(&f.Role, u.Role)
	set(&f.Description, u.Description)
	set(&f.MemoryMiB, u.MemoryMiB)
	set(&f.Timeout, u.Timeout)
	set(&f.TmpMiB, u.TmpMiB)
	set(&f.Logging, u.Logging)
	set(&f.TracingMode, u.TracingMode)
	set(&f.DeadLetterTarget, u.DeadLetterTarget)
	set(&f.KMSKeyARN, u.KMSKeyARN)
	set(&f.SnapStart, u.SnapStart)
	set(&f.VPC, u.VPC)
	if u.Env != nil {
		f.Env = u.Env
	}
	if u.Layers != nil {
		f.Layers = u.Layers
	}
	if u.CapacityProvider != nil {
		f.CapacityProvider = new(*u.CapacityProvider)
	}
	if u.FileSystems != nil {
		f.FileSystems = u.FileSystems
	}
	if u.Image != nil && f.Image != nil {
		i := *u.Image
		i.URI, i.Resolved = f.Image.URI, f.Image.Resolved
		f.Image = &i
	}
	if u.Durable != nil && f.Durable != nil {
		d := *f.Durable
		u.Durable.Apply(&d)
		f.Durable = &d
	}
}

// Durable changes the configuration of durable executions: what is nil stays
// as it is.
type Durable struct {
	ExecutionTimeout *time.Duration
	RetentionDays    *int
	KMSKeyARN        *string
}

// Apply sets in d what u sets.
func (u *Durable) Apply(d *hearth.Durable) {
	set(&d.ExecutionTimeout, u.ExecutionTimeout)
	set(&d.RetentionDays, u.RetentionDays)
	set(&d.KMSKeyARN, u.KMSKeyARN)
}

func set[T any](into *T, value *T) {
	if value != nil {
		*into = *value
	}
}

// Publish asks for a version of what $LATEST is.
type Publish struct {
	Description *string // nil is $LATEST's
	CodeSHA256  string  // in base64, as the API shows it; "" is any
	RevisionID  string  // "" is any
	// LatestPublished makes it $LATEST.PUBLISHED, in place of the one before,
	// and not the next number's.
	LatestPublished bool
}

// Usage is what an account has registered.
type Usage struct {
	CodeBytes int64 // of all packages, counted for $LATEST and each version
	Functions int
}
