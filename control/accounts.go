package control

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// Accounts keeps the accounts and their root's keys. Safe for concurrent use.
// An account is named by its id or its name.
type Accounts interface {
	List(ctx context.Context) ([]Account, error)
	Get(ctx context.Context, account string) (Account, error)
	Create(ctx context.Context, id hearth.Account, name string, q Quotas) (AccountMade, error)
	Suspend(ctx context.Context, account, reason string) (Account, error)
	Resume(ctx context.Context, account string) (Account, error)
	SetQuotas(ctx context.Context, account string, q QuotaChange) (Account, error)
	// Delete deletes an account, with everything in it if that is so said.
	Delete(ctx context.Context, account string, everything bool) error
	// Keys are those of the account's root.
	Keys(ctx context.Context, account string) ([]AccessKey, error)
	CreateKey(ctx context.Context, account string) (AccessKey, error)
	UpdateKey(ctx context.Context, account, id string, active bool) error
	DeleteKey(ctx context.Context, account, id string) error
	// Session makes temporary credentials of the account's root.
	Session(ctx context.Context, account string, ttl time.Duration) (AccountSession, error)
}

// Account is an account as its operator and its root see it.
type Account struct {
	ID       hearth.Account `json:"id"`
	Name     string         `json:"name"`
	State    string         `json:"state"`            // Active, Suspended or Deleting
	Reason   string         `json:"reason,omitempty"` // of a suspension
	Operator bool           `json:"operator"`         // it manages the others
	Created  time.Time      `json:"created"`
	// Quotas are what holds for it, and Usage what it has of that.
	Quotas Quotas `json:"quotas"`
	Usage  Usage  `json:"usage"`
}

// Quotas bound an account. Where one is made, 0 is what every account has.
type Quotas struct {
	Concurrency int   `json:"concurrency"` // invocations at once
	Functions   int   `json:"functions"`   // 0 is any number
	CodeBytes   int64 `json:"codeBytes"`   // of packages
	Requests    int   `json:"requests"`    // of the API beside invocations, in a second; 0 is any number
	Weight      int   `json:"weight"`      // how many accounts' turns it has, while processors are short and at having containers made
}

// QuotaChange sets the quotas that are not nil; 0 is what every account has.
type QuotaChange struct {
	Concurrency *int   `json:"concurrency,omitempty"`
	Functions   *int   `json:"functions,omitempty"`
	CodeBytes   *int64 `json:"codeBytes,omitempty"`
	Requests    *int   `json:"requests,omitempty"`
	Weight      *int   `json:"weight,omitempty"`
}

// Usage is what an account has of what its quotas bound.
type Usage struct {
	Functions int   `json:"functions"`
	CodeBytes int64 `json:"codeBytes"`
}

// AccountList is the answer of /accounts, by id.
type AccountList struct {
	Accounts []Account `json:"accounts"`
}

// AccountMade is the answer of /accounts/create. The secret is told here and
// never again.
type AccountMade struct {
	Account         Account `json:"account"`
	AccessKeyID     string  `json:"accessKeyId"`
	SecretAccessKey string  `json:"secretAccessKey"`
	Region          string  `json:"region"`
}

// AccessKey is a long-lived key of an account's root.
type AccessKey struct {
	ID      string    `json:"id"`
	Active  bool      `json:"active"`
	Created time.Time `json:"created"`
	Used    time.Time `json:"used,omitzero"` // to some minutes
	// Fixed is the operator's first key, which is in the data folder.
	Fixed bool `json:"fixed,omitempty"`
	// SecretAccessKey is told when the key is made, and never again.
	SecretAccessKey string `json:"secretAccessKey,omitempty"`
}

// AccessKeyList is the answer of /accounts/keys.
type AccessKeyList struct {
	Keys []AccessKey `json:"keys"`
}

// AccountSession is the answer of /accounts/session.
type AccountSession struct {
	Account         hearth.Account `json:"account"`
	AccessKeyID     string         `json:"accessKeyId"`
	SecretAccessKey string         `json:"secretAccessKey"`
	SessionToken    string         `json:"sessionToken"`
	Expires         time.Time      `json:"expires"`
}

// AccountName is the answer where there is no more to tell.
type AccountName struct {
	Account string `json:"account"`
}

