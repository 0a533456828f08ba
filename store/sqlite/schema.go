package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// A migration takes the database from the schema version that is its index to
// the next. Migrations are never changed once released, only added. One that
// changes how a package writes its records belongs here too, so that an older
// program refuses what it cannot read.
type migration func(ctx context.Context, conn *sql.Conn) error

func statements(text ...string) migration {
	return func(ctx context.Context, conn *sql.Conn) error {
		for _, t := range text {
			if _, err := conn.ExecContext(ctx, t); err != nil {
				return err
			}
		}
		return nil
	}
}

var migrations = []migration{
	// 1: records. Without rowid the table is the index, so that a scan reads
	// neighbouring pages; BINARY collation is the order of bytes.
	statements(`CREATE TABLE records (
		bucket TEXT NOT NULL COLLATE BINARY,
		key    TEXT NOT NULL COLLATE BINARY,
		value  BLOB NOT NULL,
		PRIMARY KEY (bucket, key)
	) STRICT, WITHOUT ROWID`),
}

// NewerError says that the database was written by a newer version of Hearth.
type NewerError struct {
	Folder      string
	Found, Have int // schema versions
}

// Error is one sentence with the way out.
func (e *NewerError) Error() string {
	return fmt.Sprintf("the data folder %s was written by a newer version of Hearth (its schema is %d, this program knows up to %d): use that version, or another folder", e.Folder, e.Found, e.Have)
}

// migrate brings the database to the newest schema. Each step is a
// transaction with its version's number, so that a crash leaves it before or
// after a step.
func migrate(ctx context.Context, conn *sql.Conn, folder string) error {
	if _, err := conn.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS schema_version (
		only INTEGER PRIMARY KEY CHECK (only = 1), version INTEGER NOT NULL) STRICT`); err != nil {
		return err
	}
	var version int
	if err := conn.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM schema_version`).Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return &NewerError{Folder: folder, Found: version, Have: len(migrations)}
	}
	for ; version < len(migrations); version++ {
		step := statements(
			fmt.Sprintf(`INSERT INTO schema_version VALUES (1, %d) ON CONFLICT (only) DO UPDATE SET version = excluded.version`, version+1),
			`COMMIT`)
		if err := statements(`BEGIN IMMEDIATE`)(ctx, conn); err != nil {
			return err
		}
		err := migrations[version](ctx, conn)
		if err == nil {
			err = step(ctx, conn)
		}
		if err != nil {
			// Best effort: the connection is closed next, which rolls back.
			_, _ = conn.ExecContext(ctx, `ROLLBACK`)
			return fmt.Errorf("migrate to schema %d: %w", version+1, err)
		}
	}
	return nil
}
