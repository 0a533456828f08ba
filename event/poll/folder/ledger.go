package folder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/store"
)

// Ledger keeps which files a mapping has processed, and as what they were: one
// record a file, beside the mapping's checkpoints, with which it goes when the
// mapping is deleted.
type Ledger struct {
	Store   store.Store
	Mapping string
}

// key is the record of a path, which may be longer than a key and no UTF-8.
func (l Ledger) key(path string) string {
	sum := sha256.Sum256([]byte(path))
	return l.Mapping + "/file:" + hex.EncodeToString(sum[:])
}

// knows tells whether the file was processed as it is.
func (l Ledger) knows(ctx context.Context, v version) (known bool, err error) {
	err = l.Store.View(ctx, func(r store.Reader) error {
		data, ok, err := r.Get(poll.CheckpointBucket, l.key(v.Path))
		if err != nil || !ok {
			known = false
			return err
		}
		var was version
		if err := json.Unmarshal(data, &was); err != nil {
			return fmt.Errorf("the note of the file %s is damaged: %w", v.Path, err)
		}
		was.Path = v.Path // what is no UTF-8 is not kept as it is
		known = was == v
		return nil
	})
	return known, err
}

// done notes that files were processed.
func (l Ledger) done(ctx context.Context, versions []version) error {
	return l.Store.Update(ctx, func(tx store.Tx) error {
		for _, v := range versions {
			data, err := json.Marshal(v)
			if err != nil {
				return err
			}
			if err := tx.Put(poll.CheckpointBucket, l.key(v.Path), data); err != nil {
				return err
			}
		}
		return nil
	})
}

// forget removes the records of files that are gone.
func (l Ledger) forget(ctx context.Context, paths []string) error {
	return l.Store.Update(ctx, func(tx store.Tx) error {
		for _, p := range paths {
			if err := tx.Delete(poll.CheckpointBucket, l.key(p)); err != nil {
				return err
			}
		}
		return nil
	})
}

// each yields what is kept, until take returns false.
func (l Ledger) each(ctx context.Context, take func(v version) bool) error {
	return l.Store.View(ctx, func(r store.Reader) error {
		for rec, err := range r.Scan(poll.CheckpointBucket, l.Mapping+"/file:", "") {
			if err != nil {
				return err
			}
			var v version
			if err := json.Unmarshal(rec.Value, &v); err != nil {
				return fmt.Errorf("the note of a file, %s, is damaged: %w", rec.Key, err)
			}
			if !take(v) {
				return nil
			}
		}
		return nil
	})
}