// whose is the account that is asked about: the caller's own, or for the
// operator any.
func (h *Handler) whose(a ask) (string, error) {
	named := a.q.Get("account")
	switch {
	case named == "" || named == string(a.account):
		return string(a.account), nil
	case a.account != h.Operator:
		return "", hearth.Errorf(hearth.AccessDenied, "Another account than your own (%s) is the operator's business.", a.account)
	}
	return named, nil
}

func (h *Handler) accounts(ctx context.Context, a ask) (any, error) {
	if a.account != h.Operator {
		own, err := h.Accounts.Get(ctx, string(a.account))
		return AccountList{[]Account{own}}, err
	}
	list, err := h.Accounts.List(ctx)
	return AccountList{some(list)}, err
}

// quotasOf reads quotas, or a change of some.
func quotasOf[T any](a ask) (q T, err error) {
	if len(bytes.TrimSpace(a.body)) == 0 {
		return q, nil
	}
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		return q, hearth.Errorf(hearth.InvalidParameter, "The body is no quotas: %v.", err)
	}
	return q, nil
}

func (h *Handler) createAccount(ctx context.Context, a ask) (any, error) {
	name, err := needed(a, "name")
	if err != nil {
		return nil, err
	}
	q, err := quotasOf[Quotas](a)
	if err != nil {
		return nil, err
	}
	return h.Accounts.Create(ctx, hearth.Account(a.q.Get("id")), name, q)
}

func (h *Handler) suspendAccount(ctx context.Context, a ask) (any, error) {
	account, err := needed(a, "account")
	if err != nil {
		return nil, err
	}
	return h.Accounts.Suspend(ctx, account, a.q.Get("reason"))
}

func (h *Handler) resumeAccount(ctx context.Context, a ask) (any, error) {
	account, err := needed(a, "account")
	if err != nil {
		return nil, err
	}
	return h.Accounts.Resume(ctx, account)
}

func (h *Handler) deleteAccount(ctx context.Context, a ask) (any, error) {
	account, err := needed(a, "account")
	if err != nil {
		return nil, err
	}
	everything, err := truth(a, "everything")
	if err != nil {
		return nil, err
	}
	return AccountName{account}, h.Accounts.Delete(ctx, account, everything)
}

func (h *Handler) setQuota(ctx context.Context, a ask) (any, error) {
	account, err := needed(a, "account")
	if err != nil {
		return nil, err
	}
	q, err := quotasOf[QuotaChange](a)
	if err != nil {
		return nil, err
	}
	return h.Accounts.SetQuotas(ctx, account, q)
}

func (h *Handler) accountKeys(ctx context.Context, a ask) (any, error) {
	account, err := h.whose(a)
	if err != nil {
		return nil, err
	}
	list, err := h.Accounts.Keys(ctx, account)
	return AccessKeyList{some(list)}, err
}

func (h *Handler) createAccountKey(ctx context.Context, a ask) (any, error) {
	account, err := h.whose(a)
	if err != nil {
		return nil, err
	}
	return h.Accounts.CreateKey(ctx, account)
}

func (h *Handler) updateAccountKey(ctx context.Context, a ask) (any, error) {
	account, err := h.whose(a)
	if err != nil {
		return nil, err
	}
	key, err := needed(a, "key")
	if err != nil {
		return nil, err
	}
	active, err := truth(a, "active")
	if err != nil {
		return nil, err
	}
	return AccountName{account}, h.Accounts.UpdateKey(ctx, account, key, active)
}

func (h *Handler) deleteAccountKey(ctx context.Context, a ask) (any, error) {
	account, err := h.whose(a)
	if err != nil {
		return nil, err
	}
	key, err := needed(a, "key")
	if err != nil {
		return nil, err
	}
	return AccountName{account}, h.Accounts.DeleteKey(ctx, account, key)
}

// Bounds of a session that the operator makes, in seconds.
const (
	defaultAccountSession = 3600
	maxAccountSession     = 12 * 3600
)

func (h *Handler) accountSession(ctx context.Context, a ask) (any, error) {
	account, err := needed(a, "account")
	if err != nil {
		return nil, err
	}
	seconds, err := number(a.q, "seconds", defaultAccountSession, maxAccountSession)
	if err != nil {
		return nil, err
	}
	return h.Accounts.Session(ctx, account, time.Duration(seconds)*time.Second)
}

