package worker

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-faas/hearth"
)

// fetchOnce fetches a package of that text from p, and returns what was told
// of it, and what is left in the folder when it has come.
func fetchOnce(t *testing.T, p *fakePackages, text string) (told []Fetched, dir string, err error) {
	t.Helper()
	c, _ := newTestCache(t, 1<<30)
	c.fetching = fetches(p)
	c.fetching.told = func(n Fetched) { told = append(told, n) }
	dir, release, err := c.Acquire(context.Background(), nil, packageOf(text))
	if err == nil {
		t.Cleanup(release)
	}
	left, _ := filepath.Glob(filepath.Join(c.dir, ".part-*"))
	for range 1000 { // it is removed in a moment, when the code is there already
		if len(left) == 0 {
			break
		}
		time.Sleep(time.Millisecond)
		left, _ = filepath.Glob(filepath.Join(c.dir, ".part-*"))
	}
	if len(left) > 0 {
		t.Errorf("what was transferred is still there: %q", left)
	}
	return told, dir, err
}

func TestATransferThatBreaksOffIsTakenUpWhereItEnded(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 80_000) // five chunks
	p := &fakePackages{spoil: func(n int64, text string) string {
		if n < 3 {
			return text[:len(text)*int(n)/3]
		}
		return text
	}}
	told, dir, err := fetchOnce(t, p, text)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != text {
		t.Errorf("%d bytes came, %v", len(got), err)
	}
	if len(told) != 3 || told[0].Bytes != int64(len(text)/3) || told[1].Bytes != int64(len(text)*2/3) || told[0].Again == 0 || told[2].Err != nil {
		t.Errorf("told: %+v", told)
	}
}

func TestWhatHasAnotherSHA256IsFetchedAnewAndNeverUnpacked(t *testing.T) {
	p := &fakePackages{spoil: func(n int64, text string) string {
		if n == 1 {
			return strings.ToUpper(text)
		}
		return text
	}}
	told, dir, err := fetchOnce(t, p, "a package")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != "a package" {
		t.Errorf("unpacked: %q, %v", got, err)
	}
	if len(told) != 2 || !errors.Is(told[0].Err, errCorrupt) {
		t.Errorf("told: %+v", told)
	}
}

func TestAPackageThatStaysBrokenIsGivenUpWithItsReason(t *testing.T) {
	for reason, spoil := range map[string]func(int64, string) string{
		"it ends after 4 of 9 bytes": func(_ int64, text string) string { return text[:4] },
		"its SHA-256 is another":     func(_ int64, text string) string { return text + "!" },
	} {
		told, _, err := fetchOnce(t, &fakePackages{spoil: spoil}, "a package")
		want := "The code package could not be fetched in 5 tries: " + reason + "."
		if e, ok := errors.AsType[*hearth.Error](err); !ok || e.Message != want || e.Kind != hearth.Service {
			t.Errorf("got %v, want %s", err, want)
		}
		if len(told) != fetchTries || told[4].Again != 0 {
			t.Errorf("told: %+v", told)
		}
	}
}

func TestAPackageThatIsNotThereIsNotAskedForAgain(t *testing.T) {
	c, p := newTestCache(t, 1<<30)
	c.fetching.packages = missing{p}
	_, _, err := c.Acquire(context.Background(), nil, pkg(1))
	if hearth.KindOf(err) != hearth.NotFound || p.opens.Load() != 1 {
		t.Errorf("asked %d times: %v", p.opens.Load(), err)
	}
}

type missing struct{ *fakePackages }

func (m missing) OpenPackage(context.Context, string) (io.ReadSeekCloser, int64, error) {
	m.opens.Add(1)
	return nil, 0, hearth.Errorf(hearth.NotFound, "no such package")
}

func TestTheLinkPassesNoMoreThanItsRateWhoeverFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newTestCache(t, 1<<30)
		c.fetching = fetches(p)
		c.fetching.link.perSecond = 1 << 20
		began, text := time.Now(), strings.Repeat("x", 1<<20)
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				_, release, err := c.Acquire(context.Background(), nil, packageOf(text+string(rune('a'+i))))
				if err != nil {
					t.Error(err)
					return
				}
				release()
			})
		}
		all.Wait()
		if took := time.Since(began); took < 4*time.Second || took > 4100*time.Millisecond {
			t.Errorf("4 MiB at 1 MiB/s took %v", took)
		}
		synctest.Wait()
	})
}
