package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hearth-faas/hearth/store"
)

// InUseError says that another server holds the database.
type InUseError struct {
	Database string
	Holder   string    // as it wrote itself down; "" if that is not known
	Since    time.Time // zero if that is not known
}

// Error is one sentence with the way out.
func (e *InUseError) Error() string {
	who := "another Hearth server"
	if e.Holder != "" {
		who += fmt.Sprintf(" (%s, since %s)", e.Holder, e.Since.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("the database %s is in use by %s: stop that one, or give this one a database of its own", e.Database, who)
}

// NewerError says that the database was written by a newer version of Hearth.
type NewerError struct {
	Database    string
	Found, Have int // schema versions
}

// Error is one sentence with the way out.
func (e *NewerError) Error() string {
	return fmt.Sprintf("the database %s was written by a newer version of Hearth (its schema is %d, this program knows up to %d): use that version, or another database", e.Database, e.Found, e.Have)
}

// FencedError says that another server has taken the database over.
type FencedError struct{ Database string }

// Error says what that means.
func (e *FencedError) Error() string {
	return fmt.Sprintf("another Hearth server has taken over the database %s: this one writes nothing any more, and must be started anew", e.Database)
}

// Errors of a database that is away, for those who act on the cause.
var (
	// ErrUnavailable is wrapped by errors of work that was not done because
	// the database could not be reached in time.
	ErrUnavailable = errors.New("the database cannot be reached")
	// ErrUnknown is the error of work whose commit was on its way when the
	// connection was lost, and whose outcome was not learned before Close.
	ErrUnknown = errors.New("the database went away during a commit, and it is not known whether it was done")
)

// explained shows its sentence only, and keeps the causes for errors.Is.
type explained struct {
	text string
	errs []error
}

func (e *explained) Error() string   { return e.text }
func (e *explained) Unwrap() []error { return e.errs }

// lostError is a failure of the connection, not of what was asked.
type lostError struct{ error }

func (e *lostError) Unwrap() error { return e.error }

// lost tells whether err is the connection's failure: another may work.
func lost(err error) bool {
	if _, ok := errors.AsType[*lostError](err); ok {
		return true
	}
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		return away(pe)
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return true
	}
	_, ok := errors.AsType[net.Error](err)
	return ok && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// away tells errors of a database that ends, starts, or has no connection left.
func away(e *pgconn.PgError) bool {
	switch e.Code {
	case "57P01", "57P02", "57P03", "57P05", "53300": // shutdown, crash, starting, idle for too long, too many connections
		return true
	}
	return len(e.Code) == 5 && e.Code[:2] == "08"
}

// retryable tells errors after which the same transaction may succeed.
func retryable(err error) bool {
	pe, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pe.Code == "40001" || pe.Code == "40P01")
}

// explain gives PostgreSQL's errors sentences with the way out.
func (n names) explain(err error) error {
	switch err.(type) {
	case *InUseError, *NewerError, *FencedError, *explained:
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	say := func(cause error, format string, args ...any) error {
		errs := []error{err}
		if cause != nil {
			errs = append(errs, cause)
		}
		return &explained{text: "the database " + n.what + " " + fmt.Sprintf(format, args...), errs: errs}
	}
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pe.Code {
		case "53100":
			return say(store.ErrFull, "has a full disk: free some space there and try again")
		case "25006":
			return say(store.ErrReadOnly, "takes no writes, as a standby does: name the one that does, for example with several hosts in the URL and target_session_attrs=read-write")
		case "28P01", "28000":
			return say(nil, "does not let %s in (%s): check the user and the password", n.user, pe.Message)
		case "3D000":
			return say(nil, "is not there: make it with createdb, owned by %s", n.user)
		case "42501":
			return say(nil, "does not let %s do that (%s): let the user own the database, or grant it CREATE and USAGE on the schema", n.user, pe.Message)
		}
		if away(pe) {
			return say(ErrUnavailable, "can't be used now: %s", pe.Message)
		}
		return say(nil, "says: %s (SQLSTATE %s)", pe.Message, pe.Code)
	}
	if lost(err) {
		reason := err
		if op, ok := errors.AsType[*net.OpError](err); ok {
			reason = op.Err
		} else if _, ok := errors.AsType[*pgconn.ConnectError](err); !ok {
			reason = errors.New("the connection was lost")
		}
		return say(ErrUnavailable, "can't be reached (%v): check that it runs, and its address", reason)
	}
	return err
}
