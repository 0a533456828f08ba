package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"

	hearth "github.com/hearth-faas/hearth"
)

// Policies keeps execution policies. A function "" stands for the account.
// Safe for concurrent use.
type Policies interface {
	// Own is what was said for the function or the account alone; nil if
	// nothing was.
	Own(account hearth.Account, function string) *hearth.ExecutionPolicy
	// Of is what is in force.
	Of(account hearth.Account, function string) *hearth.ExecutionPolicy
	// Set replaces what was said; nil takes it back. A function that there is
	// not is a ResourceNotFound, a policy that can't be an
	// InvalidParameterValue.
	Set(ctx context.Context, account hearth.Account, function string, p *hearth.ExecutionPolicy) error
}

// Policy is the answer of /policy and /policy/set.
type Policy struct {
	Function string `json:"function,omitempty"` // "" is the account
	// Own is what was said for it alone; absent if nothing was.
	Own *hearth.ExecutionPolicy `json:"own,omitempty"`
	// Effective is what is in force. A setting that is absent is at its
	// default.
	Effective *hearth.ExecutionPolicy `json:"effective"`
}

func (h *Handler) policy(_ context.Context, a ask) (any, error) {
	function := a.q.Get("function")
	return Policy{function, h.Policies.Own(a.account, function), h.Policies.Of(a.account, function)}, nil
}

// setPolicy takes a policy, or nothing at all, which takes back what was said.
func (h *Handler) setPolicy(ctx context.Context, a ask) (any, error) {
	var p *hearth.ExecutionPolicy
	if len(bytes.TrimSpace(a.body)) > 0 {
		dec := json.NewDecoder(bytes.NewReader(a.body))
		dec.DisallowUnknownFields()
		err := dec.Decode(&p)
		if err == nil {
			if _, more := dec.Token(); !errors.Is(more, io.EOF) {
				err = errors.New("something follows it")
			}
		}
		if err != nil {
			return nil, hearth.Errorf(hearth.InvalidParameter, "The body is no execution policy: %v.", err)
		}
	}
	if err := h.Policies.Set(ctx, a.account, a.q.Get("function"), p); err != nil {
		return nil, err
	}
	return h.policy(ctx, a)
}

// Policy tells a function's execution policy, or the account's with the
// function "".
func (c *Client) Policy(ctx context.Context, function string) (Policy, error) {
	return get[Policy](ctx, c, "/policy", about(function))
}

// SetPolicy replaces what was said for the function, or with "" for the
// account; nil takes it back.
func (c *Client) SetPolicy(ctx context.Context, function string, p *hearth.ExecutionPolicy) (Policy, error) {
	var body []byte
	if p != nil {
		var err error
		if body, err = json.Marshal(p); err != nil {
			return Policy{}, err
		}
	}
	return send[Policy](ctx, c, http.MethodPost, "/policy/set", about(function), body)
}

func about(function string) url.Values {
	v := url.Values{}
	set(v, "function", function)
	return v
}
