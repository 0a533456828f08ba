package durable

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
)

// A program is what a function of the test does: a tree of operations, which
// program.run replays as the SDKs do.
type node struct {
	kind string // step, wait, callback, group, branches, plain, child
	n    int    // a step's failures before it works, a wait's seconds
	kids []*node
}

func drawNode(t *rapid.T, depth int) *node {
	kinds := []string{"step", "step", "wait", "callback", "plain"}
	if depth > 0 {
		kinds = append(kinds, "group", "branches")
	}
	if depth == 2 {
		kinds = append(kinds, "child")
	}
	n := &node{kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
	switch n.kind {
	case "step":
		n.n = rapid.IntRange(0, 2).Draw(t, "failures")
	case "wait":
		n.n = rapid.IntRange(1, 300).Draw(t, "seconds")
	case "group", "branches":
		for range rapid.IntRange(1, 3).Draw(t, "kids") {
			n.kids = append(n.kids, drawNode(t, depth-1))
		}
	}
	return n
}

// simulation plays programs against executions whose process dies now and
// then.
type simulation struct {
	*world
	h       *handle
	program *node

	mu    sync.Mutex
	dice  *rand.Rand
	done  map[string]bool // steps whose end was acknowledged
	tries map[string]int
	calls map[string]bool // callbacks to be answered
	bad   []string
}

func (s *simulation) roll(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dice.IntN(n)
}

var errCrash = errors.New("the function's process has ended")

// attempt is one invocation of a program.
type attempt struct {
	s   *simulation
	e   told
	ops map[string]*wireOperation
}

func (a *attempt) checkpoint(updates ...Update) error {
	changed, err := a.s.world.checkpoint(&a.e, updates...)
	if err != nil {
		return err
	}
	for _, o := range changed {
		a.ops[o.ID] = o.wire()
	}
	return nil
}

// run goes on with a node as far as it can; false if it has to wait.
func (a *attempt) run(n *node, id, parent string) (done bool, err error) {
	if a.s.roll(25) == 0 {
		return false, errCrash
	}
	if a.s.roll(40) == 0 {
		a.s.h.dead.Store(true) // the server's process, that is
		return false, errCrash
	}
	o := a.ops[id]
	u := Update{ID: id, ParentID: parent, Name: "n" + id}
	switch n.kind {
	case "step":
		return a.step(n, o, u)
	case "wait":
		if u.Type, u.Action, u.Wait = TypeWait, Start, &n.n; o == nil {
			return false, a.checkpoint(u)
		}
		return o.Status == Succeeded, nil
	case "callback":
		if u.Type, u.Action, u.Timeout, u.Heartbeat = TypeCallback, Start, 1000, 500; o == nil {
			if err := a.checkpoint(u); err != nil {
				return false, err
			}
			o = a.ops[id]
		}
		if o.Status == Started {
			a.s.mu.Lock()
			a.s.calls[o.CallbackDetails.CallbackID] = true
			a.s.mu.Unlock()
		}
		return o.Status.ended(), nil
	case "plain", "child":
		if u.Type, u.Action, u.Function = TypeChainedInvoke, Start, n.kind+":1"; o == nil {
			return false, a.checkpoint(u)
		}
		if o.Status.ended() && o.Status != Succeeded {
			return false, fmt.Errorf("%s %s: %s", n.kind, o.Status, encode(o))
		}
		return o.Status == Succeeded, nil
	default:
		return a.group(n, o, u)
	}
}

func (a *attempt) step(n *node, o *wireOperation, u Update) (bool, error) {
	u.Type = TypeStep
	switch {
	case o != nil && o.Status == Succeeded:
		return true, nil
	case o != nil && o.Status == Pending:
		return false, nil
	}
	if (o == nil || o.Status == Ready) && a.s.roll(2) == 0 { // a step may also be told of only when it has ended
		u.Action = Start
		if err := a.checkpoint(u); err != nil {
			return false, err
		}
	}
	tries := 0
	if o != nil {
		tries = o.StepDetails.Attempt
	}
	key := a.e.DurableExecutionArn + "#" + u.ID
	a.s.mu.Lock()
	a.s.tries[key]++
	if a.s.done[key] {
		a.s.bad = append(a.s.bad, "the step "+u.ID+" ran again after its end was acknowledged")
	}
	a.s.mu.Unlock()
	if tries < n.n {
		u.Action, u.NextAttempt, u.Error = Retry, new(1+a.s.roll(20)), failure("E", "not yet")
		return false, a.checkpoint(u)
	}
	u.Action, u.Payload = Succeed, new(`"`+u.ID+`"`)
	if err := a.checkpoint(u); err != nil {
		return false, err
	}
	a.s.mu.Lock()
	a.s.done[key] = true
	a.s.mu.Unlock()
	return true, nil
}

func (a *attempt) group(n *node, o *wireOperation, u Update) (bool, error) {
	u.Type = TypeContext
	if o != nil && o.Status == Succeeded {
		return true, nil
	}
	if u.Action = Start; o == nil {
		if err := a.checkpoint(u); err != nil {
			return false, err
		}
	}
	all := true
	for i, kid := range n.kids {
		done, err := a.run(kid, fmt.Sprintf("%s-%d", u.ID, i), u.ID)
		if err != nil {
			return false, err
		}
		all = all && done
		if !done && n.kind == "group" {
			break
		}
	}
	if !all {
		return false, nil
	}
	u.Action, u.Payload = Succeed, new(`"`+u.ID+`"`)
	return true, a.checkpoint(u)
}

// play is the code of the durable functions.
func (s *simulation) play(program func() *node) func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
	return func(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
		a := &attempt{s: s, e: read(s.t, inv), ops: map[string]*wireOperation{}}
		for i := range a.e.InitialExecutionState.Operations {
			o := &a.e.InitialExecutionState.Operations[i]
			a.ops[o.ID] = o
		}
		done, err := a.run(program(), "1", "")
		switch {
		case err != nil:
			return &hearth.Result{FunctionError: "Unhandled", Payload: []byte(`{"errorType":"Runtime.ExitError","errorMessage":"` + strings.ReplaceAll(err.Error(), `"`, "'") + `"}`)}, nil
		case done:
			return answer(Succeeded, new(`"well"`), nil)
		}
		return answer(Pending, nil, nil)
	}
}

