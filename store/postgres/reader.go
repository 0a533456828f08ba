package postgres

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/hearth-faas/hearth/store"
)

const (
	getSQL     = `SELECT value FROM hearth_records WHERE bucket = $1 AND key = $2`
	scanSQL    = `SELECT key, value FROM hearth_records WHERE bucket = $1 AND key > $2 AND key >= $3 ORDER BY key LIMIT $4`
	scanEndSQL = `SELECT key, value FROM hearth_records WHERE bucket = $1 AND key > $2 AND key >= $3 AND key < $5 ORDER BY key LIMIT $4`
)

// scanPage is how many records one query of a Scan reads. Between the queries
// the connection is free, so that the loop's body may read.
const scanPage = 128

// querier sends a query and gives its rows to take.
type querier interface {
	send(sql string, args []any, take func(pgx.Rows) error) error
}

// taken gives rows to take, and closes them.
func taken(rows pgx.Rows, take func(pgx.Rows) error) error {
	err := take(rows)
	rows.Close()
	return errors.Join(err, rows.Err())
}

// reader implements store.Reader.
type reader struct {
	query querier
	names names
}

// Get implements store.Reader.
func (r *reader) Get(bucket, key string) (value []byte, ok bool, err error) {
	if err := store.CheckKey(bucket, key); err != nil {
		return nil, false, err
	}
	err = r.query.send(getSQL, []any{bucket, key}, func(rows pgx.Rows) error {
		if ok = rows.Next(); !ok {
			return nil
		}
		return rows.Scan(&value)
	})
	if err != nil {
		return nil, false, r.names.explain(err)
	}
	return value, ok, nil
}

// Scan implements store.Reader.
func (r *reader) Scan(bucket, prefix, after string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for {
			page, more, err := r.page(bucket, prefix, after)
			if err != nil {
				yield(store.Record{}, r.names.explain(err))
				return
			}
			for _, rec := range page {
				if !yield(rec, nil) {
					return
				}
			}
			if !more {
				return
			}
			after = page[len(page)-1].Key
		}
	}
}

// page reads the next records of a Scan, and whether others may follow.
func (r *reader) page(bucket, prefix, after string) (page []store.Record, more bool, err error) {
	for _, text := range []string{bucket, prefix, after} {
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return nil, false, fmt.Errorf("store: scan of %q: %q is not UTF-8 without NUL", bucket, text)
		}
	}
	sql, args := scanSQL, []any{bucket, after, prefix, scanPage}
	if end := prefixEnd(prefix); end != "" {
		sql, args = scanEndSQL, append(args, end)
	}
	err = r.query.send(sql, args, func(rows pgx.Rows) error {
		page = page[:0]
		for rows.Next() {
			var rec store.Record
			if err := rows.Scan(&rec.Key, &rec.Value); err != nil {
				return err
			}
			page = append(page, rec)
		}
		return nil
	})
	return page, len(page) == scanPage, err
}

// prefixEnd is the least text that is greater than all with the prefix; "" if
// there is none. The order of UTF-8's bytes is that of its characters.
func prefixEnd(prefix string) string {
	for prefix != "" {
		last, size := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-size]
		switch {
		case last == utf8.MaxRune:
			continue
		case last == 0xD7FF: // surrogates follow, which are no text
			last = 0xE000
		default:
			last++
		}
		return prefix + string(last)
	}
	return ""
}
