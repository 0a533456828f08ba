package hearth

// Concurrency is what of its account's concurrency a function has for itself,
// and the environments that are kept ready for it. A Concurrency that was
// handed out is read-only.
type Concurrency struct {
	Account  Account
	Function string // its name
	// Reserved is how many invocations of the function may run at once, which
	// the account's other functions cannot take; 0 lets nothing run. nil is
	// no reservation: the function shares what nobody has reserved.
	Reserved   *int
	Provisions []Provision
	// Scaling bounds the environments of versions on capacity providers.
	Scaling []Scaling
}

// Scaling bounds how many environments a version has.
type Scaling struct {
	Version  string
	Function *Function // the version; nil as long as it is not Active
	Min      int       // kept ready before anybody calls
	Max      int       // at most; negative is no bound
}

// Provision asks for environments of one version that are initialised before
// anybody calls.
type Provision struct {
	// Qualifier is what it was asked for: a version, or an alias, which may
	// have moved meanwhile.
	Qualifier string
	Version   string
	// Function is the version; nil as long as it is not Active.
	Function *Function
	Count    int
}

// ProvisionState is how far the environments of a Provision are, as the
// Lambda API spells it.
type ProvisionState string

// The states.
const (
	ProvisionInProgress ProvisionState = "IN_PROGRESS"
	ProvisionReady      ProvisionState = "READY"
	ProvisionFailed     ProvisionState = "FAILED" // it is tried again all the same
)

// Provisioned is what has come of the Provisions under one qualifier.
type Provisioned struct {
	State     ProvisionState
	Reason    string // of ProvisionFailed
	Allocated int    // environments that exist, also while they initialise
	Available int    // of them, those that can serve or do
}

// InitType is how an environment came to be, as its function sees it in
// AWS_LAMBDA_INITIALIZATION_TYPE.
type InitType string

// The init types.
const (
	InitOnDemand    InitType = "on-demand"
	InitProvisioned InitType = "provisioned-concurrency"
	InitManaged     InitType = "lambda-managed-instances" // of a function on a capacity provider, however it came to be
)
