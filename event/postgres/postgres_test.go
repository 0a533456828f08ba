package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/jackc/pgx/v5"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/postgres"
	"github.com/hearth-faas/hearth/event/sourcetest"
	"github.com/hearth-faas/hearth/internal/pgtest"
)

var names atomic.Int64

type database struct {
	url  string
	conn *pgx.Conn
}

func newDatabase(t *testing.T) *database {
	t.Helper()
	d := connected(t, pgtest.New(t))
	return &d
}

func connected(t *testing.T, u string) database {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(t.Context()) })
	return database{u, conn}
}

func (d database) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	if _, err := d.conn.Exec(t.Context(), statement, args...); err != nil {
		t.Fatal(err)
	}
}

// place is the database's place with the parameters beside its own.
func (d database) place(t *testing.T, parameters string) poll.Place {
	t.Helper()
	u, err := url.Parse(d.url)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	u.User = url.User(u.User.Username())
	u.RawQuery += "&" + parameters
	return poll.Place{URL: u, Secret: []byte(password)}
}

func mapping(name string) *event.Mapping {
	return &event.Mapping{ID: strings.ReplaceAll(name, "_", "-"), Function: "f", Source: "arn:aws:hearth:us-east-1:000000000000:source/" + name, Region: "us-east-1",
		Settings: event.Settings{BatchSize: 10, WindowSeconds: new(0)}}
}

func (d database) outbox(t *testing.T) (*event.Mapping, poll.Place) {
	name := fmt.Sprintf("outbox%d", names.Add(1))
	d.exec(t, fmt.Sprintf(postgres.Schema, name))
	m := mapping(name)
	return m, d.place(t, "outbox="+name)
}

func outbox(d *database) sourcetest.Source {
	return sourcetest.Source{
		Opener: postgres.Opener,
		New:    func(t *testing.T) (*event.Mapping, poll.Place) { return d.outbox(t) },
		Publish: func(t *testing.T, m *event.Mapping, ids []string) {
			for _, id := range ids {
				d.exec(t, "INSERT INTO "+m.ID+" (body) VALUES ($1)", string(sourcetest.Body(id)))
			}
		},
		IDs: sourcetest.Queued,
		Left: func(t *testing.T, m *event.Mapping) (n int) {
			if err := d.conn.QueryRow(t.Context(), "SELECT count(*) FROM "+m.ID).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		},
	}
}

// server is a PostgreSQL of the test's own, to be killed.
type server struct {
	*pgtest.Server
	t *testing.T
	d *database
}

func newServer(t *testing.T) server {
	t.Helper()
	s := pgtest.Start(t, pgtest.Options{})
	d := connected(t, s.Database(t))
	return server{s, t, &d}
}

func (s server) Kill() {
	if err := s.Crash(); err != nil {
		s.t.Fatal(err)
	}
}

