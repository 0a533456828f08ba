package server

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/postgres"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// Moved is what MoveRecords has done.
type Moved struct {
	Folder   string         `json:"folder"`
	Database string         `json:"database"` // its name, without a password
	Records  int            `json:"records"`
	Buckets  map[string]int `json:"buckets"`
	Kept     string         `json:"kept"` // the folder's own database, which is not used any more
}

// movingKey is in the bucket of the binding while a folder's records are being
// copied: whose they are. What is there with it is no server's yet.
const movingKey = "moving"

// movedSuffix is of the file that was a folder's database.
const movedSuffix = ".moved"

// bucketed is a store that knows the names of its buckets.
type bucketed interface {
	store.Store
	Buckets(ctx context.Context) ([]string, error)
}

// MoveRecords moves the records of a data folder, which no server may use, to
// the PostgreSQL database of the configuration, which must be empty. The folder
// belongs to the database from the moment when every record is there and was
// compared; until then it is as it was, and moving it anew begins anew. tell is
// told how many records are there.
func MoveRecords(ctx context.Context, cfg Config, tell func(records int)) (m Moved, err error) {
	if cfg.Database == "" {
		return m, errors.New("where to? Name the database")
	}
	if err := cfg.checkDatabase(); err != nil {
		return m, err
	}
	if _, err := os.Stat(cfg.DataDir); err != nil {
		return m, fmt.Errorf("there is no data folder %s", cfg.DataDir)
	}
	folder, err := store.OpenFolder(cfg.DataDir)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	cfg.DataDir = folder.Path
	s := &Server{cfg: cfg, log: cfg.Logger()}
	bound, err := s.bound()
	if err != nil {
		return m, store.Explain(cfg.DataDir, err)
	}
	if _, err := os.Stat(s.dir(sqlite.Name)); errors.Is(err, fs.ErrNotExist) {
		if bound.ID != "" {
			return m, fmt.Errorf("the data folder %s has its records in the database %s already", cfg.DataDir, bound.Name)
		}
		return m, fmt.Errorf("the data folder %s has no records yet: start it with --database", cfg.DataDir)
	}
	to, err := s.openPostgres(ctx, nil)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if bound.ID != "" && bound.ID != to.ID() {
		return m, fmt.Errorf("the data folder %s belongs to another database: %s", cfg.DataDir, bound.Name)
	}
	m = Moved{Folder: cfg.DataDir, Database: to.Name(), Kept: s.dir(sqlite.Name + movedSuffix)}
	from, err := sqlite.Open(ctx, cfg.DataDir)
	if err != nil {
		return m, store.Explain(cfg.DataDir, err)
	}
	if bound.ID == "" {
		err = s.copyRecords(ctx, from, to, tell)
	}
	if err == nil {
		m.Buckets, err = same(ctx, from, to)
	}
	if err := errors.Join(err, from.Close()); err != nil {
		return m, err
	}
	for _, n := range m.Buckets {
		m.Records += n
	}
	if bound.ID == "" {
		// From here on the folder's own database is not looked at any more.
		data, err := json.Marshal(binding{to.ID(), to.Name()})
		if err != nil {
			return m, err
		}
		if err := writeSynced(s.dir(DatabaseFile), data); err != nil {
			return m, store.Explain(cfg.DataDir, err)
		}
	}
	err = to.Update(ctx, func(tx store.Tx) error {
		return errors.Join(tx.Put(bindingBucket, bindingKey, []byte(cfg.DataDir)), tx.Delete(bindingBucket, movingKey))
	})
	if err != nil {
		return m, err
	}
	return m, os.Rename(s.dir(sqlite.Name), m.Kept)
}

// moveAtOnce is how many records are copied in a transaction, and moveBytes
// after how many bytes there are no more.
const (
	moveAtOnce = 1000
	moveBytes  = 8 << 20
)

