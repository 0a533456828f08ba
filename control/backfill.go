package control

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/backfill"
)

// Backfills runs data sets through functions. Safe for concurrent use. Errors
// are those of backfill.Jobs.
type Backfills interface {
	List(account hearth.Account) []backfill.Status
	Status(account hearth.Account, id string) (backfill.Status, error)
	Start(ctx context.Context, account hearth.Account, spec backfill.Spec) (backfill.Status, error)
	Cancel(ctx context.Context, account hearth.Account, id string) error
	Resume(ctx context.Context, account hearth.Account, id string) error
	Remove(ctx context.Context, account hearth.Account, id string) error
	Report(ctx context.Context, account hearth.Account, id string, take func(backfill.Failure) bool) error
}

// BackfillList is the answer of /backfills, the newest first.
type BackfillList struct {
	Backfills []backfill.Status `json:"backfills"`
}

func (h *Handler) backfills(_ context.Context, a ask) (any, error) {
	if id := a.q.Get("id"); id != "" {
		s, err := h.Backfills.Status(a.account, id)
		return BackfillList{[]backfill.Status{s}}, err
	}
	return BackfillList{some(h.Backfills.List(a.account))}, nil
}

// BackfillReport is the answer of /backfills/report.
type BackfillReport struct {
	Failures []backfill.Failure `json:"failures"`
	More     bool               `json:"more"` // beyond the limit
}

func (h *Handler) backfillReport(ctx context.Context, a ask) (any, error) {
	limit, err := number(a.q, "limit", 100, MaxDecisions)
	if err != nil {
		return nil, err
	}
	r := BackfillReport{Failures: []backfill.Failure{}}
	err = h.Backfills.Report(ctx, a.account, a.q.Get("id"), func(f backfill.Failure) bool {
		if r.More = len(r.Failures) == limit; !r.More {
			r.Failures = append(r.Failures, f)
		}
		return !r.More
	})
	return r, err
}

func (h *Handler) startBackfill(ctx context.Context, a ask) (any, error) {
	var spec backfill.Spec
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&spec); err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The body does not say what to do: %v.", err)
	}
	s, err := h.Backfills.Start(ctx, a.account, spec)
	return BackfillList{[]backfill.Status{s}}, err
}

// onBackfill is an action on one backfill, and answers what it is then.
func (h *Handler) onBackfill(act func(Backfills) func(context.Context, hearth.Account, string) error) answer {
	return func(ctx context.Context, a ask) (any, error) {
		id := a.q.Get("id")
		if id == "" {
			return nil, hearth.Errorf(hearth.InvalidParameter, "Which backfill? Add ?id=ID.")
		}
		if err := act(h.Backfills)(ctx, a.account, id); err != nil {
			return nil, err
		}
		s, err := h.Backfills.Status(a.account, id)
		if hearth.KindOf(err) == hearth.NotFound { // it was removed
			return BackfillList{[]backfill.Status{}}, nil
		}
		return BackfillList{[]backfill.Status{s}}, err
	}
}

// Backfills tells of all backfills, or of the one with the id.
func (c *Client) Backfills(ctx context.Context, id string) ([]backfill.Status, error) {
	v := url.Values{}
	set(v, "id", id)
	list, err := get[BackfillList](ctx, c, "/backfills", v)
	return list.Backfills, err
}

// StartBackfill begins a backfill.
func (c *Client) StartBackfill(ctx context.Context, spec backfill.Spec) (s backfill.Status, err error) {
	body, err := json.Marshal(spec)
	if err != nil {
		return s, err
	}
	list, err := send[BackfillList](ctx, c, http.MethodPost, "/backfills/start", nil, body)
	if err == nil && len(list.Backfills) > 0 {
		s = list.Backfills[0]
	}
	return s, err
}

// OnBackfill does something with a backfill: cancel, resume or remove.
func (c *Client) OnBackfill(ctx context.Context, action, id string) error {
	_, err := send[BackfillList](ctx, c, http.MethodPost, "/backfills/"+action, url.Values{"id": {id}}, nil)
	return err
}

// BackfillReport tells which items a backfill gave up, at most limit.
func (c *Client) BackfillReport(ctx context.Context, id string, limit int) (BackfillReport, error) {
	return get[BackfillReport](ctx, c, "/backfills/report", url.Values{"id": {id}, "limit": {strconv.Itoa(limit)}})
}
