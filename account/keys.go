package account

import (
	"context"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/store/table"
)

// MaxKeys is how many keys a root or a user may have: two, so that one can be
// put in place before the other is taken away.
const MaxKeys = 2

// Key is a long-lived access key, without its secret. Its JSON is what is on
// disk.
type Key struct {
	ID      string         `json:"id"` // AKIA and 16 characters
	Account hearth.Account `json:"account"`
	User    string         `json:"user,omitempty"` // the user's id; "" is root
	Sealed  []byte         `json:"secret"`
	Active  bool           `json:"active"`
	Created time.Time      `json:"created"`
	// Used is when it was used last, to some minutes; zero is never.
	Used time.Time `json:"used,omitzero"`
}

// Made is a new key with its secret, which is told once.
type Made struct {
	Key    *Key
	Secret identity.Secret
}

// Keys keeps access keys and tells whose they are. What it hands out is shared
// and must not be changed. Safe for concurrent use.
type Keys struct {
	cfg      Config
	table    *table.Table[Key]
	changing sync.Mutex
	pending  sync.WaitGroup

	// known is never changed: a change makes a new one, so that a request
	// looks its key up without a lock.
	known atomic.Pointer[map[string]*known]
	// users tells a user's ARN; nil before Users was called.
	users func(account hearth.Account, id string) (arn string, ok bool)
}

// known is what a request needs of an active key.
type known struct {
	secret   string
	identity hearth.Identity
	record   string       // the key of its record
	used     atomic.Int64 // Unix seconds, of what was written or is being written
}

func openKeys(ctx context.Context, cfg Config) (*Keys, error) {
	t, err := table.Open[Key](ctx, cfg.Store, "access-keys")
	if err != nil {
		return nil, err
	}
	k := &Keys{cfg: cfg, table: t}
	return k, k.publish()
}

// close waits for what is still written.
func (k *Keys) close() error {
	k.pending.Wait()
	return nil
}

// recordOf orders the keys by account, user and id.
func recordOf(account hearth.Account, user, id string) string {
	return ofOwner(account, user) + id
}

func ofOwner(account hearth.Account, user string) string {
	return string(account) + "/" + user + "/"
}

// sealedAs is what a secret belongs to.
func sealedAs(id string) []byte { return []byte("access key " + id) }

// publish shows the active keys to those who look without a lock.
func (k *Keys) publish() error {
	var old map[string]*known
	if p := k.known.Load(); p != nil {
		old = *p
	}
	all := map[string]*known{}
	for record, key := range k.table.Scan("", "") {
		if !key.Active {
			continue
		}
		id, ok := k.owner(key)
		if !ok {
			continue // of a user who is gone
		}
		if had := old[key.ID]; had != nil && had.identity == id && had.record == record {
			all[key.ID] = had
			continue
		}
		secret, err := k.cfg.Secrets.Open(key.Sealed, sealedAs(key.ID))
		if err != nil {
			return fmt.Errorf("the secret of access key %s: %w", key.ID, err)
		}
		n := &known{secret: string(secret), identity: id, record: record}
		n.used.Store(key.Used.Unix())
		all[key.ID] = n
	}
	k.known.Store(&all)
	return nil
}

// owner is who signs with a key.
func (k *Keys) owner(key *Key) (hearth.Identity, bool) {
	if key.User == "" {
		return hearth.Identity{Account: key.Account, ARN: rootARN(key.Account), UserID: string(key.Account)}, true
	}
	if k.users == nil {
		return hearth.Identity{}, false
	}
	arn, ok := k.users(key.Account, key.User)
	return hearth.Identity{Account: key.Account, ARN: arn, UserID: key.User}, ok
}

// Users says who tells users' ARNs, by their ids; the keys of users are let in
// from then on. It must answer from memory.
func (k *Keys) Users(arn func(account hearth.Account, id string) (string, bool)) error {
	k.changing.Lock()
	k.users = arn
	k.changing.Unlock()
	return k.Refresh()
}

// Refresh has the users' ARNs asked for again: one has another name, or is
// gone, and his keys with him.
func (k *Keys) Refresh() error {
	k.changing.Lock()
	defer k.changing.Unlock()
	return k.publish()
}

// Find returns the secret of an active key and whose it is. It takes no lock
// and waits for no disk.
func (k *Keys) Find(id string) (secret string, who hearth.Identity, ok bool) {
	n := (*k.known.Load())[id]
	if n == nil {
		return "", hearth.Identity{}, false
	}
	k.note(n)
	return n.secret, n.identity, true
}

// useEvery is how exactly it is kept when a key was used last.
const useEvery = 15 * time.Minute

