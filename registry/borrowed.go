package registry

import (
	"context"
	"reflect"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/table"
)

// A name of an account's can stand for a function of another's (Config.Borrowed).
// There is no function here then, but the name has settings of its own, as a
// function has: who may invoke it, its URL, what becomes of its events.

// borrowed are the settings of such names, by account and name.
type borrowed struct{ *table.Table[borrowedRecord] }

// borrowedRecord is one name's settings on disk.
type borrowedRecord struct {
	Account  hearth.Account `json:"account"`
	Name     string         `json:"name"`
	Settings *Settings      `json:"settings"`
}

const borrowedBucket = "borrowed-settings" // account/name → borrowedRecord

func (r *Registry) openBorrowed(ctx context.Context, s store.Store) (err error) {
	if r.borrowed.Table, err = table.Open[borrowedRecord](ctx, s, borrowedBucket); err != nil {
		return err
	}
	for _, b := range r.borrowed.Scan("", "") {
		if b.Settings.Policy.denies() {
			r.denials.Add(1)
		}
	}
	return nil
}

// of are the settings of a name, nil if it has none.
func (b borrowed) of(k key) *Settings {
	if b.Len() == 0 {
		return nil
	}
	if rec := b.Get(k.record()); rec != nil {
		return rec.Settings
	}
	return nil
}

// isBorrowed tells whether a name stands for another account's function.
func (r *Registry) isBorrowed(k key) bool {
	return r.cfg.Borrowed != nil && r.cfg.Borrowed(k.account, k.name)
}

// configureBorrowed is Configure of a borrowed name. Its lock is held.
func (r *Registry) configureBorrowed(ctx context.Context, k key, qualifier string, change func(*Settings) error) (*Settings, error) {
	if settingsKey(qualifier) != "" {
		return nil, r.notFound(k.account, k.name, qualifier)
	}
	was := r.borrowed.of(k)
	s, err := was.clone()
	if err != nil {
		return nil, err
	}
	if err := change(s); err != nil {
		return nil, err
	}
	if s.CodeSigningConfig != "" || s.RuntimeManagement != nil || s.Scaling != nil || s.Provisioned != nil || s.ReservedConcurrency != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "%s stands for a function of another account, whose owner sees to its code and its capacity: this can be set of functions of one's own only.", r.arn(k.account, k.name))
	}
	if reflect.DeepEqual(s, or(was, &noSettings)) {
		return s, nil
	}
	return s, r.setBorrowed(ctx, k, was, s)
}

// setBorrowed replaces the settings of a borrowed name. Its lock is held.
func (r *Registry) setBorrowed(ctx context.Context, k key, was, now *Settings) error {
	rec := &borrowedRecord{k.account, k.name, now}
	if reflect.DeepEqual(now, &noSettings) {
		rec = nil
	}
	if _, err := r.borrowed.Change(ctx, k.record(), func(*borrowedRecord) (*borrowedRecord, error) { return rec, nil }); err != nil {
		return &hearth.Error{Op: "registry.Configure", Subject: r.arn(k.account, k.name), Kind: hearth.Service, Message: "The change could not be stored.", Err: err}
	}
	for s, n := range map[*Settings]int64{was: -1, now: 1} {
		if s != nil && s.Policy.denies() {
			r.denials.Add(n)
		}
	}
	r.cfg.Configured(Configured{k.account, k.name, "", now})
	return nil
}

// GiveUp removes the settings of a borrowed name and then runs f, after which the
// name is not borrowed any more; meanwhile nobody changes them. What comes to
// have the name later finds none. f must not change functions of that name.
func (r *Registry) GiveUp(ctx context.Context, account hearth.Account, name string, f func() error) error {
	k := key{account, name}
	defer r.locks.lock(k)()
	if was := r.borrowed.of(k); was != nil {
		if err := r.setBorrowed(ctx, k, was, &noSettings); err != nil {
			return err
		}
	}
	return f()
}
