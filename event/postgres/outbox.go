package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
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
);
CREATE FUNCTION %[1]s_notify() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_notify(TG_TABLE_NAME, ''); RETURN NULL; END $$;
CREATE TRIGGER %[1]s_notify AFTER INSERT ON %[1]s
    FOR EACH STATEMENT EXECUTE FUNCTION %[1]s_notify();
`

// outbox is a table as a poll.Queue. A row that was taken is another's again at
// the time in taken_until.
type outbox struct {
	table string // quoted
	me    string // in taken_by
	form  message.Form
	name  string
	heard chan struct{} // of one: something was put in

	ears   *pgx.Conn
	cancel context.CancelFunc // ends the listening
	ended  chan struct{}

	mu   sync.Mutex // over hand
	hand *pgx.Conn

	lost   chan struct{} // closed when the listening failed
	lostBy error
}

// hold is how long a row is this server's without a sign of life, and lookEvery
// how often rows are looked for whose server is gone. statementTime bounds a
// statement.
const (
	hold          = 30 * time.Second
	lookEvery     = 5 * time.Second
	statementTime = 10 * time.Second
)

func openOutbox(ctx context.Context, m *event.Mapping, config *pgconn.Config, name string) (_ *outbox, err error) {
	q := &outbox{table: identifier(name), name: name, me: consumer(m), form: message.Of(m, "postgres"), heard: make(chan struct{}, 1),
		ended: make(chan struct{}), lost: make(chan struct{})}
	defer func() {
		if err != nil {
			hangUp(q.ears)
			hangUp(q.hand)
		}
	}()
	if q.ears, err = connect(ctx, config); err != nil {
		return nil, err
	}
	if q.hand, err = connect(ctx, config); err != nil {
		return nil, err
	}
	if _, err = q.hand.Exec(ctx, "SELECT id, body, created_at, taken_until, taken_by, receives FROM "+q.table+" LIMIT 0"); err != nil {
		return nil, fmt.Errorf("%s is no outbox (docs/sources/postgres.md has its statements): %w", name, err)
	}
	// What this server had taken before it was interrupted nobody works at.
	if _, err = q.hand.Exec(ctx, "UPDATE "+q.table+" SET taken_until = NULL WHERE taken_by = $1 AND taken_until IS NOT NULL", q.me); err != nil {
		return nil, sentence(err)
	}
	if _, err = q.ears.Exec(ctx, "LISTEN "+q.table); err != nil {
		return nil, sentence(err)
	}
	listening, cancel := context.WithCancel(context.Background())
	q.cancel = cancel
	go q.listen(listening)
	return q, nil
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
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
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

func (q *outbox) listen(ctx context.Context) {
	defer close(q.ended)
	for {
		if _, err := q.ears.WaitForNotification(ctx); err != nil {
			if ctx.Err() == nil {
				q.lostBy = sentence(err)
				close(q.lost)
			}
			return
		}
		select {
		case q.heard <- struct{}{}:
		default:
		}
	}
}

func (q *outbox) Traits() poll.Traits { return poll.Traits{Hold: hold} }

// do runs a statement on the connection, which the end of a context would end.
func (q *outbox) do(statement func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), statementTime)
	defer cancel()
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := statement(ctx, q.hand); err != nil {
		return sentence(err)
	}
	return nil
}

// Take takes rows that nobody has, the oldest first.
func (q *outbox) Take(ctx context.Context, most int, wait time.Duration) ([]*poll.Record, error) {
	until := time.Now().Add(wait)
	for {
		records, err := q.take(most)
		if err != nil || len(records) > 0 {
			return records, err
		}
		left := min(time.Until(until), lookEvery)
		if left <= 0 {
			return nil, nil
		}
		timer := time.NewTimer(left)
		select {
		case <-q.heard:
		case <-timer.C:
		case <-q.lost:
			err = q.lostBy
		case <-ctx.Done():
			left = 0
		}
		timer.Stop()
		if err != nil || left == 0 {
			return nil, err
		}
	}
}

// own is what only an outbox's messages have.
type own struct {
	Table string `json:"table"`
	ID    int64  `json:"id"`
}

func (q *outbox) take(most int) (records []*poll.Record, err error) {
	err = q.do(func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `WITH taken AS (
			UPDATE `+q.table+` SET taken_until = now() + $1 * interval '1 second', taken_by = $3, receives = receives + 1
			WHERE id IN (SELECT id FROM `+q.table+` WHERE taken_until IS NULL OR taken_until < now() ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)
			RETURNING id, body, created_at, receives)
			SELECT id, body, created_at, receives FROM taken ORDER BY id`, int(hold/time.Second), most, q.me)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			var body string
			var created time.Time
			var receives int
			if err := rows.Scan(&id, &body, &created, &receives); err != nil {
				return err
			}
			r, err := q.form.Record(message.Message{ID: strconv.FormatInt(id, 10), Body: []byte(body), Sent: created, Receives: receives, Own: own{q.name, id}})
			if err != nil {
				return err
			}
			r.Handle = id
			records = append(records, r)
		}
		return rows.Err()
	})
	return records, err
}

// Ack deletes the rows.
func (q *outbox) Ack(_ context.Context, records []*poll.Record) error {
	return q.each(records, "DELETE FROM "+q.table+" WHERE id = ANY($1)")
}

// Release has the rows taken by whoever asks next.
func (q *outbox) Release(_ context.Context, records []*poll.Record, why poll.Reason) error {
	set := "taken_until = NULL"
	if why == poll.Unused {
		set += ", receives = greatest(receives - 1, 0)"
	}
	err := q.each(records, "UPDATE "+q.table+" SET "+set+" WHERE id = ANY($1)")
	select {
	case q.heard <- struct{}{}:
	default:
	}
	return err
}

// Extend gives a sign of life.
func (q *outbox) Extend(_ context.Context, records []*poll.Record) error {
	return q.each(records, fmt.Sprintf("UPDATE %s SET taken_until = now() + interval '%d seconds' WHERE id = ANY($1)", q.table, int(hold/time.Second)))
}

func (q *outbox) each(records []*poll.Record, statement string) error {
	ids := make([]int64, len(records))
	for i, r := range records {
		ids[i] = r.Handle.(int64)
	}
	return q.do(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, statement, ids)
		return err
	})
}

// Event is {"Records": [...]}.
func (q *outbox) Event(records []*poll.Record) ([]byte, error) { return poll.Records(records) }

// View has a body that is JSON as JSON.
func (q *outbox) View(r *poll.Record) []byte { return message.View(r) }

// Lag is how many rows there are.
func (q *outbox) Lag(context.Context) (n int64, err error) {
	err = q.do(func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT count(*) FROM "+q.table).Scan(&n)
	})
	return n, err
}

// Close ends the connections. What is held is another's when its time is over.
func (q *outbox) Close() error {
	q.cancel()
	<-q.ended
	q.mu.Lock()
	defer q.mu.Unlock()
	hangUp(q.ears)
	hangUp(q.hand)
	return nil
}
