package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// The acceptance scenario of pre-triggers: a site gives the notice page_open
// with its token, and 0 to 6 calls of Y, whose start is slow, follow it a moment
// later. Idle containers do not live from one crowd to the next. The control run
// is the same calls of a function whose policy does not heed triggers, at the
// same time.

const (
	s15Init   = 500 * time.Millisecond
	s15Busy   = 200 * time.Millisecond  // of one call
	s15Soon   = 2000 * time.Millisecond // after an open
	s15Spread = 800 * time.Millisecond  // of the calls after one open
	s15Train  = 40
	s15Crowd  = 12
)

// site is what opens pages.
type site struct {
	s      *server
	notice string // the URL
	random *rand.Rand
	calls  sync.WaitGroup
}

// open gives the notice; it returns the status.
func (w *site) open() int {
	resp, err := http.Post(w.notice, "text/plain", nil)
	if err != nil {
		w.s.t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // only the status counts
	return resp.StatusCode
}

// visit opens a page, and calls as often as somebody does who has.
func (w *site) visit() (calls int) {
	if code := w.open(); code != http.StatusOK {
		w.s.t.Errorf("the notice is answered with %d", code)
	}
	n := w.random.IntN(7)
	for range n {
		after := s15Soon + time.Duration(w.random.Int64N(int64(s15Spread)))
		for _, f := range []string{"Y", "Y-off"} {
			w.calls.Go(func() {
				time.Sleep(after)
				w.s.chain(f, chained{DelayMs: int(s15Busy.Milliseconds())}, "")
			})
		}
	}
	return n
}

func TestS15PreTriggers(t *testing.T) {
	t.Parallel()
	s := start(t, "--idle-min", "250ms", "--idle-max", "300ms", "--idle-ahead=false")
	s.deployChain(s15Init, "Y", "Y-off", "Z")
	s.must("policy", "set", "preTrigger.windowSeconds=4")
	s.must("policy", "set", "Y-off", "preTrigger.mode=off")
	w := &site{s: s, random: rand.New(rand.NewPCG(15, 1))}
	w.notice = strings.TrimSpace(s.must("trigger", "add", "page_open", "--for", "Y", "--for", "Y-off"))
	w.notice = w.notice[strings.Index(w.notice, "http"):]

	for range s15Train {
		w.visit()
		time.Sleep(150 * time.Millisecond)
	}
	w.calls.Wait()
	time.Sleep(4500 * time.Millisecond) // until all that can follow has, and nothing is left
	const rounds = 3                    // at most: a machine that does something else meanwhile decides one
	var wrong []string
	for round := range rounds {
		if wrong = s15Wrong(t, s, w); len(wrong) == 0 || t.Failed() {
			break
		}
		t.Logf("round %d: %s", round, strings.Join(wrong, "; "))
	}
	for _, one := range wrong {
		t.Error(one)
	}

	s15InVain(t, s, w)
	s15Hinted(t, s)
	s15Lost(t, s, w)
}

// s15Wrong has a crowd of visitors, and returns what was not as it should be.
func s15Wrong(t *testing.T, s *server, w *site) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	learned := s.last()
	calls := 0
	for range s15Crowd {
		calls += w.visit()
		time.Sleep(50 * time.Millisecond)
	}
	w.calls.Wait()
	await(t, patience, "what was made to be used or released", func() bool {
		y := s.startsOf("Y", learned)
		return y.foretold+y.wasted == y.made
	})
	time.Sleep(3 * time.Second) // and nothing is made any more
	on, off := s.startsOf("Y", learned), s.startsOf("Y-off", learned)
	t.Logf("%d calls: %d foretold, %d cold, median %v, p95 %v; %d made, %d wasted; control: %d cold, median %v, p95 %v",
		calls, on.foretold, on.cold, on.median(), p95(on.took), on.made, on.wasted, off.cold, off.median(), p95(off.took))
	figure(t, "cold starts", 100*float64(on.cold)/float64(max(on.n, 1)), "%", false)
	figure(t, "cold starts of the control", 100*float64(off.cold)/float64(max(off.n, 1)), "%", false)
	if on.n != calls || on.foretold+on.wasted != on.made {
		t.Errorf("of %d calls %d ran; of %d containers made, %d were used and %d released", calls, on.n, on.made, on.foretold, on.wasted)
	}
	if off.foretold != 0 {
		t.Errorf("%d were foretold without triggers", off.foretold)
	}
	if on.foretold == 0 || on.cold > calls/3 {
		say("of %d calls %d were foretold and %d cold", on.n, on.foretold, on.cold)
	}
	if on.cold*3 > off.cold*2 {
		say("%d cold starts with triggers, %d without", on.cold, off.cold)
	}
	if on.made > calls*3/2 {
		say("%d containers were made for %d calls", on.made, calls)
	}
	return wrong
}

