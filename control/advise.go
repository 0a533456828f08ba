package control

import (
	"context"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sizing"
)

// Advice is what the executions of one version of a function have shown of the
// memory that it needs, and what that means.
type Advice struct {
	Function string `json:"function"`
	Version  string `json:"version"`
	// Since is when the evidence began: with this code and configuration.
	Since time.Time `json:"since"`
	Mode  string    `json:"mode"` // of the execution policy: advise, auto or off
	// ConfiguredMiB is the function's MemorySize, CurrentMiB what new containers
	// get, and CPUs the processors that come with that.
	ConfiguredMiB int     `json:"configuredMiB"`
	CurrentMiB    int     `json:"currentMiB"`
	CPUs          float64 `json:"cpus"`
	// Suggestion is "grow", "shrink" or absent. SuggestedMiB is 0 with "grow"
	// if there is no more to be had.
	Suggestion   string `json:"suggestion,omitempty"`
	SuggestedMiB int    `json:"suggestedMiB,omitempty"`
	// SavedGBSeconds is how much less memory a thousand executions would hold,
	// in GB-seconds; negative is more.
	SavedGBSeconds float64        `json:"savedGBSeconds,omitempty"`
	Why            string         `json:"why,omitempty"`
	Notes          []string       `json:"notes,omitempty"`
	Evidence       sizing.Summary `json:"evidence"`
}

// Sizes tells what is known of functions' memory. Safe for concurrent use.
type Sizes interface {
	// Advice is of one function, or with "" of all of the account that have
	// run, ordered by name and version.
	Advice(ctx context.Context, account hearth.Account, function string) ([]Advice, error)
}

// AdviceList is the answer of /advice.
type AdviceList struct {
	Advice []Advice `json:"advice"`
}

func (h *Handler) advice(ctx context.Context, a ask) (any, error) {
	function, err := ofAll(a.q)
	if err != nil {
		return nil, err
	}
	list, err := h.Sizes.Advice(ctx, a.account, function)
	return AdviceList{some(list)}, err
}

// Advice tells what is known of the memory that a function needs, or with ""
// each function.
func (c *Client) Advice(ctx context.Context, function string) ([]Advice, error) {
	list, err := get[AdviceList](ctx, c, "/advice", about(function))
	return list.Advice, err
}
