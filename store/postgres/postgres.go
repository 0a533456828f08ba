// Package postgres keeps records in a PostgreSQL database.
//
// One server at a time works on a database, since what it has read of it is in
// its memory. It holds an advisory lock on the one connection that it writes
// with, and at each start takes an epoch that is higher than all before: every
// transaction says which epoch it is of, and fails if that is over. So a server
// that lost its connection, and with it the lock, writes nothing once another
// has taken its place, whatever it believes.
//
// As with SQLite there is one writer, a goroutine that commits as one
// transaction what has queued up while the last commit was on its way. What a
// transaction writes is gathered in memory and goes with its begin and its
// commit in one message, so that a batch costs one round trip and one sync of
// the database's log. Each transaction has a number, which it stores: when the
// connection is lost with a commit on its way, the next connection finds out
// whether it was committed. Readers have connections of their own.
package postgres

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hearth-faas/hearth/store"
)

// Config is what a Store works with. Fields without a default are required.
type Config struct {
	// URL is the database's: postgres://USER:PASSWORD@HOST:PORT/NAME?OPTIONS,
	// as libpq takes it.
	URL string
	// Password is the user's, if it is not in the URL.
	Password string
	// Patience is how long work waits for a database that can't be reached
	// before it fails; 0 is half a minute. Work whose commit was on its way
	// waits for as long as it takes, since its outcome must be known.
	Patience time.Duration
	// Lost is called once, from a goroutine of the Store's, when another
	// server has taken the database over. Nothing is written from then on;
	// what is in memory is no longer what is true. nil is not to be told.
	Lost func(error)
	Log  *slog.Logger // nil is slog.Default
}

const defaultPatience = 30 * time.Second

// viewers bounds the connections that read.
const viewers = 8

// Store is a database that this process holds alone. It implements
// store.Store.
type Store struct {
	cfg   Config
	names names
	pool  *pgxpool.Pool
	w     *writer

	mu     sync.RWMutex // closed, and sending on w.queue
	closed bool
}

var _ store.Store = (*Store)(nil)

// Open opens the database, making or migrating its tables where needed, and
// takes its lock. A database that another server holds fails with *InUseError,
// one that a newer version wrote with *NewerError and is left as it is. Other
// errors are sentences for whoever started the server; none has the password.
func Open(ctx context.Context, cfg Config) (_ *Store, err error) {
	if cfg.Patience == 0 {
		cfg.Patience = defaultPatience
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	conf, err := parse(cfg)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, names: namesOf(&conf.ConnConfig.Config)}
	conf.MaxConns = viewers
	if s.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), conf); err != nil {
		return nil, s.names.explain(err)
	}
	if s.w, err = newWriter(ctx, cfg, conf.ConnConfig, s.names); err != nil {
		s.pool.Close()
		return nil, s.names.explain(err)
	}
	return s, nil
}

// ID is what the database is told apart by from all others: it was made with
// its tables, and goes with a copy or a backup of it.
func (s *Store) ID() string { return s.w.id }

// Name is the database's name for people, without a password.
func (s *Store) Name() string { return s.names.what }

// View implements store.Store. A database that can't be reached is waited for,
// until something has been read.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return store.ErrClosed
	}
	v := &view{s: s, ctx: ctx}
	defer v.end()
	return fn(&reader{query: v, names: s.names})
}

// view is the transaction of a View, which begins with its first query.
type view struct {
	s    *Store
	ctx  context.Context
	conn *pgxpool.Conn // nil before
}

const beginView = `begin isolation level repeatable read, read only`

// send implements querier.
func (v *view) send(sql string, args []any, take func(pgx.Rows) error) error {
	if v.conn != nil {
		rows, err := v.conn.Query(v.ctx, sql, args...)
		if err != nil {
			return err
		}
		return taken(rows, take)
	}
	end := time.Now().Add(v.s.cfg.Patience)
	for {
		err := v.begin(sql, args, take)
		if err == nil || !lost(err) || v.ctx.Err() != nil || time.Now().After(end) {
			return err
		}
		// After a restart of the database all of the pool's connections are
		// dead: each is found out once, without a pause.
		if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
			select {
			case <-time.After(firstPause):
			case <-v.ctx.Done():
			case <-v.s.w.hurrying:
				return err
			}
		}
	}
}

// begin sends the transaction's begin and its first query in one message.
func (v *view) begin(sql string, args []any, take func(pgx.Rows) error) error {
	conn, err := v.s.pool.Acquire(v.ctx)
	if err != nil {
		return err
	}
	var b pgx.Batch
	b.Queue(beginView)
	b.Queue(sql, args...)
	br := conn.SendBatch(v.ctx, &b)
	_, err = br.Exec()
	if err == nil {
		var rows pgx.Rows
		if rows, err = br.Query(); err == nil {
			err = taken(rows, take)
		}
	}
	err = errors.Join(err, br.Close())
	if err != nil && (conn.Conn().IsClosed() || lost(err)) {
		_ = conn.Conn().Close(v.ctx) // the pool makes another
		conn.Release()
		return &lostError{err}
	}
	v.conn = conn
	return err
}

// end gives the connection back. Nothing was written, so how the transaction
// ends decides nothing; the pool closes a connection that is still in one.
func (v *view) end() {
	if v.conn == nil {
		return
	}
	if !v.conn.Conn().IsClosed() {
		_, _ = v.conn.Exec(v.ctx, `rollback`)
	}
	v.conn.Release()
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	r := &request{ctx: ctx, fn: fn, done: make(chan struct{})}
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return store.ErrClosed
	}
	select {
	case s.w.queue <- r:
		s.mu.RUnlock()
	case <-ctx.Done():
		s.mu.RUnlock()
		return ctx.Err()
	}
	<-r.done
	if r.panicked != nil {
		panic(r.panicked)
	}
	return r.err
}

// Close implements store.Store. Another server may have the database when it
// returns.
func (s *Store) Close() error {
	s.w.hurry() // what waits for a database that is away
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.w.queue)
	s.mu.Unlock()
	<-s.w.ended
	s.pool.Close()
	return nil
}