// truth is a parameter that is true or false; without it it is false.
func truth(a ask, name string) (bool, error) {
	s := a.q.Get(name)
	if s == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, hearth.Errorf(hearth.InvalidParameter, "%s: %q is neither true nor false.", name, s)
	}
	return b, nil
}

// Accounts lists the accounts; those who do not operate the server see theirs.
func (c *Client) Accounts(ctx context.Context) ([]Account, error) {
	list, err := get[AccountList](ctx, c, "/accounts", nil)
	return list.Accounts, err
}

// CreateAccount makes an account; an id "" is a random one.
func (c *Client) CreateAccount(ctx context.Context, id hearth.Account, name string, q Quotas) (AccountMade, error) {
	v := url.Values{"name": {name}}
	set(v, "id", string(id))
	body, err := json.Marshal(q)
	if err != nil {
		return AccountMade{}, err
	}
	return send[AccountMade](ctx, c, http.MethodPost, "/accounts/create", v, body)
}

// SuspendAccount stops everything of an account and keeps it.
func (c *Client) SuspendAccount(ctx context.Context, account, reason string) (Account, error) {
	v := url.Values{"account": {account}}
	set(v, "reason", reason)
	return send[Account](ctx, c, http.MethodPost, "/accounts/suspend", v, nil)
}

// ResumeAccount lets a suspended account go on.
func (c *Client) ResumeAccount(ctx context.Context, account string) (Account, error) {
	return send[Account](ctx, c, http.MethodPost, "/accounts/resume", url.Values{"account": {account}}, nil)
}

// DeleteAccount deletes an account that has nothing, or with everything that
// it has.
func (c *Client) DeleteAccount(ctx context.Context, account string, everything bool) error {
	v := url.Values{"account": {account}, "everything": {strconv.FormatBool(everything)}}
	_, err := send[AccountName](ctx, c, http.MethodPost, "/accounts/delete", v, nil)
	return err
}

// SetQuotas changes an account's quotas.
func (c *Client) SetQuotas(ctx context.Context, account string, q QuotaChange) (Account, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return Account{}, err
	}
	return send[Account](ctx, c, http.MethodPost, "/accounts/quota", url.Values{"account": {account}}, body)
}

// AccountKeys lists the keys of an account's root; "" is the caller's.
func (c *Client) AccountKeys(ctx context.Context, account string) ([]AccessKey, error) {
	list, err := get[AccessKeyList](ctx, c, "/accounts/keys", ofAccount(account))
	return list.Keys, err
}

// CreateAccountKey makes a further key of an account's root.
func (c *Client) CreateAccountKey(ctx context.Context, account string) (AccessKey, error) {
	return send[AccessKey](ctx, c, http.MethodPost, "/accounts/keys/create", ofAccount(account), nil)
}

// UpdateAccountKey lets a key of an account's root be used, or not.
func (c *Client) UpdateAccountKey(ctx context.Context, account, key string, active bool) error {
	v := ofAccount(account)
	v.Set("key", key)
	v.Set("active", strconv.FormatBool(active))
	_, err := send[AccountName](ctx, c, http.MethodPost, "/accounts/keys/update", v, nil)
	return err
}

// DeleteAccountKey deletes a key of an account's root.
func (c *Client) DeleteAccountKey(ctx context.Context, account, key string) error {
	v := ofAccount(account)
	v.Set("key", key)
	_, err := send[AccountName](ctx, c, http.MethodPost, "/accounts/keys/delete", v, nil)
	return err
}

// AccountSession makes temporary credentials of an account's root.
func (c *Client) AccountSession(ctx context.Context, account string, ttl time.Duration) (AccountSession, error) {
	v := url.Values{"account": {account}}
	if ttl > 0 {
		v.Set("seconds", strconv.Itoa(int(ttl/time.Second)))
	}
	return send[AccountSession](ctx, c, http.MethodPost, "/accounts/session", v, nil)
}

func ofAccount(account string) url.Values {
	v := url.Values{}
	set(v, "account", account)
	return v
}
