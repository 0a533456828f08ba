package market

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/clock"
)

// heard is what a feed told.
type heard struct {
	mu  sync.Mutex
	all []State
}

func (h *heard) changed(s State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, s)
}

// take returns what was told since the last time.
func (h *heard) take() []State {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.all
	h.all = nil
	return all
}

func newFeed(t *testing.T, source string) (*Feed, *heard, *clock.Fake) {
	t.Helper()
	h, clk := &heard{}, clock.NewFake(start)
	f, err := NewFeed(FeedConfig{Source: source, Every: time.Second, Stale: 10 * time.Second, Clock: clk, Changed: h.changed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, h, clk
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestABadFeedChangesNothingUntilWhatItSaidIsStale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prices.json")
	write(t, path, `{"price": 2}`)
	f, h, clk := newFeed(t, path)
	if got := h.take(); len(got) != 1 || !got[0].Fresh || got[0].Price != 2 || got[0].AvailableMiB != -1 {
		t.Fatalf("at first %+v", got)
	}
	clk.Advance(5 * time.Second)
	if got := h.take(); len(got) != 0 {
		t.Errorf("the same was told again: %+v", got)
	}
	write(t, path, `{"price": 3, "avail`) // written half
	clk.Advance(10 * time.Second)
	if s := f.State(); !s.Fresh || s.Price != 2 || s.Why == "" {
		t.Errorf("with a bad feed %+v", s)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	clk.Advance(2 * time.Second)
	s := f.State()
	if !s.Known || s.Fresh || s.Price != 2 {
		t.Errorf("stale: %+v", s)
	}
	if ok, _ := s.Suits(0); ok || s.Withdrawn(1) {
		t.Error("a stale price starts or ends something")
	}
	h.take()
	write(t, path, `{"price": 1, "availableMiB": 512}`)
	clk.Advance(time.Second)
	if got := h.take(); len(got) != 1 || !got[0].Fresh || got[0].Price != 1 || got[0].AvailableMiB != 512 || got[0].Why != "" {
		t.Errorf("in the end %+v", got)
	}
}

func TestAQuoteThatNamesItsTimeGetsStaleThoughItIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prices.json")
	write(t, path, `{"price": 2, "at": "2026-01-01T00:00:00Z"}`)
	f, _, clk := newFeed(t, path)
	clk.Advance(10 * time.Second)
	if s := f.State(); !s.Fresh {
		t.Errorf("%+v", s)
	}
	clk.Advance(2 * time.Second)
	if s := f.State(); s.Fresh || !strings.Contains(s.Why, "ago") {
		t.Errorf("%+v", s)
	}
}

func TestAFeedThatIsNotThereYetIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prices.json")
	f, _, clk := newFeed(t, path)
	if s := f.State(); s.Known || s.Why == "" {
		t.Errorf("%+v", s)
	}
	write(t, path, `{"price": 2}`)
	clk.Advance(time.Second)
	if s := f.State(); !s.Fresh || s.Price != 2 {
		t.Errorf("%+v", s)
	}
}

func TestAFeedCanBeAURL(t *testing.T) {
	var mu sync.Mutex
	answer, status := `{"price": 7}`, http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.WriteHeader(status)
		_, _ = w.Write([]byte(answer))
	}))
	defer s.Close()
	f, _, clk := newFeed(t, s.URL+"/price")
	if got := f.State(); !got.Fresh || got.Price != 7 {
		t.Errorf("%+v", got)
	}
	mu.Lock()
	status = http.StatusBadGateway
	mu.Unlock()
	clk.Advance(time.Second)
	if got := f.State(); got.Price != 7 || !strings.Contains(got.Why, "502") {
		t.Errorf("%+v", got)
	}
	mu.Lock()
	status, answer = http.StatusOK, strings.Repeat(" ", MaxQuote)+`{"price": 1}`
	mu.Unlock()
	clk.Advance(time.Second)
	if got := f.State(); got.Price != 7 || !strings.Contains(got.Why, "longer") {
		t.Errorf("%+v", got)
	}
}

func TestWhatIsNoSourceIsRefused(t *testing.T) {
	for _, source := range []string{"", "prices.json", "ftp://x/y", "http://"} {
		if CheckSource(source) == nil {
			t.Errorf("%q was taken", source)
		}
	}
}
