package backfill

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver of sqlite: sources

	"github.com/hearth-faas/hearth"
)

// rows are those of a query of an SQLite database. An item is an object of all
// columns, and its id is the key's column. With a key that was named, a position
// is the last one's, and the query is asked for those after it; else it is how
// many were read, and another order, or rows that come and go, are made up for
// by the next pass.
type rows struct {
	db                   *sql.DB
	query, key, modified string
}

func openSQLite(path string, spec Spec) (Source, error) {
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: "mode=ro&_pragma=busy_timeout(10000)"}).String())
	if err != nil {
		return nil, err
	}
	return &rows{db, bare(spec.Query), spec.Key, spec.Modified}, nil
}

// bare is a query without what may not be inside another.
func bare(query string) string { return strings.TrimRight(strings.TrimSpace(query), "; \t\r\n") }

// quoted is a column's name in SQL.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func (r *rows) Steady() bool    { return false }
func (r *rows) Since(time.Time) {}
func (r *rows) Close() error    { return r.db.Close() }

// ask is the query of a page and its arguments.
func (r *rows) ask(position string, most int) (string, []any, error) {
	if r.key == "" {
		at, err := offset(position)
		return "SELECT * FROM (" + r.query + ") LIMIT ? OFFSET ?", []any{most, at}, err
	}
	k := quoted(r.key)
	if position == "" {
		return "SELECT * FROM (" + r.query + ") ORDER BY " + k + " LIMIT ?", []any{most}, nil
	}
	// A number is after all that is null, and a text after all numbers.
	var after any
	if n, err := strconv.ParseInt(strings.TrimPrefix(position, "n"), 10, 64); err == nil && position[0] == 'n' {
		after = n
	} else {
		after = position[1:]
	}
	return "SELECT * FROM (" + r.query + ") WHERE " + k + " > ? ORDER BY " + k + " LIMIT ?", []any{after, most}, nil
}

func (r *rows) Page(ctx context.Context, position string, most int) (items []Item, next string, err error) {
	query, args, err := r.ask(position, most)
	if err != nil {
		return nil, "", err
	}
	found, err := r.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, "", hearth.Errorf(hearth.InvalidParameter, "The query: %w", err)
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	columns, err := found.Columns()
	if err != nil {
		return nil, "", err
	}
	key, modified := 0, -1
	for _, c := range []struct {
		name string
		at   *int
	}{{r.key, &key}, {r.modified, &modified}} {
		if c.name == "" {
			continue
		}
		if *c.at = slices.Index(columns, c.name); *c.at < 0 {
			return nil, "", hearth.Errorf(hearth.InvalidParameter, "The query has no column %q; it has %s.", c.name, strings.Join(columns, ", "))
		}
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for found.Next() {
		if err := found.Scan(into...); err != nil {
			return nil, "", err
		}
		it, position, err := row(columns, values, key, modified)
		if err != nil {
			return nil, "", err
		}
		if r.key != "" && position == "" {
			return nil, "", hearth.Errorf(hearth.InvalidParameter, "The key %s has %v, which is neither an integer nor a text.", r.key, values[key])
		}
		items = append(items, it)
		next = position
	}
	if err := found.Err(); err != nil {
		return nil, "", err
	}
	if len(items) < most {
		return items, "", nil
	}
	if r.key == "" {
		at, err := offset(position)
		return items, strconv.FormatInt(at+int64(len(items)), 10), err
	}
	return items, next, nil
}

// row is the item of a row, and the position after it by its key; "" if it has
// none.
func row(columns []string, values []any, key, modified int) (it Item, position string, err error) {
	object := make(map[string]any, len(columns))
	for i, c := range columns {
		object[c] = values[i]
	}
	if it.Value, err = json.Marshal(object); err != nil {
		return it, "", err
	}
	switch k := values[key].(type) {
	case nil:
		return it, "", hearth.Errorf(hearth.InvalidParameter, "The query has a row whose %s is null, by which no item is known.", columns[key])
	case int64:
		it.ID, position = strconv.FormatInt(k, 10), "n"+strconv.FormatInt(k, 10)
	case []byte:
		it.ID = string(k)
	case string:
		it.ID, position = k, "t"+k
	default: // a number with a fraction, or a time, is known by its text
		it.ID = fmt.Sprint(k)
	}
	if modified >= 0 {
		it.Modified, err = moment(values[modified])
	}
	return it, position, err
}

// moment is the time that a column says: a time, its text, or seconds since
// 1970.
func moment(v any) (time.Time, error) {
	switch v := v.(type) {
	case nil:
		return time.Time{}, nil
	case time.Time:
		return v, nil
	case int64:
		return time.Unix(v, 0), nil
	case float64:
		return time.UnixMicro(int64(v * 1e6)), nil
	case string:
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999"} {
			if t, err := time.Parse(layout, v); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, hearth.Errorf(hearth.InvalidParameter, "The column of when a row was modified has %v, which is no time (2006-01-02 15:04:05, in UTC) and no number of seconds.", v)
}
