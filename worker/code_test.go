package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hearth-faas/hearth"
)

// fakePackages serves archives whose text is their name, and counts.
type fakePackages struct {
	dir   string
	opens atomic.Int64
	fail  atomic.Bool
}

func (p *fakePackages) OpenPackage(_ context.Context, sha string) (io.ReadSeekCloser, int64, error) {
	p.opens.Add(1)
	if p.fail.Load() {
		return nil, 0, errors.New("the store is away")
	}
	path := filepath.Join(p.dir, sha)
	if err := os.WriteFile(path, []byte(sha), 0o600); err != nil {
		return nil, 0, err
	}
	f, err := os.Open(path)
	return f, int64(len(sha)), err
}

// unpackText makes a directory with one file of the archive's text.
func unpackText(_ context.Context, r io.ReaderAt, size int64, dir string) error {
	text := make([]byte, size)
	if _, err := r.ReadAt(text, 0); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "file"), text, 0o644)
}

func newTestCache(t *testing.T, capBytes int64) (*codeCache, *fakePackages) {
	t.Helper()
	p := &fakePackages{dir: t.TempDir()}
	c, err := newCodeCache(filepath.Join(t.TempDir(), "code"), capBytes, p, unpackText)
	if err != nil {
		t.Fatal(err)
	}
	return c, p
}

func pkg(n int) hearth.Package {
	return hearth.Package{SHA256: fmt.Sprintf("%064x", n), Size: 10, Unpacked: 1 << 20}
}

func TestEqualRequestsAtOnceUnpackOnce(t *testing.T) {
	c, p := newTestCache(t, 1<<30)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			dir, release, err := c.Acquire(context.Background(), pkg(1))
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			text, err := os.ReadFile(filepath.Join(dir, "file"))
			if err != nil || string(text) != pkg(1).SHA256 {
				t.Errorf("the directory holds %q, %v", text, err)
			}
		})
	}
	wg.Wait()
	if n := p.opens.Load(); n != 1 {
		t.Errorf("the archive was opened %d times", n)
	}
}

func TestCodeInUseIsNeverRemoved(t *testing.T) {
	c, _ := newTestCache(t, 5<<19) // two packages and a half
	dir, release, err := c.Acquire(context.Background(), pkg(0))
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n < 10; n++ {
		_, r, err := c.Acquire(context.Background(), pkg(n))
		if err != nil {
			t.Fatal(err)
		}
		r()
	}
	if _, err := os.Stat(filepath.Join(dir, "file")); err != nil {
		t.Error(err)
	}
	if used := c.Used(); used > 5<<19 {
		t.Errorf("%d bytes kept of 2.5 MiB", used)
	}
	release()
	left, err := os.ReadDir(c.dir)
	if err != nil || len(left) != 2 {
		t.Errorf("%d directories left, %v", len(left), err)
	}
}

func TestFailedFetchIsTriedAgainByTheNext(t *testing.T) {
	c, p := newTestCache(t, 1<<30)
	p.fail.Store(true)
	if _, _, err := c.Acquire(context.Background(), pkg(1)); err == nil || !strings.Contains(err.Error(), "away") {
		t.Fatalf("got %v", err)
	}
	p.fail.Store(false)
	_, release, err := c.Acquire(context.Background(), pkg(1))
	if err != nil {
		t.Fatal(err)
	}
	release()
}

func TestRestartTakesOverWholePackagesAndRemovesHalfOnes(t *testing.T) {
	c, p := newTestCache(t, 1<<30)
	_, release, err := c.Acquire(context.Background(), pkg(1))
	if err != nil {
		t.Fatal(err)
	}
	release()
	half := filepath.Join(c.dir, ".unpack-123")
	if err := os.MkdirAll(half, 0o755); err != nil {
		t.Fatal(err)
	}
	again, err := newCodeCache(c.dir, 1<<30, p, unpackText)
	if err != nil {
		t.Fatal(err)
	}
	if _, release, err = again.Acquire(context.Background(), pkg(1)); err != nil {
		t.Fatal(err)
	}
	release()
	if n := p.opens.Load(); n != 1 {
		t.Errorf("the archive was opened %d times", n)
	}
	if _, err := os.Stat(half); !os.IsNotExist(err) {
		t.Errorf("the half-made directory: %v", err)
	}
}