func (s server) Start(t testing.TB) {
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(context.Background(), s.d.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	s.d.conn = conn
}

func (s server) Cut() {
	s.d.exec(s.t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = 'hearth'")
}

func TestOutbox(t *testing.T) {
	s := newServer(t)
	source := outbox(s.d)
	source.Broker, source.Keeps = s, true
	sourcetest.Run(t, source)
}

func TestFeed(t *testing.T) {
	s := newServer(t)
	source := feed(s.d)
	source.Broker = s
	sourcetest.Run(t, source)
}

func feed(d *database) sourcetest.Source {
	return sourcetest.Source{
		Opener: postgres.Opener, Stream: true,
		New: func(t *testing.T) (*event.Mapping, poll.Place) { return d.feed(t) },
		Publish: func(t *testing.T, m *event.Mapping, ids []string) {
			// Some in a transaction of their own, some together.
			for len(ids) > 0 {
				n := min(len(ids), 1+int(names.Add(1)%3))
				d.exec(t, "INSERT INTO "+table(m)+" (id) SELECT unnest($1::text[])", ids[:n])
				ids = ids[n:]
			}
		},
		IDs: func(t *testing.T, payload []byte) (ids []string) {
			for _, c := range decode(t, payload) {
				ids = append(ids, c.Postgres.New["id"].(string))
			}
			return ids
		},
		Left: func(t *testing.T, m *event.Mapping) (n int) {
			// Whether the slot may forget all changes so far.
			if err := d.conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND confirmed_flush_lsn < (SELECT coalesce(max(lsn), '0/0') FROM marks WHERE name = $2)",
				"hearth_"+strings.ReplaceAll(m.ID, "-", "_"), table(m)).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		},
	}
}

func table(m *event.Mapping) string { return strings.ReplaceAll(m.ID, "-", "_") }

// feed makes a table with its publication and its slot. Each insert's place in
// the log is noted beside.
func (d database) feed(t *testing.T) (*event.Mapping, poll.Place) {
	t.Helper()
	name := fmt.Sprintf("orders_%d", names.Add(1))
	d.exec(t, `CREATE TABLE IF NOT EXISTS marks (name text, lsn pg_lsn)`)
	d.exec(t, fmt.Sprintf(`CREATE TABLE %[1]s (id text PRIMARY KEY, note text, total numeric, n bigint, ok boolean, doc jsonb);
		CREATE PUBLICATION %[1]s FOR TABLE %[1]s;
		CREATE FUNCTION %[1]s_mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO marks VALUES ('%[1]s', pg_current_wal_insert_lsn()); RETURN NULL; END $$;
		CREATE TRIGGER %[1]s_mark AFTER INSERT ON %[1]s FOR EACH STATEMENT EXECUTE FUNCTION %[1]s_mark()`, name))
	m, at := mapping(name), d.place(t, "publication="+name)
	opened(t, m, at).Close() // from now on the slot keeps what changes
	return m, at
}

// opened opens a mapping's source, once a reader that was closed just now is gone:
// the server notices its end when it does.
func opened(t *testing.T, m *event.Mapping, at poll.Place) poll.Source {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		src, err := postgres.Opener.Open(t.Context(), m, at)
		if err == nil {
			return src
		}
		if time.Now().After(deadline) || !strings.Contains(err.Error(), "another reader has the replication slot") {
			t.Fatal(err)
		}
	}
}

type change struct {
	EventID, EventName, EventSource, EventSourceARN string
	Postgres                                        struct {
		Schema, Table, LSN string
		XID                uint32
		Keys, New, Old     map[string]any
		Unchanged          []string
	}
}

func decode(t *testing.T, payload []byte) []change {
	t.Helper()
	// The envelope is that of DynamoDB's streams.
	var known events.DynamoDBEvent
	var e struct{ Records []change }
	if err := json.Unmarshal(payload, &known); err != nil {
		t.Errorf("%v: %s", err, payload)
	}
	if err := json.Unmarshal(payload, &e); err != nil {
		t.Errorf("%v: %s", err, payload)
	}
	for i, r := range known.Records {
		if r.EventID != e.Records[i].EventID || r.EventName != e.Records[i].EventName {
			t.Errorf("%s", payload)
		}
	}
	return e.Records
}

// changes reads n changes of a feed that has been opened.
func changes(t *testing.T, src poll.Source, after string, n int) (all []change, records []*poll.Record, r poll.Reader) {
	t.Helper()
	r, err := src.(poll.Stream).Open(t.Context(), "changes", after)
	if err != nil {
		t.Fatal(err)
	}
	for len(records) < n {
		more, err := r.Read(t.Context(), n-len(records), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, more...)
	}
	payload, err := src.Event(records)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, payload), records, r
}

