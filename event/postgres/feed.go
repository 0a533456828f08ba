package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
)

// feed is a replication slot as a poll.Stream, of one shard. One goroutine has
// the connection: it takes in what comes, as far as there is room, and tells
// the server how far everything was processed, which must not stop when there
// is no room.
type feed struct {
	conn   *pgconn.PgConn
	slot   string
	source string // the ARN
	region string
	fresh  bool // the slot was made by this opening

	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	waiting []*poll.Record
	bytes   int
	txs     []*transaction    // that were taken in and not told to be done, in order
	dealt   place             // as far as everything is processed
	skip    place             // what was processed before this opening
	done    pglogrepl.LSN     // as far as the server may forget
	end     pglogrepl.LSN     // of the server's log, as last heard
	err     error             // why nothing comes any more
	change  chan struct{}     // closed when something of the above changes
	tell    chan struct{}     // of one: done has moved
	tables  map[uint32]*table // the receiving goroutine's
	// primary are the primary keys of tables as the opening found them: of one
	// whose replica identity is FULL the feed does not tell.
	primary map[uint32]map[string]bool
	current *transaction // the receiving goroutine's
}

// shard is the name of the one shard.
const shard = "changes"

// How much waits at most to be read, how often the server is told that one is
// there, and how long making the slot may take: it waits for transactions that
// are under way.
const (
	mostWaiting = 1000
	mostBytes   = 8 << 20
	statusEvery = 10 * time.Second
	setupTime   = 2 * time.Minute
)

func openFeed(ctx context.Context, m *event.Mapping, config *pgconn.Config, publication, slot string) (_ *feed, err error) {
	config.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, sentence(err)
	}
	f := &feed{conn: conn, slot: slot, source: m.Source, region: m.Region, ended: make(chan struct{}), change: make(chan struct{}),
		tell: make(chan struct{}, 1), tables: map[uint32]*table{}}
	defer func() {
		if err != nil {
			f.hangUp()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, setupTime)
	defer cancel()
	found, err := conn.Exec(ctx, "SELECT 1 FROM pg_publication WHERE pubname = "+quote(publication)).ReadAll()
	if err != nil {
		return nil, sentence(err)
	}
	if len(found) == 0 || len(found[0].Rows) == 0 {
		return nil, fmt.Errorf("there is no publication %s: make it first (CREATE PUBLICATION %s FOR TABLE ...)", publication, publication)
	}
	if f.primary, err = primaryKeys(ctx, conn, publication); err != nil {
		return nil, sentence(err)
	}
	_, err = pglogrepl.CreateReplicationSlot(ctx, conn, slot, "pgoutput", pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication, SnapshotAction: "NOEXPORT_SNAPSHOT"})
	var e *pgconn.PgError
	switch {
	case err == nil:
		f.fresh = true
	case errors.As(err, &e) && e.Code == "42710": // it is there
	default:
		return nil, sentence(err)
	}
	err = pglogrepl.StartReplication(ctx, conn, slot, 0, pglogrepl.StartReplicationOptions{Mode: pglogrepl.LogicalReplication,
		PluginArgs: []string{"proto_version '1'", "publication_names " + quote(identifier(publication))}})
	if err != nil {
		return nil, sentence(err)
	}
	return f, nil
}

// primaryKeys are those of the publication's tables, by the tables' OIDs.
func primaryKeys(ctx context.Context, conn *pgconn.PgConn, publication string) (map[uint32]map[string]bool, error) {
	found, err := conn.Exec(ctx, `SELECT i.indrelid, a.attname FROM pg_publication_tables p
		JOIN pg_namespace n ON n.nspname = p.schemaname
		JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
		JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey)
		WHERE p.pubname = `+quote(publication)).ReadAll()
	if err != nil {
		return nil, err
	}
	keys := map[uint32]map[string]bool{}
	for _, row := range found[0].Rows {
		oid, err := strconv.ParseUint(string(row[0]), 10, 32)
		if err != nil {
			return nil, err
		}
		if keys[uint32(oid)] == nil {
			keys[uint32(oid)] = map[string]bool{}
		}
		keys[uint32(oid)][string(row[1])] = true
	}
	return keys, nil
}