// copyRecords makes of a database that is empty, or that a copy of this folder
// was begun in, one with the folder's records.
func (s *Server) copyRecords(ctx context.Context, from, to bucketed, tell func(int)) error {
	err := to.Update(ctx, func(tx store.Tx) error {
		mark, moving, err := tx.Get(bindingBucket, movingKey)
		if err != nil {
			return err
		}
		if moving && string(mark) == s.cfg.DataDir {
			return nil
		}
		owner, claimed, err := tx.Get(bindingBucket, bindingKey)
		switch {
		case err != nil:
			return err
		case claimed:
			return fmt.Errorf("the database belongs to the data folder %s: give an empty one", owner)
		case moving:
			return fmt.Errorf("the records of the data folder %s are being moved to the database: give an empty one", mark)
		}
		return tx.Put(bindingBucket, movingKey, []byte(s.cfg.DataDir))
	})
	if err != nil {
		return err
	}
	// What an attempt before this one has copied may have changed since.
	if err := clearBuckets(ctx, to); err != nil {
		return err
	}
	buckets, err := from.Buckets(ctx)
	if err != nil {
		return err
	}
	total := 0
	for _, bucket := range buckets {
		for after, more := "", true; more; {
			var page []store.Record
			size := 0
			err := from.View(ctx, func(r store.Reader) error {
				page, size, more = nil, 0, false
				for rec, err := range r.Scan(bucket, "", after) {
					if err != nil {
						return err
					}
					page = append(page, rec)
					if size += len(rec.Value); len(page) == moveAtOnce || size > moveBytes {
						more = true
						break
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			if len(page) == 0 {
				break
			}
			err = to.Update(ctx, func(tx store.Tx) error {
				for _, rec := range page {
					if err := tx.Put(bucket, rec.Key, rec.Value); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("the bucket %s: %w", bucket, err)
			}
			after = page[len(page)-1].Key
			if total += len(page); tell != nil {
				tell(total)
			}
		}
	}
	return nil
}

// clearBuckets removes all but the mark of who moves here.
func clearBuckets(ctx context.Context, to bucketed) error {
	buckets, err := to.Buckets(ctx)
	if err != nil {
		return err
	}
	for _, bucket := range buckets {
		for more := true; more; {
			err := to.Update(ctx, func(tx store.Tx) error {
				var keys []string
				for rec, err := range tx.Scan(bucket, "", "") {
					if err != nil {
						return err
					}
					if bucket == bindingBucket && rec.Key == movingKey {
						continue
					}
					if keys = append(keys, rec.Key); len(keys) == moveAtOnce {
						break
					}
				}
				more = len(keys) == moveAtOnce
				for _, key := range keys {
					if err := tx.Delete(bucket, key); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// same compares all records, but for those that say whose a database is, and
// tells how many there are in each bucket.
func same(ctx context.Context, from, to bucketed) (map[string]int, error) {
	here, err := from.Buckets(ctx)
	if err != nil {
		return nil, err
	}
	there, err := to.Buckets(ctx)
	if err != nil {
		return nil, err
	}
	all := append(here, there...)
	slices.Sort(all)
	counts := map[string]int{}
	for _, bucket := range slices.Compact(all) {
		a, n, err := digest(ctx, from, bucket)
		if err != nil {
			return nil, err
		}
		b, m, err := digest(ctx, to, bucket)
		if err != nil {
			return nil, err
		}
		if a != b {
			return nil, fmt.Errorf("the bucket %s has %d records in the folder and %d in the database, or others: they were not moved; try again", bucket, n, m)
		}
		if n > 0 {
			counts[bucket] = n
		}
	}
	return counts, nil
}

// digest is of a bucket's records, in their order.
func digest(ctx context.Context, s store.Store, bucket string) (sum [sha256.Size]byte, n int, err error) {
	h := sha256.New()
	err = s.View(ctx, func(r store.Reader) error {
		h.Reset()
		n = 0
		for rec, err := range r.Scan(bucket, "", "") {
			if err != nil {
				return err
			}
			if bucket == bindingBucket && (rec.Key == movingKey || rec.Key == bindingKey) {
				continue
			}
			n++
			for _, part := range [][]byte{[]byte(rec.Key), rec.Value} {
				var size [8]byte
				binary.BigEndian.PutUint64(size[:], uint64(len(part)))
				h.Write(size[:])
				h.Write(part)
			}
		}
		return nil
	})
	return [sha256.Size]byte(h.Sum(nil)), n, err
}

var (
	_ bucketed = (*sqlite.Store)(nil)
	_ bucketed = (*postgres.Store)(nil)
)
