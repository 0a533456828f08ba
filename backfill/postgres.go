package backfill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hearth-faas/hearth"
)

// OpenPostgreSQL is the rows of a query of a PostgreSQL database. An item is an
// object of all columns, and its id is the key's column: the first, unless the
// spec names one. Rows are asked for in the key's order, so an index on it makes
// every page as quick as the first; a position is the last one's key. Nothing is
// written, and nothing connected to before a Page. Errors: InvalidParameter.
func OpenPostgreSQL(config *pgconn.Config, spec Spec) (Source, error) {
	if err := spec.databaseOnly(true, false); err != nil {
		return nil, err
	}
	config = config.Copy()
	for name, value := range map[string]string{
		"default_transaction_read_only": "on", "application_name": "hearth backfill",
		"TimeZone": "UTC", "DateStyle": "ISO", "IntervalStyle": "iso_8601", "extra_float_digits": "3", "bytea_output": "hex",
	} {
		config.RuntimeParams[name] = value
	}
	return &table{config: config, query: bare(spec.Query), key: spec.Key, modified: spec.Modified}, nil
}

type table struct {
	config               *pgconn.Config
	query, key, modified string
	since                time.Time
	conn                 *pgconn.PgConn // nil until it is needed, and after it broke
}

func (t *table) Steady() bool          { return false } // rows may come before the last key
func (t *table) Since(since time.Time) { t.since = since }

func (t *table) Close() error {
	if t.conn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn := t.conn
	t.conn = nil
	if err := conn.Close(ctx); err != nil && !conn.IsClosed() {
		return err
	}
	return nil
}

// asked makes of a database's error one that says whose it is.
func (t *table) asked(err error) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch e.Code[:2] {
		case "42", "22", "25", "0A": // what it says, or asks for, is wrong
			return hearth.Errorf(hearth.InvalidParameter, "The query: %s", e.Message)
		case "28":
			return hearth.Errorf(hearth.AccessDenied, "PostgreSQL refuses the user or the password: %s", e.Message)
		}
		return fmt.Errorf("PostgreSQL: %s", e.Message)
	}
	if t.conn != nil && t.conn.IsClosed() {
		t.conn = nil
	}
	if isOf[*pgconn.ConnectError](err) { // has who one is, and where
		return fmt.Errorf("PostgreSQL at %s can't be reached, or lets nobody in", t.config.Host)
	}
	return fmt.Errorf("PostgreSQL: %w", err)
}

// connect connects, and finds out which column is the key.
func (t *table) connect(ctx context.Context) (err error) {
	if t.conn == nil {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		if t.conn, err = pgconn.ConnectConfig(ctx, t.config); err != nil {
			return t.asked(err)
		}
	}
	if t.key != "" {
		return nil
	}
	d, err := t.conn.Prepare(ctx, "", "SELECT * FROM ("+t.query+") AS q", nil)
	if err != nil {
		return t.asked(err)
	}
	if len(d.Fields) == 0 {
		return hearth.Errorf(hearth.InvalidParameter, "The query has no columns.")
	}
	t.key = d.Fields[0].Name
	return nil
}

func (t *table) read(ctx context.Context, query string, args ...string) ([][][]byte, error) {
	values := make([][]byte, len(args))
	for i, a := range args {
		values[i] = []byte(a)
	}
	r := t.conn.ExecParams(ctx, query, values, nil, nil, nil).Read()
	if r.Err != nil {
		return nil, t.asked(r.Err)
	}
	return r.Rows, nil
}

// pageTime bounds a page's query. A key without an index has the whole query
// put in order for each.
const pageTime = 10 * time.Minute

func (t *table) Page(ctx context.Context, position string, most int) (items []Item, next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, pageTime)
	defer cancel()
	if err := t.connect(ctx); err != nil {
		return nil, "", err
	}
	key := "q." + quoted(t.key)
	from := " FROM (" + t.query + ") AS q"
	if position == "" {
		null, err := t.read(ctx, "SELECT 1"+from+" WHERE "+key+" IS NULL LIMIT 1")
		if err != nil {
			return nil, "", err
		}
		if len(null) > 0 {
			return nil, "", hearth.Errorf(hearth.InvalidParameter, "The query has a row whose %s is null, by which no item is known.", t.key)
		}
	}
	modified := "NULL"
	if t.modified != "" {
		modified = "extract(epoch FROM q." + quoted(t.modified) + ")::text"
	}
	where := " WHERE true"
	var args []string
	if position != "" {
		args = append(args, position[1:])
		where += " AND " + key + " > $1"
	}
	if !t.since.IsZero() && t.modified != "" {
		args = append(args, strconv.FormatFloat(float64(t.since.UnixMicro())/1e6, 'f', 6, 64))
		where += " AND q." + quoted(t.modified) + " >= to_timestamp($" + strconv.Itoa(len(args)) + "::double precision)"
	}
	rows, err := t.read(ctx, "SELECT "+key+"::text, row_to_json(q)::text, "+modified+from+where+" ORDER BY "+key+" LIMIT "+strconv.Itoa(most), args...)
	if err != nil {
		return nil, "", err
	}
	for _, r := range rows {
		it := Item{ID: string(r[0]), Value: json.RawMessage(r[1])}
		if r[2] != nil {
			seconds, err := strconv.ParseFloat(string(r[2]), 64)
			if err != nil {
				return nil, "", fmt.Errorf("the column %s: %w", t.modified, err)
			}
			it.Modified = time.UnixMicro(int64(seconds * 1e6))
		}
		items = append(items, it)
	}
	if len(items) < most {
		return items, "", nil
	}
	return items, "k" + items[len(items)-1].ID, nil
}
