package account

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/table"
)

// OperatorName is the name of the operator's account.
const OperatorName = "operator"

// Sealer seals secrets at rest; *identity.Key does. Safe for concurrent use.
type Sealer interface {
	Seal(plain, associated []byte) ([]byte, error)
	Open(sealed, associated []byte) ([]byte, error)
}

// Config is what a Directory works with.
type Config struct {
	Store   store.Store
	Clock   hearth.Clock
	Secrets Sealer
	// Operator is the account of the data folder's credentials, and Since when
	// it was made.
	Operator hearth.Account
	Since    time.Time
	// Holders are those who keep things of accounts, in the order in which an
	// account is emptied. They may be given later, by Hold.
	Holders []Holder
	// Changed is told of each change of an account, after it is on disk; nil
	// is nobody.
	Changed func(*Account)
	Rand    io.Reader    // nil is crypto/rand
	Log     *slog.Logger // nil is slog.Default
}

// Directory keeps the accounts. What it hands out is shared and must not be
// changed. Safe for concurrent use.
type Directory struct {
	cfg      Config
	accounts *table.Table[Account]
	keys     *Keys
	changing sync.Mutex
	deleting sync.WaitGroup
	ended    chan struct{} // closed by Close
	ending   sync.Once

	// all is never changed: a change makes a new one, so that a request looks
	// its account up without a lock.
	all atomic.Pointer[map[hearth.Account]*Account]
	// stopped is how many accounts are not Active: while there are none,
	// nothing is looked up for invocations.
	stopped atomic.Int32
}

