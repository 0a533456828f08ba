package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

// The acceptance scenario of predictive loading: A calls B, which calls C
// without handing its tag on; A calls D three times of ten; E is followed by F
// by way of a queue that is none of Hearth's. Idle containers live for less than
// the time between two runs, so that without predictions each start is a cold
// one; the control run is the same with functions whose policy says off, at the
// same time on the same machine.

const (
	s11Init  = 100 * time.Millisecond
	s11Delay = 200 * time.Millisecond // from a run to its call
	s11Rest  = 400 * time.Millisecond // between two runs
	s11Learn = 6
	s11Runs  = 8
)

// s11Chain runs one chain n times. suffix tells the control run's functions.
func s11Chain(s *server, suffix string, n int) {
	for i := range n {
		ms := int(s11Delay.Milliseconds())
		c := toBeCall{Function: "C" + suffix, Tagless: true}
		a := chained{DelayMs: ms, Calls: []toBeCall{{Function: "B" + suffix, Event: chained{DelayMs: ms, Calls: []toBeCall{c}}}}}
		if i%10%3 == 1 {
			a.Calls = append(a.Calls, toBeCall{Function: "D" + suffix})
		}
		s.chain("A"+suffix, a, "")
		time.Sleep(s11Rest)
	}
}

// s11Queue runs E, and F when the queue outside has had its time.
func s11Queue(s *server, suffix string, n int) {
	for range n {
		trace := s.chain("E"+suffix, chained{}, "").Trace
		time.Sleep(2 * s11Delay)
		s.chain("F"+suffix, chained{}, trace)
		time.Sleep(s11Rest)
	}
}

func s11Both(s *server, n int) {
	var all sync.WaitGroup
	for _, suffix := range []string{"", "-off"} {
		all.Go(func() { s11Chain(s, suffix, n) })
		all.Go(func() { s11Queue(s, suffix, n) })
	}
	all.Wait()
}

func TestS11PredictiveLoading(t *testing.T) {
	t.Parallel()
	s := start(t, "--idle-min", "250ms", "--idle-max", "300ms", "--idle-ahead=false")
	for _, suffix := range []string{"", "-off"} {
		s.deployChain(s11Init, "A"+suffix, "B"+suffix, "C"+suffix, "D"+suffix, "E"+suffix, "F"+suffix)
	}
	s.deployChain(s11Init, "G")
	for _, f := range []string{"A-off", "B-off", "C-off", "E-off"} {
		s.must("policy", "set", f, "prediction.mode=off")
	}
	s11Both(s, s11Learn)
	const rounds = 3 // at most: a machine that does something else meanwhile decides one
	var learned uint64
	var wrong []string
	for round := range rounds {
		learned = s.last()
		s11Both(s, s11Runs)
		if wrong = s11Wrong(t, s, learned); len(wrong) == 0 || t.Failed() {
			break
		}
		t.Logf("round %d: %s", round, strings.Join(wrong, "; "))
	}
	for _, w := range wrong {
		t.Error(w)
	}
	// D is not likely enough, until the threshold says otherwise.
	if d := s.startsOf("D", learned); d.made != 0 {
		t.Errorf("D, which is called three times of ten, was made ready %d times at a threshold of 0.5", d.made)
	}
	s.must("policy", "set", "A", "prediction.threshold=0.15")
	changed := s.last()
	s11Chain(s, "", 2)
	await(t, patience, "D to be made ready at a threshold of 0.15", func() bool { return s.startsOf("D", changed).made > 0 })
	s.must("policy", "clear", "A")

	s11Killed(t, s)
	s11Changed(t, s)
}

// s11Wrong is what is not as it should be in the starts since then. The benefit
// is the difference between the two runs.
func s11Wrong(t *testing.T, s *server, learned uint64) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, f := range []string{"B", "C", "F"} {
		on, off := s.startsOf(f, learned), s.startsOf(f+"-off", learned)
		t.Logf("%s: %d starts, %d foretold, %d cold, median %v, worst %v; %d made, %d wasted; control: %d cold, median %v",
			f, on.n, on.foretold, on.cold, on.median(), on.took[len(on.took)-1], on.made, on.wasted, off.cold, off.median())
		figure(t, f+", foretold of "+fmt.Sprint(on.n), float64(on.foretold), "", true)
		figure(t, f+", median of a start", float64(on.median().Microseconds())/1000, "ms", false)
		figure(t, f+", median of a start in the control", float64(off.median().Microseconds())/1000, "ms", false)
		if on.foretold < s11Runs*3/4 {
			say("%s: of %d starts %d were foretold", f, on.n, on.foretold)
		}
		if on.wasted > on.made/3 {
			say("%s: of %d containers that were made %d were wasted", f, on.made, on.wasted)
		}
		if off.foretold != 0 || off.cold < s11Runs*3/4 {
			say("%s without predictions: %d of %d starts were cold, %d foretold", f, off.cold, off.n, off.foretold)
		}
		if on.median() > off.median()/2 {
			say("%s: half of the starts took more than %v, without predictions than %v", f, on.median(), off.median())
		}
	}
	return wrong
}

// s11Killed kills what was made ready before it is used: the chain does not
// notice. It is tried anew if the machine was so slow that it was used already.
func s11Killed(t *testing.T, s *server) {
	t.Helper()
	const rounds = 3
	var b starts
	for range rounds {
		before := s.last()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.chain("A", chained{DelayMs: 1500, Calls: []toBeCall{{Function: "B"}}}, "")
		}()
		await(t, patience, "B to be made ready", func() bool {
			for _, d := range s.tell("B", hearth.DecisionPrepare, before) {
				if d.Chosen != "hit" && d.Chosen != "waste" && d.Chosen != "none" {
					return true
				}
			}
			return false
		})
		killed := killIdle(t, "B")
		<-done // s.chain has told of an error
		if b = s.startsOf("B", before); killed && b.n == 1 && b.wasted > 0 || t.Failed() {
			return
		}
		time.Sleep(s11Rest)
	}
	t.Errorf("B after what was ready for it was killed: %+v", b)
}

// s11Changed has A call G from now on: B is foretold no more within the number
// of runs that SPEC.md states.
func s11Changed(t *testing.T, s *server) {
	t.Helper()
	run := func(n int) {
		for range n {
			s.chain("A", chained{Calls: []toBeCall{{Function: "G"}}}, "")
		}
	}
	run(30)
	time.Sleep(4 * time.Second) // until it is known of the last ones what followed
	run(1)
	before := s.last()
	time.Sleep(s11Rest)
	run(3)
	if b := s.startsOf("B", before); b.made != 0 {
		t.Errorf("30 runs after A calls it no more B was made ready %d times", b.made)
	}
	if calls := s.must("explain", "A"); !strings.Contains(calls, "followed by G") {
		t.Errorf("hearth explain A:\n%s", calls)
	}
}

// processesOf are the processes that run a function's code.
func processesOf(name string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range files {
		env, err := os.ReadFile(path)
		if err == nil && bytes.Contains(env, []byte("AWS_LAMBDA_FUNCTION_NAME="+name+"\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// end kills a process; false if it has ended.
func end(pid int) bool { return syscall.Kill(pid, syscall.SIGKILL) == nil }
