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
// commit, a hundred rows at a time.
func BenchmarkOutbox(b *testing.B) {
	address := pgtest.New(b)
	conn, err := pgx.Connect(b.Context(), address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	u, err := url.Parse(address)
	if err != nil {
		b.Fatal(err)
	}
	password, _ := u.User.Password()
	u.User = url.User(u.User.Username())
	sourcetest.Bench(b, postgres.Opener,
		func() (*event.Mapping, poll.Place) {
			name := fmt.Sprintf("bench%d", names.Add(1))
			if _, err := conn.Exec(b.Context(), fmt.Sprintf(postgres.Schema, name)); err != nil {
				b.Fatal(err)
			}
			at := *u
			at.RawQuery += "&outbox=" + name
			return mapping(name), poll.Place{URL: &at, Secret: []byte(password)}
		},
		func(m *event.Mapping, n int) {
			rows := pgx.CopyFromSlice(n, func(i int) ([]any, error) { return []any{string(sourcetest.BenchBody(i))}, nil })
			if _, err := conn.CopyFrom(b.Context(), pgx.Identifier{m.ID}, []string{"body"}, rows); err != nil {
				b.Fatal(err)
			}
		},
		func(m *event.Mapping, n int) {
			take := strings.ReplaceAll(`DELETE FROM TABLE WHERE id IN (SELECT id FROM TABLE ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED) RETURNING body`, "TABLE", m.ID)
			for n > 0 {
				rows, err := conn.Query(b.Context(), take)
				if err != nil {
					b.Fatal(err)
				}
				bodies, err := pgx.CollectRows(rows, pgx.RowTo[string])
				if err != nil {
					b.Fatal(err)
				}
				n -= len(bodies)
			}
		})
}
