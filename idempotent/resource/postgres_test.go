package resource

import (
	"database/sql"
	"net/url"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/idempotent"
	"github.com/hearth-faas/hearth/internal/pgtest"
)

func TestRowsOfPostgreSQLAreReadAndNothingElse(t *testing.T) {
	address := pgtest.New(t)
	db, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	do := func(q string) {
		t.Helper()
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	do("CREATE TABLE t (id int, at timestamptz, v jsonb)")
	do("INSERT INTO t VALUES (1, now(), '{}'), (2, now(), NULL)")
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, Config{Paths: []string{u.Query().Get("host")}})
	rows := func(q string, args ...string) idempotent.Resource {
		return idempotent.Resource{Dependency: hearth.Dependency{SQL: q, Database: address, Args: args}}
	}
	q := rows("SELECT count(*), max(at), max(v::text) FROM t WHERE id = $1", "1")
	one := state(t, s, q)
	if again := state(t, s, q); again != one {
		t.Errorf("%v, and then %v", one, again)
	}
	do("UPDATE t SET at = at + interval '1 microsecond' WHERE id = 1")
	two := state(t, s, q)
	if two == one {
		t.Error("a change is not seen")
	}
	do("UPDATE t SET at = now() WHERE id = 2")
	if got := state(t, s, q); got != two {
		t.Error("another row's change is taken for this one's")
	}
	wrong := strings.Replace(address, pgtest.Password, "another", 1)
	for _, bad := range []idempotent.Resource{
		rows("SELECT nothing FROM t"), rows("WITH x AS (DELETE FROM t RETURNING 1) SELECT * FROM x"), rows("SELECT generate_series(1, 5000)"),
		{Dependency: hearth.Dependency{SQL: "SELECT 1", Database: wrong}},
		{Dependency: hearth.Dependency{SQL: "SELECT 1", Database: address + "&passfile=/root/.pgpass"}},
	} {
		got, err := s.State(t.Context(), &bad)
		if err == nil || strings.Contains(err.Error(), pgtest.Password) || strings.Contains(err.Error(), "another") {
			t.Errorf("%s is %v, %v", bad.Dependency.SQL, got, err)
		}
	}
	nowhere := open(t, Config{})
	if got, err := nowhere.State(t.Context(), &q); err == nil {
		t.Errorf("by a socket that is in none of the folders it is %v", got)
	}
	var n int
	if err := db.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows, %v", n, err)
	}
}
