package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/hearth-faas/hearth/store"
)

// maxBatch bounds how many Updates share one commit, and so how much is done
// again when that commit fails.
const maxBatch = 256

// request is an Update on its way. The fields after done are set before done
// is closed.
type request struct {
	ctx context.Context
	fn  func(store.Tx) error

	done     chan struct{}
	err      error
	panicked any
}

// writer owns the one connection that writes. Everything but queue and ended
// belongs to its goroutine.
type writer struct {
	queue chan *request
	ended chan struct{}

	conn     *sql.Conn
	explain  func(error) error
	tx       *tx
	begin    *sql.Stmt
	commit   *sql.Stmt
	mark     *sql.Stmt
	release  *sql.Stmt
	rollback *sql.Stmt
	stmts    []*sql.Stmt // all of them
}

// background: with a context that cannot be cancelled the driver starts no
// watching goroutine for each statement.
var background = context.Background()

func newWriter(ctx context.Context, conn *sql.Conn, explain func(error) error) (*writer, error) {
	w := &writer{
		queue: make(chan *request, maxBatch), ended: make(chan struct{}),
		conn: conn, explain: explain,
	}
	var get, scan, put, del *sql.Stmt
	for _, p := range []struct {
		to   **sql.Stmt
		text string
	}{
		{&w.begin, `BEGIN IMMEDIATE`}, {&w.commit, `COMMIT`},
		{&w.mark, `SAVEPOINT one`}, {&w.release, `RELEASE one`}, {&w.rollback, `ROLLBACK TO one`},
		{&get, getSQL}, {&scan, scanSQL}, {&put, putSQL}, {&del, delSQL},
	} {
		stmt, err := conn.PrepareContext(ctx, p.text)
		if err != nil {
			return nil, errors.Join(err, w.close())
		}
		*p.to = stmt
		w.stmts = append(w.stmts, stmt)
	}
	w.tx = &tx{
		reader: reader{ctx: background, explain: explain,
			get:  func(args ...any) *sql.Row { return get.QueryRowContext(background, args...) },
			scan: func(args ...any) (*sql.Rows, error) { return scan.QueryContext(background, args...) },
		},
		put: put, del: del,
	}
	go w.run()
	return w, nil
}

// close releases the connection, after the goroutine has ended. The driver
// would keep a connection open for ever whose statements are not closed.
func (w *writer) close() error {
	var errs []error
	for _, stmt := range w.stmts {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// run serves the queue until it is closed and empty.
func (w *writer) run() {
	defer close(w.ended)
	batch := make([]*request, 0, maxBatch)
	for first := range w.queue {
		batch = append(batch[:0], first)
	fill:
		for len(batch) < maxBatch {
			select {
			case r, ok := <-w.queue:
				if !ok {
					break fill
				}
				batch = append(batch, r)
			default:
				break fill
			}
		}
		w.serve(batch)
		clear(batch)
	}
}

// serve commits a batch and tells each caller. When the transaction as a
// whole fails, each request gets one of its own, so that nobody fails for
// what a neighbour wrote.
func (w *writer) serve(batch []*request) {
	open, err := w.attempt(batch)
	if err != nil && len(batch) > 1 {
		for _, r := range open {
			w.serve([]*request{r})
		}
		return
	}
	for _, r := range open {
		r.err = err
		close(r.done)
	}
}

// attempt runs the requests in one transaction. Those whose own function
// failed are answered at once and are no longer open; the others share the
// returned outcome.
func (w *writer) attempt(batch []*request) (open []*request, err error) {
	if _, err := w.begin.ExecContext(background); err != nil {
		return batch, w.explain(err)
	}
	for i, r := range batch {
		failed, err := w.one(r)
		if err != nil {
			w.abandon()
			return append(open, batch[i:]...), w.explain(err)
		}
		if failed {
			close(r.done)
			continue
		}
		open = append(open, r)
	}
	if _, err := w.commit.ExecContext(background); err != nil {
		w.abandon()
		return open, w.explain(err)
	}
	return open, nil
}

// one runs a request's function between savepoints. failed says that the
// function itself failed and left nothing; an error, that the transaction is
// lost.
func (w *writer) one(r *request) (failed bool, err error) {
	r.err, r.panicked = r.ctx.Err(), nil
	if r.err != nil {
		return true, nil
	}
	if _, err := w.mark.ExecContext(background); err != nil {
		return false, err
	}
	w.tx.broken = nil
	func() {
		defer func() { r.panicked = recover() }()
		r.err = r.fn(w.tx)
	}()
	if w.tx.broken != nil {
		// SQLite ends the whole transaction itself on some errors (a full
		// disk), and then even an error that fn hid must not be committed.
		r.panicked = nil
		return false, w.tx.broken
	}
	if failed = r.err != nil || r.panicked != nil; failed {
		if _, err := w.rollback.ExecContext(background); err != nil {
			return false, err
		}
	}
	_, err = w.release.ExecContext(background)
	return failed, err
}

// abandon ends a transaction that failed. SQLite may have ended it already,
// which is then the only error there can be.
func (w *writer) abandon() { _, _ = w.conn.ExecContext(background, `ROLLBACK`) }

// tx implements store.Tx.
type tx struct {
	reader
	put, del *sql.Stmt
	broken   error // the first failure to write
}

// Put implements store.Tx.
func (t *tx) Put(bucket, key string, value []byte) error {
	if value == nil {
		value = []byte{} // nil would be SQL's NULL
	}
	return t.exec(t.put, bucket, key, value)
}

// Delete implements store.Tx.
func (t *tx) Delete(bucket, key string) error { return t.exec(t.del, bucket, key) }

func (t *tx) exec(stmt *sql.Stmt, bucket, key string, more ...any) error {
	if err := store.CheckKey(bucket, key); err != nil {
		return err
	}
	if t.broken != nil {
		return t.explain(t.broken)
	}
	if _, err := stmt.ExecContext(background, append([]any{bucket, key}, more...)...); err != nil {
		t.broken = err
		return t.explain(err)
	}
	return nil
}
