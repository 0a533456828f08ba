package postgres_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/postgres"
	"github.com/hearth-faas/hearth/event/sourcetest"
	"github.com/hearth-faas/hearth/internal/pgtest"
)

// BenchmarkOutbox is against a consumer that takes, and deletes with the same
// commit, a hundred rows at a time, and listens when there are none.
func BenchmarkOutbox(b *testing.B) {
	address := pgtest.New(b)
	connect := func() *pgx.Conn {
		conn, err := pgx.Connect(b.Context(), address)
		if err != nil {
			b.Fatal(err)
		}
		return conn
	}
	conn, bare := connect(), connect()
	defer conn.Close(b.Context())
	defer bare.Close(b.Context())
	u, err := url.Parse(address)
	if err != nil {
		b.Fatal(err)
	}
	password, _ := u.User.Password()
	u.User = url.User(u.User.Username())
	sourcetest.Bench(b, sourcetest.Measured{
		Opener: postgres.Opener,
		New: func() (*event.Mapping, poll.Place) {
			name := fmt.Sprintf("bench%d", names.Add(1))
			if _, err := conn.Exec(b.Context(), fmt.Sprintf(postgres.Schema, name)); err != nil {
				b.Fatal(err)
			}
			at := *u
			at.RawQuery += "&outbox=" + name
			return mapping(name), poll.Place{URL: &at, Secret: []byte(password)}
		},
		Publish: func(m *event.Mapping, n int) error {
			rows := pgx.CopyFromSlice(n, func(i int) ([]any, error) { return []any{string(sourcetest.BenchBody(i))}, nil })
			_, err := conn.CopyFrom(b.Context(), pgx.Identifier{m.ID}, []string{"body"}, rows)
			return err
		},
		Bare: func(m *event.Mapping, n int, heard func()) error {
			if _, err := bare.Exec(b.Context(), "LISTEN "+m.ID); err != nil {
				return err
			}
			take := strings.ReplaceAll(`DELETE FROM TABLE WHERE id IN (SELECT id FROM TABLE ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED) RETURNING body`, "TABLE", m.ID)
			for n > 0 {
				rows, err := bare.Query(b.Context(), take)
				if err != nil {
					return err
				}
				bodies, err := pgx.CollectRows(rows, pgx.RowTo[string])
				if err != nil {
					return err
				}
				for range bodies {
					heard()
				}
				if n -= len(bodies); n > 0 && len(bodies) == 0 {
					if _, err := bare.WaitForNotification(b.Context()); err != nil {
						return err
					}
				}
			}
			return nil
		},
	})
}
