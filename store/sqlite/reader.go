package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"iter"

	"github.com/hearth-faas/hearth/store"
)

const (
	getSQL  = `SELECT value FROM records WHERE bucket = ?1 AND key = ?2`
	scanSQL = `SELECT key, value FROM records WHERE bucket = ?1 AND key > ?2 AND key >= ?3 AND (?4 = '' OR key < ?4) ORDER BY key LIMIT ?5`
	putSQL  = `INSERT INTO records (bucket, key, value) VALUES (?1, ?2, ?3) ON CONFLICT (bucket, key) DO UPDATE SET value = excluded.value`
	delSQL  = `DELETE FROM records WHERE bucket = ?1 AND key = ?2`
)

// scanPage is how many records one query of a Scan reads. Between the queries
// no statement is open, so that the loop's body may write.
const scanPage = 128

// reader implements store.Reader over prepared statements or a transaction.
type reader struct {
	ctx     context.Context
	explain func(error) error
	get     func(args ...any) *sql.Row
	scan    func(args ...any) (*sql.Rows, error)
}

// Get implements store.Reader.
func (r *reader) Get(bucket, key string) ([]byte, bool, error) {
	if err := store.CheckKey(bucket, key); err != nil {
		return nil, false, err
	}
	var value []byte
	switch err := r.get(bucket, key).Scan(&value); {
	case errors.Is(err, sql.ErrNoRows):
		return nil, false, nil
	case err != nil:
		return nil, false, r.explain(err)
	}
	return value, true, nil
}

// Scan implements store.Reader.
func (r *reader) Scan(bucket, prefix, after string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		end := prefixEnd(prefix)
		for {
			page, err := r.page(bucket, prefix, after, end)
			if err != nil {
				yield(store.Record{}, r.explain(err))
				return
			}
			for _, rec := range page {
				if !yield(rec, nil) {
					return
				}
			}
			if len(page) < scanPage {
				return
			}
			after = page[len(page)-1].Key
		}
	}
}

func (r *reader) page(bucket, prefix, after, end string) (_ []store.Record, err error) {
	rows, err := r.scan(bucket, after, prefix, end, scanPage)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var page []store.Record
	for rows.Next() {
		var rec store.Record
		if err := rows.Scan(&rec.Key, &rec.Value); err != nil {
			return nil, err
		}
		page = append(page, rec)
	}
	return page, rows.Err()
}

// prefixEnd is the least string that is greater than all strings with the
// prefix; "" if there is none.
func prefixEnd(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return ""
}
