package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// migrations take the database from the schema version that is their index to
// the next. They are never changed once released, only added. One that changes
// how a package writes its records belongs here too, so that an older program
// refuses what it cannot read.
var migrations = []string{
	// 1: records, and who may write them. The collation is the order of bytes.
	// Records of queues live for moments, so the dead are cleared away sooner
	// than by PostgreSQL's defaults. The one row of hearth_server is updated by
	// every commit: its page keeps room for the versions of it.
	`CREATE TABLE hearth_records (
		bucket text COLLATE "C" NOT NULL,
		key    text COLLATE "C" NOT NULL,
		value  bytea NOT NULL,
		PRIMARY KEY (bucket, key)
	) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
	CREATE TABLE hearth_server (
		single boolean PRIMARY KEY DEFAULT true CHECK (single),
		id     text NOT NULL,
		epoch  bigint NOT NULL,
		batch  bigint NOT NULL,
		holder text NOT NULL,
		since  timestamptz NOT NULL
	) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
	INSERT INTO hearth_server (id, epoch, batch, holder, since) VALUES (gen_random_uuid()::text, 0, 0, '', now());`,
}

// migrate brings the database to the newest schema. Each step is a transaction
// with its version's number, so that a crash leaves it before or after a step.
// The caller holds the database's lock.
func migrate(ctx context.Context, conn *pgx.Conn, n names) error {
	var encoding string
	if err := conn.QueryRow(ctx, `SELECT current_setting('server_encoding')`).Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database %s has the encoding %s: make one with UTF8, for example createdb -T template0 -E UTF8", n.what, encoding)
	}
	version, err := schemaVersion(ctx, conn)
	if err != nil {
		return err
	}
	if version > len(migrations) {
		return &NewerError{Database: n.what, Found: version, Have: len(migrations)}
	}
	for ; version < len(migrations); version++ {
		// A message of several statements is one transaction.
		_, err := conn.PgConn().Exec(ctx, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS hearth_schema (single boolean PRIMARY KEY DEFAULT true CHECK (single), version bigint NOT NULL);
			%s
			INSERT INTO hearth_schema (version) VALUES (%d) ON CONFLICT (single) DO UPDATE SET version = excluded.version`, migrations[version], version+1)).ReadAll()
		if err != nil {
			return fmt.Errorf("migrate to schema %d: %w", version+1, err)
		}
	}
	return nil
}

// schemaVersion is 0 for a database without Hearth's tables.
func schemaVersion(ctx context.Context, conn *pgx.Conn) (version int, err error) {
	var there bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('hearth_schema') IS NOT NULL`).Scan(&there); err != nil || !there {
		return 0, err
	}
	err = conn.QueryRow(ctx, `SELECT version FROM hearth_schema`).Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return version, err
}
