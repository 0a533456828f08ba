package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/message"
	"github.com/hearth-faas/hearth/event/poll"
)

// Schema makes an outbox; its name goes where the verbs are. What is put into
// it has a body; the rest is this package's. Whoever listens to the channel that
// has the table's name hears of each transaction that put something in.
const Schema = `CREATE TABLE %[1]s (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    taken_until timestamptz,
    taken_by    text,
    receives    int NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE FUNCTION %[1]s_notify() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_notify(TG_TABLE_NAME, ''); RETURN NULL; END $$;
CREATE TRIGGER %[1]s_notify AFTER INSERT ON %[1]s
    FOR EACH STATEMENT EXECUTE FUNCTION %[1]s_notify();
`

// outbox is a table as a poll.Queue. A row that was taken is another's again at
// the time in taken_until.
//
// It has two connections, so that rows are taken while others are deleted.
type outbox struct {
	config *pgconn.Config
	table  string // quoted
	name   string
	me     string // in taken_by
	form   message.Form

	// Take's: the connection that takes and listens, and the rows that it took
	// ahead, a page at a time.
	taker *pgx.Conn
	heard bool // since the last taking: something was put in, or given back
	ahead []*poll.Record
	at    time.Time // when they were taken
	page  int       // how many rows a page has, as far as there are any
	size  int       // of a row, in bytes, in the middle of the last page
	full  bool      // the last page was

	mu   sync.Mutex // over hand
	hand *pgx.Conn  // does the rest; nil once it is closed

	joining sync.Mutex // over next
	next    *deletion  // that can be joined; nil is none
}

// hold is how long a row is this server's without a sign of life, and lookEvery
// how often rows are looked for whose server is gone. statementTime bounds a
// statement, and closeTime the last one.
const (
	hold          = 30 * time.Second
	lookEvery     = 5 * time.Second
	statementTime = 10 * time.Second
	closeTime     = 2 * time.Second
)

// A page has twice the rows of the last one while pages are full and used up
// within soon, so that what is taken ahead is about to run; otherwise as many as
// are asked for. There are bounds to both. What was taken ahead longer ago than
// stale is given back: its time is running out.
const (
	firstPage = 100
	mostPage  = 500
	soon      = 100 * time.Millisecond
	stale     = hold / 3
)

func openOutbox(ctx context.Context, m *event.Mapping, config *pgconn.Config, name string) (*outbox, error) {
	q := &outbox{config: config, table: identifier(name), name: name, me: consumer(m), form: message.Of(m, "postgres")}
	var listening error
	var both sync.WaitGroup
	both.Go(func() { listening = q.listen(ctx) })
	err := q.prepare(ctx)
	both.Wait()
	if err == nil {
		err = listening
	}
	if err != nil {
		hangUp(q.taker)
		hangUp(q.hand)
		return nil, err
	}
	return q, nil
}

// listen connects the taker.
func (q *outbox) listen(ctx context.Context) (err error) {
	config := q.config.Copy()
	config.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { q.heard = true }
	if q.taker, err = connect(ctx, config); err != nil {
		return err
	}
	if _, err = q.taker.PgConn().Exec(ctx, "LISTEN "+q.table).ReadAll(); err != nil {
		hangUp(q.taker)
		return sentence(err)
	}
	return nil
}

// prepare connects the hand, and has rows that this server had taken before it
// was interrupted taken again: nobody works at them.
func (q *outbox) prepare(ctx context.Context) (err error) {
	if q.hand, err = connect(ctx, q.config); err != nil {
		return err
	}
	if _, err = q.hand.Exec(ctx, "SELECT id, body, created_at, taken_until, taken_by, receives FROM "+q.table+" LIMIT 0"); err != nil {
		return fmt.Errorf("%s is no outbox (docs/sources/postgres.md has its statements): %w", q.name, err)
	}
	if _, err = q.hand.Exec(ctx, "UPDATE "+q.table+" SET taken_until = NULL WHERE taken_by = $1 AND taken_until IS NOT NULL", pgx.QueryExecModeExec, q.me); err != nil {
		return sentence(err)
	}
	return nil
}