func p95(sorted []time.Duration) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)*95/100]
}

// s15InVain opens pages that nobody follows up: after a while nothing is made
// ready any more, and beyond its quota the trigger is not heeded.
func s15InVain(t *testing.T, s *server, w *site) {
	t.Helper()
	for range 200 {
		w.open()
	}
	time.Sleep(5 * time.Second) // until it is known that nothing followed
	before := s.last()
	for range 5 {
		w.open()
	}
	time.Sleep(time.Second)
	if y := s.startsOf("Y", before); y.made != 0 {
		t.Errorf("after 200 opens in vain %d containers are made ready", y.made)
	}
	s.must("policy", "set", "preTrigger.windowSeconds=4", "preTrigger.perMinute=10")
	codes := map[int]int{}
	for range 15 {
		codes[w.open()]++
	}
	if codes[http.StatusTooManyRequests] < 4 || codes[http.StatusOK] > 11 {
		t.Errorf("of 15 opens with 10 a minute came %v", codes)
	}
	s.must("policy", "set", "preTrigger.windowSeconds=4")
	forged := &site{s: s, notice: strings.Replace(w.notice, "token=", "token=x", 1)}
	if code := forged.open(); code != http.StatusForbidden {
		t.Errorf("with another token: %d", code)
	}
}

// s15Hinted says outright that four calls are coming, of which three come.
func s15Hinted(t *testing.T, s *server) {
	t.Helper()
	before := s.last() // of Z, which was never called, so that no container of it is there
	s.must("hint", "Z", "--count", "4", "--in", "1s", "--for", "12s")
	await(t, patience, "four containers to be ready", func() bool { return s.startsOf("Z", before).made == 4 })
	var calls sync.WaitGroup
	for range 3 {
		calls.Go(func() { s.chain("Z", chained{DelayMs: 500}, "") })
	}
	calls.Wait()
	if z := s.startsOf("Z", before); z.foretold != 3 {
		t.Errorf("of three calls %d were foretold by the hint", z.foretold)
	}
	await(t, patience, "the fourth to be released", func() bool { return s.startsOf("Z", before).wasted == 1 })
}

// s15Lost has what was learned be lost: the server serves on, with nothing made
// ready, and learns anew.
func s15Lost(t *testing.T, s *server, w *site) {
	t.Helper()
	s.stop()
	ctx := context.Background()
	db, err := sqlite.Open(ctx, s.dir)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	err = db.View(ctx, func(r store.Reader) error {
		keys = nil
		for rec, err := range r.Scan("learned-triggers", "", "") {
			if err != nil {
				return err
			}
			keys = append(keys, rec.Key)
		}
		return nil
	})
	if err != nil || len(keys) != 1 {
		t.Errorf("what was learned: %v, %v", keys, err)
	}
	err = db.Update(ctx, func(tx store.Tx) error {
		for _, k := range keys {
			if err := tx.Delete("learned-triggers", k); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again := startIn(t, s.dir, "--idle-min", "250ms", "--idle-max", "300ms", "--idle-ahead=false")
	w.s, w.notice = again, again.endpoint+w.notice[strings.Index(w.notice, "/_hearth"):]
	again.chain("Y", chained{}, "")
	if code := w.open(); code != http.StatusOK {
		t.Errorf("the trigger is lost, too: %d", code)
	}
}
