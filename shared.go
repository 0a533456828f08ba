package hearth

import (
	"slices"
	"time"
)

// Shared is set of a Function that is another account's code, run for the
// account that calls it under a name of its own (a shared alias). Such a
// Function is derived: Account and Name are the caller's, code, runtime and
// handler the owner's; Env is the owner's with the caller's parameters over it,
// which neither may see of the other. Read-only, like the Function.
type Shared struct {
	// Owner is whose code it is, OwnerFunction and OwnerVersion what it is called
	// there, and OwnerGeneration that of its code and configuration.
	Owner           Account
	OwnerFunction   string
	OwnerVersion    string
	OwnerGeneration uint64
	// Offer is the id of the owner's offer.
	Offer string
	// Markup is what the owner asks on top of what a run costs, as a share of it:
	// 0.25 is a quarter more.
	Markup float64
	// Network is what the caller lets the run reach.
	Network NetworkPolicy
	// API, Stage and Task are of a task API (S06) that it was called through, and
	// Subscription is the id of the caller's access to that; "" through none.
	API          string `json:",omitempty"`
	Stage        string `json:",omitempty"`
	Task         string `json:",omitempty"`
	Subscription string `json:",omitempty"`
}

// NetworkPolicy bounds what a container may reach. The zero value is nothing,
// names included.
type NetworkPolicy struct {
	// Open: everything that any function of this server may reach.
	Open bool `json:"open,omitempty"`
	// Allow are destinations, if it is not open: a host name, *.suffix of names,
	// an IPv4 address or a prefix of them, each with ":port", or with ":*" for
	// all ports. Names are resolved for these alone.
	Allow []string `json:"allow,omitempty"`
}

// Tenant names whose instances run what has the key: the account's or, of code
// that another account shares with it, those of the two alone.
func (k Key) Tenant() Account { return Tenant(k.Account, k.Owner) }

// Tenant names whose instances run an account's functions, or with an owner what
// that one shares with the account.
func Tenant(account, owner Account) Account {
	if owner == "" {
		return account
	}
	return account + "+" + owner
}

// Pair undoes Tenant. The owner is "" if it is one account's alone.
func (a Account) Pair() (account, owner Account) {
	for i := range len(a) {
		if a[i] == '+' {
			return a[:i], a[i+1:]
		}
	}
	return a, ""
}

// Offer is what an account grants of one function of its own: others may run
// it under names of their own, without seeing its code.
type Offer struct {
	ID       string  `json:"id"`
	Owner    Account `json:"owner"`
	Function string  `json:"function"`
	// Versions are the versions and aliases that may be run, the first unless the
	// caller pins another; "" and $LATEST are what changes, and "*" every number.
	Versions    []string `json:"versions,omitempty"`
	Description string   `json:"description,omitempty"`
	// Public: every account may accept it, but for those of Except. Otherwise
	// those of Accounts may.
	Public   bool      `json:"public,omitempty"`
	Accounts []Account `json:"accounts,omitempty"`
	Except   []Account `json:"except,omitempty"`
	// What a caller may choose. A zero bound is the function's own.
	MinMemoryMiB      int `json:"minMemoryMiB,omitempty"`
	MaxMemoryMiB      int `json:"maxMemoryMiB,omitempty"`
	MinTimeoutSeconds int `json:"minTimeoutSeconds,omitempty"`
	MaxTimeoutSeconds int `json:"maxTimeoutSeconds,omitempty"`

	Parameters []Parameter `json:"parameters,omitempty"`
	// Reaches is what the code needs of the network, and all of it, as the owner
	// says: destinations as of NetworkPolicy.Allow. It is what a caller allows
	// that does not say otherwise.
	Reaches []string `json:"reaches,omitempty"`

	// Limits of each caller; 0 is none.
	Concurrency int     `json:"concurrency,omitempty"` // runs at a time
	Rate        float64 `json:"rate,omitempty"`        // runs that begin in a second
	Calls       int64   `json:"calls,omitempty"`       // runs in all
	// Markup is what is asked on top of what a run costs, as a share of it.
	Markup float64 `json:"markup,omitempty"`

	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// Parameter is what the code finds in its environment, by its name, of what the
// caller has said.
type Parameter struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Secret      bool   `json:"secret,omitempty"`
	Required    bool   `json:"required,omitempty"`
	Default     string `json:"default,omitempty"`
}

// Grants reports whether the account may run what is offered.
func (o *Offer) Grants(a Account) bool {
	if o.Public {
		return !slices.Contains(o.Except, a)
	}
	return slices.Contains(o.Accounts, a)
}

// SharedAlias is an account's own name for a function of another's: invoking
// that name runs it. What its parameters were set to is never shown.
type SharedAlias struct {
	Account Account `json:"account"`
	Name    string  `json:"name"`
	ARN     string  `json:"arn"`
	Offer   string  `json:"offer"`
	Owner   Account `json:"owner"`
	// Version is the version or alias of the owner's that is run; "" is the
	// first of the offer.
	Version        string        `json:"version,omitempty"`
	Description    string        `json:"description,omitempty"`
	MemoryMiB      int           `json:"memoryMiB,omitempty"`      // 0 is the function's own
	TimeoutSeconds int           `json:"timeoutSeconds,omitempty"` // 0 is the function's own
	Network        NetworkPolicy `json:"network"`
	// Markup is the most that the account has agreed to; nil is any.
	Markup *float64 `json:"markup,omitempty"`
	// Set are the names of the parameters that were set.
	Set     []string  `json:"set,omitempty"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
	// Status is "active", or why a call of it is refused.
	Status string `json:"status"`
}

// SharedUse is what became of the runs of an alias, without contents: what its
// two accounts are told. The ends are Hearth's own words (End), for what code
// says of itself could say anything.
type SharedUse struct {
	Offer   string           `json:"offer"`
	Owner   Account          `json:"owner"`
	Account Account          `json:"account"` // the caller, who pays
	Calls   int64            `json:"calls"`
	Refused int64            `json:"refused"` // by the offer's limits
	Ends    map[string]int64 `json:"ends,omitempty"`
}
