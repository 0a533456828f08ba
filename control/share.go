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
	"github.com/hearth-faas/hearth/share"
)

// Shares are the functions that accounts let each other run (S05). Safe for
// concurrent use. Errors are those of share.Shares.
type Shares interface {
	Offers(owner hearth.Account) ([]hearth.Offer, error)
	Offered(to hearth.Account) ([]hearth.Offer, error)
	Offer(ctx context.Context, owner hearth.Account, o hearth.Offer) (*hearth.Offer, error)
	Grant(ctx context.Context, owner hearth.Account, id string, to hearth.Account) (*hearth.Offer, error)
	Revoke(ctx context.Context, owner hearth.Account, id string, from hearth.Account) (*hearth.Offer, error)
	Withdraw(ctx context.Context, owner hearth.Account, id string) error

	Aliases(account hearth.Account) ([]hearth.SharedAlias, error)
	Alias(account hearth.Account, name string) (*hearth.SharedAlias, error)
	Accept(ctx context.Context, account hearth.Account, want share.Acceptance) (*hearth.SharedAlias, error)
	Delete(ctx context.Context, account hearth.Account, name string) error

	Uses(account hearth.Account) ([]hearth.SharedUse, error)
}

// Offers is the answer of /offers and of what changes one: what the account
// offers, and what others offer it. Of another's offer it does not say to whom
// else it is made.
type Offers struct {
	Own     []hearth.Offer `json:"own"`
	Offered []hearth.Offer `json:"offered"`
}

// SharedAliases is the answer of /shared-aliases.
type SharedAliases struct {
	Aliases []hearth.SharedAlias `json:"aliases"`
}

// SharedUses is the answer of /shared-uses.
type SharedUses struct {
	Uses []hearth.SharedUse `json:"uses"`
}

func (h *Handler) offers(_ context.Context, a ask) (any, error) {
	own, err := h.Shares.Offers(a.account)
	if err != nil {
		return nil, err
	}
	offered, err := h.Shares.Offered(a.account)
	return Offers{some(own), some(offered)}, err
}

func (h *Handler) setOffer(ctx context.Context, a ask) (any, error) {
	var o hearth.Offer
	if err := oneDocument(a.body, &o); err != nil {
		return nil, err
	}
	return oneOffer(h.Shares.Offer(ctx, a.account, o))
}

func (h *Handler) grantOffer(ctx context.Context, a ask) (any, error) {
	return oneOffer(h.Shares.Grant(ctx, a.account, a.q.Get("id"), hearth.Account(a.q.Get("account"))))
}

func (h *Handler) revokeOffer(ctx context.Context, a ask) (any, error) {
	return oneOffer(h.Shares.Revoke(ctx, a.account, a.q.Get("id"), hearth.Account(a.q.Get("account"))))
}

func oneOffer(o *hearth.Offer, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return Offers{[]hearth.Offer{*o}, []hearth.Offer{}}, nil
}

func (h *Handler) withdrawOffer(ctx context.Context, a ask) (any, error) {
	if err := h.Shares.Withdraw(ctx, a.account, a.q.Get("id")); err != nil {
		return nil, err
	}
	return h.offers(ctx, a)
}

func (h *Handler) sharedAliases(_ context.Context, a ask) (any, error) {
	if name := a.q.Get("name"); name != "" {
		return oneAlias(h.Shares.Alias(a.account, name))
	}
	list, err := h.Shares.Aliases(a.account)
	return SharedAliases{some(list)}, err
}

func (h *Handler) setSharedAlias(ctx context.Context, a ask) (any, error) {
	var want share.Acceptance
	if err := oneDocument(a.body, &want); err != nil {
		return nil, err
	}
	return oneAlias(h.Shares.Accept(ctx, a.account, want))
}

func oneAlias(alias *hearth.SharedAlias, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return SharedAliases{[]hearth.SharedAlias{*alias}}, nil
}

