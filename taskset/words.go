package taskset

import (
	"time"

	"github.com/hearth-faas/hearth"
)

// API is a named set of an account's functions which other accounts call, as
// its owner sees it.
type API struct {
	Format int `json:"v"`

	ID          string         `json:"id"`
	Owner       hearth.Account `json:"owner"`
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`

	Settings

	// Except are accounts from which access was withdrawn.
	Except []hearth.Account `json:"except,omitempty"`

	Versions []Version      `json:"versions"` // by Number
	Stages   map[string]int `json:"stages"`   // the version that each is at
	Last     int            `json:"last"`     // the highest number that a version has had

	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// Settings are what an owner says of an API beside its tasks.
type Settings struct {
	// Open: every account that asks gets access at once. Otherwise those of
	// Accounts do, and others wait until the owner approves.
	Open     bool             `json:"open,omitempty"`
	Accounts []hearth.Account `json:"accounts,omitempty"`
	// Key: a call needs an API key of its subscription.
	Key bool `json:"key,omitempty"`
	// Quota bounds each subscription that has none of its own, and KeyQuota each
	// of its keys beside that.
	Quota    Quota `json:"quota,omitzero"`
	KeyQuota Quota `json:"keyQuota,omitzero"`
	// Markup is what is asked on top of what a run costs, as a share of it.
	Markup float64 `json:"markup,omitempty"`
	// Reaches is what the tasks need of the network, as destinations of
	// hearth.NetworkPolicy. It is what a run may reach whose subscription does
	// not say otherwise.
	Reaches []string `json:"reaches,omitempty"`
	// Stage is the one that a call without one is for; "" is DefaultStage.
	Stage string `json:"stage,omitempty"`
}

// DefaultStage is what the stage is called that the first version is put at.
const DefaultStage = "prod"

// Quota bounds calls; a zero field does not. What is counted by day and month is
// of universal time.
type Quota struct {
	Rate        float64 `json:"rate,omitempty"`  // calls that begin in a second
	Burst       int     `json:"burst,omitempty"` // at once, beyond Rate; 0 is one second's
	Concurrency int     `json:"concurrency,omitempty"`
	Day         int64   `json:"day,omitempty"`        // calls
	Month       int64   `json:"month,omitempty"`      // calls
	CPUSeconds  float64 `json:"cpuSeconds,omitempty"` // of a month, as metered; neither this nor Concurrency is for keys
}

// Version is a list of tasks, and of what they want of subscribers. It never
// changes.
type Version struct {
	Number      int    `json:"number"`
	Description string `json:"description,omitempty"`
	Tasks       []Task `json:"tasks"` // by name
	// Parameters are what all tasks find in their environment of what a
	// subscriber has set.
	Parameters []hearth.Parameter `json:"parameters,omitempty"`
	Created    time.Time          `json:"created"`
}

// Task is a member of a set: a published version of a function, which never
// changes either, under a name of the API's own.
type Task struct {
	Name     string `json:"name"`
	Function string `json:"function"`
	Version  string `json:"version"` // a number
}

// Status is where a subscription stands.
type Status string

// The statuses.
const (
	Pending   Status = "pending"   // it was asked for
	Active    Status = "active"    // it may be used
	Denied    Status = "denied"    // the owner has said no
	Withdrawn Status = "withdrawn" // the owner has taken it back, or the API is gone

	// What an active one can be besides, which is shown and not kept.
	Raised    Status = "raised"    // the owner asks for more than the subscriber has agreed to
	Suspended Status = "suspended" // the owner's account is
)

// Subscription is an account's access to an API: names of its own for all
// tasks, present and future, which are ALIAS--TASK.
type Subscription struct {
	Format int `json:"v"`

	ID      string         `json:"id"`
	Account hearth.Account `json:"account"`
	Alias   string         `json:"alias"`
	Owner   hearth.Account `json:"owner"`
	API     string         `json:"api"`   // its name
	APIID   string         `json:"apiId"` // its id: another API of the name is another
	Status  Status         `json:"status"`
	// Quota is this subscription's own; nil is the API's.
	Quota *Quota `json:"quota,omitempty"`
	// Network is what a run may reach: what the subscriber has said, or what the
	// API said that it needs when the account subscribed. nil, which older records
	// have, is what the API says now.
	Network *hearth.NetworkPolicy `json:"network,omitempty"`
	// Markup is the most that the subscriber has agreed to; nil, which only those of
	// APIs that are gone have, is any.
	Markup *float64 `json:"markup,omitempty"`
	Keys   []Key    `json:"keys,omitempty"`

	// Set are the names of the parameters that were set. Their values are Sealed,
	// and are others with each Values. Neither of the two is shown.
	Set    []string `json:"set,omitempty"`
	Sealed []byte   `json:"sealed,omitempty"`
	Values string   `json:"values,omitempty"`

	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// life names what an account has of an API, under whatever alias, and again
// after it has left.
func (r *Subscription) life() string { return lifeOf(r.APIID, r.Account) }

func lifeOf(api string, a hearth.Account) string { return api + "/" + string(a) }

// Key is an API key of a subscription. Its secret is shown once, and kept as a
// hash.
type Key struct {
	ID      string    `json:"id"`
	Name    string    `json:"name,omitempty"`
	Hash    []byte    `json:"hash,omitempty"` // SHA-256 of the secret; not shown
	Created time.Time `json:"created"`
}

// Counts are the calls that a subscription or a key was let in for.
type Counts struct {
	Day        string `json:"day"` // such as 2026-11-28
	DayCalls   int64  `json:"dayCalls"`
	Month      string `json:"month"`
	MonthCalls int64  `json:"monthCalls"`
}
