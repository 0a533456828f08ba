package idempotent

import (
	"context"
	"log/slog"
	"testing"

	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/files"
	"github.com/hearth-faas/hearth/store/sqlite"
)

func newTestShelf(t *testing.T) *shelf { return openTestShelf(t, t.TempDir()) }

func openTestShelf(t *testing.T, dir string) *shelf {
	t.Helper()
	s, err := sqlite.Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := files.Open(dir + "/results")
	if err != nil {
		t.Fatal(err)
	}
	h, err := openShelf(context.Background(), s, blobs, 1<<20, 1<<20, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// forgetOnDisk deletes all records on disk, and none in memory.
func (h *shelf) forgetOnDisk(ctx context.Context) (n int, err error) {
	if err := h.flush(ctx); err != nil {
		return 0, err
	}
	return n, h.store.Update(ctx, func(tx store.Tx) error {
		var keys []string
		for rec, err := range tx.Scan(recordBucket, "", "") {
			if err != nil {
				return err
			}
			keys = append(keys, rec.Key)
		}
		n = len(keys)
		for _, k := range keys {
			if err := tx.Delete(recordBucket, k); err != nil {
				return err
			}
		}
		return nil
	})
}
