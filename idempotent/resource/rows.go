package resource

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/idempotent"
)

// What a query may give: more is no cheap stand-in.
const (
	maxRows  = 1000
	maxBytes = 1 << 20
)

// database is a pool of connections to one.
type database struct{ *sql.DB }

func (d *database) close() { _ = d.DB.Close() } // nothing was written

// rows is the digest of what a query gives.
func (s *States) rows(ctx context.Context, d *hearth.Dependency) (idempotent.State, error) {
	db, release, err := s.databases.get(digest(d.Database), func() (*database, error) { return s.open(d.Database) })
	if err != nil {
		return idempotent.State{}, err
	}
	defer release()
	if file, ok := strings.CutPrefix(d.Database, "sqlite://"); ok {
		if err := s.within(file); err != nil { // each time: it may have become a link
			return idempotent.State{}, err
		}
	}
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return idempotent.State{}, unlessSecret(err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	args := make([]any, len(d.Args))
	for i, a := range d.Args {
		args[i] = a
	}
	rows, err := tx.QueryContext(ctx, d.SQL, args...)
	if err != nil {
		return idempotent.State{}, unlessSecret(err)
	}
	defer rows.Close() // its error is rows.Err
	value, err := digestRows(rows)
	return idempotent.State{Value: value}, err
}

func digestRows(rows *sql.Rows) (string, error) {
	columns, err := rows.Columns()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	n, size := 0, 0
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return "", err
		}
		n++
		for _, v := range values {
			size += write(h, v)
		}
		if n > maxRows || size > maxBytes {
			return "", fmt.Errorf("the query gives more than %d rows or %d bytes; let it count, or find the latest change", maxRows, maxBytes)
		}
	}
	if err := rows.Err(); err != nil {
		return "", unlessSecret(err)
	}
	return fmt.Sprintf("%d rows %s", n, hex.EncodeToString(h.Sum(nil)[:16])), nil
}

// write takes a value into the digest, with its type, and tells its size.
func write(h hash.Hash, v any) int {
	var text string
	switch v := v.(type) {
	case nil:
		text = ""
	case []byte:
		text = string(v)
	case time.Time:
		text = v.UTC().Format(time.RFC3339Nano)
	default:
		text = fmt.Sprint(v)
	}
	fmt.Fprintf(h, "%T %d %s", v, len(text), text)
	return len(text)
}

// open makes a pool; nothing is connected to yet.
func (s *States) open(dsn string) (*database, error) {
	var db *sql.DB
	if file, ok := strings.CutPrefix(dsn, "sqlite://"); ok {
		if err := s.within(file); err != nil {
			return nil, err
		}
		if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
			return nil, errors.New("there is no such database")
		}
		var err error
		if db, err = sql.Open("sqlite", (&url.URL{Scheme: "file", Path: file, RawQuery: "mode=ro&_pragma=query_only(1)&_pragma=busy_timeout(1000)&_pragma=trusted_schema(0)"}).String()); err != nil {
			return nil, err
		}
	} else {
		c, err := postgres(dsn)
		if err != nil {
			return nil, err
		}
		c.DialFunc = s.dial
		c.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
			return net.DefaultResolver.LookupHost(ctx, host)
		}
		c.RuntimeParams["default_transaction_read_only"] = "on"
		c.RuntimeParams["application_name"] = "hearth"
		// Behind a pooler that hands connections about, statements that were
		// prepared would be missing.
		c.DefaultQueryExecMode = pgx.QueryExecModeExec
		db = stdlib.OpenDB(*c)
	}
	db.SetMaxOpenConns(4)
	db.SetConnMaxIdleTime(30 * time.Second)
	return &database{db}, nil
}

// postgres reads the address of a PostgreSQL database. Nothing comes from the
// server's own environment or files, which are whoever's runs this machine.
func postgres(dsn string) (*pgx.ConnConfig, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, errors.New("a database is postgres://… or sqlite:///FILE") // the cause could have the password in it
	}
	q := u.Query()
	for name := range q {
		switch name {
		case "host", "port", "sslmode", "connect_timeout", "application_name", "options", "search_path", "target_session_attrs", "user", "dbname":
		default:
			return nil, fmt.Errorf("the database's address has %s, which is not taken here", name)
		}
	}
	if u.Hostname() == "" && q.Get("host") == "" || u.User.Username() == "" && q.Get("user") == "" {
		return nil, errors.New("the database's address has no host, or no user")
	}
	q.Set("passfile", os.DevNull)
	u.RawQuery = q.Encode()
	c, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, errors.New("it is no address of a PostgreSQL database") // as above
	}
	c.Password, _ = u.User.Password()
	return c, nil
}

// unlessSecret is a database's error in words that have no password in them.
func unlessSecret(err error) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return errors.New(e.Message)
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		if inner, ok := errors.AsType[*net.OpError](err); ok {
			return inner
		}
		return errors.New("the database can't be reached, or lets nobody in")
	}
	return err
}
