package delivery

import (
	"context"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// Parked yields what was given up and had nowhere to go, of an account, until
// take returns false.
func (q *Queue) Parked(ctx context.Context, account hearth.Account, take func(*Delivery) bool) error {
	return q.parked(ctx, func(d *Delivery) bool { return d.Account != account || take(d) })
}

func (q *Queue) parked(ctx context.Context, take func(*Delivery) bool) error {
	return q.cfg.Store.View(ctx, func(r store.Reader) error {
		for rec, err := range r.Scan(parkedBucket, "", "") {
			if err != nil {
				return err
			}
			d, err := decode(rec.Key, rec.Value)
			if err != nil {
				return err
			}
			if !take(d) {
				return nil
			}
		}
		return nil
	})
}

// Redrive puts a parked delivery of an account back into the queue, as one that
// was accepted now. Errors: ResourceNotFound.
func (q *Queue) Redrive(ctx context.Context, account hearth.Account, id string) error {
	now := q.cfg.Clock.Now().UTC().Round(0)
	err := q.cfg.Store.Update(ctx, func(tx store.Tx) error {
		data, ok, err := tx.Get(parkedBucket, id)
		if err != nil {
			return err
		}
		var d *Delivery
		if ok {
			if d, err = decode(id, data); err != nil {
				return err
			}
		}
		if d == nil || d.Account != account {
			return hearth.Errorf(hearth.NotFound, "There is no parked delivery %s.", id)
		}
		d.Accepted, d.Due, d.Attempts, d.Parked, d.Why = now, now, 0, time.Time{}, ""
		if err := q.Put(tx, *d, now); err != nil {
			return err
		}
		return tx.Delete(parkedBucket, id)
	})
	if err == nil {
		q.Wake()
	}
	return err
}

// sweepAtOnce bounds how many records one transaction removes.
const sweepAtOnce = 1000

// sweep removes what was parked too long ago.
func (q *Queue) sweep(now time.Time) {
	before := now.Add(-q.cfg.ParkFor)
	for {
		var old []string
		err := q.parked(q.ctx, func(d *Delivery) bool {
			if d.Parked.Before(before) {
				old = append(old, d.ID)
			}
			return len(old) < sweepAtOnce
		})
		if err == nil && len(old) > 0 {
			err = q.cfg.Store.Update(q.ctx, func(tx store.Tx) error {
				for _, id := range old {
					if err := tx.Delete(parkedBucket, id); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err != nil {
			if q.ctx.Err() == nil {
				q.cfg.Log.Warn("old parked deliveries could not be removed", "error", err)
			}
			return
		}
		if len(old) < sweepAtOnce {
			return
		}
	}
}

// Forget removes all deliveries of an account that is deleted, parked ones and
// those that wait.
func (q *Queue) Forget(ctx context.Context, account hearth.Account) error {
	for _, b := range []string{parkedBucket, bucket} {
		for {
			var gone []string
			err := q.cfg.Store.View(ctx, func(r store.Reader) error {
				gone = nil
				for rec, err := range r.Scan(b, "", "") {
					if err != nil {
						return err
					}
					d, err := decode(rec.Key, rec.Value)
					if err != nil {
						return err
					}
					if d.Account == account {
						gone = append(gone, rec.Key)
					}
					if len(gone) == sweepAtOnce {
						return nil
					}
				}
				return nil
			})
			if err == nil && len(gone) > 0 {
				err = q.cfg.Store.Update(ctx, func(tx store.Tx) error {
					for _, key := range gone {
						if err := tx.Delete(b, key); err != nil {
							return err
						}
					}
					return nil
				})
			}
			if err != nil {
				return err
			}
			if len(gone) < sweepAtOnce {
				break
			}
		}
	}
	return nil
}
