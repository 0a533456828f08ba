package identity

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// What becomes of the keys while a server works with them.

// Join has the data keys be kept with the records too, if they are not in the
// folder, nil if they are, and ends a rotation that was interrupted. It is called
// once, when the records are this server's and before anything is opened that
// they have sealed.
func (a *Authority) Join(ctx context.Context, records Records) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	if records == nil {
		return a.data.settle()
	}
	data, err := records.Load(ctx)
	if err != nil {
		return err
	}
	if data == nil {
		return a.data.settle() // Publish keeps them there, once they are known to open the records
	}
	d, err := a.data.adopt(data)
	if err != nil {
		return err
	}
	if err := d.write(ctx); err != nil { // the folder's copy
		return err
	}
	d.records = records
	session, err := newSessionKey(d)
	if err != nil {
		return err
	}
	if err := a.install(d); err != nil {
		return err
	}
	a.sessions.keys.Store(&sessionKeys{current: session})
	return d.settle()
}

// Publish keeps the data keys with the records, if they are not there yet.
func (a *Authority) Publish(ctx context.Context, records Records) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	if a.data.records != nil {
		return nil
	}
	a.data.records = records
	if err := a.data.write(ctx); err != nil {
		a.data.records = nil
		return err
	}
	return nil
}

// install has everything be sealed and opened by d from now on.
func (a *Authority) install(d *DataKeys) error {
	for _, k := range []*Key{a.key, a.keys.master} {
		if err := k.take(d); err != nil {
			return err
		}
	}
	a.data = d
	return nil
}

// Current is the generation of the data key by which all of the Authority's keys
// seal now.
func (a *Authority) Current() uint32 {
	a.changing.Lock()
	defer a.changing.Unlock()
	return a.data.file.Current
}

// Rotate replaces the master key and makes a new data key, as the function Rotate
// does, while everything goes on. to is the file of the new master key; "" is
// where the old one is. Sessions of before hold for grace, which may be zero, or
// until they end. With an error the rotation may be done nevertheless, if what
// is returned says of a new key.
func (a *Authority) Rotate(ctx context.Context, to string, grace time.Duration) (MasterInfo, error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	unlock, err := lockKeys(a.data.dir, syscall.LOCK_EX)
	if err != nil {
		return a.data.Info(), err
	}
	defer unlock()
	d, err := a.data.fresh(ctx)
	if err != nil {
		return a.data.Info(), err
	}
	if to == "" {
		to = d.place
	}
	rotated := d.rotate(ctx, to, a.clock.Now())
	if !d.written {
		return a.data.Info(), rotated
	}
	session, err := newSessionKey(d)
	if err != nil {
		return a.data.Info(), err
	}
	if err := a.install(d); err != nil {
		return a.data.Info(), err
	}
	keys := &sessionKeys{current: session}
	if grace > 0 {
		keys.older, keys.until = a.sessions.keys.Load().current, a.clock.Now().Add(grace)
	}
	a.sessions.keys.Store(keys)
	return d.Info(), rotated
}

// Forget removes the data keys that are older than a generation, which have
// sealed nothing that is left. It tells whether there were any.
func (a *Authority) Forget(ctx context.Context, older uint32) (bool, error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	unlock, err := lockKeys(a.data.dir, syscall.LOCK_EX)
	if err != nil {
		return false, err
	}
	defer unlock()
	d, err := a.data.fresh(ctx)
	if err != nil || !d.without(older) {
		return false, err
	}
	if err := d.write(ctx); err != nil {
		return false, fmt.Errorf("older data keys can't be removed: %w", err)
	}
	return true, a.install(d)
}