// Open reads the accounts and their keys, and makes the operator's own at a
// first start.
func Open(ctx context.Context, cfg Config) (*Directory, error) {
	if cfg.Rand == nil {
		cfg.Rand = crand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Changed == nil {
		cfg.Changed = func(*Account) {}
	}
	d := &Directory{cfg: cfg, ended: make(chan struct{})}
	var err error
	if d.accounts, err = table.Open[Account](ctx, cfg.Store, "accounts"); err != nil {
		return nil, err
	}
	if d.accounts.Get(string(cfg.Operator)) == nil {
		_, err := d.accounts.Change(ctx, string(cfg.Operator), func(*Account) (*Account, error) {
			return &Account{ID: cfg.Operator, Name: OperatorName, State: Active, Created: cfg.Since}, nil
		})
		if err != nil {
			return nil, err
		}
	}
	d.publish()
	if d.keys, err = openKeys(ctx, cfg); err != nil {
		return nil, err
	}
	// A crash while an account was made, or at the end of a deletion, may have
	// left keys of no account.
	return d, d.keys.sweep(ctx, func(k *Key) bool { return d.Get(k.Account) != nil })
}

// Close waits for what is still written.
func (d *Directory) Close() error {
	d.ending.Do(func() { close(d.ended) })
	d.deleting.Wait()
	return d.keys.close()
}

// publish shows what the table has to those who look without a lock.
func (d *Directory) publish() {
	all, stopped := map[hearth.Account]*Account{}, int32(0)
	for _, a := range d.accounts.Scan("", "") {
		all[a.ID] = a
		if a.State != Active {
			stopped++
		}
	}
	d.all.Store(&all)
	d.stopped.Store(stopped)
}

// Operator is the account that manages the others.
func (d *Directory) Operator() hearth.Account { return d.cfg.Operator }

// Keys are the access keys of all accounts.
func (d *Directory) Keys() *Keys { return d.keys }

// Get returns an account, or nil. It takes no lock.
func (d *Directory) Get(id hearth.Account) *Account { return (*d.all.Load())[id] }

// List returns all accounts by their ids.
func (d *Directory) List() []*Account {
	var all []*Account
	for _, a := range d.accounts.Scan("", "") {
		all = append(all, a)
	}
	return all
}

// Find returns the account with that id or name. Errors: NotFound.
func (d *Directory) Find(idOrName string) (*Account, error) {
	if a := d.Get(hearth.Account(idOrName)); a != nil {
		return a, nil
	}
	for _, a := range *d.all.Load() {
		if strings.EqualFold(a.Name, idOrName) {
			return a, nil
		}
	}
	return nil, hearth.Errorf(hearth.NotFound, "There is no account %q; hearth account list shows those that there are.", clip(idOrName))
}

// Stopped reports whether nothing of the account may run. It takes no lock and
// is asked by every invocation. An account that there is not is not stopped:
// nothing of it is there to run.
func (d *Directory) Stopped(id hearth.Account) bool {
	if d.stopped.Load() == 0 {
		return false
	}
	a := d.Get(id)
	return a != nil && a.State != Active
}

// Suspended reports whether the account is suspended, whose events wait. It
// takes no lock.
func (d *Directory) Suspended(id hearth.Account) bool {
	if d.stopped.Load() == 0 {
		return false
	}
	a := d.Get(id)
	return a != nil && a.State == Suspended
}

// Usable tells whether requests that are signed for the account are let in.
// Errors: AccessDenied if it is suspended or being deleted, UnrecognizedClient
// if there is no such account.
func (d *Directory) Usable(id hearth.Account) error {
	switch a := d.Get(id); {
	case a == nil:
		return hearth.Errorf(hearth.UnrecognizedClient, "The security token included in the request is invalid.")
	case a.State != Active:
		return a.refusal()
	}
	return nil
}

// refusal says why nothing of the account runs.
func (a *Account) refusal() error {
	if a.State == Deleting {
		return hearth.Errorf(hearth.AccessDenied, "The account %s is being deleted.", a.ID)
	}
	why := ""
	if a.Reason != "" {
		why = " (" + a.Reason + ")"
	}
	return hearth.Errorf(hearth.AccessDenied, "The account %s is suspended%s. Nothing of it is lost; whoever operates this Hearth can resume it with: hearth account resume %s", a.ID, why, a.ID)
}

// Refusal is what those are told who want something of a stopped account run.
func (d *Directory) Refusal(id hearth.Account) error {
	if a := d.Get(id); a != nil && a.State != Active {
		return a.refusal()
	}
	return nil
}

// Spec is what a new account is made of.
type Spec struct {
	ID     hearth.Account // "" is a random one
	Name   string
	Quotas Quotas
}

// Create makes an account with a first access key of its root, whose secret is
// told here and never again. Errors: InvalidParameter, Conflict if the id or
// name is another account's.
func (d *Directory) Create(ctx context.Context, s Spec) (*Account, Made, error) {
	if err := checkName(s.Name); err != nil {
		return nil, Made{}, err
	}
	if err := s.Quotas.Check(); err != nil {
		return nil, Made{}, err
	}
	if s.ID != "" && !IsID(string(s.ID)) {
		return nil, Made{}, hearth.Errorf(hearth.InvalidParameter, "%q is no account's id: it is twelve digits, such as 111122223333.", clip(string(s.ID)))
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	if s.ID == "" {
		var err error
		if s.ID, err = d.newID(); err != nil {
			return nil, Made{}, err
		}
	}
	if have := d.Get(s.ID); have != nil {
		return nil, Made{}, hearth.Errorf(hearth.Conflict, "The account %s exists already; its name is %s.", s.ID, have.Name)
	}
	if have, err := d.Find(s.Name); err == nil {
		return nil, Made{}, hearth.Errorf(hearth.Conflict, "The name %s is that of account %s already.", have.Name, have.ID)
	}
	// The key first: an account that is there can be used.
	key, err := d.keys.Create(ctx, s.ID, "")
	if err != nil {
		return nil, Made{}, err
	}
	a := &Account{ID: s.ID, Name: s.Name, State: Active, Created: d.cfg.Clock.Now().UTC().Truncate(time.Second), Quotas: s.Quotas}
	if _, err := d.accounts.Change(ctx, string(a.ID), func(*Account) (*Account, error) { return a, nil }); err != nil {
		return nil, Made{}, err
	}
	d.publish()
	d.cfg.Changed(a)
	return a, key, nil
}

// newID makes an id that no account has.
func (d *Directory) newID() (hearth.Account, error) {
	for range 100 {
		n, err := readBelow(d.cfg.Rand, 900_000_000_000)
		if err != nil {
			return "", err
		}
		if id := hearth.Account(fmt.Sprintf("%012d", 100_000_000_000+n)); d.Get(id) == nil {
			return id, nil
		}
	}
	return "", fmt.Errorf("account: no free id was found")
}

func readBelow(r io.Reader, n int64) (int64, error) {
	v, err := crand.Int(r, big.NewInt(n))
	if err != nil {
		return 0, err
	}
	return v.Int64(), nil
}

// change brings an account into a state, with what set does to its copy.
func (d *Directory) change(ctx context.Context, id hearth.Account, to State, set func(*Account) error) (*Account, error) {
	d.changing.Lock()
	defer d.changing.Unlock()
	a, err := d.accounts.Change(ctx, string(id), func(old *Account) (*Account, error) {
		switch {
		case old == nil:
			return nil, hearth.Errorf(hearth.NotFound, "There is no account %q.", clip(string(id)))
		case id == d.cfg.Operator && to != "" && to != Active:
			return nil, hearth.Errorf(hearth.InvalidParameter, "The account %s is the operator's: it can be neither suspended nor deleted, since nobody else could undo it.", id)
		case to != "" && to != old.State && !slices.Contains(next[old.State], to):
			return nil, hearth.Errorf(hearth.Conflict, "The account %s is %s and can't become %s.", id, old.State, to)
		}
		a := *old
		if to != "" {
			a.State = to
		}
		if err := set(&a); err != nil {
			return nil, err
		}
		return &a, nil
	})
	if err != nil {
		return nil, err
	}
	d.publish()
	d.cfg.Changed(a)
	return a, nil
}

// maxReason bounds the reason of a suspension, in bytes.
const maxReason = 256

// Suspend stops everything of an account and keeps all of it. Whoever is
// refused is told the reason. Errors: NotFound, InvalidParameter for the
// operator's, Conflict for one that is being deleted.
func (d *Directory) Suspend(ctx context.Context, id hearth.Account, reason string) (*Account, error) {
	if len(reason) > maxReason || strings.ContainsFunc(reason, func(r rune) bool { return r < ' ' }) {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The reason is one line of at most %d bytes.", maxReason)
	}
	return d.change(ctx, id, Suspended, func(a *Account) error {
		a.Reason = reason
		return nil
	})
}

// Resume lets a suspended account go on. Errors: NotFound, Conflict for one
// that is being deleted.
func (d *Directory) Resume(ctx context.Context, id hearth.Account) (*Account, error) {
	return d.change(ctx, id, Active, func(a *Account) error {
		a.Reason = ""
		return nil
	})
}

// SetQuotas changes an account's quotas. Errors: NotFound, InvalidParameter.
func (d *Directory) SetQuotas(ctx context.Context, id hearth.Account, set func(*Quotas)) (*Account, error) {
	return d.change(ctx, id, "", func(a *Account) error {
		set(&a.Quotas)
		return a.Quotas.Check()
	})
}
