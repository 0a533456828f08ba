package control

import (
	"context"
	"net/url"
	"strconv"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/audit"
)

// Audits reads the audit log. Safe for concurrent use.
type Audits interface {
	// Find returns the newest records that fit, newest first.
	Find(f audit.Filter) ([]audit.Event, error)
	// Verify checks the log's chain; since is a mark of an earlier time, or "".
	Verify(since string) (audit.Verdict, error)
}

// AuditList is the answer of /audit, newest first.
type AuditList struct {
	Events []audit.Event `json:"events"`
}

// audit answers with the account's records: what its principals did, and what
// others did with what is its. The operator's root sees everybody's.
func (h *Handler) audit(_ context.Context, a ask) (any, error) {
	if h.Audits == nil {
		return nil, hearth.Errorf(hearth.NotBuilt, "There is no audit log here.")
	}
	f := audit.Filter{
		Account: hearth.Account(a.q.Get("account")), Who: a.q.Get("who"), Action: a.q.Get("action"), Resource: a.q.Get("resource"),
	}
	if a.account != h.Operator {
		f.Sees = a.account
	}
	var err error
	if f.Limit, err = number(a.q, "limit", 100, audit.MaxLimit); err != nil {
		return nil, err
	}
	for name, into := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if s := a.q.Get(name); s != "" {
			if *into, err = time.Parse(time.RFC3339Nano, s); err != nil {
				return nil, hearth.Errorf(hearth.InvalidParameter, "%s: %q is no time such as 2006-01-02T15:04:05Z.", name, s)
			}
		}
	}
	if s := a.q.Get("errors"); s != "" {
		if f.Errors, err = strconv.ParseBool(s); err != nil {
			return nil, hearth.Errorf(hearth.InvalidParameter, "errors: %q is neither true nor false.", s)
		}
	}
	if s := a.q.Get("before"); s != "" {
		if f.Before, err = strconv.ParseUint(s, 10, 64); err != nil {
			return nil, hearth.Errorf(hearth.InvalidParameter, "before: %q is no record's number.", s)
		}
	}
	list, err := h.Audits.Find(f)
	return AuditList{some(list)}, err
}

// verifyAudit checks the log's chain, for the operator.
func (h *Handler) verifyAudit(_ context.Context, a ask) (any, error) {
	if h.Audits == nil {
		return nil, hearth.Errorf(hearth.NotBuilt, "There is no audit log here.")
	}
	if a.account != h.Operator {
		return nil, hearth.Errorf(hearth.AccessDenied, "The audit log is of all accounts: only the root of the operator's account %s may have it verified.", h.Operator)
	}
	return h.Audits.Verify(a.q.Get("mark"))
}

// Audit finds records of the audit log, newest first. f.Sees is not sent: what
// the caller may see is decided by whose root it is.
func (c *Client) Audit(ctx context.Context, f audit.Filter) ([]audit.Event, error) {
	q := url.Values{}
	set(q, "account", string(f.Account))
	set(q, "who", f.Who)
	set(q, "action", f.Action)
	set(q, "resource", f.Resource)
	for name, at := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !at.IsZero() {
			q.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	if f.Errors {
		q.Set("errors", "true")
	}
	if f.Before != 0 {
		q.Set("before", strconv.FormatUint(f.Before, 10))
	}
	if f.Limit != 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	list, err := get[AuditList](ctx, c, "/audit", q)
	return list.Events, err
}

// VerifyAudit has the server check its audit log.
func (c *Client) VerifyAudit(ctx context.Context, mark string) (audit.Verdict, error) {
	q := url.Values{}
	set(q, "mark", mark)
	return get[audit.Verdict](ctx, c, "/audit/verify", q)
}
