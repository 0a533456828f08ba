package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Buckets are the names of all buckets that have records, in their order.
func (s *Store) Buckets(ctx context.Context) ([]string, error) {
	rows, err := s.pool.Query(ctx, `SELECT DISTINCT bucket FROM hearth_records ORDER BY bucket`)
	if err != nil {
		return nil, s.names.explain(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return names, s.names.explain(err)
}
