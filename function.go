package hearth

import "time"

// Function is one version of a function: its code, its configuration and its
// state. A published version never changes; Latest does, and then has a new
// Generation. A *Function that was handed out is read-only.
type Function struct {
	Account Account
	Region  string
	Name    string
	Version string // Latest, LatestPublished, or "1", "2", …

	// Generation is raised by each change of code or configuration of this
	// function, so that an execution environment can tell whether it is of
	// the present state. It is unique among all functions and never reused.
	Generation uint64

	Runtime       string // such as "python3.12"; "" for an image
	Handler       string
	Role          string // an IAM role ARN; kept, and handed to the function's session
	Description   string
	MemoryMiB     int
	Timeout       time.Duration // whole seconds
	TmpMiB        int           // size of /tmp
	Architectures []string      // exactly one: "x86_64" or "arm64"
	Env           map[string]string

	PackageType string // "Zip" or "Image"
	Package     Package
	Layers      []Layer
	Logging     Logging

	TracingMode      string // "PassThrough" or "Active"
	DeadLetterTarget string
	KMSKeyARN        string
	SnapStart        string // "None" or "PublishedVersions"
	VPC              VPC
	FileSystems      []FileSystem
	Image            *Image            // of PackageType Image, nil otherwise
	TenantIsolation  string            // "" or "PER_TENANT": an environment serves one tenant only
	Durable          *Durable          // nil: not a durable function
	CapacityProvider *CapacityProvider // nil: on the machine's own capacity
	// Shared is set of another account's code that is run for this one; nil
	// otherwise.
	Shared *Shared `json:",omitempty"`

	SigningProfileVersionARN string // of a package whose signature was verified
	SigningJobARN            string

	State             State
	StateReason       string
	StateReasonCode   string
	UpdateStatus      UpdateStatus
	UpdateReason      string
	UpdateReasonCode  string
	LastModified      time.Time
	RevisionID        string // a UUID, new with every change, also of State
	RuntimeVersionARN string
	MasterARN         string
	PublishedAt       time.Time // zero for Latest
}

// Key names the code and configuration that an execution environment was made
// from: equal keys run the same thing.
type Key struct {
	Account    Account
	Name       string
	Version    string
	Generation uint64
	Owner      Account `json:",omitempty"` // of code that is shared with Account; "" is its own
}

// Key returns f's key.
func (f *Function) Key() Key {
	k := Key{Account: f.Account, Name: f.Name, Version: f.Version, Generation: f.Generation}
	if f.Shared != nil {
		k.Owner = f.Shared.Owner
	}
	return k
}

// ARN is the function's ARN without a qualifier.
func (f *Function) ARN() string {
	return "arn:aws:lambda:" + f.Region + ":" + string(f.Account) + ":function:" + f.Name
}

// QualifiedARN is the function's ARN with its version.
func (f *Function) QualifiedARN() string { return f.ARN() + ":" + f.Version }

// LogGroup is where the function's log goes.
func (f *Function) LogGroup() string {
	if f.Logging.Group != "" {
		return f.Logging.Group
	}
	return "/aws/lambda/" + f.Name
}

// Package is a function's code as it was uploaded, stored under its SHA-256.
// The zero Package is no code.
type Package struct {
	SHA256   string // lower-case hexadecimal
	Size     int64  // bytes of the archive
	Unpacked int64  // bytes of the files in it
}

// Image is a container image that a function runs from, and what of its own
// configuration the function overrides.
type Image struct {
	URI      string // as the caller gave it
	Resolved string // the same with the digest that it had when it was taken

	EntryPoint       []string // nil is the image's own; so with the others
	Command          []string
	WorkingDirectory string
}

// Durable is the configuration of a function whose executions are durable.
type Durable struct {
	ExecutionTimeout time.Duration // whole seconds
	RetentionDays    int           // how long an ended execution is kept
	KMSKeyARN        string        // kept and answered as configured
}

// CapacityProvider places a function's environments on the instances of a
// capacity provider.
type CapacityProvider struct {
	ARN             string
	MaxConcurrency  int     // invocations at once in one environment; 0 is not set
	MemoryGiBPerCPU float64 // 0 is not set
}

// Layer is a layer version that a function uses; its files are merged into
// /opt in the function's order.
type Layer struct {
	ARN     string // with the version
	Package Package
}

// Logging is a function's log configuration. The zero value is plain text at
// all levels into the default group.
type Logging struct {
	Format           string // "Text" or "JSON"
	ApplicationLevel string // for JSON: TRACE … FATAL
	SystemLevel      string // for JSON: DEBUG, INFO, WARN
	Group            string // "" is /aws/lambda/NAME
}

// VPC is kept and answered as configured; it selects no network.
type VPC struct {
	SubnetIDs        []string
	SecurityGroupIDs []string
	IPv6Allowed      bool
}

// FileSystem is kept and answered as configured.
type FileSystem struct{ ARN, LocalMountPath string }

// State is where a function is in its life.
type State string

// States as the Lambda API spells them.
const (
	Pending  State = "Pending"
	Active   State = "Active"
	Inactive State = "Inactive"
	Failed   State = "Failed"
)

// UpdateStatus tells how the last change of a function's code or
// configuration went.
type UpdateStatus string

// Update statuses as the Lambda API spells them.
const (
	UpdateSuccessful UpdateStatus = "Successful"
	UpdateFailed     UpdateStatus = "Failed"
	UpdateInProgress UpdateStatus = "InProgress"
)