// quote is a string literal, of a server whose strings are standard ones.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// identifier is a quoted name.
func identifier(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// changed wakes who waits. f.mu is held.
func (f *feed) changed() {
	close(f.change)
	f.change = make(chan struct{})
}

// Shards is the one shard.
func (f *feed) Shards(context.Context) ([]poll.Shard, error) { return []poll.Shard{{ID: shard}}, nil }

// Open begins to take in. A position from before the slot was made is of
// another slot.
func (f *feed) Open(_ context.Context, _, after string) (poll.Reader, error) {
	if after != "" && !f.fresh {
		var err error
		if f.skip, err = parsePlace(after); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	go func() {
		defer close(f.ended)
		err := f.receive(ctx)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.err = err
		f.changed()
	}()
	return (*reader)(f), nil
}

// receive takes in what comes and tells how far it was processed, until ctx
// ends or the connection does.
func (f *feed) receive(ctx context.Context) error {
	next := time.Now()
	for {
		told := false
		select {
		case <-f.tell:
			told = true
		default:
		}
		if told || !time.Now().Before(next) {
			if err := f.status(ctx); err != nil {
				return sentence(err)
			}
			next = time.Now().Add(statusEvery)
		}
		if !f.room() {
			if err := f.untilRoom(ctx, next); err != nil {
				return err
			}
			continue
		}
		// tell cannot interrupt the receiving, so it does not last long.
		until := time.Now().Add(200 * time.Millisecond)
		rctx, cancel := context.WithDeadline(ctx, until)
		message, err := f.conn.ReceiveMessage(rctx)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && pgconn.Timeout(err):
			continue
		case err != nil:
			return sentence(err)
		}
		asked, err := f.take(message)
		if err != nil {
			return err
		}
		if asked {
			next = time.Now()
		}
	}
}

func (f *feed) room() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiting) < mostWaiting && f.bytes < mostBytes
}

// untilRoom waits until something was read, or the server is to be told
// something.
func (f *feed) untilRoom(ctx context.Context, next time.Time) error {
	f.mu.Lock()
	change := f.change
	f.mu.Unlock()
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	select {
	case <-change:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// take takes in a message. It tells whether the server asks for a sign of life.
func (f *feed) take(message pgproto3.BackendMessage) (asked bool, err error) {
	switch m := message.(type) {
	case *pgproto3.ErrorResponse:
		return false, sentence(pgconn.ErrorResponseToPgError(m))
	case *pgproto3.CopyData:
		switch m.Data[0] {
		case pglogrepl.PrimaryKeepaliveMessageByteID:
			k, err := pglogrepl.ParsePrimaryKeepaliveMessage(m.Data[1:])
			if err != nil {
				return false, fmt.Errorf("PostgreSQL: %w", err)
			}
			f.mu.Lock()
			f.end = max(f.end, k.ServerWALEnd)
			f.mu.Unlock()
			return k.ReplyRequested, nil
		case pglogrepl.XLogDataByteID:
			x, err := pglogrepl.ParseXLogData(m.Data[1:])
			if err != nil {
				return false, fmt.Errorf("PostgreSQL: %w", err)
			}
			change, err := pglogrepl.Parse(x.WALData)
			if err != nil {
				return false, fmt.Errorf("PostgreSQL: a change cannot be read: %w", err)
			}
			return false, f.decode(change)
		}
	}
	return false, nil // notices and the like
}

// status tells the server how far everything was processed. When nothing is
// under way that is all there is, so that a slot of quiet tables does not keep
// the log of busy ones.
func (f *feed) status(ctx context.Context) error {
	f.mu.Lock()
	if len(f.txs) == 0 && f.current == nil {
		f.done = max(f.done, f.end)
	}
	done := f.done
	f.mu.Unlock()
	return pglogrepl.SendStandbyStatusUpdate(ctx, f.conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: done})
}

// Lag is how many changes were taken in and not read, and not how many wait at
// the server, which does not count them.
func (f *feed) Lag(context.Context) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.waiting)), nil
}

// Event is {"Records": [...]}.
func (f *feed) Event(records []*poll.Record) ([]byte, error) { return poll.Records(records) }

// View is the record as it stands in the event.
func (f *feed) View(r *poll.Record) []byte { return r.Body }

// Close ends the connection. The slot stays.
func (f *feed) Close() error {
	if f.cancel != nil {
		f.cancel()
		<-f.ended
	}
	f.hangUp()
	return nil
}

func (f *feed) hangUp() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = f.conn.Close(ctx) // an error is that it was broken
}

// reader is the feed as a poll.Reader.
type reader feed

// Read returns what was taken in.
func (r *reader) Read(ctx context.Context, most int, wait time.Duration) ([]*poll.Record, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		f := (*feed)(r)
		f.mu.Lock()
		n := min(most, len(f.waiting))
		records := f.waiting[:n:n]
		f.waiting = f.waiting[n:]
		for _, rec := range records {
			f.bytes -= len(rec.Body)
		}
		if n > 0 {
			f.changed()
		}
		err, change := f.err, f.change
		f.mu.Unlock()
		if n > 0 || err != nil {
			return records, err
		}
		select {
		case <-change:
		case <-timer.C:
			return nil, nil
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// Commit lets the server forget what was processed, once the transaction is
// whole.
func (r *reader) Commit(_ context.Context, position string) error {
	p, err := parsePlace(position)
	if err != nil {
		return err
	}
	f := (*feed)(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dealt = p
	f.pass()
	return nil
}

// Close does nothing: the feed ends with its stream.
func (r *reader) Close() error { return nil }