// consumer is the name under which this server takes rows: the same after a
// restart.
func consumer(m *event.Mapping) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + "/" + m.ID
}

func connect(ctx context.Context, config *pgconn.Config) (*pgx.Conn, error) {
	c, err := pgx.ParseConfig("")
	if err != nil {
		return nil, errors.New("PostgreSQL's client refuses this machine's PG* environment")
	}
	c.Config = *config
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, sentence(err)
	}
	return conn, nil
}

func hangUp(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // an error is that it was broken
}

func (q *outbox) Traits() poll.Traits { return poll.Traits{Hold: hold} }

// do runs a statement on the hand, which the end of a caller's context would cut
// off. If it is cut off it is connected anew: what was processed is to be deleted
// even if nothing can be taken. q.mu is held.
func (q *outbox) do(within time.Duration, statement func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if q.hand == nil {
		return errClosed
	}
	if q.hand.IsClosed() {
		conn, err := connect(ctx, q.config)
		if err != nil {
			return err
		}
		q.hand = conn
	}
	if err := statement(ctx, q.hand); err != nil {
		return sentence(err)
	}
	return nil
}

var errClosed = errors.New("the outbox is not read any more")

// Take takes rows that nobody has, the oldest first.
func (q *outbox) Take(ctx context.Context, most int, wait time.Duration) ([]*poll.Record, error) {
	until := time.Now().Add(wait)
	if q.taker == nil || q.taker.IsClosed() { // since it broke: what was taken is still this server's
		if err := q.listen(ctx); err != nil {
			return nil, err
		}
	}
	if len(q.ahead) > 0 && time.Since(q.at) > stale {
		if err := q.Release(ctx, q.ahead, poll.Unused); err != nil {
			return nil, err
		}
		q.ahead = nil
	}
	for ctx.Err() == nil {
		for more := len(q.ahead) == 0 || q.full; more && len(q.ahead) < most && len(q.ahead)*q.size < poll.MaxEvent; more = q.full {
			if err := q.takePage(most); err != nil {
				return nil, sentence(err)
			}
		}
		left := min(time.Until(until), lookEvery)
		if n := min(most, len(q.ahead)); n > 0 || left <= 0 {
			records := q.ahead[:n:n]
			q.ahead = q.ahead[n:]
			return records, nil
		}
		if !q.heard {
			if err := q.hear(ctx, left); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

// hear waits until something is to be heard, for so long at most.
func (q *outbox) hear(ctx context.Context, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := q.taker.PgConn().WaitForNotification(ctx); err != nil && ctx.Err() == nil {
		return sentence(err)
	}
	return nil
}

// own is what only an outbox's messages have.
type own struct {
	Table string `json:"table"`
	ID    int64  `json:"id"`
}

// takePage takes a page of the rows that nobody has now, for a Take of so many.
func (q *outbox) takePage(most int) error {
	if q.full && time.Since(q.at) < soon {
		q.page = min(2*q.page, mostPage)
	} else {
		q.page = min(most, firstPage)
	}
	if q.size > 0 {
		q.page = min(q.page, poll.MaxEvent/q.size+1)
	}
	q.heard, q.at = false, time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), statementTime)
	defer cancel()
	rows, err := q.taker.Query(ctx, `UPDATE `+q.table+` SET taken_until = now() + $1 * interval '1 second', taken_by = $3, receives = receives + 1
		WHERE id = ANY(ARRAY(SELECT id FROM `+q.table+` WHERE taken_until IS NULL OR taken_until < now() ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))
		RETURNING id, body, created_at, receives`, int(hold/time.Second), q.page, q.me)
	if err != nil {
		return err
	}
	defer rows.Close()
	var taken []*poll.Record
	bytes := 0
	for rows.Next() {
		var id int64
		var body []byte
		var created time.Time
		var receives int
		if err := rows.Scan(&id, &body, &created, &receives); err != nil {
			return err
		}
		r, err := q.form.Record(message.Message{ID: strconv.FormatInt(id, 10), Body: body, Sent: created, Receives: receives, Own: own{q.name, id}})
		if err != nil {
			return err
		}
		r.Handle, r.Taken = id, time.Now()
		bytes += len(r.Body)
		taken = append(taken, r)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	slices.SortFunc(taken, func(a, b *poll.Record) int { return cmp.Compare(a.Handle.(int64), b.Handle.(int64)) })
	q.ahead = append(q.ahead, taken...)
	if q.full = len(taken) >= q.page; len(taken) > 0 {
		q.size = bytes / len(taken)
	}
	return nil
}

// deletion is rows that are deleted by one statement.
type deletion struct {
	ids  []int64
	done chan struct{} // closed when err says how it went
	err  error
}

// Ack deletes the rows. While the hand is busy, what is to be deleted is
// gathered, so that one statement and one commit will do for many batches.
func (q *outbox) Ack(_ context.Context, records []*poll.Record) error {
	q.joining.Lock()
	d := q.next
	joined := d != nil
	if !joined {
		d = &deletion{done: make(chan struct{})}
		q.next = d
	}
	d.ids = append(d.ids, ids(records)...)
	q.joining.Unlock()
	if joined {
		<-d.done
		return d.err
	}
	defer close(d.done)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.joining.Lock()
	q.next = nil
	q.joining.Unlock()
	d.err = q.exec(statementTime, "DELETE FROM "+q.table+" WHERE id = ANY($1)", d.ids)
	return d.err
}

// Release has the rows taken by whoever asks next, and tells all who listen.
func (q *outbox) Release(_ context.Context, records []*poll.Record, why poll.Reason) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.free(records, why, statementTime)
}

// free is Release within a time. q.mu is held.
func (q *outbox) free(records []*poll.Record, why poll.Reason, within time.Duration) error {
	set := "taken_until = NULL"
	if why == poll.Unused {
		set += ", receives = greatest(receives - 1, 0)"
	}
	return q.exec(within, "WITH freed AS (UPDATE "+q.table+" SET "+set+" WHERE id = ANY($1) AND taken_by = $2 RETURNING id) "+
		"SELECT pg_notify($3, '') FROM (SELECT count(*) FROM freed) AS n", ids(records), q.me, q.name)
}

// Extend gives a sign of life.
func (q *outbox) Extend(_ context.Context, records []*poll.Record) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.exec(statementTime, "UPDATE "+q.table+" SET taken_until = now() + $3 * interval '1 second' WHERE id = ANY($1) AND taken_by = $2",
		ids(records), q.me, int(hold/time.Second))
}

func ids(records []*poll.Record) []int64 {
	list := make([]int64, len(records))
	for i, r := range records {
		list[i] = r.Handle.(int64)
	}
	return list
}

// exec runs a statement, whose answer says nothing, on the hand. q.mu is held.
func (q *outbox) exec(within time.Duration, statement string, args ...any) error {
	return q.do(within, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, statement, args...)
		return err
	})
}

// Event is {"Records": [...]}.
func (q *outbox) Event(records []*poll.Record) ([]byte, error) { return poll.Records(records) }

// View has a body that is JSON as JSON.
func (q *outbox) View(r *poll.Record) []byte { return message.View(r) }

// Lag is how many rows there are.
func (q *outbox) Lag(context.Context) (n int64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	err = q.do(statementTime, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT count(*) FROM "+q.table).Scan(&n)
	})
	return n, err
}

// Close gives back what was taken ahead and ends the connections. What is held
// is another's when its time is over.
func (q *outbox) Close() (err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.ahead) > 0 && q.hand != nil && !q.hand.IsClosed() {
		err = q.free(q.ahead, poll.Unused, closeTime)
	}
	hangUp(q.taker)
	hangUp(q.hand)
	q.ahead, q.hand = nil, nil
	return err
}
