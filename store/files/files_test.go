package files

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/storetest"
)

func TestFilesAreBlobs(t *testing.T) {
	storetest.Blobs(t, func(t *testing.T) func() store.Blobs {
		root := filepath.Join(t.TempDir(), "blobs")
		return func() store.Blobs { return mustOpen(t, root) }
	})
}

func mustOpen(t testing.TB, root string) *Dir {
	t.Helper()
	d, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWhatACrashLeftHalfWrittenIsSwept(t *testing.T) {
	root := t.TempDir()
	mustOpen(t, root)
	half := filepath.Join(root, incoming, "half")
	if err := os.WriteFile(half, []byte("ha"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, root)
	if _, err := os.Stat(half); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}

func TestARefusedPutLeavesNoFile(t *testing.T) {
	root := t.TempDir()
	d := mustOpen(t, root)
	if err := d.Put(context.Background(), strings.Repeat("0", 64), strings.NewReader("x")); err == nil {
		t.Fatal("it was taken")
	}
	for _, dir := range []string{incoming, sums} {
		if left, err := os.ReadDir(filepath.Join(root, dir)); len(left) != 0 || err != nil {
			t.Errorf("%s: %v %v", dir, left, err)
		}
	}
}