func TestChangesComeWithWhatTheRowsWereAndAre(t *testing.T) {
	d := newDatabase(t)
	m, at := d.feed(t)
	name := table(m)
	d.exec(t, "ALTER TABLE "+name+" REPLICA IDENTITY FULL")
	d.exec(t, "INSERT INTO "+name+" VALUES ('a', NULL, 12.50, 9007199254740993, true, '{\"x\": [1]}')")
	d.exec(t, "UPDATE "+name+" SET note = 'hello' WHERE id = 'a'")
	d.exec(t, "DELETE FROM "+name)
	d.exec(t, "TRUNCATE "+name)
	src := opened(t, m, at)
	defer src.Close()
	all, records, _ := changes(t, src, "", 4)
	if records[0].Group == "" || records[0].Group != records[1].Group || records[0].Sent.IsZero() {
		t.Errorf("%+v", records[0])
	}
	text, err := json.Marshal([]any{all[0].Postgres.New, all[1].Postgres.Old["note"], all[1].Postgres.New["note"], all[2].Postgres.Old["note"]})
	if err != nil || string(text) != `[{"doc":{"x":[1]},"id":"a","n":9007199254740992,"note":null,"ok":true,"total":"12.50"},null,"hello","hello"]` {
		t.Errorf("%s %v", text, err)
	}
	if !strings.Contains(string(records[0].Body), `"n":9007199254740993`) {
		t.Errorf("a whole number is not kept: %s", records[0].Body)
	}
	for i, want := range []string{"INSERT", "MODIFY", "REMOVE", "TRUNCATE"} {
		if c := all[i]; c.EventName != want || c.EventSource != "hearth:postgres" || c.EventSourceARN != m.Source || c.Postgres.Schema != "public" || c.Postgres.Table != name || c.Postgres.XID == 0 {
			t.Errorf("%+v, want %s", c, want)
		}
	}
}

func TestTransactionThatWasHalfProcessedGoesOnWhereItWas(t *testing.T) {
	d := newDatabase(t)
	m, at := d.feed(t)
	d.exec(t, "INSERT INTO "+table(m)+" (id) SELECT 'row-' || i FROM generate_series(0, 9) i")
	src := opened(t, m, at)
	_, records, r := changes(t, src, "", 5)
	position := records[3].Position
	if err := r.Commit(t.Context(), position); err != nil {
		t.Fatal(err)
	}
	src.Close()
	src = opened(t, m, at)
	defer src.Close()
	all, _, _ := changes(t, src, position, 6)
	if first := all[0].Postgres.New["id"]; first != "row-4" {
		t.Errorf("it goes on with %v, want row-4", first)
	}
}

func TestSecondReaderWaitsForTheFirst(t *testing.T) {
	d := newDatabase(t)
	m, at := d.feed(t)
	src := opened(t, m, at)
	if _, err := postgres.Opener.Open(t.Context(), m, at); err == nil || !strings.Contains(err.Error(), "another reader has the replication slot") {
		t.Error(err)
	}
	src.Close()
	opened(t, m, at).Close()
}