// note has it written down that a key was used, beside whoever uses it, and
// most times has nothing to write.
func (k *Keys) note(n *known) {
	now, last := k.cfg.Clock.Now(), n.used.Load()
	if now.Unix()-last < int64(useEvery/time.Second) || !n.used.CompareAndSwap(last, now.Unix()) {
		return
	}
	k.pending.Go(func() {
		_, err := k.table.Change(context.Background(), n.record, func(old *Key) (*Key, error) {
			if old == nil {
				return nil, nil // deleted meanwhile
			}
			key := *old
			key.Used = now.UTC().Truncate(time.Second)
			return &key, nil
		})
		if err != nil {
			k.cfg.Log.Debug("the last use of an access key was not written down", "record", n.record, "err", err)
		}
	})
}

// Get returns a key whoever's it is and whether it is active or not; nil is
// none.
func (k *Keys) Get(id string) *Key {
	for _, key := range k.table.Scan("", "") {
		if key.ID == id {
			return key
		}
	}
	return nil
}

// List returns the keys of a user, by his id, or with "" of root, by their ids.
func (k *Keys) List(account hearth.Account, user string) []*Key {
	var all []*Key
	for _, key := range k.table.Scan(ofOwner(account, user), "") {
		all = append(all, key)
	}
	return all
}

// Create makes a key of a user, by his id, or with "" of root. Errors:
// LimitExceeded beyond MaxKeys.
func (k *Keys) Create(ctx context.Context, account hearth.Account, user string) (Made, error) {
	k.changing.Lock()
	defer k.changing.Unlock()
	if len(k.List(account, user)) >= MaxKeys {
		return Made{}, hearth.Errorf(hearth.LimitExceeded, "Cannot exceed quota for AccessKeysPerUser: %d", MaxKeys)
	}
	id, secret := make([]byte, 10), make([]byte, 30)
	for _, b := range [][]byte{id, secret} {
		if _, err := io.ReadFull(k.cfg.Rand, b); err != nil {
			return Made{}, err
		}
	}
	key := &Key{
		ID: "AKIA" + base32.StdEncoding.EncodeToString(id), Account: account, User: user, Active: true,
		Created: k.cfg.Clock.Now().UTC().Truncate(time.Second),
	}
	text := base64.StdEncoding.EncodeToString(secret)
	var err error
	if key.Sealed, err = k.cfg.Secrets.Seal([]byte(text), sealedAs(key.ID)); err != nil {
		return Made{}, err
	}
	if _, err := k.table.Change(ctx, recordOf(account, user, key.ID), func(*Key) (*Key, error) { return key, nil }); err != nil {
		return Made{}, err
	}
	return Made{key, identity.NewSecret(text)}, k.publish()
}

func noKey(id string) error {
	return hearth.Errorf(hearth.NoSuchEntity, "The Access Key with id %s cannot be found.", clip(id))
}

// Update lets a key be used, or not. Errors: NoSuchEntity.
func (k *Keys) Update(ctx context.Context, account hearth.Account, user, id string, active bool) error {
	return k.change(ctx, account, user, id, func(key *Key) *Key {
		changed := *key
		changed.Active = active
		return &changed
	})
}

// Delete deletes a key. Errors: NoSuchEntity.
func (k *Keys) Delete(ctx context.Context, account hearth.Account, user, id string) error {
	return k.change(ctx, account, user, id, func(*Key) *Key { return nil })
}

func (k *Keys) change(ctx context.Context, account hearth.Account, user, id string, change func(*Key) *Key) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	_, err := k.table.Change(ctx, recordOf(account, user, id), func(old *Key) (*Key, error) {
		if old == nil {
			return nil, noKey(id)
		}
		return change(old), nil
	})
	if err != nil {
		return err
	}
	return k.publish()
}

// Clear deletes all keys of an account.
func (k *Keys) Clear(ctx context.Context, account hearth.Account) error {
	return k.sweep(ctx, func(key *Key) bool { return key.Account != account })
}

// sweep deletes the keys that keep does not want.
func (k *Keys) sweep(ctx context.Context, keep func(*Key) bool) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	var gone []string
	for record, key := range k.table.Scan("", "") {
		if !keep(key) {
			gone = append(gone, record)
		}
	}
	for _, record := range gone {
		if _, err := k.table.Change(ctx, record, func(*Key) (*Key, error) { return nil, nil }); err != nil {
			return err
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return k.publish()
}

// Accounts implements identity.Directory: all there are.
func (d *Directory) Accounts() []hearth.Account {
	all := make([]hearth.Account, 0, len(*d.all.Load()))
	for id := range *d.all.Load() {
		all = append(all, id)
	}
	slices.Sort(all)
	return all
}

// FindKey implements identity.Directory: whose a long-lived key is.
func (d *Directory) FindKey(id string) (secret string, who hearth.Identity, ok bool) {
	return d.keys.Find(id)
}
