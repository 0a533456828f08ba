package prediction

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestRingLosesNothingButWhatItHasNoRoomForAndKeepsTheOrderOfEachWriter(t *testing.T) {
	const writers, each = 8, 5000
	r := newRing()
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				r.push(observation{request: fmt.Sprint(w), qualifier: fmt.Sprint(i)})
			}
		})
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	last, got := map[string]int{}, 0
	take := func() bool {
		o, ok := r.pop()
		if !ok {
			return false
		}
		got++
		var i int
		if _, err := fmt.Sscan(o.qualifier, &i); err != nil {
			t.Fatal(err)
		}
		if before, seen := last[o.request]; seen && i <= before {
			t.Fatalf("%d of writer %s after %d", i, o.request, before)
		}
		last[o.request] = i
		return true
	}
	for over := false; !over; {
		for take() {
		}
		if r.sleep() {
			select {
			case <-r.wake:
			case <-done:
				over = true
			}
		}
	}
	for take() {
	}
	if n := uint64(got) + r.dropped.Load(); n != writers*each {
		t.Errorf("%d came and %d were dropped, of %d", got, r.dropped.Load(), writers*each)
	}
}

func TestAFullRingDropsAndDoesNotWait(t *testing.T) {
	r := newRing()
	for range ringSize + 10 {
		r.push(observation{})
	}
	if n := r.dropped.Load(); n != 10 {
		t.Errorf("%d were dropped", n)
	}
	if o, ok := r.pop(); !ok || o.function != nil {
		t.Error("it is not full")
	}
}

func TestTagsAreReadFromTheLineage(t *testing.T) {
	for header, want := range map[string]struct {
		self, caller uint32
		ok           bool
	}{
		"Root=1-a;Sampled=0;Lineage=0000000a:0":                       {10, 0, true},
		"Root=1-a;Lineage=0000000a:0|0000000b:0":                      {11, 10, true},
		"Root=1-a;Parent=x;Lineage=00000001:0|0000000a:5|0000000b:0":  {11, 10, true},
		"Root=1-a;Lineage=0000000a:0|0000000b:1":                      {11, 0, true}, // it was in the chain before
		"Root=1-a;Lineage=a:0|b:0|" + strings.Repeat("z", 9) + "|c:0": {12, 0, true},
		"Root=1-a":          {},
		"Lineage=a:0":       {},
		"":                  {},
		"Root=1;Lineage=|:": {},
	} {
		self, caller, ok := tagsOf(header)
		if ok != want.ok || ok && (self.function != want.self || caller.function != want.caller) {
			t.Errorf("%q: %v, %v, %v", header, self, caller, ok)
		}
	}
}

func FuzzTags(f *testing.F) {
	f.Add("Root=1-a;Sampled=0;Lineage=0000000a:0|0000000b:0")
	f.Fuzz(func(t *testing.T, header string) {
		self, caller, ok := tagsOf(header)
		if !ok && (self != tag{} && self.root == "" || caller != tag{}) {
			t.Errorf("%q: %v %v", header, self, caller)
		}
		if ok && self.root == "" {
			t.Errorf("%q: a tag without a root", header)
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	r := newRing()
	o := observation{request: "request", trace: "Root=1-a;Sampled=0;Lineage=0000000a:0"}
	b.ReportAllocs()
	for b.Loop() {
		r.push(o)
		r.pop()
	}
}
