package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
)

// texts are the archives of the packages of all tests, by SHA-256.
var texts sync.Map

// packageOf is a package whose archive is a text.
func packageOf(text string) hearth.Package {
	sum := sha256.Sum256([]byte(text))
	p := hearth.Package{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(text)), Unpacked: 1 << 20}
	texts.Store(p.SHA256, text)
	return p
}

// archived is the text of a package's archive.
func archived(p hearth.Package) string {
	text, _ := texts.Load(p.SHA256)
	s, _ := text.(string)
	return s
}

// fakePackages serves those, and counts.
type fakePackages struct {
	opens atomic.Int64
	fail  atomic.Bool
	// spoil has the n-th opening, from 1, serve something else; nil has none.
	spoil func(n int64, text string) string
}

// blob is an archive that is read.
type blob struct{ *strings.Reader }

func (blob) Close() error { return nil }

func (p *fakePackages) OpenPackage(_ context.Context, sha string) (io.ReadSeekCloser, int64, error) {
	n := p.opens.Add(1)
	if p.fail.Load() {
		return nil, 0, errors.New("the store is away")
	}
	text := archived(hearth.Package{SHA256: sha})
	if p.spoil != nil {
		text = p.spoil(n, text)
	}
	return blob{strings.NewReader(text)}, int64(len(text)), nil
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
	p := &fakePackages{}
	c, err := newCodeCache(filepath.Join(t.TempDir(), "code"), capBytes, fetches(p), unpackText)
	if err != nil {
		t.Fatal(err)
	}
	return c, p
}

func pkg(n int) hearth.Package { return packageOf(fmt.Sprint("package ", n)) }

// fetches fetches from p, and does not wait long for another try.
func fetches(p Packages) *fetching {
	c := clock.System()
	return &fetching{packages: p, clock: c, link: link{clock: c}, tries: fetchTries, again: time.Microsecond}
}

func TestEqualRequestsAtOnceUnpackOnce(t *testing.T) {
	c, p := newTestCache(t, 1<<30)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			dir, release, err := c.Acquire(context.Background(), nil, pkg(1))
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			text, err := os.ReadFile(filepath.Join(dir, "file"))
			if err != nil || string(text) != archived(pkg(1)) {
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
	dir, release, err := c.Acquire(context.Background(), nil, pkg(0))
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n < 10; n++ {
		_, r, err := c.Acquire(context.Background(), nil, pkg(n))
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
	if _, _, err := c.Acquire(context.Background(), nil, pkg(1)); err == nil || !strings.Contains(err.Error(), "away") {
		t.Fatalf("got %v", err)
	}
	p.fail.Store(false)
	_, release, err := c.Acquire(context.Background(), nil, pkg(1))
	if err != nil {
		t.Fatal(err)
	}
	release()
}

func TestRestartTakesOverWholePackagesAndRemovesHalfOnes(t *testing.T) {
	c, p := newTestCache(t, 1<<30)
	_, release, err := c.Acquire(context.Background(), nil, pkg(1))
	if err != nil {
		t.Fatal(err)
	}
	release()
	half := filepath.Join(c.dir, ".unpack-123")
	if err := os.MkdirAll(half, 0o755); err != nil {
		t.Fatal(err)
	}
	again, err := newCodeCache(c.dir, 1<<30, fetches(p), unpackText)
	if err != nil {
		t.Fatal(err)
	}
	if _, release, err = again.Acquire(context.Background(), nil, pkg(1)); err != nil {
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
