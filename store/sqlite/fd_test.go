package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth/store"
)

func TestACloseLeavesNoFileOpen(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, "")
	ctx := context.Background()
	for _, fn := range []func(store.Tx) error{
		func(tx store.Tx) error { return tx.Put("b", "k", nil) },
		func(tx store.Tx) error { return context.Canceled },
	} {
		_ = s.Update(ctx, fn)
	}
	if err := s.View(ctx, func(r store.Reader) error {
		for range r.Scan("b", "", "") {
			break
		}
		_, _, err := r.Get("b", "k")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		// A descriptor may be gone by now; what matters is those in dir.
		if name, err := os.Readlink(fd); err == nil && strings.HasPrefix(name, dir) {
			t.Errorf("%s is open", name)
		}
	}
	left, err := os.ReadDir(dir)
	if len(left) != 1 || err != nil {
		t.Errorf("left: %v %v", left, err)
	}
}
