package async

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
)

// Whatever comes and goes: every event is given out once and not before it is
// due, never more are at work than there are places and memory for, and a
// function with nothing at work does not wait while there are both.
func TestLanesGiveOutEachEventOnceAndStarveNobody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		places := rapid.IntRange(1, 9).Draw(t, "places")
		room := rapid.SampledFrom([]int{0, 4, 16}).Draw(t, "room")
		mib := map[string]int{"a": 1, "b": 2, "c": 5}
		used := 0
		l := newLanes(places, room, func(e *event) int { return mib[e.Function] })
		now := time.Unix(0, 0)
		waiting := map[string]*event{}
		var running []*entry
		busy := map[string]int{} // by function
		added := 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				e := &event{ID: fmt.Sprint(added), Account: "1", Function: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "function"),
					Due: now.Add(time.Duration(rapid.IntRange(-1, 3).Draw(t, "due")) * time.Second)}
				added++
				waiting[e.ID] = e
				l.add(e, now)
			case 1:
				now = now.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "pass")) * time.Second)
			case 2:
				if len(running) > 0 {
					i := rapid.IntRange(0, len(running)-1).Draw(t, "which")
					en := running[i]
					running = append(running[:i], running[i+1:]...)
					busy[en.lane.name.function]--
					used -= mib[en.lane.name.function]
					l.done(en)
				}
			case 3:
				en := l.next(now)
				if en == nil {
					for _, e := range waiting {
						// The largest may go first, and wait for it.
						if !e.Due.After(now) && len(running) < places && busy[e.Function] == 0 && (room == 0 || used+mib["c"] <= room) {
							t.Fatalf("%s of %s waits with nothing at work, and %d of %d places are taken", e.ID, e.Function, len(running), places)
						}
					}
					continue
				}
				e := waiting[en.id]
				switch {
				case e == nil:
					t.Fatalf("%s was given out twice", en.id)
				case e.Due.After(now):
					t.Fatalf("%s was given out before its time", en.id)
				}
				delete(waiting, en.id)
				running = append(running, en)
				busy[e.Function]++
				used += mib[e.Function]
				if room > 0 && used > room && len(running) > 1 {
					t.Fatalf("%d MiB at work in %d", used, room)
				}
				if len(running) > places {
					t.Fatalf("%d at work in %d places", len(running), places)
				}
			}
			if l.depth() != len(waiting) {
				t.Fatalf("%d wait, it says %d", len(waiting), l.depth())
			}
		}
		// Nothing is left behind.
		for range 4*added + len(running) {
			now = now.Add(time.Second)
			for en := l.next(now); en != nil; en = l.next(now) {
				delete(waiting, en.id)
				running = append(running, en)
			}
			if len(running) > 0 {
				l.done(running[0])
				running = running[1:]
			}
		}
		if len(waiting) > 0 || len(l.byName) > 0 {
			t.Fatalf("left: %v, lanes %v", waiting, l.byName)
		}
	})
}

func TestAFloodDoesNotDelayATrickle(t *testing.T) {
	l := newLanes(8, 0, nil)
	now := time.Unix(0, 0)
	for i := range 1000 {
		l.add(&event{ID: fmt.Sprint("flood", i), Account: "1", Function: "flood", Due: now}, now)
	}
	for l.next(now) != nil { // until the flood has all the places that it gets
	}
	l.add(&event{ID: "drop", Account: "2", Function: "trickle", Due: now}, now)
	if en := l.next(now); en == nil || en.id != "drop" {
		t.Errorf("behind a thousand events of another function came %+v", en)
	}
}

// Nor does one whose events fit into all of the machine's memory, although
// there are many places.
func TestAFloodLeavesMemoryToATrickle(t *testing.T) {
	l := newLanes(500, 1024, func(*event) int { return 128 })
	now := time.Unix(0, 0)
	for i := range 1000 {
		l.add(&event{ID: fmt.Sprint("flood", i), Account: "1", Function: "flood", Due: now}, now)
	}
	begun := 0
	for l.next(now) != nil {
		begun++
	}
	if begun != 6 {
		t.Errorf("%d of the flood's events are at work", begun)
	}
	l.add(&event{ID: "drop", Account: "2", Function: "trickle", Due: now}, now)
	if en := l.next(now); en == nil || en.id != "drop" {
		t.Errorf("behind a thousand events of another function came %+v", en)
	}
}

func BenchmarkLanes(b *testing.B) {
	l := newLanes(100, 1<<20, func(*event) int { return 128 })
	now := time.Unix(0, 0)
	for i := range 1000 {
		for range 10 {
			l.add(&event{ID: "e", Account: "1", Function: fmt.Sprint(i), Due: now}, now)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		en := l.next(now)
		l.add(&event{ID: "e", Account: hearth.Account(en.lane.name.account), Function: en.lane.name.function, Due: now}, now)
		l.done(en)
	}
}

// What a stopped account has waits and is in nobody's way, and goes on when
// that is asked again.
func TestLanesOfAStoppedAccountWait(t *testing.T) {
	now := time.Unix(100, 0)
	l := newLanes(2, 0, nil)
	stopped := true
	l.stopped = func(a hearth.Account) bool { return stopped && a == "1" }
	for i := range 5 {
		l.add(&event{ID: fmt.Sprint("held", i), Account: "1", Function: "f", Due: now}, now)
	}
	l.add(&event{ID: "other", Account: "2", Function: "f", Due: now}, now)
	if en := l.next(now); en == nil || en.id != "other" {
		t.Fatalf("%+v", en)
	}
	if en := l.next(now); en != nil {
		t.Fatalf("%s runs, whose account is stopped", en.id)
	}
	if l.held() != 5 || l.depth() != 5 {
		t.Errorf("%d are held of %d", l.held(), l.depth())
	}
	if wait, ok := l.waits(now); !ok || wait != askStopped {
		t.Errorf("it is asked again in %v, %v", wait, ok)
	}
	stopped = false
	l.unblockAll()
	if en := l.next(now); en == nil || en.id != "held0" {
		t.Fatalf("%+v", en)
	}
}
