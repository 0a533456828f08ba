package control

import (
	"context"
	"net/url"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// SharedRun is what the owner of code is told of one run of it by another
// account: nothing that was given to it, nor what it gave or printed, nor what
// the caller calls it.
type SharedRun struct {
	RequestID string         `json:"requestId"`
	At        time.Time      `json:"at"` // when it had ended
	Function  string         `json:"function"`
	Version   string         `json:"version,omitempty"`
	Account   hearth.Account `json:"account"` // whose run it was, as listSharedUses names it
	Terms     string         `json:"terms"`   // the offer, or the task and stage of an API, that let it in
	// Start is the way of S00.3; "" is of one that was refused.
	Start hearth.Path `json:"start,omitempty"`
	// Outcome is a word of Hearth's: ok, error, memory, timeout, crash or the kind
	// of the error for which it could not be run, of which Why says more.
	Outcome string `json:"outcome"`
	Why     string `json:"why,omitempty"`
	// Spent is what the function's side of it took, in nanoseconds: attach, boot,
	// init and run. How long requests and answers take depends on what they hold.
	Spent map[string]time.Duration `json:"spent"`
}

// SharedRuns is the answer of /shared-runs, the newest first.
type SharedRuns struct {
	Runs []SharedRun `json:"runs"`
}

// sharedRuns are the runs of the account's code by others under one request id,
// which the others tell it: there is no list of them.
func (h *Handler) sharedRuns(ctx context.Context, a ask) (any, error) {
	request, err := needed(a, "request")
	if err != nil {
		return nil, err
	}
	found := SharedRuns{[]SharedRun{}}
	for _, kind := range []hearth.DecisionKind{hearth.DecisionPlace, hearth.DecisionRefuse} {
		ds, err := h.Decisions.Query(ctx, DecisionQuery{Owner: a.account, RequestID: request, Kind: kind, Limit: MaxDecisions})
		if err != nil {
			return nil, err
		}
		for _, d := range ds {
			if d.Owner != a.account || d.RequestID != request {
				continue
			}
			found.Runs = append(found.Runs, sharedRun(d))
		}
	}
	return found, nil
}

func sharedRun(d hearth.Decision) SharedRun {
	r := SharedRun{
		RequestID: d.RequestID, At: d.At, Function: d.OwnerFunction, Version: d.Version, Account: d.Account, Terms: d.Terms,
		Outcome: d.Outcome, Why: d.Withheld, Spent: map[string]time.Duration{},
	}
	if d.Kind == hearth.DecisionPlace {
		r.Start = hearth.Path(d.Chosen)
	}
	for _, s := range []hearth.Stage{hearth.StageAttach, hearth.StageBoot, hearth.StageInit, hearth.StageRun} {
		if d.Spent[s] > 0 {
			r.Spent[s.String()] = d.Spent[s]
		}
	}
	return r
}

// SharedRuns tells of the runs of the account's own code that another account
// made under a request id.
func (c *Client) SharedRuns(ctx context.Context, request string) ([]SharedRun, error) {
	out, err := get[SharedRuns](ctx, c, "/shared-runs", url.Values{"request": {request}})
	return out.Runs, err
}
