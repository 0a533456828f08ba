package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/storetest"
)

func TestSQLiteIsAStore(t *testing.T) {
	storetest.Records(t, func(t *testing.T) func() store.Store {
		dir := t.TempDir()
		return func() store.Store { return mustOpen(t, dir, "") }
	})
}

func mustOpen(t testing.TB, dir, pragmas string) *Store {
	t.Helper()
	s, err := open(context.Background(), dir, pragmas)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestADatabaseOfANewerVersionIsRefusedAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, "")
	if _, err := s.w.conn.ExecContext(context.Background(), `UPDATE schema_version SET version = 99`); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, Name))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), dir)
	newer, ok := errors.AsType[*NewerError](err)
	if !ok || newer.Found != 99 || !strings.Contains(err.Error(), "newer version of Hearth") {
		t.Fatalf("the error is %v", err)
	}
	after, err := os.ReadFile(filepath.Join(dir, Name))
	if err != nil || string(after) != string(before) {
		t.Errorf("the database was changed (%v)", err)
	}
}

func TestAFileThatIsNoDatabaseIsRefusedInOneSentence(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, Name), []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), dir); err == nil || !strings.Contains(err.Error(), "is damaged: restore it from a backup") {
		t.Errorf("the error is %v", err)
	}
}

func TestTheDatabaseIsReadableByItsOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, "")
	defer s.Close()
	if err := s.Update(context.Background(), func(tx store.Tx) error { return tx.Put("b", "k", nil) }); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{Name, Name + "-wal", Name + "-shm"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}

func TestTheDatabaseSyncsEveryCommit(t *testing.T) {
	s := mustOpen(t, t.TempDir(), "")
	defer s.Close()
	var mode, synchronous string
	ctx := context.Background()
	err := errors.Join(s.w.conn.QueryRowContext(ctx, `PRAGMA journal_mode`).Scan(&mode), s.w.conn.QueryRowContext(ctx, `PRAGMA synchronous`).Scan(&synchronous))
	if mode != "wal" || synchronous != "2" || err != nil {
		t.Errorf("journal_mode %s, synchronous %s, %v", mode, synchronous, err)
	}
}

// A write that fills the database fails in one sentence, its neighbours in
// the same batch succeed, and once there is space all works again.
func TestAFullDatabaseFailsOnlyWhoFillsIt(t *testing.T) {
	s := mustOpen(t, t.TempDir(), "&_pragma=max_page_count(40)")
	defer s.Close()
	ctx := context.Background()
	var wg sync.WaitGroup
	var mu sync.Mutex
	full, fine := 0, 0
	for i := range 40 {
		wg.Go(func() {
			size := 10
			if i%4 == 0 {
				size = 1 << 20
			}
			err := s.Update(ctx, func(tx store.Tx) error { return tx.Put("b", fmt.Sprint(i), make([]byte, size)) })
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && size == 10:
				fine++
			case size > 10 && errors.Is(err, store.ErrFull) && strings.HasSuffix(err.Error(), "free some space and try again"):
				full++
			default:
				t.Errorf("%d bytes: %v", size, err)
			}
		})
	}
	wg.Wait()
	if full != 10 || fine != 30 {
		t.Errorf("%d full, %d fine", full, fine)
	}
	// An error that the function swallowed is not committed over.
	err := s.Update(ctx, func(tx store.Tx) error {
		_ = tx.Put("b", "big", make([]byte, 1<<20))
		return nil
	})
	if !errors.Is(err, store.ErrFull) {
		t.Errorf("a swallowed failure was acknowledged: %v", err)
	}
	if err := s.Update(ctx, func(tx store.Tx) error { return tx.Put("b", "small", nil) }); err != nil {
		t.Error(err)
	}
}

func TestConcurrentUpdatesShareCommits(t *testing.T) {
	s := mustOpen(t, t.TempDir(), "")
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
	var mu sync.Mutex
	var running, most int
	for i := range n {
		wg.Go(func() {
			err := s.Update(context.Background(), func(tx store.Tx) error {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				return tx.Put("b", fmt.Sprint(i), nil)
			})
			mu.Lock()
			running--
			mu.Unlock()
			if err != nil {
				t.Error(err)
			}
		})
	}
	for len(s.w.queue) < n {
		runtime.Gosched()
	}
	close(gate)
	wg.Wait()
	if most != n {
		t.Errorf("at most %d of %d Updates were between their function and their acknowledgement", most, n)
	}
}

const crashDir = "HEARTH_TEST_CRASH_DIR"

// TestMain is also the process that TestWhatWasAcknowledgedSurvivesAKill
// kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func writeUntilKilled(dir string) error {
	s, err := Open(context.Background(), dir)
	if err != nil {
		return err
	}
	errs := make(chan error)
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				if err := s.Update(context.Background(), func(tx store.Tx) error {
					return errors.Join(tx.Put("b", key, []byte(key)), tx.Put("twin", key, []byte(key)))
				}); err != nil {
					errs <- err
				}
				if _, err := fmt.Println(key); err != nil { // one write(2) each
					errs <- err
				}
			}
		}()
	}
	return <-errs
}

func TestWhatWasAcknowledgedSurvivesAKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = []string{crashDir + "=" + dir}
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			acknowledged[lines.Text()] = true
			if n == 200 {
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("the writer was not killed: %v", err)
		}
	}
	s := mustOpen(t, dir, "")
	defer s.Close()
	if err := s.View(context.Background(), func(r store.Reader) error {
		for key := range acknowledged {
			if v, _, err := r.Get("b", key); string(v) != key || err != nil {
				t.Errorf("%s: %q %v", key, v, err)
			}
		}
		for rec, err := range r.Scan("b", "", "") {
			v, ok, err2 := r.Get("twin", rec.Key)
			if !ok || string(v) != rec.Key || err != nil || err2 != nil {
				t.Errorf("half of a transaction: %s (%v, %v)", rec.Key, err, err2)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(acknowledged) < 600 {
		t.Errorf("only %d writes", len(acknowledged))
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, callers := range []int{1, 32} {
		b.Run(fmt.Sprint(callers, "callers"), func(b *testing.B) {
			s := mustOpen(b, b.TempDir(), "")
			defer s.Close()
			value := make([]byte, 1024)
			b.SetParallelism(callers)
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if err := s.Update(context.Background(), func(tx store.Tx) error { return tx.Put("b", fmt.Sprint(i%1000), value) }); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
