package registry

import (
	"time"

	"github.com/hearth-faas/hearth"
)

// Create asks for a new function.
type Create struct {
	// Function gives account, name and configuration. Its version, state,
	// package and identifiers are the Registry's to fill in.
	Function hearth.Function
	Zip      []byte
	Publish  bool // make version 1 too, and return it
	Tags     map[string]string
}

// UpdateCode asks for new code.
type UpdateCode struct {
	Zip           []byte
	Architectures []string // nil is unchanged
	Publish       bool     // make a version too, and return it
	DryRun        bool     // check everything, change nothing
	RevisionID    string   // "" is any
}

// UpdateConfiguration asks for another configuration. What is nil stays as it
// is; an empty map or slice removes what was there.
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
	RevisionID       string // "" is any
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
	if u.FileSystems != nil {
		f.FileSystems = u.FileSystems
	}
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
}

// Usage is what an account has registered.
type Usage struct {
	CodeBytes int64 // of all packages, counted for $LATEST and each version
	Functions int
}
