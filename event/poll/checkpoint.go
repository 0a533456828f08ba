package poll

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hearth-faas/hearth/store"
)

// CheckpointBucket keeps how far each shard has been read: mapping/shard →
// checkpoint.
const CheckpointBucket = "sourceCheckpoints"

// checkpoint is how far a shard has been dealt with. The names are those on
// disk.
type checkpoint struct {
	// Epoch grows with each reader of the shard. One that finds a greater one
	// than its own has been followed by another, and stores nothing any more.
	Epoch    uint64  `json:"epoch"`
	Position string  `json:"position,omitempty"` // "" is not begun
	Ended    bool    `json:"ended,omitempty"`    // the shard will never have more
	Window   *window `json:"window,omitempty"`   // that is open, of tumbling windows
}

// window is a tumbling window that has not been closed.
type window struct {
	Start time.Time       `json:"start"`
	End   time.Time       `json:"end"`
	State json.RawMessage `json:"state,omitempty"`
}

// errFenced says that somebody else reads the shard now.
var errFenced = errors.New("another reader has taken over the shard")

// checkpoints keep the positions of one mapping's shards.
type checkpoints struct {
	store   store.Store
	mapping string
}

func (c checkpoints) key(shard string) string { return c.mapping + "/" + shard }

// claim makes the caller the shard's reader, and returns where it goes on.
func (c checkpoints) claim(ctx context.Context, shard string) (cp checkpoint, err error) {
	err = c.store.Update(ctx, func(tx store.Tx) error {
		var rerr error
		if cp, rerr = readCheckpoint(tx, c.key(shard)); rerr != nil {
			return rerr
		}
		cp.Epoch++
		return putCheckpoint(tx, c.key(shard), cp)
	})
	return cp, err
}

// save stores cp, unless its epoch is not the shard's any more: errFenced.
func (c checkpoints) save(ctx context.Context, shard string, cp checkpoint) error {
	return c.store.Update(ctx, func(tx store.Tx) error {
		now, err := readCheckpoint(tx, c.key(shard))
		if err != nil {
			return err
		}
		if now.Epoch != cp.Epoch {
			return errFenced
		}
		return putCheckpoint(tx, c.key(shard), cp)
	})
}

// forget removes the positions of all the mapping's shards.
func (c checkpoints) forget(ctx context.Context) error {
	return c.store.Update(ctx, func(tx store.Tx) error {
		var keys []string
		for rec, err := range tx.Scan(CheckpointBucket, c.mapping+"/", "") {
			if err != nil {
				return err
			}
			keys = append(keys, rec.Key)
		}
		for _, key := range keys {
			if err := tx.Delete(CheckpointBucket, key); err != nil {
				return err
			}
		}
		return nil
	})
}

func readCheckpoint(r store.Reader, key string) (cp checkpoint, err error) {
	data, ok, err := r.Get(CheckpointBucket, key)
	if err != nil || !ok {
		return cp, err
	}
	if err := json.Unmarshal(data, &cp); err != nil {
		return cp, fmt.Errorf("the checkpoint %s is damaged: %w", key, err)
	}
	return cp, nil
}

func putCheckpoint(tx store.Tx, key string, cp checkpoint) error {
	data, err := json.Marshal(cp)
	if err != nil {
		return err
	}
	return tx.Put(CheckpointBucket, key, data)
}
