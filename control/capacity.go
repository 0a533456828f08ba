package control

import (
	"context"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// Capacity is the answer of /capacity: the kinds of this machine's capacity,
// what they cost, and what was spent.
type Capacity struct {
	Subpools []Subpool `json:"subpools"`
	// Feed tells of variable capacity; absent where there is none.
	Feed *Feed `json:"feed,omitempty"`
	// Functions are what the account's functions have cost, by kind.
	Functions []Spending `json:"functions"`
}

// Subpool is one kind of capacity. The account is set of one that is its own.
// What was used is since the start, of all accounts.
type Subpool struct {
	Kind         hearth.CapacityKind `json:"kind"`
	Account      hearth.Account      `json:"account,omitempty"`
	CapacityMiB  int                 `json:"capacityMiB"`  // that there is now
	CommittedMiB int                 `json:"committedMiB"` // promised to containers
	MostMiB      int                 `json:"mostMiB"`      // that there may be
	Instances    int                 `json:"instances"`    // active ones
	Warming      int                 `json:"warming"`      // ready ones that belong to nobody yet
	Waiting      int                 `json:"waiting"`      // invocations that wait for it
	Price        float64             `json:"price"`        // of a GiB for an hour
	Invocations  uint64              `json:"invocations"`
	GiBSeconds   float64             `json:"gibSeconds"`
	Cost         float64             `json:"cost"`
	Withdrawn    uint64              `json:"withdrawn"` // invocations that were cut
}

// Feed is what is known of variable capacity.
type Feed struct {
	Source       string     `json:"source"`
	Known        bool       `json:"known"` // it has ever said anything
	Fresh        bool       `json:"fresh"` // and that is not too old
	Price        float64    `json:"price"`
	AvailableMiB int        `json:"availableMiB"` // negative is all that is configured
	At           *time.Time `json:"at,omitempty"` // when it was so
	Error        string     `json:"error,omitempty"`
}

// Spending is what the invocations of a function have used of one kind of
// capacity, and what that has cost.
type Spending struct {
	Function    string              `json:"function"`
	Kind        hearth.CapacityKind `json:"kind"`
	Invocations uint64              `json:"invocations"`
	GiBSeconds  float64             `json:"gibSeconds"`
	Cost        float64             `json:"cost"`
	Withdrawn   uint64              `json:"withdrawn,omitempty"`
}

// Capacities tells of the kinds of capacity. Safe for concurrent use.
type Capacities interface {
	Capacity(ctx context.Context, account hearth.Account) (Capacity, error)
}

func (h *Handler) capacity(ctx context.Context, a ask) (any, error) {
	c, err := h.Capacities.Capacity(ctx, a.account)
	c.Subpools, c.Functions = some(c.Subpools), some(c.Functions)
	return c, err
}

// Capacity tells of the kinds of capacity, and what the account's functions
// have cost.
func (c *Client) Capacity(ctx context.Context) (Capacity, error) {
	return get[Capacity](ctx, c, "/capacity", nil)
}