func TestQuietTableDoesNotKeepTheLogOfABusyOne(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	m, at := d.feed(t)
	src := opened(t, m, at)
	defer src.Close()
	if _, err := src.(poll.Stream).Open(t.Context(), "changes", ""); err != nil {
		t.Fatal(err)
	}
	d.exec(t, "CREATE TABLE busy AS SELECT generate_series(1, 1000)")
	var end string
	if err := d.conn.QueryRow(t.Context(), "SELECT pg_current_wal_lsn()::text").Scan(&end); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		var passed bool
		if err := d.conn.QueryRow(t.Context(), "SELECT confirmed_flush_lsn >= $2::pg_lsn FROM pg_replication_slots WHERE slot_name = $1", "hearth_"+table(m), end).Scan(&passed); err != nil {
			t.Fatal(err)
		}
		if passed {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the slot still keeps the log")
		}
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	d := newDatabase(t)
	for parameters, want := range map[string]string{
		"publication=none": "there is no publication none: make it first",
		"outbox=none":      "none is no outbox",
		"":                 "names neither",
	} {
		if _, err := postgres.Opener.Open(t.Context(), mapping("m"), d.place(t, parameters)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	at := d.place(t, "outbox=none")
	at.Secret = []byte("wrong")
	if _, err := postgres.Opener.Open(t.Context(), mapping("m"), at); err == nil || !strings.Contains(err.Error(), "refuses the user or the password") {
		t.Error(err)
	}
}

func TestSlotGoesWithItsMapping(t *testing.T) {
	d := newDatabase(t)
	m, at := d.feed(t)
	if err := postgres.Opener.(poll.Forgetter).Forget(t.Context(), m, at); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := d.conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1", "hearth_"+table(m)).Scan(&n); err != nil || n != 0 {
		t.Error(n, err)
	}
}

// count is what a query counts.
func (d database) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	if err := d.conn.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOutboxGivesBackWhatItTookAhead(t *testing.T) {
	d := newDatabase(t)
	m, at := d.outbox(t)
	d.exec(t, "INSERT INTO "+m.ID+" (body) SELECT i::text FROM generate_series(1, 20000) i")
	src, err := postgres.Opener.Open(t.Context(), m, at)
	if err != nil {
		t.Fatal(err)
	}
	// Pages grow while they are used up quickly.
	var got []*poll.Record
	taken := "SELECT count(*) FROM " + m.ID + " WHERE taken_until IS NOT NULL"
	for d.count(t, taken) <= len(got) {
		records, err := src.(poll.Queue).Take(t.Context(), 10, 0)
		if err != nil || len(records) != 10 {
			t.Fatalf("%d records: %v", len(records), err)
		}
		got = append(got, records...)
	}
	for i, r := range got {
		if r.ID != strconv.Itoa(i+1) {
			t.Fatalf("record %d is %s", i+1, r.ID)
		}
	}
	if err := src.Close(); err != nil {
		t.Fatal(err)
	}
	if n := d.count(t, taken); n != len(got) {
		t.Errorf("%d rows are taken, where %d were handed over", n, len(got))
	}
	if n := d.count(t, "SELECT count(*) FROM "+m.ID+" WHERE receives <> 0 AND taken_until IS NULL"); n != 0 {
		t.Errorf("%d rows that were given back count as received", n)
	}
}

func TestOutboxDeletesWhatWasProcessedThoughItsConnectionsWereCut(t *testing.T) {
	d := newDatabase(t)
	m, at := d.outbox(t)
	d.exec(t, "INSERT INTO "+m.ID+" (body) VALUES ('a'), ('b')")
	q := sourcetest.Opened[poll.Queue](t, postgres.Opener, m, at)
	records, err := q.Take(t.Context(), 2, 0)
	if err != nil || len(records) != 2 {
		t.Fatal(len(records), err)
	}
	d.exec(t, "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'hearth'")
	if err := q.Ack(t.Context(), records); err == nil {
		t.Error("a connection that was cut did as it was told")
	}
	if err := q.Ack(t.Context(), records); err != nil {
		t.Error(err)
	}
	if n := d.count(t, "SELECT count(*) FROM "+m.ID); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	if _, err := q.Take(t.Context(), 1, 0); err == nil {
		t.Error("it goes on taking, and hears of nothing any more")
	}
	d.exec(t, "INSERT INTO "+m.ID+" (body) VALUES ('c')")
	if records, err = q.Take(t.Context(), 1, 0); err != nil || len(records) != 1 {
		t.Errorf("by another connection it takes %d rows, %v", len(records), err)
	}
}

func TestOutboxTellsOthersOfWhatItGivesBack(t *testing.T) {
	d := newDatabase(t)
	m, at := d.outbox(t)
	d.exec(t, "INSERT INTO "+m.ID+" (body) VALUES ('mine'), ('another''s')")
	q := sourcetest.Opened[poll.Queue](t, postgres.Opener, m, at)
	records, err := q.Take(t.Context(), 2, 0)
	if err != nil || len(records) != 2 {
		t.Fatal(len(records), err)
	}
	d.exec(t, "UPDATE "+m.ID+" SET taken_by = 'another' WHERE id = 2")
	d.exec(t, "LISTEN "+m.ID)
	if err := q.Release(t.Context(), records, poll.Unused); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := d.conn.WaitForNotification(ctx); err != nil {
		t.Error(err)
	}
	if n := d.count(t, "SELECT sum(id) FROM "+m.ID+" WHERE taken_until IS NULL"); n != 1 {
		t.Errorf("given back are the rows that add up to %d, want the first alone", n)
	}
}

func TestDocumentedOutboxIsTheOneThatIsRead(t *testing.T) {
	doc, err := os.ReadFile("../../docs/sources/postgres.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), fmt.Sprintf(postgres.Schema, "orders")) {
		t.Errorf("docs/sources/postgres.md has other statements than:\n%s", fmt.Sprintf(postgres.Schema, "orders"))
	}
}
