package extension

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A phase never ends before everybody it waits for has asked, and always ends
// then, whatever the order.
func TestPhasesEndExactlyWhenAllHaveAsked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "extensions")
		s := NewSet()
		var names []string
		for i := range n {
			names = append(names, fmt.Sprint("e", i))
		}
		s.Expect(Function{}, names)
		wants := make([]bool, n) // INVOKE
		for i, e := range s.list {
			if wants[i] = rapid.Bool().Draw(t, "wants"); wants[i] {
				e.events = []string{Invoke}
			}
			e.must(StepRegister)
		}
		asks := func(i int) { // as next does
			e := s.list[i]
			e.must(StepNext)
			s.changed()
		}
		order := rapid.Permutation(slices.Collect(count(n+1))).Draw(t, "init")
		phase := s.Init()
		for k, who := range order {
			if over(phase) {
				t.Fatalf("init ended after %d of %d", k, n+1)
			}
			if who == n {
				s.RuntimeReady()
			} else {
				asks(who)
			}
		}
		if !over(phase) {
			t.Fatal("init did not end")
		}
		for range rapid.IntRange(1, 4).Draw(t, "invocations") {
			s.Begin(Invocation{RequestID: "r", Deadline: time.Now()})
			var busy []int
			for i, e := range s.list {
				got := len(e.asked) == 1
				if got != wants[i] {
					t.Fatalf("extension %d: event %v, wants %v", i, got, wants[i])
				}
				if got {
					<-e.asked
					busy = append(busy, i)
				}
			}
			phase := s.Settled()
			busy = rapid.Permutation(append(busy, n)).Draw(t, "order")
			for _, who := range busy {
				if over(phase) {
					t.Fatal("the invocation ended too early")
				}
				if who == n {
					s.RuntimeReady()
				} else {
					asks(who)
				}
			}
			if !over(phase) {
				t.Fatal("the invocation did not end")
			}
		}
	})
}

func count(n int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

// Whatever steps come in whatever order, a state that has no way out has none,
// and a refused step changes nothing.
func TestEndsAreFinal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := &extension{}
		for range 20 {
			step := Step(rapid.IntRange(0, steps-1).Draw(t, "step"))
			before := e.state
			err := e.step(step)
			switch {
			case err != nil && e.state != before:
				t.Fatalf("%v refused %v and became %v", before, step, e.state)
			case before >= InitError && e.state != before:
				t.Fatalf("%v came back as %v", before, e.state)
			}
		}
	})
}

func TestManyExtensionsAndInvocationsAtOnce(t *testing.T) {
	const extensions, invocations = 6, 40
	var names []string
	for i := range extensions {
		names = append(names, fmt.Sprint("e", i))
	}
	h := newHarness(t, names...)
	var all sync.WaitGroup
	seen := make([]int, extensions)
	for i, name := range names {
		id := h.register(name, Invoke, Shutdown)
		all.Go(func() {
			for {
				var event struct {
					Type string `json:"eventType"`
				}
				if err := json.Unmarshal([]byte((<-h.next(id)).body), &event); err != nil || event.Type == Shutdown {
					return
				}
				seen[i]++
			}
		})
	}
	h.runtime()
	await(t, "init", h.set.Init())
	h.set.Close()
	for n := range invocations {
		h.invoke(fmt.Sprint("r", n))
		h.runtime()
		await(t, "the end of an invocation", h.set.Settled())
		h.set.Infos()
	}
	if told := h.set.Shutdown("spindown", time.Now()); len(told) != extensions {
		t.Errorf("told %v", told)
	}
	all.Wait()
	for i, n := range seen {
		if n != invocations {
			t.Errorf("extension %d saw %d of %d", i, n, invocations)
		}
	}
}

func FuzzRegistration(f *testing.F) {
	f.Add([]byte(`{"events":["INVOKE","SHUTDOWN","INVOKE"]}`))
	f.Add([]byte(`{"events":null,"configurationKeys":["x"]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		events, err := parseRegister(body)
		if err != nil {
			if events != nil {
				t.Errorf("%v with %v", events, err)
			}
			return
		}
		if !json.Valid(body) {
			t.Errorf("%q was understood", body)
		}
		for i, e := range events {
			if slices.Contains(events[:i], e) {
				t.Errorf("%q is there twice", e)
			}
		}
	})
}
