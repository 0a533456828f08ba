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
	"github.com/hearth-faas/hearth/meter"
)

// Bills tells what accounts have used and what that costs. Safe for concurrent
// use.
type Bills interface {
	Bill(ctx context.Context, q meter.Query) (*meter.Bill, error)
	Prices() []meter.Prices
	SetPrices(ctx context.Context, p meter.Prices) error
}

// AllAccounts is what the operator asks a bill of all accounts by.
const AllAccounts = "all"

// PriceList is the answer of /bill/prices: all lists, the oldest first, of which
// each holds until the next.
type PriceList struct {
	Prices []meter.Prices `json:"prices"`
}

// bill tells an account its own bill, and the operator everybody's.
func (h *Handler) bill(ctx context.Context, a ask) (any, error) {
	q := meter.Query{Account: a.account, Month: a.q.Get("month"), By: a.q.Get("by")}
	if of := a.q.Get("account"); of != "" && of != string(a.account) {
		if a.account != h.Operator {
			return nil, hearth.Errorf(hearth.AccessDenied, "The bill of %s is for that account and the operator. Leave the account out to see your own.", of)
		}
		q.Account = hearth.Account(of)
		if of == AllAccounts {
			q.Account = ""
			return h.Bills.Bill(ctx, q)
		}
		named, missing := h.Accounts.Get(ctx, of)
		if missing == nil {
			q.Account = named.ID
		}
		b, err := h.Bills.Bill(ctx, q)
		if err == nil && missing != nil && len(b.Lines) == 0 && len(b.Revenue) == 0 { // else it is of one that was deleted
			return nil, missing
		}
		return b, err
	}
	return h.Bills.Bill(ctx, q)
}

func (h *Handler) prices(context.Context, ask) (any, error) {
	return PriceList{some(h.Bills.Prices())}, nil
}

func (h *Handler) setPrices(ctx context.Context, a ask) (any, error) {
	if a.account != h.Operator {
		return nil, hearth.Errorf(hearth.AccessDenied, "Prices are set by the operator's account, which is %s.", h.Operator)
	}
	var p meter.Prices
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.DisallowUnknownFields()
	err := dec.Decode(&p)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows it")
		}
	}
	if err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The body is no price list such as {\"currency\": \"EUR\", \"cpuSecond\": 0.00001}: %v.", err)
	}
	if err := h.Bills.SetPrices(ctx, p); err != nil {
		return nil, err
	}
	return h.prices(ctx, a)
}

// Bill makes a bill. With q.Account "" it is the caller's own.
func (c *Client) Bill(ctx context.Context, q meter.Query) (*meter.Bill, error) {
	v := url.Values{}
	set(v, "account", string(q.Account))
	set(v, "month", q.Month)
	set(v, "by", q.By)
	b, err := get[meter.Bill](ctx, c, "/bill", v)
	return &b, err
}

// Prices are all price lists, the oldest first.
func (c *Client) Prices(ctx context.Context) ([]meter.Prices, error) {
	l, err := get[PriceList](ctx, c, "/bill/prices", nil)
	return l.Prices, err
}

// SetPrices has prices hold from the present hour on.
func (c *Client) SetPrices(ctx context.Context, p meter.Prices) ([]meter.Prices, error) {
	body, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	l, err := send[PriceList](ctx, c, http.MethodPost, "/bill/prices/set", nil, body)
	return l.Prices, err
}
