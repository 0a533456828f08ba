package fleet

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// How routers share what they count, and find it again.

// syncBatch bounds the records of one transaction, for which others wait.
const syncBatch = 500

// Sync writes what this router has counted and reads what the others have.
func (h *History) Sync(ctx context.Context) error {
	if h.cfg.Store == nil {
		return nil
	}
	h.sync.Lock()
	defer h.sync.Unlock()
	puts := map[string][]byte{}
	var failed []*Code
	var all []*Code
	h.Each(func(c *Code) { all = append(all, c) })
	flush := func() error {
		if len(puts) == 0 {
			return nil
		}
		err := h.cfg.Store.Update(ctx, func(tx store.Tx) error {
			for k, v := range puts {
				if err := tx.Put(bucket, k, v); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			for _, c := range failed {
				c.mu.Lock()
				c.dirty = true
				c.mu.Unlock()
			}
		}
		clear(puts)
		failed = failed[:0]
		return err
	}
	for _, c := range all {
		c.mu.Lock()
		dirty, r := c.dirty, c.record
		c.dirty = false
		c.mu.Unlock()
		if !dirty {
			continue
		}
		v, err := json.Marshal(&r)
		if err != nil {
			return err
		}
		puts[h.key(c.owner)] = v
		failed = append(failed, c)
		if len(puts) == syncBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return h.read(ctx, false)
}

func (h *History) key(o owner) string {
	return h.cfg.Router + "/" + string(o.account) + "/" + o.function
}

// read takes in what the store has of the others, and with own of this router.
// Records that nobody needs any more are removed: those of no window.
func (h *History) read(ctx context.Context, own bool) error {
	now := h.cfg.Clock.Now()
	others := map[owner][]record{}
	var old []string
	err := h.cfg.Store.View(ctx, func(r store.Reader) error {
		clear(others)
		old = old[:0]
		for rec, err := range r.Scan(bucket, "", "") {
			if err != nil {
				return err
			}
			parts := strings.SplitN(rec.Key, "/", 3)
			var got record
			if len(parts) != 3 || json.Unmarshal(rec.Value, &got) != nil || got.Window.Width <= 0 {
				h.cfg.Log.Warn("what was counted of a function can't be read, and is counted anew", "of", rec.Key)
				old = append(old, rec.Key)
				continue
			}
			if got.Window.Empty(now) {
				if now.Sub(got.Last) > 24*time.Hour { // whoever counted it may still write it
					old = append(old, rec.Key)
				}
				continue
			}
			o := owner{hearth.Account(parts[1]), parts[2]}
			if parts[0] != h.cfg.Router {
				others[o] = append(others[o], got)
			} else if own {
				c := h.Of(o.account, o.function)
				c.mu.Lock()
				c.record = got
				if got.High {
					c.verdict.Class = High
				}
				c.verdict.Since = got.Since
				c.mu.Unlock()
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	h.Each(func(c *Code) {
		c.mu.Lock()
		c.others = others[c.owner]
		c.mu.Unlock()
		delete(others, c.owner)
	})
	for o, records := range others {
		c := h.Of(o.account, o.function)
		c.mu.Lock()
		c.others = records
		c.mu.Unlock()
	}
	if len(old) == 0 {
		return nil
	}
	return h.cfg.Store.Update(ctx, func(tx store.Tx) error {
		for _, k := range old {
			if err := tx.Delete(bucket, k); err != nil {
				return err
			}
		}
		return nil
	})
}

// Empty forgets all that was counted, here and in the store.
func (h *History) Empty(ctx context.Context) error {
	h.sync.Lock()
	defer h.sync.Unlock()
	for i := range h.known {
		s := &h.known[i]
		s.mu.Lock()
		for o, c := range s.of {
			c.leaveHome()
			delete(s.of, o)
		}
		s.mu.Unlock()
	}
	if h.cfg.Store == nil {
		return nil
	}
	return h.cfg.Store.Update(ctx, func(tx store.Tx) error {
		var keys []string
		for rec, err := range tx.Scan(bucket, "", "") {
			if err != nil {
				return err
			}
			keys = append(keys, rec.Key)
		}
		for _, k := range keys {
			if err := tx.Delete(bucket, k); err != nil {
				return err
			}
		}
		return nil
	})
}
