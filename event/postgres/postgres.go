// Package postgres reads a PostgreSQL database in two ways.
//
// The change feed of its tables, by logical replication: each committed insert,
// update and delete is a record, in the order of the commits. The database
// keeps, in a replication slot, what was not processed. The place's URL is
// postgres://user@host:5432/database?publication=NAME; &slot=NAME names the
// slot, which otherwise has the mapping's ID.
//
// An outbox, a table into which the database's users put messages in their own
// transactions, with LISTEN to hear of them at once:
// postgres://user@host:5432/database?outbox=TABLE. See Schema for the table.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/access"
	"github.com/hearth-faas/hearth/event/poll"
)

// Opener opens change feeds and outboxes of PostgreSQL.
var Opener poll.Opener = opener{}

type opener struct{}

// Open implements poll.Opener.
func (opener) Open(ctx context.Context, m *event.Mapping, at poll.Place) (poll.Source, error) {
	if at.URL == nil {
		return nil, fmt.Errorf("where the source %s is was not said: register it with its URL (hearth source add)", m.Source)
	}
	config, err := configOf(m, at)
	if err != nil {
		return nil, err
	}
	if table := access.Name(m, at, "outbox"); table != "" {
		return openOutbox(ctx, m, config, table)
	}
	publication := access.Parameter(at.URL, "publication")
	if publication == "" {
		return nil, errors.New("the URL names neither what to read of the change feed (?publication=NAME) nor a table with messages (?outbox=TABLE)")
	}
	slot := access.Parameter(at.URL, "slot")
	if slot == "" {
		slot = ownSlot(m)
	}
	return openFeed(ctx, m, config, publication, slot)
}

func ownSlot(m *event.Mapping) string { return "hearth_" + strings.ReplaceAll(m.ID, "-", "_") }

// Forget drops the replication slot, if it was made for the mapping alone: it
// would keep the database's log for ever.
func (opener) Forget(ctx context.Context, m *event.Mapping, at poll.Place) error {
	if at.URL == nil || access.Name(m, at, "outbox") != "" || access.Parameter(at.URL, "slot") != "" {
		return nil
	}
	config, err := configOf(m, at)
	if err != nil {
		return err
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return sentence(err)
	}
	defer conn.Close(ctx)
	// The server may not have noticed yet that the reader is gone.
	for {
		_, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = "+quote(ownSlot(m))).ReadAll()
		var e *pgconn.PgError
		if err == nil {
			return nil
		}
		if !errors.As(err, &e) || e.Code != "55006" {
			return sentence(err)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return sentence(err)
		}
	}
}

// Config is how one connects to a registered database, for whoever has a query
// of it. The place's secret is in no error.
func Config(at poll.Place) (*pgconn.Config, error) {
	if at.URL == nil {
		return nil, errors.New("the source has no URL")
	}
	return configOf(&event.Mapping{}, at)
}

// passed are the parameters of a URL that are PostgreSQL's. Others are not
// handed to its client, which takes some for files of this machine.
var passed = []string{"sslmode", "host", "target_session_attrs"}

// configOf is how one connects. A password is always said, so that none of this
// machine's environment is sent anywhere.
func configOf(m *event.Mapping, at poll.Place) (*pgconn.Config, error) {
	u := *at.URL
	user, password := poll.Login(&u, at.Secret)
	query := url.Values{"application_name": {"hearth"}, "connect_timeout": {"10"}}
	for _, name := range passed {
		if value := u.Query().Get(name); value != "" {
			query.Set(name, value)
		}
	}
	u.RawQuery = query.Encode()
	var a *access.Access
	if u.Host != "" {
		var err error
		if a, err = access.Of(m, at, access.Want{Port: "5432"}); err != nil {
			return nil, err
		}
		user, password = a.User, a.Password
	}
	if user == "" {
		return nil, errors.New("the URL names no user: postgres://user@host/database")
	}
	u.User = url.UserPassword(user, password)
	config, err := pgconn.ParseConfig(u.String())
	if err != nil {
		return nil, errors.New("the URL is not one of a PostgreSQL database") // its error may have the password
	}
	if a != nil && a.TLS != nil {
		config.TLSConfig = a.TLS
		for _, f := range config.Fallbacks {
			f.TLSConfig = a.TLS
		}
	}
	return config, nil
}

// sentence says of PostgreSQL's errors what can be done about them.
func sentence(err error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		switch e.Code {
		case "28P01", "28000":
			return fmt.Errorf("PostgreSQL refuses the user or the password: %w", err)
		case "55006":
			return fmt.Errorf("another reader has the replication slot; this one takes over when it is gone: %w", err)
		case "55000":
			return fmt.Errorf("the change feed needs wal_level = logical in the server's configuration, and a restart: %w", err)
		case "42501":
			return fmt.Errorf("the user may not do this; a change feed needs ALTER ROLE ... REPLICATION: %w", err)
		}
	}
	return fmt.Errorf("PostgreSQL: %w", err)
}
