package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/internal/pgtest"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/storetest"
)

func TestPostgreSQLIsAStore(t *testing.T) {
	storetest.Records(t, func(t *testing.T) func() store.Store {
		url := pgtest.New(t)
		return func() store.Store { return mustOpen(t, Config{URL: url}) }
	})
}

func mustOpen(t testing.TB, cfg Config) *Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	cfg.Log = slog.New(slog.DiscardHandler)
	s, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestADatabaseOfANewerVersionIsRefusedAndLeftAlone(t *testing.T) {
	url := pgtest.New(t)
	if err := mustOpen(t, Config{URL: url}).Close(); err != nil {
		t.Fatal(err)
	}
	admin(t, url, `UPDATE hearth_schema SET version = 99`)
	_, err := Open(context.Background(), Config{URL: url})
	newer, ok := errors.AsType[*NewerError](err)
	if !ok || newer.Found != 99 || !strings.Contains(err.Error(), "newer version of Hearth") {
		t.Fatalf("the error is %v", err)
	}
	admin(t, url, `DO $$ BEGIN IF (SELECT version <> 99 FROM hearth_schema) OR (SELECT epoch <> 1 FROM hearth_server) THEN RAISE 'changed'; END IF; END $$`)
}

// A transaction that does not fit into memory is sent in parts, and is one all
// the same; so are its neighbours.
func TestALargeUpdateIsOneAsWell(t *testing.T) {
	s := mustOpen(t, Config{URL: pgtest.New(t)})
	defer s.Close()
	const n = 3*maxPending + 7
	boom := errors.New("boom")
	write := func(prefix string, fail error) error {
		return s.Update(context.Background(), func(tx store.Tx) error {
			for i := range n {
				if err := tx.Put(prefix, fmt.Sprintf("%06d", i), make([]byte, i%5)); err != nil {
					return err
				}
			}
			seen := 0
			for rec, err := range tx.Scan(prefix, "00", "") {
				if err != nil {
					return err
				}
				if rec.Key != fmt.Sprintf("%06d", seen) {
					return fmt.Errorf("record %d is %s", seen, rec.Key)
				}
				seen++
			}
			if seen != n {
				return fmt.Errorf("saw %d of %d", seen, n)
			}
			return fail
		})
	}
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			if err := write(fmt.Sprint("kept", i), nil); err != nil {
				t.Error(err)
			}
			if err := write(fmt.Sprint("gone", i), boom); err != boom {
				t.Errorf("the error is %v", err)
			}
		})
	}
	wg.Wait()
	for bucket, want := range map[string]int{"kept0": n, "kept1": n, "kept2": n, "gone0": 0, "gone1": 0, "gone2": 0} {
		count := 0
		if err := s.View(context.Background(), func(r store.Reader) error {
			for _, err := range r.Scan(bucket, "", "") {
				if err != nil {
					return err
				}
				count++
			}
			return nil
		}); err != nil || count != want {
			t.Errorf("%s has %d records, want %d (%v)", bucket, count, want, err)
		}
	}
	big := strings.Repeat("x", maxPendingBytes+1)
	if err := put(s, "big", big); err != nil || get(t, s, "big") != big {
		t.Errorf("a big record: %v", err)
	}
}

func TestPrefixEndIsTheNextText(t *testing.T) {
	for prefix, want := range map[string]string{
		"": "", "a": "b", "ab": "ac", "é": "ê", "a\U0010FFFF": "b", "\U0010FFFF": "", "\uD7FF": "\uE000", "a\x7f": "a\u0080",
	} {
		if got := prefixEnd(prefix); got != want {
			t.Errorf("after %q comes %q, not %q", prefix, got, want)
		}
	}
}

// Neither an ordinary user's default nor a configuration file may have commits
// acknowledged that are not on disk.
func TestACommitIsSyncedWhateverTheDefaultIs(t *testing.T) {
	url := pgtest.New(t)
	admin(t, url, `DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = off'; END $$`)
	s := mustOpen(t, Config{URL: url})
	defer s.Close()
	var mode string
	if err := s.w.conn.QueryRow(context.Background(), `SELECT current_setting('synchronous_commit')`).Scan(&mode); err != nil || mode != "on" {
		t.Errorf("synchronous_commit is %s (%v)", mode, err)
	}
}

func TestConcurrentUpdatesShareCommits(t *testing.T) {
	url := pgtest.New(t)
	s := mustOpen(t, Config{URL: url})
	defer s.Close()
	// Hold the writer in one Update until all others have queued up.
	gate, entered := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Update(context.Background(), func(store.Tx) error { close(entered); <-gate; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-entered
	const n = 50
	for i := range n {
		wg.Go(func() {
			if err := put(s, fmt.Sprint(i), "v"); err != nil {
				t.Error(err)
			}
		})
	}
	for end := time.Now().Add(time.Minute); len(s.w.queue) < n && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	close(gate)
	wg.Wait()
	admin(t, url, `DO $$ BEGIN IF (SELECT batch <> 2 FROM hearth_server) THEN RAISE 'not in two batches'; END IF; END $$`)
}
