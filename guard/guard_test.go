package guard

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func TestGuessingIsHeldOffLongerEachTime(t *testing.T) {
	var g Guard
	now := start
	tries := 0
	for end := start.Add(time.Hour); now.Before(end); now = now.Add(100 * time.Millisecond) {
		if g.Allow("192.0.2.1:5", "AKIA1", now) == nil {
			g.Tried("192.0.2.1:6", "AKIA1", false, now)
			tries++
		}
	}
	if tries < free || tries > free+25 {
		t.Errorf("%d tries in an hour", tries)
	}
}

// Whatever is tried elsewhere, the right key from an address that did nothing
// wrong is let in; and what is kept is bounded.
func TestNobodyIsLockedOutFromAnotherAddress(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var g Guard
		now := start
		for range rapid.IntRange(0, 300).Draw(rt, "tries") {
			from := fmt.Sprintf("192.0.2.%d:9", rapid.IntRange(1, 3).Draw(rt, "from"))
			key := fmt.Sprintf("K%d", rapid.IntRange(1, 3).Draw(rt, "key"))
			g.Tried(from, key, false, now)
			now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(rt, "ms")) * time.Millisecond)
			if err := g.Allow("198.51.100.7:1", key, now); err != nil {
				rt.Fatal(err)
			}
		}
	})
	var g Guard
	for i := range 3 * maxEntries {
		g.Tried(fmt.Sprintf("10.%d.%d.%d:1", i>>16&255, i>>8&255, i&255), "K", false, start)
	}
	if n := g.Stats().Kept; n > maxEntries+2 {
		t.Errorf("%d are kept", n)
	}
}

type recorded []hearth.Decision

func (r *recorded) Record(d *hearth.Decision) { *r = append(*r, *d) }

func TestARightTryClearsThePairAndAHoldOffLeavesADecision(t *testing.T) {
	var told recorded
	g := Guard{Recorder: &told}
	for range free {
		g.Tried("192.0.2.1:5", "AKIA1", false, start)
	}
	g.Tried("192.0.2.1:5", "AKIA1", true, start)
	for range free {
		g.Tried("192.0.2.1:5", "AKIA1", false, start)
	}
	if err := g.Allow("192.0.2.1:5", "AKIA1", start); err != nil {
		t.Fatal(err)
	}
	g.Tried("192.0.2.1:5", "AKIA1", false, start)
	err := g.Allow("192.0.2.1:7", "AKIA1", start)
	if hearth.KindOf(err) != hearth.TooManyRequests {
		t.Fatal(err)
	}
	if len(told) != 1 {
		t.Errorf("%d decisions", len(told))
	}
	if err := g.Allow("192.0.2.1:5", "AKIA1", start.Add(2*time.Second)); err != nil {
		t.Errorf("after the hold-off: %v", err)
	}
}

// Who takes another key with each try is held off by its address.
func TestManyKeysFromOneAddressAreHeldOff(t *testing.T) {
	var g Guard
	for i := range free*perSource + 1 {
		g.Tried("[2001:db8:1:2::1]:5", fmt.Sprint("K", i), false, start)
	}
	if g.Allow("[2001:db8:1:2:ffff::9]:5", "K", start) == nil {
		t.Error("another address of the same /64 is let in")
	}
	if err := g.Allow("[2001:db8:1:3::1]:5", "K", start); err != nil {
		t.Error(err)
	}
}

func TestASignatureIsGoodOnceButForARetryOfItsClient(t *testing.T) {
	var s Seen
	fresh := func(signature, source string, after time.Duration) bool {
		return s.Fresh(signature, source, start.Add(after)) == nil
	}
	if !fresh("a", "192.0.2.1", 0) || !fresh("a", "192.0.2.1", time.Second) || !fresh("b", "192.0.2.1", 0) {
		t.Error("a client's own retry is refused")
	}
	if fresh("a", "192.0.2.2", time.Second) || fresh("a", "192.0.2.1", time.Minute) || fresh("a", "192.0.2.1", 9*time.Minute) || fresh("a", "192.0.2.1", 11*time.Minute) {
		t.Error("a replay is let in")
	}
	for i := range 3 * maxSeen {
		s.Fresh(fmt.Sprint(i), "x", start)
	}
	if len(s.young)+len(s.old) > 2*maxSeen {
		t.Error("what is seen has no bound")
	}
}

func TestHammer(t *testing.T) {
	var g Guard
	var s Seen
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 2000 {
				from := fmt.Sprintf("192.0.2.%d:1", j%7)
				if g.Allow(from, "K", start) == nil {
					g.Tried(from, "K", j%3 == 0, start)
				}
				_ = s.Fresh(fmt.Sprint(i, j), from, start)
			}
		})
	}
	wg.Wait()
}

func BenchmarkRightTry(b *testing.B) {
	var g Guard
	b.ReportAllocs()
	for b.Loop() {
		if g.Allow("192.0.2.1:5", "AKIA1", start) == nil {
			g.Tried("192.0.2.1:5", "AKIA1", true, start)
		}
	}
}
