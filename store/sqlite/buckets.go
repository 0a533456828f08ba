package sqlite

import "context"

// Buckets are the names of all buckets that have records, in their order.
func (s *Store) Buckets(ctx context.Context) (names []string, err error) {
	rows, err := s.read.QueryContext(ctx, `SELECT DISTINCT bucket FROM records ORDER BY bucket`)
	if err != nil {
		return nil, s.explain(err)
	}
	defer rows.Close() // its error is rows.Err
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, s.explain(err)
		}
		names = append(names, name)
	}
	return names, s.explain(rows.Err())
}
