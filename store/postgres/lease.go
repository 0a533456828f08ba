package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// lockKey is what the advisory lock is of: "hearth" in hexadecimal. Advisory
// locks are of one database.
const lockKey = 0x686561727468

// handover is how long Open waits for the lock, if its patience is not less: the connection of a
// server that has just ended may take a moment to end, too.
const handover = 5 * time.Second

// Pauses between attempts to connect.
const (
	firstPause = 20 * time.Millisecond
	longPause  = time.Second
)

// lease is the right to write. It is lost with the connection, and regained on
// another as long as nobody else had it.
type lease struct {
	conf  *pgx.ConnConfig
	names names
	id    string
	wait  time.Duration // for a lock that another holds

	conn  *pgx.Conn // nil if it was lost
	pid   uint32    // the database's process that serves, or served, conn
	epoch int64
}

// open connects, takes the lock, migrates, and begins a new epoch.
func (l *lease) open(ctx context.Context) (err error) {
	conn, err := pgx.ConnectConfig(ctx, l.conf)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = conn.Close(context.WithoutCancel(ctx)) // what failed before says more
		}
	}()
	for end := time.Now().Add(l.wait); ; {
		got, err := lock(ctx, conn)
		if err != nil {
			return err
		}
		if got {
			break
		}
		if time.Now().After(end) {
			return l.inUse(ctx, conn)
		}
		select {
		case <-time.After(firstPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := migrate(ctx, conn, l.names); err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "a host without a name"
	}
	err = conn.QueryRow(ctx, `UPDATE hearth_server SET epoch = epoch + 1, batch = 0, holder = $1, since = now() RETURNING epoch, id`,
		fmt.Sprintf("process %d on %s", os.Getpid(), host)).Scan(&l.epoch, &l.id)
	if err != nil {
		return err
	}
	l.conn, l.pid = conn, conn.PgConn().PID()
	return nil
}

func lock(ctx context.Context, conn *pgx.Conn) (got bool, err error) {
	err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(lockKey)).Scan(&got)
	return got, err
}

// inUse is the error of a database whose lock is another's.
func (l *lease) inUse(ctx context.Context, conn *pgx.Conn) error {
	e := &InUseError{Database: l.names.what}
	err := conn.QueryRow(ctx, `SELECT holder, since FROM hearth_server`).Scan(&e.Holder, &e.Since)
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok && pe.Code == "42P01" {
		err = nil // it is about to make its tables
	}
	if err != nil {
		return err
	}
	return e
}

// drop gives up a connection that failed, or whose state is not known.
func (l *lease) drop() {
	if l.conn == nil {
		return
	}
	// A context that has ended closes the socket without a word to the peer.
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = l.conn.Close(ended)
	l.conn = nil
}

// regain connects again and takes the lock again, once. It returns the number
// of the last transaction that was committed, which none can follow that is
// still on its way: the lock is not free before its former holder has ended. If
// another server had the lock meanwhile, the error is a *FencedError.
func (l *lease) regain(ctx context.Context) (batch int64, err error) {
	conn, err := pgx.ConnectConfig(ctx, l.conf)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}()
	got, err := lock(ctx, conn)
	if err != nil {
		return 0, err
	}
	// Whoever has the lock has begun, or will begin, an epoch of its own; only
	// in between it can't be told from our own former connection.
	var epoch int64
	if err := conn.QueryRow(ctx, `SELECT epoch, batch FROM hearth_server`).Scan(&epoch, &batch); err != nil {
		return 0, err
	}
	if epoch != l.epoch {
		return 0, &FencedError{Database: l.names.what}
	}
	if !got {
		// The database has not noticed that our former connection is gone. It
		// is ours to end, if it is that which has the lock.
		_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = $1
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND (classid::bigint << 32) | objid::bigint = $2`, int64(l.pid), int64(lockKey))
		if err != nil {
			return 0, err
		}
		return 0, &lostError{errors.New("the lock is held by another connection")}
	}
	l.conn, l.pid = conn, conn.PgConn().PID()
	return batch, nil
}

// close gives the lock back.
func (l *lease) close(ctx context.Context) {
	if l.conn == nil {
		return
	}
	_, _ = l.conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`) // the connection's end does it, too, a moment later
	_ = l.conn.Close(ctx)
	l.conn = nil
}