// Whatever program: through crashes of the function, deaths of the server's
// process at any moment, and late callbacks, an execution comes to its end,
// and no step runs again whose end was acknowledged.
func TestExecutionsEndThroughCrashesAndRestarts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		program := &node{kind: rapid.SampledFrom([]string{"group", "branches"}).Draw(t, "order")}
		for range rapid.IntRange(1, 4).Draw(t, "nodes") {
			program.kids = append(program.kids, drawNode(t, 2))
		}
		m := &memory{records: map[string][]byte{}}
		h := &handle{m: m}
		s := &simulation{world: newWorld(t, h), h: h, program: program, dice: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)),
			done: map[string]bool{}, tries: map[string]int{}, calls: map[string]bool{}}
		restart := func() {
			h.dead.Store(true)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			h = &handle{m: m}
			s.h, s.store = h, h
			s.open()
		}
		small := &node{kind: "group", kids: []*node{{kind: "step"}, {kind: "wait", n: 5}, {kind: "step", n: 1}}}
		f := s.function("flow", 24*time.Hour, s.play(func() *node { return s.program }))
		s.function("child", time.Hour, s.play(func() *node { return small }))
		s.function("plain", 0, func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
			if s.roll(4) == 0 {
				return nil, hearth.Errorf(hearth.TooManyRequests, "Rate Exceeded.")
			}
			return &hearth.Result{Payload: []byte(`{"plain":true}`)}, nil
		})
		a := s.begin(f, "", "{}")
		for range 5000 {
			for h.dead.Load() {
				restart()
			}
			if s.get(a).Status != Running {
				break
			}
			switch s.roll(12) {
			case 0:
				restart()
			case 1:
				h.fail.Store(int64(s.roll(3))) // the disk is full for a while
			case 2, 3, 4:
				for id := range s.calls {
					b := Callback{ID: id, Heartbeat: s.roll(3) == 0}
					if !b.Heartbeat && s.roll(2) == 0 {
						b.Error = failure("E", "no")
					}
					err := s.Callback(context.Background(), account, b)
					if kind := hearth.KindOf(err); err != nil && kind != hearth.CallbackTimeout && kind != hearth.Service {
						t.Fatal(err)
					}
					s.settle()
					if h.dead.Load() {
						break
					}
				}
			default:
				s.advance(time.Duration(s.roll(90)) * time.Second)
			}
		}
		for h.dead.Load() {
			restart()
		}
		x := s.get(a)
		if x.Status != Succeeded || deref(x.Result) != `"well"` {
			t.Fatalf("%s %s %s\n%s", x.Status, deref(x.Result), encode(x.Error), story(s.history(a)))
		}
		if len(s.bad) > 0 {
			t.Fatal(strings.Join(s.bad, "\n"))
		}
		checkHistory(t, s.history(a))
		for _, k := range []string{bucketRunning} {
			for rec := range (memoryTx{m.records}).Scan(k, "", "") {
				if strings.Contains(rec.Key, "/flow/") {
					t.Fatalf("%s still lists %s", k, rec.Key)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// checkHistory checks what is so of every history.
func checkHistory(t fataler, events []*Event) {
	t.Helper()
	var over map[string]bool = map[string]bool{}
	last := began
	for i, e := range events {
		if e.ID != i+1 || e.At.Before(last) {
			t.Fatalf("event %d: %+v", i, e)
		}
		last = e.At
		name := string(e.Type)
		if e.Type == InvocationCompleted {
			continue
		}
		if over[e.OperationID] {
			t.Fatalf("%s of %s after its end: %s", e.Type, e.OperationID, story(events))
		}
		ends := !strings.HasSuffix(name, "Started") && e.NextAttempt == nil
		over[e.OperationID] = ends
	}
	n := slices.IndexFunc(events, func(e *Event) bool {
		return strings.HasPrefix(string(e.Type), "Execution") && e.Type != ExecutionStarted
	})
	if events[0].Type != ExecutionStarted || n < 0 {
		t.Fatalf("it begins and ends otherwise: %s", story(events))
	}
	for _, e := range events[n+1:] {
		if e.Type != InvocationCompleted {
			t.Fatalf("%s after the end: %s", e.Type, story(events))
		}
	}
}
