package resource

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/idempotent"
	"github.com/hearth-faas/hearth/s3"
)

// later is a clock by which everything settled long ago.
func later() *clock.Fake { return clock.NewFake(time.Now().Add(time.Hour)) }

func open(t *testing.T, cfg Config) *States {
	t.Helper()
	if cfg.Clock == nil {
		cfg.Clock = later()
	}
	s := New(cfg)
	t.Cleanup(func() { s.Close() })
	return s
}

// state demands that a state can be told.
func state(t *testing.T, s *States, r idempotent.Resource) idempotent.State {
	t.Helper()
	got, err := s.State(t.Context(), &r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAnObjectsStateChangesWithItsContent(t *testing.T) {
	backend := s3mem.New()
	server := httptest.NewServer(gofakes3.New(backend).Server())
	defer server.Close()
	if err := backend.CreateBucket("b"); err != nil {
		t.Fatal(err)
	}
	put := func(content string) {
		t.Helper()
		if _, err := backend.PutObject("b", "a key", map[string]string{}, strings.NewReader(content), int64(len(content)), nil); err != nil {
			t.Fatal(err)
		}
	}
	// The default endpoint, and one of its own; whoever runs the server has keys
	// that no function's dependency is asked with.
	own := open(t, Config{S3: s3.Config{Endpoint: server.URL, PathStyle: true, Credentials: aws.Credentials{AccessKeyID: "AKOPERATOR", SecretAccessKey: "x"}}})
	for _, d := range []hearth.Dependency{{S3: "s3"}, {S3: "s3", Endpoint: server.URL}} {
		r := idempotent.Resource{Dependency: d, Bucket: "b", Key: "a key"}
		if got := state(t, own, r); got.Value != absent {
			t.Errorf("what is not there is %q", got.Value)
		}
		put("one")
		one := state(t, own, r)
		if again := state(t, own, r); again != one || one.Value == absent || one.Unsettled {
			t.Errorf("%+v, and then %+v", one, again)
		}
		put("two")
		if two := state(t, own, r); two.Value == one.Value {
			t.Errorf("after a change it is still %q", two.Value)
		}
		if _, err := backend.DeleteObject("b", "a key"); err != nil {
			t.Fatal(err)
		}
	}
	server.Close()
	if got, err := own.State(t.Context(), &idempotent.Resource{Dependency: hearth.Dependency{S3: "s3"}, Bucket: "b", Key: "a key"}); err == nil {
		t.Errorf("a server that is away tells %v", got)
	}
}

func TestTheOperatorsKeysAreNotUsed(t *testing.T) {
	var signed string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		signed = r.Header.Get("Authorization")
		w.WriteHeader(http.StatusForbidden)
	}))
	defer server.Close()
	s := open(t, Config{S3: s3.Config{Endpoint: server.URL, PathStyle: true, Credentials: aws.Credentials{AccessKeyID: "AKOPERATOR", SecretAccessKey: "x"}}})
	for _, key := range []string{"", "AKDECLARED"} {
		if _, err := s.State(t.Context(), &idempotent.Resource{Dependency: hearth.Dependency{S3: "s3", AccessKeyID: key, SecretAccessKey: key}, Bucket: "b", Key: "k"}); err == nil {
			t.Error("403 is a state")
		}
		if (signed == "") != (key == "") || !strings.Contains(signed, key) {
			t.Errorf("signed %q", signed)
		}
	}
}

func TestAPageIsKnownByItsValidators(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	stamp := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, c := range []struct {
		status    int
		header    map[string]string
		value     string // what is in the state; "" is an error
		unsettled bool
	}{
		{200, map[string]string{"ETag": `"1"`}, `"1"`, false},
		{200, map[string]string{"ETag": `W/"1"`, "Last-Modified": stamp(0)}, `W/"1"`, false},
		{200, map[string]string{"Last-Modified": stamp(-time.Hour), "Date": stamp(0)}, stamp(-time.Hour), false},
		{200, map[string]string{"Last-Modified": stamp(-time.Second), "Date": stamp(0)}, stamp(-time.Second), true},
		{200, map[string]string{"Last-Modified": "yesterday"}, "", false},
		{200, nil, "", false},
		{404, nil, absent, false},
		{410, nil, absent, false},
		{403, map[string]string{"ETag": `"1"`}, "", false},
		{302, map[string]string{"Location": "/elsewhere", "ETag": `"1"`}, "", false},
		{500, nil, "", false},
	} {
		for _, head := range []bool{true, false} {
			asked := ""
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked += r.Method + r.Header.Get("X-Key")
				if r.Method == http.MethodHead && !head {
					w.WriteHeader(http.StatusMethodNotAllowed)
					return
				}
				for name, v := range c.header {
					w.Header().Set(name, v)
				}
				w.WriteHeader(c.status)
			}))
			s := open(t, Config{})
			got, err := s.State(t.Context(), &idempotent.Resource{Dependency: hearth.Dependency{HTTP: server.URL + "/x", Headers: map[string]string{"X-Key": "!"}}})
			server.Close()
			if (err == nil) != (c.value != "") || !strings.Contains(got.Value, c.value) || got.Unsettled != c.unsettled {
				t.Errorf("%d with %v is %+v, %v", c.status, c.header, got, err)
			}
			if want := map[bool]string{true: "HEAD!", false: "HEAD!GET!"}[head]; asked != want {
				t.Errorf("asked by %s, not %s", asked, want)
			}
		}
	}
}

