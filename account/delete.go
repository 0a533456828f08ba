package account

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// Holder keeps things of accounts.
type Holder struct {
	// What is what they are called, in the plural, such as functions.
	What string
	// Names are those of the account. None is that it may go.
	Names func(ctx context.Context, account hearth.Account) ([]string, error)
	// Clear deletes all of them. It may be called again where it stopped.
	Clear func(ctx context.Context, account hearth.Account) error
}

// Hold says who keeps things of accounts, in the order in which an account is
// emptied, and takes up what deletions a crash interrupted.
func (d *Directory) Hold(holders ...Holder) {
	d.changing.Lock()
	defer d.changing.Unlock()
	d.cfg.Holders = append(d.cfg.Holders, holders...)
}

// Continue takes up the deletions that were not through when the process
// ended.
func (d *Directory) Continue() {
	for _, a := range d.List() {
		if a.State == Deleting {
			d.deleting.Go(func() { d.empty(a.ID) })
		}
	}
}

// maxNamed bounds how many names of each sort a refusal tells.
const maxNamed = 5

// Delete deletes an account. One that has anything is refused, unless
// everything is set, with which it is Deleting until all of it is gone, also
// over a crash: Delete returns when that is so, or ctx ends, which does not
// stop it. Errors: NotFound, InvalidParameter for the operator's, InUse for one
// that has something.
func (d *Directory) Delete(ctx context.Context, id hearth.Account, everything bool) error {
	a := d.Get(id)
	if a == nil {
		return hearth.Errorf(hearth.NotFound, "There is no account %q; hearth account list shows those that there are.", clip(string(id)))
	}
	if a.State != Deleting {
		if id != d.cfg.Operator && !everything {
			if err := d.inUse(ctx, id); err != nil {
				return err
			}
		}
		if _, err := d.change(context.WithoutCancel(ctx), id, Deleting, func(*Account) error { return nil }); err != nil {
			return err
		}
	}
	done := make(chan struct{})
	d.deleting.Go(func() {
		defer close(done)
		d.empty(id)
	})
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return hearth.Errorf(hearth.Canceled, "The account %s is being deleted; hearth account list tells when it is gone.", id)
	}
}

// inUse tells what an account has.
func (d *Directory) inUse(ctx context.Context, id hearth.Account) error {
	var has []string
	for _, h := range d.cfg.Holders {
		names, err := h.Names(ctx, id)
		if err != nil {
			return fmt.Errorf("the %s of account %s: %w", h.What, id, err)
		}
		switch n := len(names); {
		case n == 0:
		case n > maxNamed:
			has = append(has, fmt.Sprintf("%d %s (%s, …)", n, h.What, strings.Join(names[:maxNamed], ", ")))
		default:
			has = append(has, fmt.Sprintf("%s %s", h.What, strings.Join(names, ", ")))
		}
	}
	if len(has) == 0 {
		return nil
	}
	return hearth.Errorf(hearth.InUse, "The account %s is not empty: it has %s. Delete them first, or delete it with everything in it (hearth account delete %s --everything).", id, strings.Join(has, "; "), id)
}

// again is when a deletion that failed is tried again; it grows up to 32 times
// that.
const again = time.Second

// empty deletes what the account has and then the account, again and again
// until nothing is left or the Directory is closed.
func (d *Directory) empty(id hearth.Account) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-d.ended:
			cancel()
		case <-stop:
		}
	}()
	for wait := again; ; wait = min(2*wait, 32*again) {
		err := d.emptyOnce(ctx, id)
		if err == nil || ctx.Err() != nil {
			return
		}
		d.cfg.Log.Warn("an account is not deleted yet, and it is tried again", "account", id, "err", err, "after", wait)
		fired := make(chan struct{})
		t := d.cfg.Clock.AfterFunc(wait, func() { close(fired) })
		select {
		case <-fired:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

func (d *Directory) emptyOnce(ctx context.Context, id hearth.Account) error {
	for _, h := range d.cfg.Holders {
		if err := h.Clear(ctx, id); err != nil {
			return fmt.Errorf("its %s: %w", h.What, err)
		}
	}
	// What came in through a request that was let in before is found here.
	for _, h := range d.cfg.Holders {
		names, err := h.Names(ctx, id)
		if err == nil && len(names) > 0 {
			err = fmt.Errorf("%d are left", len(names))
		}
		if err != nil {
			return fmt.Errorf("its %s: %w", h.What, err)
		}
	}
	if err := d.keys.Clear(ctx, id); err != nil {
		return fmt.Errorf("its access keys: %w", err)
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	if _, err := d.accounts.Change(ctx, string(id), func(*Account) (*Account, error) { return nil, nil }); err != nil {
		return err
	}
	d.publish()
	return nil
}
