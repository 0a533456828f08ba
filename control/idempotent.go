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

// Idempotence is which functions are declared idempotent, and what that spares.
// Safe for concurrent use.
type Idempotence interface {
	// Idempotent is what was declared of a function, or with the function "" of
	// all that there is, by name.
	Idempotent(ctx context.Context, account hearth.Account, function string) ([]Idempotent, error)
	// Declare declares a function idempotent, or with nil takes that back. A
	// function that there is not is a ResourceNotFound, a declaration that
	// can't be an InvalidParameterValue.
	Declare(ctx context.Context, account hearth.Account, function string, d *hearth.Idempotence) error
	// Forget drops the function's records, and tells how many there were.
	Forget(ctx context.Context, account hearth.Account, function string) (int, error)
}

// Idempotent is a function that is declared idempotent.
type Idempotent struct {
	Function string `json:"function"`
	// Declared is what was said of it; secrets have their names only.
	Declared *hearth.Idempotence `json:"declared"`
	Counts   IdempotentCounts    `json:"counts"`
}

// IdempotentCounts are what became of a function's requests since the server's
// start, and the records that there are.
type IdempotentCounts struct {
	Recorded     int64   `json:"recorded"`  // answered from a record
	Joined       int64   `json:"joined"`    // answered by an equal one's run
	Ran          int64   `json:"ran"`       // run, because something had changed or there was no record
	Forced       int64   `json:"forced"`    // of those, because the caller insisted
	Unknown      int64   `json:"unknown"`   // run because a state was not to be had
	Discarded    int64   `json:"discarded"` // results that were not recorded
	SavedSeconds float64 `json:"savedSeconds"`
	Records      int     `json:"records"`
	Bytes        int64   `json:"bytes"` // of the records' results
}

// IdempotentList is the answer of /idempotent.
type IdempotentList struct {
	Functions []Idempotent `json:"functions"`
}

// Forgotten is the answer of /idempotent/forget.
type Forgotten struct {
	Function string `json:"function"`
	Records  int    `json:"records"`
}

func (h *Handler) idempotent(ctx context.Context, a ask) (any, error) {
	list, err := h.Idempotence.Idempotent(ctx, a.account, a.q.Get("function"))
	return IdempotentList{some(list)}, err
}

// declare takes a declaration, or nothing at all, which takes back what was
// declared.
func (h *Handler) declare(ctx context.Context, a ask) (any, error) {
	function, err := needed(a, "function")
	if err != nil {
		return nil, err
	}
	var d *hearth.Idempotence
	if len(bytes.TrimSpace(a.body)) > 0 {
		dec := json.NewDecoder(bytes.NewReader(a.body))
		dec.DisallowUnknownFields()
		err := dec.Decode(&d)
		if err == nil {
			if _, more := dec.Token(); !errors.Is(more, io.EOF) {
				err = errors.New("something follows it")
			}
		}
		if err != nil {
			return nil, hearth.Errorf(hearth.InvalidParameter, "The body is no declaration: %v.", err)
		}
	}
	if err := h.Idempotence.Declare(ctx, a.account, function, d); err != nil {
		return nil, err
	}
	return h.idempotent(ctx, a)
}

func (h *Handler) forget(ctx context.Context, a ask) (any, error) {
	function, err := needed(a, "function")
	if err != nil {
		return nil, err
	}
	n, err := h.Idempotence.Forget(ctx, a.account, function)
	return Forgotten{function, n}, err
}

// Idempotent tells about a function that is declared idempotent, or with "" about
// all.
func (c *Client) Idempotent(ctx context.Context, function string) ([]Idempotent, error) {
	list, err := get[IdempotentList](ctx, c, "/idempotent", about(function))
	return list.Functions, err
}

// DeclareIdempotent declares a function idempotent; nil takes that back.
func (c *Client) DeclareIdempotent(ctx context.Context, function string, d *hearth.Idempotence) error {
	var body []byte
	if d != nil {
		var err error
		if body, err = json.Marshal(d); err != nil {
			return err
		}
	}
	_, err := send[IdempotentList](ctx, c, http.MethodPost, "/idempotent/set", about(function), body)
	return err
}

// ForgetResults drops the recorded results of a function, and tells how many
// there were.
func (c *Client) ForgetResults(ctx context.Context, function string) (int, error) {
	f, err := send[Forgotten](ctx, c, http.MethodPost, "/idempotent/forget", url.Values{"function": {function}}, nil)
	return f.Records, err
}