func TestNobodyIsAskedWhoIsRefused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }))
	defer server.Close()
	s := open(t, Config{Refuses: func(string) string { return "loopback" }})
	for _, d := range []hearth.Dependency{
		{HTTP: server.URL}, {S3: "s3", Endpoint: server.URL}, {SQL: "SELECT 1", Database: "postgres://u@" + server.Listener.Addr().String() + "/d?sslmode=disable"},
		{SQL: "SELECT 1", Database: "postgres://u@/d?host=/run"},
	} {
		if got, err := s.State(t.Context(), &idempotent.Resource{Dependency: d, Bucket: "b", Key: "k"}); err == nil {
			t.Errorf("%+v is %v", d, got)
		}
	}
}

func TestAFileIsKnownByItsStampsOnceTheyAreOld(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := idempotent.Resource{Dependency: hearth.Dependency{File: file}}
	s := open(t, Config{Paths: []string{"/elsewhere", dir}})
	if got := state(t, s, r); got.Value != absent {
		t.Errorf("what is not there is %q", got.Value)
	}
	write("one")
	one := state(t, s, r)
	if one.Unsettled {
		t.Error("an hour later it has not settled")
	}
	write("three") // another length: the kernel's stamps may be too coarse for this test
	if got := state(t, s, r); got.Value == one.Value {
		t.Error("a change is not seen")
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	now := open(t, Config{Paths: []string{dir}, Clock: clock.NewFake(info.ModTime())})
	if !state(t, now, r).Unsettled {
		t.Error("a file that was written just now has settled")
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/etc/passwd", filepath.Join(dir, "link"), dir + "/../x", "/dev/null"} {
		if got, err := s.State(t.Context(), &idempotent.Resource{Dependency: hearth.Dependency{File: path}}); err == nil {
			t.Errorf("%s is %v", path, got)
		}
	}
}

func TestRowsOfSQLiteAreReadAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.db")
	db, err := sql.Open("sqlite", file)
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
	do("PRAGMA journal_mode=WAL")
	do("CREATE TABLE t (id INTEGER, v TEXT)")
	do("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
	s := open(t, Config{Paths: []string{dir}})
	rows := func(q string, args ...string) idempotent.Resource {
		return idempotent.Resource{Dependency: hearth.Dependency{SQL: q, Database: "sqlite://" + file, Args: args}}
	}
	q := rows("SELECT v FROM t WHERE id = CAST($1 AS INTEGER)", "1")
	one := state(t, s, q)
	do("UPDATE t SET v = 'c' WHERE id = 2")
	if got := state(t, s, q); got != one {
		t.Errorf("%v, and before %v, though another row has changed", got, one)
	}
	do("UPDATE t SET v = 'c' WHERE id = 1")
	if got := state(t, s, q); got == one {
		t.Error("a change is not seen")
	}
	if state(t, s, rows("SELECT NULL")) == state(t, s, rows("SELECT ''")) || state(t, s, rows("SELECT 1")) == state(t, s, rows("SELECT '1'")) {
		t.Error("values of different types are taken for the same")
	}
	for _, bad := range []idempotent.Resource{
		rows("SELECT nothing FROM t"), rows("WITH x AS (SELECT 1) INSERT INTO t SELECT 3, 'x'"), rows("DELETE FROM t"),
		rows("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 5000) SELECT i FROM n"),
		{Dependency: hearth.Dependency{SQL: "SELECT 1", Database: "sqlite:///etc/passwd"}},
		{Dependency: hearth.Dependency{SQL: "SELECT 1", Database: "sqlite://" + dir + "/none.db"}},
		{Dependency: hearth.Dependency{SQL: "SELECT 1", Database: "host=x"}},
	} {
		if got, err := s.State(t.Context(), &bad); err == nil {
			t.Errorf("%+v is %v", bad.Dependency, got)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	endless := rows("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT max(i) FROM n")
	if _, err := s.State(ctx, &endless); err == nil {
		t.Error("a query without end ends")
	}
	var n int
	if err := db.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows, %v", n, err)
	}
}

func TestClientsAreBoundedAndClosedWhenNobodyUsesThem(t *testing.T) {
	closed := map[int]bool{}
	c := cache[int]{close: func(i int) { closed[i] = true }}
	_, release, err := c.get("0", func() (int, error) { return 0, nil })
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 2*maxClients; i++ {
		_, release, err := c.get(fmt.Sprint(i), func() (int, error) { return i, nil })
		if err != nil {
			t.Fatal(err)
		}
		release()
	}
	if len(c.of) != maxClients || closed[0] || !closed[1] {
		t.Errorf("%d clients, the used one closed: %v, an unused one: %v", len(c.of), closed[0], closed[1])
	}
	release()
	if !closed[0] {
		t.Error("the one that was in use is never closed")
	}
	c.empty()
	if len(closed) != 2*maxClients {
		t.Errorf("%d are closed", len(closed))
	}
	if _, _, err := c.get("x", func() (int, error) { return 0, errors.New("no") }); err == nil {
		t.Error("an error is no error")
	}
}
