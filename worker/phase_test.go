package worker

import (
	"context"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox"
)

// legal are the moves as the life of a container is documented, written down
// once more: slot → loading → idle ⇄ frozen, idle ⇄ running; and from each
// living phase to death, after which nothing comes.
func legal(from, to phase) bool {
	switch from {
	case phaseSlot:
		return to == phaseLoading
	case phaseLoading, phaseFrozen, phaseRunning:
		return to == phaseIdle
	case phaseIdle:
		return to == phaseFrozen || to == phaseRunning
	}
	return false
}

func TestNoMoveIsPossibleThatIsNotLegal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &container{done: make(chan struct{})}
		for range rapid.IntRange(1, 60).Draw(t, "moves") {
			before := c.phase
			if rapid.IntRange(0, 9).Draw(t, "dies") == 0 {
				c.die() // as often as it likes: done is closed once, or this panics
			} else {
				to := phase(rapid.IntRange(0, int(phaseDead)).Draw(t, "to"))
				err := c.move(to)
				if legal(before, to) != (err == nil) {
					t.Fatalf("from %d to %d: %v", before, to, err)
				}
				if err == nil && c.phase != to || err != nil && (c.phase != before || hearth.KindOf(err) != hearth.ContainerGone) {
					t.Fatalf("from %d to %d: now %d, %v", before, to, c.phase, err)
				}
			}
			if isDone(c) != (c.phase == phaseDead) {
				t.Fatalf("phase %d, done %v", c.phase, isDone(c))
			}
		}
	})
}

func TestOfAllWhoMoveAtOnceOneSucceeds(t *testing.T) {
	for range 200 {
		c := &container{done: make(chan struct{}), phase: phaseIdle}
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for range 4 {
			wg.Go(func() {
				if c.move(phaseRunning) == nil {
					mu.Lock()
					won++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for range 4 {
			wg.Go(c.die)
		}
		wg.Wait()
		if won != 1 || !isDone(c) {
			t.Fatalf("%d moved, done %v", won, isDone(c))
		}
	}
}

// life is a container under test, with what must be so in its present phase.
type life struct {
	*harness
	c      *container
	sb     *fakeContainer // its present one
	loaded bool

	mu    sync.Mutex
	goOn  chan struct{} // what the function waits for before it asks for more
	inits int           // how many inits fail from now on
}

// settle waits for what follows from the last step, and checks what always
// holds.
func (l *life) settle(t *rapid.T) {
	deadline := time.Now().Add(soon)
	for !l.consistent() {
		if time.Now().After(deadline) {
			l.c.mu.Lock()
			defer l.c.mu.Unlock()
			t.Fatalf("phase %d, done %v, request %q, environment ended %v, init failed %v", l.c.phase, isDone(l.c), l.c.request, ended(l.sb), l.c.initErr)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func ended(sb *fakeContainer) bool {
	select {
	case <-sb.exited:
		return true
	default:
		return false
	}
}

func (l *life) consistent() bool {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.sb = l.c.env.sb.(*fakeContainer)
	dead := l.c.phase == phaseDead
	needs := l.c.initErr == nil // an environment
	return dead == isDone(l.c) &&
		(l.c.phase == phaseFrozen) == (l.sb.isFrozen() && !dead) &&
		(dead || l.c.request == "") &&
		(dead || !needs || !ended(l.sb)) &&
		l.c.phase != phaseLoading && l.c.phase != phaseRunning // nobody is in a call
}

// function answers each event by what the event says: "die" ends it before
// the answer, "end" after, "work" goes on after the answer until it is let.
func (l *life) function(p *process) {
	l.mu.Lock()
	bad := l.inits > 0
	l.inits--
	l.mu.Unlock()
	if bad {
		p.exitWith(1)
	}
	for {
		e := p.next()
		switch what := string(e.payload); what {
		case `"die"`:
			p.exitWith(2)
		case `"hang"`:
			p.hang()
		case `"end"`:
			p.respond(e, what)
			p.exitWith(0)
		case `"work"`:
			p.respond(e, what)
			l.mu.Lock()
			goOn := l.goOn
			l.mu.Unlock()
			p.wait(goOn)
		default:
			p.respond(e, what)
		}
	}
}

// Whatever is done to a container, its phase, the end of its Done, its
// processes and its answers agree.
func TestWhateverHappensAContainersLifeIsConsistent(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHarness(t)
		defer h.end()
		l := &life{harness: h, goOn: make(chan struct{})}
		l.c, l.sb = h.slot("")
		l.inits = rapid.IntRange(0, 2).Draw(rt, "failing inits")
		f := h.function(l.function, timeout(30*time.Millisecond))
		invoke := func(what string) {
			was := phaseOf(l.c)
			r, reusable, err := l.c.Invoke(context.Background(), h.invocation(l.c, what))
			switch {
			case was == phaseSlot || was == phaseDead:
				if hearth.KindOf(err) != hearth.ContainerGone {
					rt.Fatalf("in phase %d: %+v, %v", was, r, err)
				}
			case err != nil:
				if reusable || hearth.KindOf(err) != hearth.ContainerGone {
					rt.Fatalf("reusable %v, %v", reusable, err)
				}
			case r.FunctionError == "" && string(r.Payload) != what, reusable && r.FunctionError != "":
				rt.Fatalf("%+v, reusable %v", r, reusable)
			case reusable && (what == `"die"` || what == `"hang"`):
				rt.Fatalf("reusable after %s", what)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"": l.settle,
			"load": func(rt *rapid.T) {
				err := l.c.Load(context.Background(), f, &hearth.Timeline{})
				if (err == nil) != (!l.loaded && !isDone(l.c)) {
					rt.Fatalf("loaded %v, done %v: %v", l.loaded, isDone(l.c), err)
				}
				l.loaded = true
			},
			"invoke": func(rt *rapid.T) {
				invoke(rapid.SampledFrom([]string{`"ok"`, `"ok"`, `"ok"`, `"work"`, `"end"`, `"die"`, `"hang"`}).Draw(rt, "event"))
			},
			"let go on": func(rt *rapid.T) {
				l.mu.Lock()
				defer l.mu.Unlock()
				close(l.goOn)
				l.goOn = make(chan struct{})
			},
			"idle":           func(*rapid.T) { l.c.Idle() },
			"time to freeze": func(*rapid.T) { l.c.Idle(); l.c.freezeNow() },
			"time passes":    func(*rapid.T) { h.clock.advance(time.Second) },
			"days pass":      func(*rapid.T) { h.clock.advance(24 * time.Hour) },
			"the process ends": func(*rapid.T) {
				l.sb.end(sandbox.Exit{Code: 1})
				<-l.sb.exited
			},
			"freezing fails": func(*rapid.T) { h.d.fail("Freeze", errTest) },
			"thawing fails":  func(*rapid.T) { h.d.fail("Thaw", errTest) },
			"destroy": func(rt *rapid.T) {
				if rapid.IntRange(0, 4).Draw(rt, "really") == 0 {
					if err := l.c.Destroy(); err != nil {
						rt.Fatal(err)
					}
				}
			},
		})
	})
}