func (h *Handler) removeSharedAlias(ctx context.Context, a ask) (any, error) {
	if err := h.Shares.Delete(ctx, a.account, a.q.Get("name")); err != nil {
		return nil, err
	}
	return h.sharedAliases(ctx, ask{account: a.account, q: url.Values{}})
}

func (h *Handler) sharedUses(_ context.Context, a ask) (any, error) {
	list, err := h.Shares.Uses(a.account)
	return SharedUses{some(list)}, err
}

// oneDocument reads a body that is one JSON document of known fields. What is
// wrong is told without the body's values, which may be secret.
func oneDocument(body []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows it")
		}
	}
	if err != nil {
		return hearth.Errorf(hearth.InvalidParameter, "The body is not what is asked for: %v.", err)
	}
	return nil
}

// Offers lists what the account offers, and what it is offered.
func (c *Client) Offers(ctx context.Context) (Offers, error) {
	return get[Offers](ctx, c, "/offers", nil)
}

// SetOffer makes an offer, or with an id changes it.
func (c *Client) SetOffer(ctx context.Context, o hearth.Offer) (hearth.Offer, error) {
	return first(postDocument[Offers](ctx, c, "/offers/set", o))
}

// GrantOffer adds an account to an offer, RevokeOffer takes it away.
func (c *Client) GrantOffer(ctx context.Context, id string, to hearth.Account) (hearth.Offer, error) {
	return first(send[Offers](ctx, c, http.MethodPost, "/offers/grant", url.Values{"id": {id}, "account": {string(to)}}, nil))
}

// RevokeOffer takes an offer back from an account.
func (c *Client) RevokeOffer(ctx context.Context, id string, from hearth.Account) (hearth.Offer, error) {
	return first(send[Offers](ctx, c, http.MethodPost, "/offers/revoke", url.Values{"id": {id}, "account": {string(from)}}, nil))
}

// WithdrawOffer ends an offer, and tells what is left.
func (c *Client) WithdrawOffer(ctx context.Context, id string) (Offers, error) {
	return send[Offers](ctx, c, http.MethodPost, "/offers/withdraw", url.Values{"id": {id}}, nil)
}

func first(o Offers, err error) (hearth.Offer, error) {
	if err != nil || len(o.Own) == 0 {
		return hearth.Offer{}, err
	}
	return o.Own[0], nil
}

// SharedAliases lists the account's, or with a name that one.
func (c *Client) SharedAliases(ctx context.Context, name string) (SharedAliases, error) {
	q := url.Values{}
	if name != "" {
		q.Set("name", name)
	}
	return get[SharedAliases](ctx, c, "/shared-aliases", q)
}

// SetSharedAlias accepts an offer under a name, or changes that alias.
func (c *Client) SetSharedAlias(ctx context.Context, want share.Acceptance) (hearth.SharedAlias, error) {
	l, err := postDocument[SharedAliases](ctx, c, "/shared-aliases/set", want)
	if err != nil || len(l.Aliases) == 0 {
		return hearth.SharedAlias{}, err
	}
	return l.Aliases[0], nil
}

// RemoveSharedAlias deletes an alias, and tells which are left.
func (c *Client) RemoveSharedAlias(ctx context.Context, name string) (SharedAliases, error) {
	return send[SharedAliases](ctx, c, http.MethodPost, "/shared-aliases/remove", url.Values{"name": {name}}, nil)
}

// SharedUses counts the runs of the account's offers and aliases.
func (c *Client) SharedUses(ctx context.Context) (SharedUses, error) {
	return get[SharedUses](ctx, c, "/shared-uses", nil)
}

func postDocument[T any](ctx context.Context, c *Client, path string, v any) (T, error) {
	body, err := json.Marshal(v)
	if err != nil {
		var none T
		return none, err
	}
	return send[T](ctx, c, http.MethodPost, path, url.Values{}, body)
}
