// Package pgtest runs a real PostgreSQL for tests.
//
// New gives a test a database of its own on a server that all tests of one
// test binary share. Start gives it a server of its own, to stop, crash and
// restart. Both need Debian's package postgresql (.ci/install installs it);
// a test that can't have it fails.
//
// A server listens on a Unix socket in its own folder only, so that no two can
// want the same port, and asks for a password, as a real one does. It ends with
// the test binary, however that ends: a shell keeps it, which reads from a pipe
// whose other end the kernel closes.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Password is the password of the user of every server. It is in the URLs; a
// test may look for it where it must not be.
const Password = "not-to-be-seen"

var shared = sync.OnceValues(func() (*Server, error) {
	// Nothing of it survives the test binary, so nothing is synced.
	return start(Options{Settings: map[string]string{"fsync": "off", "full_page_writes": "off"}})
})

// New makes an empty database for the test and returns its URL, which is
// valid until the test's end. The database's encoding is UTF-8, its server
// allows logical replication.
func New(t testing.TB) string {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return s.Database(t)
}

var databases atomic.Int64

// Database makes an empty database on the server and returns its URL. At the
// test's end whoever is still connected to it is thrown out, and its slots of
// logical replication are dropped. The database itself goes with its server:
// dropping one waits for every process of the server, which can take long.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", databases.Add(1))
	if err := s.exec("CREATE DATABASE " + name + " TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.running() {
			return
		}
		err := s.exec("ALTER DATABASE " + name + " ALLOW_CONNECTIONS false")
		err = errors.Join(err, s.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+name+"'"))
		for end := time.Now().Add(patience); err == nil; time.Sleep(10 * time.Millisecond) {
			err = s.exec("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '" + name + "'")
			if err == nil {
				return
			}
			if strings.Contains(err.Error(), "is active") && time.Now().Before(end) {
				err = nil // who held it is on its way out
			}
		}
		t.Errorf("PostgreSQL: after a test in %s: %v", name, err)
	})
	return s.URL(name)
}

// patience bounds every wait for PostgreSQL. It is long, for busy machines.
const patience = 90 * time.Second

// URL is the address of a database of the server.
func (s *Server) URL(database string) string {
	return (&url.URL{
		Scheme: "postgres", User: url.UserPassword("hearth", Password), Path: "/" + database,
		RawQuery: url.Values{"host": {s.Folder}}.Encode(),
	}).String()
}

// exec runs a statement as the server's administrator.
func (s *Server) exec(sql string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}
