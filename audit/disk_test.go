package audit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

// full is a disk that can be full.
type full struct {
	file
	is *atomic.Bool
}

func (f full) Write(b []byte) (int, error) {
	if f.is.Load() {
		n, _ := f.file.Write(b[:len(b)/2])
		return n, syscall.ENOSPC
	}
	return f.file.Write(b)
}

func (f full) allocate(offset, n int64) error {
	if f.is.Load() {
		return syscall.ENOSPC
	}
	return f.file.allocate(offset, n)
}

func TestAFullDiskRefusesChangesUntilThereIsRoom(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, testConfig(dir))
	var is atomic.Bool
	l.mu.Lock()
	l.open = func(path string) (file, error) {
		f, err := openFile(path)
		return full{f, &is}, err
	}
	l.mu.Unlock()
	record(t, l, "CreateFunction")
	is.Store(true)
	l.Note(change("GetFunction")) // finds it full
	eventually(t, "the log to fail", func() bool { return l.Stats().Failing != "" })
	_, err := l.Admit()
	if hearth.KindOf(err) != hearth.Service || !strings.Contains(err.Error(), "audit log") || !strings.Contains(err.Error(), "no space") {
		t.Fatalf("admitted with %v", err)
	}
	if v := mustVerify(t, dir, ""); len(v.Wrong) != 0 {
		t.Errorf("half a record was left: %v", v.Wrong)
	}
	is.Store(false)
	eventually(t, "changes to be let in", func() bool {
		p, err := l.Admit()
		return err == nil && p.Record(change("DeleteFunction")) == nil
	})
	// What was noted meanwhile was kept.
	if found, err := l.Find(Filter{Action: "lambda:GetFunction"}); err != nil || len(found) != 1 {
		t.Errorf("%v, %v", found, err)
	}
	if v := mustVerify(t, dir, ""); len(v.Wrong) != 0 {
		t.Errorf("%v", v.Wrong)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain for " + what)
		}
	}
}

// A real file system that is full: what was admitted can still be recorded.
func TestWhatWasAdmittedFitsOnADiskThatFillsUp(t *testing.T) {
	if os.Getuid() != 0 && os.Getenv("CI") == "" {
		t.Skip("mounting takes root; in CI this fails")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	l := mustOpen(t, testConfig(filepath.Join(dir, "audit")))
	record(t, l, "CreateFunction")
	var places []*Place
	for range 5 {
		p, err := l.Admit()
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, p)
	}
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	for _, p := range places {
		if err := p.Record(change("DeleteFunction")); err != nil {
			t.Fatal(err)
		}
	}
	for err = error(nil); err == nil; {
		var p *Place
		if p, err = l.Admit(); err == nil {
			if rerr := p.Record(change("CreateFunction")); rerr != nil {
				t.Fatalf("let in, and not recorded: %v", rerr)
			}
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if v := mustVerify(t, filepath.Join(dir, "audit"), ""); len(v.Wrong) != 0 {
		t.Errorf("%v", v.Wrong)
	}
}
