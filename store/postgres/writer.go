package postgres

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hearth-faas/hearth/store"
)

const (
	// maxBatch bounds how many Updates share one commit, and so how much is
	// done again when that commit fails.
	maxBatch = 256
	// maxTries bounds how often a transaction is run that the database gives
	// up for the sake of another.
	maxTries = 10
	// idleCheck is how often a connection without work is looked after, so
	// that a server that was taken over notices.
	idleCheck = 5 * time.Second
)

// background: the outcome of what is sent must be known, so it is not given up.
var background = context.Background()

// request is an Update on its way. The fields after done are set before done
// is closed.
type request struct {
	ctx   context.Context
	fn    func(store.Tx) error
	begun bool

	done     chan struct{}
	err      error
	panicked any
}

// writer owns the connection that writes. Everything but queue, ended and
// hurrying belongs to its goroutine.
type writer struct {
	lease
	patience time.Duration
	fenced   func(error)
	log      *slog.Logger

	queue    chan *request
	ended    chan struct{}
	hurrying chan struct{} // closed: do not wait for a database that is away
	hurryUp  sync.Once

	away  time.Time // since when the database can't be reached; zero if it can
	over  error     // once another server has the database
	batch int64     // the number of the transaction
	sent  bool      // its commit was sent
	tx    tx
}

func newWriter(ctx context.Context, cfg Config, conf *pgx.ConnConfig, n names) (*writer, error) {
	w := &writer{
		lease: lease{conf: conf, names: n, wait: min(handover, cfg.Patience)}, patience: cfg.Patience, fenced: cfg.Lost, log: cfg.Log,
		queue: make(chan *request, maxBatch), ended: make(chan struct{}), hurrying: make(chan struct{}),
	}
	w.tx.w, w.tx.reader = w, reader{names: n}
	if err := w.open(ctx); err != nil {
		return nil, err
	}
	var fsync string
	if err := w.conn.QueryRow(ctx, `SELECT current_setting('fsync')`).Scan(&fsync); err != nil {
		return nil, err
	}
	if fsync == "off" {
		w.log.Warn("the database's server has fsync off: what Hearth acknowledges may be lost when its machine loses power", "database", n.what)
	}
	go w.run()
	return w, nil
}

func (w *writer) hurry() { w.hurryUp.Do(func() { close(w.hurrying) }) }

// run serves the queue until it is closed and empty.
func (w *writer) run() {
	defer close(w.ended)
	defer func() {
		ctx, cancel := context.WithTimeout(background, quietFor)
		defer cancel()
		w.lease.close(ctx)
	}()
	check := time.NewTicker(idleCheck)
	defer check.Stop()
	batch := make([]*request, 0, maxBatch)
	for {
		select {
		case first, ok := <-w.queue:
			if !ok {
				return
			}
			batch = w.fill(append(batch[:0], first))
			w.serve(batch)
			clear(batch)
			check.Reset(idleCheck)
		case <-check.C:
			w.check()
		}
	}
}

