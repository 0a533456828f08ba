package server

import (
	"context"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/account"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/lambda"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/store"
)

// openAccounts opens the accounts, for which the authority answers from then on.
func (s *Server) openAccounts(ctx context.Context) (err error) {
	s.accounts, err = account.Open(ctx, account.Config{
		Store: s.records, Clock: s.clock, Secrets: s.authority.Key(),
		Operator: s.authority.Root().Account, Since: s.authority.Since(), Changed: s.accountChanged, Log: s.log,
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("accounts", s.accounts.Close)
	s.authority.Consult(s.accounts)
	for _, a := range s.accounts.List() {
		s.limits.SetAccount(a.ID, a.Quotas.Concurrency)
	}
	return nil
}

// accountChanged tells those who go by it that an account's state or quotas
// have changed.
func (s *Server) accountChanged(a *account.Account) {
	s.limits.SetAccount(a.ID, a.Quotas.Concurrency)
	s.async.Reconsider()
	s.mappings.Reconsider(a.ID)
	if a.State != account.Active {
		s.manager.Reconsider(a.ID)
		return
	}
	s.timers.Wake()
	if err := s.deliveries.Resume(context.Background(), a.ID); err != nil {
		s.log.Error("deliveries of an account that was suspended wait for the next start of the server", "account", a.ID, "error", err)
	}
}

// quotas are those that an account has of its own.
func (s *Server) quotas(id hearth.Account) account.Quotas {
	if a := s.accounts.Get(id); a != nil {
		return a.Quotas
	}
	return account.Quotas{}
}

// weight is how many accounts' turns an account has; less than 1 is 1.
func (s *Server) weight(id hearth.Account) int { return s.quotas(id).Weight }

func (s *Server) registryQuota(id hearth.Account) registry.Quota {
	q := s.quotas(id)
	return registry.Quota{Concurrency: q.Concurrency, Functions: q.Functions, CodeBytes: q.CodeBytes}
}

func (s *Server) apiQuota(id hearth.Account) lambda.Quota {
	q := s.quotas(id)
	return lambda.Quota{Concurrency: q.Concurrency, CodeBytes: q.CodeBytes, Requests: q.Requests}
}

// rolesChanged has users' keys be those of what the users are called now.
func (s *Server) rolesChanged() {
	if err := s.accounts.Keys().Refresh(); err != nil {
		s.log.Error("an access key can't be read", "err", err)
	}
}

// accountSince is when an account was made.
func (s *Server) accountSince(id hearth.Account) time.Time {
	if a := s.accounts.Get(id); a != nil {
		return a.Created
	}
	return s.authority.Since()
}

// accountList is the accounts as the control API shows them.
type accountList struct{ s *Server }

// quotasOf are the quotas that hold: where an account's own say nothing, every
// account's.
func (s *Server) quotasOf(q account.Quotas) control.Quotas {
	out := control.Quotas{Concurrency: q.Concurrency, Functions: q.Functions, CodeBytes: q.CodeBytes, Requests: q.Requests, Weight: max(q.Weight, 1)}
	if out.Concurrency == 0 {
		out.Concurrency = s.cfg.Concurrency
	}
	if out.Requests == 0 {
		out.Requests = max(s.cfg.APIRate, 0)
	}
	return out
}

func (l accountList) show(ctx context.Context, a *account.Account) (control.Account, error) {
	usage, err := l.s.registry.Usage(ctx, a.ID)
	return control.Account{
		ID: a.ID, Name: a.Name, State: string(a.State), Reason: a.Reason, Operator: a.ID == l.s.accounts.Operator(), Created: a.Created,
		Quotas: l.s.quotasOf(a.Quotas), Usage: control.Usage{Functions: usage.Functions, CodeBytes: usage.CodeBytes},
	}, err
}

// List implements control.Accounts.
func (l accountList) List(ctx context.Context) (all []control.Account, err error) {
	for _, a := range l.s.accounts.List() {
		one, err := l.show(ctx, a)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// Get implements control.Accounts.
func (l accountList) Get(ctx context.Context, named string) (control.Account, error) {
	a, err := l.s.accounts.Find(named)
	if err != nil {
		return control.Account{}, err
	}
	return l.show(ctx, a)
}

func quotasFrom(q control.Quotas) account.Quotas {
	return account.Quotas{Concurrency: q.Concurrency, Functions: q.Functions, CodeBytes: q.CodeBytes, Requests: q.Requests, Weight: q.Weight}
}

// Create implements control.Accounts.
func (l accountList) Create(ctx context.Context, id hearth.Account, name string, q control.Quotas) (control.AccountMade, error) {
	a, key, err := l.s.accounts.Create(ctx, account.Spec{ID: id, Name: name, Quotas: quotasFrom(q)})
	if err != nil {
		return control.AccountMade{}, err
	}
	shown, err := l.show(ctx, a)
	return control.AccountMade{Account: shown, AccessKeyID: key.Key.ID, SecretAccessKey: key.Secret.Reveal(), Region: l.s.cfg.Region}, err
}

// on does something to the account of an id or name.
func (l accountList) on(ctx context.Context, named string, do func(hearth.Account) (*account.Account, error)) (control.Account, error) {
	a, err := l.s.accounts.Find(named)
	if err == nil {
		a, err = do(a.ID)
	}
	if err != nil {
		return control.Account{}, err
	}
	return l.show(ctx, a)
}

// Suspend implements control.Accounts.
func (l accountList) Suspend(ctx context.Context, named, reason string) (control.Account, error) {
	return l.on(ctx, named, func(id hearth.Account) (*account.Account, error) { return l.s.accounts.Suspend(ctx, id, reason) })
}

// Resume implements control.Accounts.
func (l accountList) Resume(ctx context.Context, named string) (control.Account, error) {
	return l.on(ctx, named, func(id hearth.Account) (*account.Account, error) { return l.s.accounts.Resume(ctx, id) })
}

// SetQuotas implements control.Accounts.
func (l accountList) SetQuotas(ctx context.Context, named string, c control.QuotaChange) (control.Account, error) {
	return l.on(ctx, named, func(id hearth.Account) (*account.Account, error) {
		return l.s.accounts.SetQuotas(ctx, id, func(q *account.Quotas) {
			set(&q.Concurrency, c.Concurrency)
			set(&q.Functions, c.Functions)
			set(&q.CodeBytes, c.CodeBytes)
			set(&q.Requests, c.Requests)
			set(&q.Weight, c.Weight)
		})
	})
}

// set changes a value if there is one to change it to.
func set[T any](value, to *T) {
	if to != nil {
		*value = *to
	}
}

// Delete implements control.Accounts.
func (l accountList) Delete(ctx context.Context, named string, everything bool) error {
	a, err := l.s.accounts.Find(named)
	if err != nil {
		return err
	}
	return l.s.accounts.Delete(ctx, a.ID, everything)
}

// fixed is the operator's first key, which is in the data folder.
func (l accountList) fixed(id hearth.Account) (control.AccessKey, bool) {
	root := l.s.authority.Root()
	return control.AccessKey{ID: root.AccessKeyID, Active: true, Created: l.s.authority.Since(), Fixed: true}, id == root.Account
}

func keyShown(k *account.Key) control.AccessKey {
	return control.AccessKey{ID: k.ID, Active: k.Active, Created: k.Created, Used: k.Used}
}

// Keys implements control.Accounts.
func (l accountList) Keys(_ context.Context, named string) (all []control.AccessKey, err error) {
	a, err := l.s.accounts.Find(named)
	if err != nil {
		return nil, err
	}
	if k, ok := l.fixed(a.ID); ok {
		all = append(all, k)
	}
	for _, k := range l.s.accounts.Keys().List(a.ID, "") {
		all = append(all, keyShown(k))
	}
	return all, nil
}

// CreateKey implements control.Accounts.
func (l accountList) CreateKey(ctx context.Context, named string) (control.AccessKey, error) {
	a, err := l.s.accounts.Find(named)
	if err != nil {
		return control.AccessKey{}, err
	}
	made, err := l.s.accounts.Keys().Create(ctx, a.ID, "")
	if err != nil {
		return control.AccessKey{}, err
	}
	k := keyShown(made.Key)
	k.SecretAccessKey = made.Secret.Reveal()
	return k, nil
}

// onKey does something to a key of the root of the account of an id or name.
func (l accountList) onKey(named, id string, do func(hearth.Account) error) error {
	a, err := l.s.accounts.Find(named)
	if err != nil {
		return err
	}
	if k, ok := l.fixed(a.ID); ok && k.ID == id {
		return hearth.Errorf(hearth.InvalidParameter, "%s is the operator's first key, which is in the data folder (%s) and stays.", id, identity.CredentialsFile)
	}
	return do(a.ID)
}

// UpdateKey implements control.Accounts.
func (l accountList) UpdateKey(ctx context.Context, named, id string, active bool) error {
	return l.onKey(named, id, func(a hearth.Account) error { return l.s.accounts.Keys().Update(ctx, a, "", id, active) })
}

// DeleteKey implements control.Accounts.
func (l accountList) DeleteKey(ctx context.Context, named, id string) error {
	return l.onKey(named, id, func(a hearth.Account) error { return l.s.accounts.Keys().Delete(ctx, a, "", id) })
}

// Session implements control.Accounts.
func (l accountList) Session(_ context.Context, named string, ttl time.Duration) (control.AccountSession, error) {
	a, err := l.s.accounts.Find(named)
	if err == nil {
		err = l.s.accounts.Usable(a.ID)
	}
	if err != nil {
		return control.AccountSession{}, err
	}
	session, err := l.s.authority.Mint(identity.Grant{Account: a.ID}, ttl)
	if err != nil {
		return control.AccountSession{}, err
	}
	return control.AccountSession{
		Account: a.ID, AccessKeyID: session.AccessKeyID, SecretAccessKey: session.SecretAccessKey.Reveal(),
		SessionToken: session.SessionToken.Reveal(), Expires: session.Expires,
	}, nil
}
