package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/internal/pgtest"
)

// What was taken ahead and not asked for until its time ran out may be another's
// by then.
func TestRowsThatWereTakenAheadLongAgoAreNotHandedOver(t *testing.T) {
	address := pgtest.New(t)
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	const rows = 20_000
	if _, err := conn.Exec(t.Context(), fmt.Sprintf(Schema, "outgoing")+"INSERT INTO outgoing (body) SELECT i::text FROM generate_series(1, "+fmt.Sprint(rows)+") i"); err != nil {
		t.Fatal(err)
	}
	config, err := pgconn.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	q, err := openOutbox(t.Context(), &event.Mapping{ID: "m"}, config, "outgoing")
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	take := func() []*poll.Record {
		t.Helper()
		records, err := q.Take(t.Context(), 10, 0)
		if err != nil || len(records) != 10 {
			t.Fatalf("%d records: %v", len(records), err)
		}
		return records
	}
	for len(q.ahead) == 0 { // pages grow while they are used up quickly
		take()
	}
	first, last := q.ahead[0].Handle.(int64), q.ahead[len(q.ahead)-1].Handle.(int64)
	if _, err := conn.Exec(t.Context(), "UPDATE outgoing SET taken_by = 'another' WHERE id = $1", first); err != nil {
		t.Fatal(err)
	}
	q.at = q.at.Add(-stale - time.Second)
	for i, r := range take() {
		if id := r.Handle.(int64); id != first+1+int64(i) || r.Receives != 1 {
			t.Errorf("record %d is row %d, received %d times; another has row %d, taken ahead were those to %d", i, id, r.Receives, first, last)
		}
	}
}