// fill adds to the batch what has queued up.
func (w *writer) fill(batch []*request) []*request {
	for len(batch) < maxBatch {
		select {
		case r, ok := <-w.queue:
			if !ok {
				return batch
			}
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// check looks after a connection without work.
func (w *writer) check() {
	if w.over != nil {
		return
	}
	if w.conn != nil {
		ctx, cancel := context.WithTimeout(background, unheardFor)
		defer cancel()
		var epoch int64
		err := w.conn.QueryRow(ctx, `SELECT epoch FROM hearth_server`).Scan(&epoch)
		if err == nil && epoch == w.epoch {
			return
		}
		if err == nil {
			w.fence(&FencedError{Database: w.names.what})
			return
		}
		w.lose(err)
	}
	w.sent = false
	_, _ = w.again(true) // it logs, and the next check tries again
}

// lose notes that the connection failed.
func (w *writer) lose(err error) {
	w.drop()
	w.away = time.Now()
	w.log.Warn("the connection to the database was lost", "database", w.names.what, "error", w.names.explain(err))
}

// fence ends all writing.
func (w *writer) fence(err error) {
	w.drop()
	w.over = err
	if w.fenced != nil {
		go w.fenced(err)
	}
}

// again connects again, until the patience is over (at once if once is set) or,
// with a commit whose outcome must be known, for as long as it takes. done
// tells whether that commit was made.
func (w *writer) again(once bool) (done bool, err error) {
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		ctx, cancel := context.WithTimeout(background, w.conf.ConnectTimeout)
		last, err := w.regain(ctx)
		cancel()
		if err == nil {
			w.log.Info("the database is back", "database", w.names.what, "after", time.Since(w.away).Round(time.Millisecond))
			w.away = time.Time{}
			return w.sent && last == w.batch, nil
		}
		if _, ok := errors.AsType[*FencedError](err); ok {
			w.fence(err)
			return false, err
		}
		over := once || time.Since(w.away) > w.patience
		switch {
		case over && !w.sent:
			return false, unavailable(err)
		case over:
			w.refuse(unavailable(err))
		}
		select {
		case <-time.After(pause):
		case <-w.hurrying:
			if w.sent {
				return false, ErrUnknown
			}
			return false, unavailable(err)
		}
	}
}

// unavailable marks the error of an attempt to connect, whatever it was.
func unavailable(err error) error {
	if lost(err) {
		return err
	}
	return &lostError{err}
}

// refuse answers what has queued up behind a commit whose outcome is waited
// for.
func (w *writer) refuse(err error) {
	for {
		select {
		case r, ok := <-w.queue:
			if !ok {
				return
			}
			r.err = w.names.explain(err)
			close(r.done)
		default:
			return
		}
	}
}

// serve commits a batch and tells each caller. When the transaction as a
// whole fails, each request gets one of its own, so that nobody fails for
// what a neighbour wrote.
func (w *writer) serve(batch []*request) {
	err := w.commit(batch)
	if err != nil && len(batch) > 1 && w.conn != nil {
		for _, r := range batch {
			w.serve([]*request{r})
		}
		return
	}
	for _, r := range batch {
		if err != nil {
			r.err, r.panicked = w.names.explain(err), nil
		}
		close(r.done)
	}
}

// commit runs the requests in one transaction until its outcome is known.
func (w *writer) commit(batch []*request) error {
	for try := 1; ; try++ {
		if w.over != nil {
			return w.over
		}
		w.sent = false
		if w.conn == nil {
			if _, err := w.again(false); err != nil {
				return err
			}
		}
		err := w.attempt(batch)
		switch {
		case err == nil:
			return nil
		case w.conn.IsClosed() || lost(err):
			w.lose(err)
			if done, err := w.again(false); err != nil || done {
				return err
			}
			try = 0
		case fencedOff(err):
			w.fence(&FencedError{Database: w.names.what})
			return w.over
		case !retryable(err) || try == maxTries:
			return err
		}
	}
}

const (
	beginSQL = `begin isolation level read committed, read write`
	// fenceSQL divides by zero if the epoch is over, which ends the
	// transaction before its commit, which came in the same message.
	fenceSQL = `WITH held AS (UPDATE hearth_server SET batch = $1 WHERE epoch = $2 RETURNING 1) SELECT 1 / count(*) FROM held`
)

func fencedOff(err error) bool {
	pe, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pe.Code == "22012"
}

// attempt runs the requests in one transaction. After an error that is not the
// connection's the transaction is ended, and left nothing.
func (w *writer) attempt(batch []*request) (err error) {
	w.batch++
	w.tx.reset()
	defer func() {
		if err != nil && !w.conn.IsClosed() && w.conn.PgConn().TxStatus() != 'I' {
			if _, rerr := w.conn.Exec(background, `rollback`); rerr != nil {
				err = &lostError{errors.Join(err, rerr)}
			}
		}
	}()
	for _, r := range batch {
		if err := w.one(r); err != nil {
			return err
		}
	}
	return w.tx.flush(true)
}

// one runs a request's function. An error says that the transaction is lost.
func (w *writer) one(r *request) error {
	r.err, r.panicked = nil, nil
	if !r.begun {
		if r.err = r.ctx.Err(); r.err != nil {
			return nil
		}
		r.begun = true
	}
	t := &w.tx
	t.mine, t.marked = pending{}, false
	func() {
		defer func() { r.panicked = recover() }()
		r.err = r.fn(t)
	}()
	if t.broken != nil {
		return t.broken // also if fn hid it
	}
	return t.settle(r.err == nil && r.panicked == nil)
}
