package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hearth-faas/hearth/internal/pgtest"
	"github.com/hearth-faas/hearth/store"
)

func put(s *Store, key, value string) error {
	return s.Update(context.Background(), func(tx store.Tx) error { return tx.Put("b", key, []byte(value)) })
}

func get(t testing.TB, s *Store, key string) string {
	t.Helper()
	var value []byte
	if err := s.View(context.Background(), func(r store.Reader) (err error) {
		value, _, err = r.Get("b", key)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return string(value)
}

// admin runs a statement on a connection of its own.
func admin(t testing.TB, url, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatal(err)
	}
}

const killOthers = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`

func TestASecondServerIsToldWhoHasTheDatabase(t *testing.T) {
	url := pgtest.New(t)
	s := mustOpen(t, Config{URL: url})
	_, err := Open(context.Background(), Config{URL: url, Patience: time.Millisecond})
	inUse, ok := errors.AsType[*InUseError](err)
	if !ok || !strings.Contains(inUse.Holder, "process ") || !strings.Contains(err.Error(), "is in use by another Hearth server (process ") {
		t.Fatalf("the error is %v", err)
	}
	if err := put(s, "k", "v"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, Config{URL: url})
	defer s.Close()
	if v := get(t, s, "k"); v != "v" {
		t.Errorf("k is %q", v)
	}
}

// A server whose connection was cut while another took over has what it
// believes in memory, and must not write it.
func TestAServerThatWasTakenOverWritesNothing(t *testing.T) {
	url := pgtest.New(t)
	cut := newRelay(t, url)
	told := make(chan error, 1)
	old := mustOpen(t, Config{URL: cut.url, Lost: func(err error) { told <- err }})
	defer old.Close()
	if err := put(old, "k", "old"); err != nil {
		t.Fatal(err)
	}
	cut.stop() // it hears nothing, and the database has not noticed
	admin(t, url, killOthers)
	s := mustOpen(t, Config{URL: url})
	defer s.Close()
	if err := put(s, "k", "new"); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error)
	go func() { wrote <- put(old, "k", "stale") }()
	cut.start()
	err := <-wrote
	if _, ok := errors.AsType[*FencedError](err); !ok || !strings.Contains(err.Error(), "another Hearth server has taken over") {
		t.Errorf("the error is %v", err)
	}
	if err := <-told; err == nil {
		t.Error("it was not told")
	}
	if err := put(old, "k", "staler"); err == nil {
		t.Error("it wrote later")
	}
	if v := get(t, s, "k"); v != "new" {
		t.Errorf("k is %q", v)
	}
}

// Also an epoch that ended while the connection lives ends all writing.
func TestAnEpochThatIsOverCommitsNothing(t *testing.T) {
	url := pgtest.New(t)
	s := mustOpen(t, Config{URL: url})
	defer s.Close()
	admin(t, url, `UPDATE hearth_server SET epoch = epoch + 1`)
	err := put(s, "k", "v")
	if _, ok := errors.AsType[*FencedError](err); !ok {
		t.Errorf("the error is %v", err)
	}
	if v := get(t, s, "k"); v != "" {
		t.Errorf("k is %q", v)
	}
}

// Every Update is done once, and all of it, however often its connection is
// killed under it: an outcome that was not known at first is found out.
func TestALostConnectionLosesAndRepeatsNothing(t *testing.T) {
	url := pgtest.New(t)
	s := mustOpen(t, Config{URL: url})
	defer s.Close()
	var done atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				err := s.Update(context.Background(), func(tx store.Tx) error {
					v, _, err := tx.Get("b", "sum")
					if err != nil {
						return err
					}
					n := 0
					if len(v) > 0 {
						if _, err := fmt.Sscan(string(v), &n); err != nil {
							return err
						}
					}
					return errors.Join(tx.Put("b", "sum", fmt.Append(nil, n+1)), tx.Put("b", fmt.Sprintf("%d-%d", w, i), nil))
				})
				if err != nil {
					t.Errorf("worker %d: %v", w, err)
					return
				}
				done.Add(1)
			}
		})
	}
	kills := 6
	if testing.Short() {
		kills = 3
	}
	for range kills {
		before := done.Load()
		for end := time.Now().Add(time.Minute); done.Load() < before+10 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		admin(t, url, killOthers)
	}
	close(stop)
	wg.Wait()
	if sum := get(t, s, "sum"); sum != fmt.Sprint(done.Load()) {
		t.Errorf("%d Updates were acknowledged, %s were done", done.Load(), sum)
	}
	records := 0
	if err := s.View(context.Background(), func(r store.Reader) error {
		records = 0
		for _, err := range r.Scan("b", "", "") {
			if err != nil {
				return err
			}
			records++
		}
		return nil
	}); err != nil || records != int(done.Load())+1 {
		t.Errorf("%d records of %d Updates (%v)", records, done.Load(), err)
	}
}

// What was acknowledged survives a crash of the database, and what comes
// while it is away waits for it.
func TestACrashOfTheDatabaseIsWaitedFor(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{})
	s := mustOpen(t, Config{URL: server.Database(t)})
	defer s.Close()
	for i := range 3 {
		key := fmt.Sprint(i)
		if err := put(s, key, "before"); err != nil {
			t.Fatal(err)
		}
		if err := server.Crash(); err != nil {
			t.Fatal(err)
		}
		wrote := make(chan error)
		go func() { wrote <- put(s, key+"x", "during") }()
		if err := server.Restart(); err != nil {
			t.Fatal(err)
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		if before, during := get(t, s, key), get(t, s, key+"x"); before != "before" || during != "during" {
			t.Errorf("after the crash: %q, %q", before, during)
		}
	}
}

func TestADatabaseThatStaysAwayFailsWorkInOneSentence(t *testing.T) {
	cut := newRelay(t, pgtest.New(t))
	s := mustOpen(t, Config{URL: cut.url, Patience: time.Millisecond})
	defer s.Close()
	cut.close()
	read := func(r store.Reader) error { _, _, err := r.Get("b", "k"); return err }
	for _, err := range []error{
		s.Update(context.Background(), func(tx store.Tx) error { return read(tx) }), put(s, "k", "v"),
		s.View(context.Background(), read),
	} {
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "can't be reached") || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), pgtest.Password) {
			t.Errorf("the error is %v", err)
		}
	}
}

// Whether a commit was made whose connection was lost is found out, however
// long it takes; only a Close ends the waiting, and says that it is not known.
func TestACommitOfUnknownOutcomeIsWaitedFor(t *testing.T) {
	cut := newRelay(t, pgtest.New(t))
	s := mustOpen(t, Config{URL: cut.url, Patience: time.Millisecond})
	if err := put(s, "k", "before"); err != nil {
		t.Fatal(err)
	}
	cut.close()
	wrote, entered := make(chan error), make(chan struct{})
	go func() {
		wrote <- s.Update(context.Background(), func(tx store.Tx) error { close(entered); return tx.Put("b", "k", nil) })
	}()
	<-entered // what comes now is not in its batch
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err := s.Update(ctx, func(tx store.Tx) error { return nil })
		cancel()
		if errors.Is(err, ErrUnavailable) {
			break // others are not kept waiting
		}
		if time.Now().After(end) {
			t.Fatalf("the error is %v", err)
		}
	}
	select {
	case err := <-wrote:
		t.Fatalf("it was told %v", err)
	default:
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-wrote; !errors.Is(err, ErrUnknown) {
		t.Errorf("the error is %v", err)
	}
}

func TestNoErrorHasThePassword(t *testing.T) {
	right := pgtest.New(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	const secret = "s3cr/t"
	for text, want := range map[string]string{
		strings.Replace(right, pgtest.Password, "s3cr%2Ft", 1):          "check the user and the password",
		strings.Replace(right, "/test", "/nothere", 1):                  "is not there: make it with createdb",
		"postgres://u:s3cr%2Ft@" + l.Addr().String() + "/x":             "can't be reached",
		"postgres://u:" + secret + "@127.0.0.1/x":                       "can't be read",
		"postgres://u:s3cr%2Ft@127.0.0.1:x" + "/x":                      "can't be read",
		"postgres://u:s3cr%2Ft@127.0.0.1/":                              "names no database",
		"mysql://u:s3cr%2Ft@127.0.0.1/":                                 "it is no postgres://",
		"postgres://u:s3cr%2Ft@127.0.0.1/x?sslmode=" + secret:           "can't be read",
		"postgres://u:s3cr%2Ft@127.0.0.1/x?sslmode=disable&port=" + "y": "can't be read",
	} {
		s, err := Open(context.Background(), Config{URL: text})
		if err == nil {
			t.Errorf("%s was opened", text)
			s.Close()
			continue
		}
		for _, hidden := range []string{secret, "s3cr", pgtest.Password} {
			if strings.Contains(err.Error(), hidden) {
				t.Errorf("the password is in: %v", err)
			}
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestAPasswordMayComeBesideTheURL(t *testing.T) {
	text := pgtest.New(t)
	if !HasPassword(text) {
		t.Error("it has one")
	}
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(u.User.Username())
	if HasPassword(u.String()) {
		t.Error("it has none")
	}
	s := mustOpen(t, Config{URL: u.String(), Password: pgtest.Password})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// relay stands between a store and its database on TCP, and can be cut.
type relay struct {
	url string
	l   net.Listener

	mu    sync.Mutex
	cond  *sync.Cond
	still bool // nothing passes
	conns []net.Conn
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	socket := u.Query().Get("host") + "/.s.PGSQL.5432"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{l: l}
	r.cond = sync.NewCond(&r.mu)
	u.Host, u.RawQuery = l.Addr().String(), "sslmode=disable"
	r.url = u.String()
	var conns sync.WaitGroup
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("unix", socket)
			if err != nil {
				c.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, c, d)
			r.mu.Unlock()
			conns.Go(func() { r.pass(c, d) })
			conns.Go(func() { r.pass(d, c) })
		}
	}()
	t.Cleanup(func() {
		r.close()
		r.start()
		conns.Wait()
	})
	return r
}

func (r *relay) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		r.mu.Lock()
		for r.still {
			r.cond.Wait()
		}
		r.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// stop lets nothing pass, start lets all pass again, and close ends it.
func (r *relay) stop()  { r.mu.Lock(); r.still = true; r.mu.Unlock() }
func (r *relay) start() { r.mu.Lock(); r.still = false; r.mu.Unlock(); r.cond.Broadcast() }
func (r *relay) close() {
	r.l.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.Close()
	}
}
