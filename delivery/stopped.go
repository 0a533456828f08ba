package delivery

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// What is due of an account that is stopped is put aside into a third line, by
// account, where nobody looks at it until the account goes on: however much it
// is, it is in nobody's way.
const asideLine = "h/" // account/turn

// aside bounds how many deliveries of stopped accounts a round puts aside.
const aside = 256

func asideKey(d *Delivery) string {
	_, turn, _ := strings.Cut(d.key, "/")
	return asideLine + string(d.Account) + "/" + turn
}

// putAside moves deliveries of stopped accounts out of the way.
func (q *Queue) putAside(ds []*Delivery) error {
	return q.cfg.Store.Update(q.ctx, func(tx store.Tx) error {
		for _, d := range ds {
			if _, ok, err := tx.Get(bucket, d.key); err != nil {
				return err
			} else if !ok {
				continue // another server was first
			}
			c := *d
			c.Claimed, c.key = false, asideKey(d)
			if err := replace(tx, d.key, &c); err != nil {
				return err
			}
		}
		return nil
	})
}

// Resume lets the deliveries of an account go on. How long they waited is not
// counted as their age.
func (q *Queue) Resume(ctx context.Context, account hearth.Account) error {
	defer q.Wake()
	return q.resume(ctx, asideLine+string(account)+"/")
}

// resume brings back what was put aside under a prefix, of accounts that are
// not stopped.
func (q *Queue) resume(ctx context.Context, prefix string) error {
	for after, more := "", true; more; {
		now := q.cfg.Clock.Now().UTC().Round(0)
		var back []*Delivery
		err := q.cfg.Store.View(ctx, func(r store.Reader) error {
			back, more = nil, false
			for rec, err := range r.Scan(bucket, prefix, after) {
				if err != nil {
					return err
				}
				if len(back) == aside {
					more = true
					return nil
				}
				d, err := decode(rec.Key, rec.Value)
				if err != nil {
					return err
				}
				after = rec.Key
				if q.cfg.Stopped == nil || !q.cfg.Stopped(d.Account) {
					back = append(back, d)
				}
			}
			return nil
		})
		if err == nil && len(back) > 0 {
			err = q.cfg.Store.Update(ctx, func(tx store.Tx) error {
				for _, d := range back {
					if err := q.bringBack(tx, d, now); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err != nil {
			return fmt.Errorf("what waited for an account to go on: %w", err)
		}
	}
	return nil
}

func (q *Queue) bringBack(tx store.Tx, d *Delivery, now time.Time) error {
	if _, ok, err := tx.Get(bucket, d.key); err != nil || !ok {
		return err // another server was first
	}
	if err := tx.Delete(bucket, d.key); err != nil {
		return err
	}
	back := *d
	if back.Due.Before(now) {
		back.Due = now
	}
	return q.Put(tx, back, now)
}

// resumeAll brings back at a start what was put aside of accounts that were let
// go on while no server ran, or just before it ended.
func (q *Queue) resumeAll() {
	if err := q.resume(q.ctx, asideLine); err != nil && q.ctx.Err() == nil {
		q.cfg.Log.Error("deliveries could not be taken up again", "error", err)
	}
}
