package durable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// script is a function that makes, in its n-th invocation, the n-th of the
// moves; the last one again from then on.
func script(w *world, moves ...func(e *told) (*hearth.Result, error)) func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
	n := 0
	return func(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
		e := read(w.t, inv)
		w.mu.Lock()
		move := moves[min(n, len(moves)-1)]
		n++
		w.mu.Unlock()
		return move(&e)
	}
}

func says(status Status, result string) func(*told) (*hearth.Result, error) {
	return func(*told) (*hearth.Result, error) {
		if result == "" {
			return answer(status, nil, nil)
		}
		return answer(status, &result, nil)
	}
}

// does makes a checkpoint and returns PENDING.
func does(w *world, updates ...Update) func(*told) (*hearth.Result, error) {
	return func(e *told) (*hearth.Result, error) {
		if _, err := w.checkpoint(e, updates...); err != nil {
			return nil, err
		}
		return answer(Pending, nil, nil)
	}
}

func wait(id string, seconds int) Update {
	return Update{ID: id, Type: TypeWait, Action: Start, Wait: &seconds}
}

func TestAWaitReleasesTheFunctionAndEndsInTimeAfterARestart(t *testing.T) {
	s, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := newWorld(t, s)
	f := w.function("flow", time.Hour, script(w, does(w, wait("w", 600)), says(Succeeded, `"slept"`)))
	a := w.begin(f, "", "{}")
	if got := story(w.history(a)); got != "ExecutionStarted WaitStarted InvocationCompleted" {
		t.Fatal(got)
	}
	w.advance(9 * time.Minute)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	if n := len(w.invoked); n != 1 || w.get(a).Status != Running {
		t.Fatalf("%d invocations before the wait was over", n)
	}
	w.advance(59 * time.Second)
	if len(w.invoked) != 1 {
		t.Fatal("invoked too early")
	}
	w.advance(time.Second)
	if x := w.get(a); x.Status != Succeeded || *x.Result != `"slept"` {
		t.Fatalf("%+v", x)
	}
	second := read(t, w.invoked[1])
	if o := second.operation("w"); o == nil || o.Status != Succeeded || !slices.Equal(second.UpdatedOperationIds, []string{"w"}) {
		t.Errorf("the second invocation was told %s", w.invoked[1].Payload)
	}
	if got := story(w.history(a)); got != "ExecutionStarted WaitStarted InvocationCompleted WaitSucceeded InvocationCompleted ExecutionSucceeded" {
		t.Error(got)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTokensAreOfOneCheckpointOfOneInvocation(t *testing.T) {
	w := ordinary(t)
	var stale told
	f := w.function("flow", time.Hour, script(w, func(e *told) (*hearth.Result, error) {
		first := *e
		ask := Checkpoint{Token: e.CheckpointToken, ClientToken: "once", Updates: []Update{wait("w", 5)}}
		ask.ARN, _ = ParseARN(e.DurableExecutionArn)
		next, changed, err := w.Executions.Checkpoint(context.Background(), ask)
		if err != nil || len(changed) != 1 {
			t.Errorf("first: %v %v", changed, err)
		}
		again, changed, err := w.Executions.Checkpoint(context.Background(), ask)
		if err != nil || again != next || len(changed) != 1 {
			t.Errorf("the same once more: %v %v", changed, err)
		}
		ask.ClientToken = "twice"
		_, _, err = w.Executions.Checkpoint(context.Background(), ask)
		wantMessage(t, err, hearth.InvalidParameter, "Invalid Checkpoint Token")
		_, _, err = w.State(context.Background(), ask.ARN, first.CheckpointToken, "", 0)
		wantMessage(t, err, hearth.InvalidParameter, "Invalid Checkpoint Token")
		e.CheckpointToken = next
		if page, _, err := w.State(context.Background(), ask.ARN, next, "", 0); err != nil || len(page) != 2 {
			t.Errorf("state %v %v", page, err)
		}
		stale = *e
		return answer(Pending, nil, nil)
	}, func(*told) (*hearth.Result, error) {
		_, err := w.checkpoint(&stale, wait("late", 1))
		wantMessage(t, err, hearth.InvalidParameter, "Invalid Checkpoint Token")
		return answer(Succeeded, nil, nil)
	}))
	a := w.begin(f, "", "{}")
	w.advance(5 * time.Second)
	if x := w.get(a); x.Status != Succeeded {
		t.Fatalf("%+v", x)
	}
	_, err := w.checkpoint(&stale)
	wantMessage(t, err, hearth.InvalidParameter, "Invalid Checkpoint Token")
}

func TestANameIsOfOneExecution(t *testing.T) {
	w := ordinary(t)
	f := w.function("flow", 10*time.Minute, script(w, does(w, wait("w", 60)), says(Succeeded, "1")))
	ctx := t.Context()
	a := w.begin(f, "order", `{"n":1}`)
	if b := w.begin(f, "order", `{"n":1}`); b != a {
		t.Errorf("the same again began another: %v %v", a, b)
	}
	_, err := w.Start(ctx, Begin{Function: f, Name: "order", Input: `{"n":2}`})
	wantMessage(t, err, hearth.DurableExecutionAlreadyStarted, "Execution already started: "+w.get(a).ARN)
	w.advance(time.Minute)
	// One that has ended answers for its name until it is forgotten.
	r, err := w.Invoke(ctx, &hearth.Invocation{Function: f, DurableName: "order", Payload: []byte(`{"n":1}`)})
	if err != nil || string(r.Payload) != "1" || len(w.invoked) != 2 {
		t.Errorf("after the end: %+v %v, %d invocations", r, err, len(w.invoked))
	}
	for _, d := range []time.Duration{7 * 24 * time.Hour, sweepEvery, sweepEvery} {
		w.advance(d)
	}
	if _, err := w.Get(ctx, a); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("after its retention: %v", err)
	}
	if n := len(w.store.(*handle).m.records); n != 0 {
		t.Errorf("%d records are left of it", n)
	}
	if b := w.begin(f, "order", `{"n":2}`); b == a || b.Name != "order" {
		t.Errorf("the name is not free: %v", b)
	}
}

func TestInvokeWaitsForTheEndUnlessItIsAsync(t *testing.T) {
	w := ordinary(t)
	ctx := t.Context()
	good := w.function("good", time.Minute, script(w, says(Succeeded, `{"a":1}`)))
	r, err := w.Invoke(ctx, &hearth.Invocation{Function: good, Payload: []byte("{}")})
	if err != nil || string(r.Payload) != `{"a":1}` || r.FunctionError != "" || r.Version != "1" {
		t.Errorf("%+v %v", r, err)
	}
	bad := w.function("bad", time.Minute, script(w, func(*told) (*hearth.Result, error) {
		return answer(Failed, nil, failure("E", "m"))
	}))
	r, err = w.Invoke(ctx, &hearth.Invocation{Function: bad, Payload: []byte("{}")})
	if err != nil || string(r.Payload) != `{"errorMessage":"m","errorType":"E"}` || r.FunctionError != "Unhandled" {
		t.Errorf("%+v %v", r, err)
	}
	long := w.function("long", time.Hour, script(w, says(Succeeded, "1")))
	_, err = w.Invoke(ctx, &hearth.Invocation{Function: long, Payload: []byte("{}")})
	wantMessage(t, err, hearth.InvalidParameter, "You cannot synchronously invoke a durable function with an executionTimeout greater than 15 minutes.")
	inv := &hearth.Invocation{Function: long, Payload: []byte("{}"), Async: true}
	if r, err = w.Invoke(ctx, inv); err != nil || inv.DurableARN == "" {
		t.Errorf("%+v %v", r, err)
	}
	_, err = w.Invoke(ctx, &hearth.Invocation{Function: long, Payload: make([]byte, maxAsyncInput+1), Async: true})
	wantMessage(t, err, hearth.EntityTooLarge, "1048576")
	w.settle()

	waiting := w.function("waiting", time.Minute, script(w, does(w, wait("w", 30))))
	failed := make(chan error)
	go func() {
		_, err := w.Invoke(ctx, &hearth.Invocation{Function: waiting, DurableName: "x", Payload: []byte("{}")})
		failed <- err
	}()
	for {
		if all, _, err := w.List(ctx, List{Account: account, Function: "waiting"}); err != nil || len(all) == 1 {
			break
		}
	}
	w.Drain()
	wantMessage(t, <-failed, hearth.Service, "shutting down")
	_, err = w.Start(ctx, Begin{Function: good, Input: "{}"})
	wantMessage(t, err, hearth.Service, "shutting down")
}

func TestAnExecutionTimesOut(t *testing.T) {
	w := ordinary(t)
	f := w.function("flow", 10*time.Second, script(w, does(w, wait("w", 600))))
	a := w.begin(f, "", "{}")
	w.advance(10 * time.Second)
	x := w.get(a)
	if x.Status != TimedOut || *x.Error.Message != "Execution timed out after 10 seconds." || x.Ended.Sub(x.Started) != 10*time.Second {
		t.Fatalf("%+v", x)
	}
	w.advance(time.Hour)
	if got := story(w.history(a)); got != "ExecutionStarted WaitStarted InvocationCompleted ExecutionTimedOut" {
		t.Error(got)
	}
}

func TestAStoppedExecutionIsNotInvokedAgain(t *testing.T) {
	w := ordinary(t)
	f := w.function("flow", time.Hour, script(w, does(w, wait("w", 5))))
	a := w.begin(f, "", "{}")
	x, err := w.Stop(t.Context(), a, failure("E", "enough"))
	if err != nil || x.Status != Stopped || *x.Error.Message != "enough" {
		t.Fatalf("%+v %v", x, err)
	}
	w.advance(time.Minute)
	if n := len(w.invoked); n != 1 {
		t.Errorf("%d invocations", n)
	}
	if again, err := w.Stop(t.Context(), a, nil); err != nil || !again.Ended.Equal(x.Ended) || *again.Error.Message != "enough" {
		t.Errorf("stopped again: %+v %v", again, err)
	}
	a.ID = newID(began, w.setup.random)
	_, err = w.Stop(t.Context(), a, nil)
	wantMessage(t, err, hearth.NotFound, "Durable Execution does not exist")
}

func TestCallbacksEndOnceAndInTime(t *testing.T) {
	w := ordinary(t)
	start := func(id string, timeout, heartbeat int) Update {
		return Update{ID: id, Type: TypeCallback, Action: Start, Timeout: timeout, Heartbeat: heartbeat}
	}
	ids := map[string]string{}
	f := w.function("flow", time.Hour, script(w, func(e *told) (*hearth.Result, error) {
		changed, err := w.checkpoint(e, start("a", 100, 0), start("b", 100, 10), start("c", 20, 0))
		for _, o := range changed {
			ids[o.ID] = o.CallbackID
		}
		if err != nil {
			return nil, err
		}
		return answer(Pending, nil, nil)
	}, func(e *told) (*hearth.Result, error) {
		if e.operation("a").Status == Started || e.operation("b").Status == Started || e.operation("c").Status == Started {
			return answer(Pending, nil, nil)
		}
		return answer(Succeeded, nil, nil)
	}))
	a := w.begin(f, "", "{}")
	ctx := t.Context()
	if err := w.Callback(ctx, account, Callback{ID: ids["a"], Result: new("1")}); err != nil {
		t.Fatal(err)
	}
	w.settle()
	wantMessage(t, w.Callback(ctx, account, Callback{ID: ids["a"], Result: new("2")}), hearth.CallbackTimeout, "The callback is either timed out or already completed")
	wantMessage(t, w.Callback(ctx, "111111111111", Callback{ID: ids["b"]}), hearth.CallbackTimeout, "")
	wantMessage(t, w.Callback(ctx, account, Callback{ID: "!"}), hearth.InvalidParameter, "Invalid callback id")
	for range 2 {
		w.advance(9 * time.Second)
		if err := w.Callback(ctx, account, Callback{ID: ids["b"], Heartbeat: true}); err != nil {
			t.Fatal(err)
		}
	}
	w.advance(10 * time.Second) // b's heart has stopped, and c has timed out
	if x := w.get(a); x.Status != Succeeded {
		t.Fatalf("%+v", x)
	}
	o := read(t, w.invoked[len(w.invoked)-1])
	if b, c := o.operation("b"), o.operation("c"); b.Status != TimedOut || *b.CallbackDetails.Error.Type != "Callback.Heartbeat" ||
		c.Status != TimedOut || *c.CallbackDetails.Error.Type != "Callback.Timeout" || *o.operation("a").CallbackDetails.Result != "1" {
		t.Errorf("%s", w.invoked[len(w.invoked)-1].Payload)
	}
}

func TestAFailedInvocationIsMadeAgainUntilItIsHopeless(t *testing.T) {
	w := ordinary(t)
	crash := func(*told) (*hearth.Result, error) {
		return &hearth.Result{FunctionError: "Unhandled", Payload: []byte(`{"errorType":"Runtime.ExitError","errorMessage":"exit status 1"}`)}, nil
	}
	f := w.function("flow", time.Hour, script(w, crash, crash, says(Succeeded, "1")))
	a := w.begin(f, "", "{}")
	w.advance(time.Second)
	w.advance(2 * time.Second)
	if x := w.get(a); x.Status != Succeeded {
		t.Fatalf("%+v", x)
	}
	g := w.function("hopeless", 24*time.Hour, script(w, crash))
	b := w.begin(g, "", "{}")
	w.pass(10 * time.Minute)
	x := w.get(b)
	if x.Status != Failed || *x.Error.Type != "Runtime.ExitError" {
		t.Fatalf("%+v", x)
	}
	if n := strings.Count(story(w.history(b)), "InvocationCompleted"); n != maxFailures {
		t.Errorf("%d invocations", n)
	}
	throttled := 0
	h := w.function("throttled", time.Hour, func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
		if throttled++; throttled < 20 {
			return nil, hearth.Errorf(hearth.TooManyRequests, "Rate Exceeded.")
		}
		return answer(Succeeded, nil, nil)
	})
	c := w.begin(h, "", "{}")
	w.pass(30 * time.Minute)
	if x := w.get(c); x.Status != Succeeded || strings.Count(story(w.history(c)), "InvocationCompleted") != 1 {
		t.Errorf("%+v %s", x, story(w.history(c)))
	}
}

func TestWrongAnswersFailTheExecution(t *testing.T) {
	w := ordinary(t)
	for payload, want := range map[string]string{
		`{"Status":"PENDING"}`:              "Cannot return PENDING status with no pending operations.",
		`{"Status":"SUCCEEDED","Error":{}}`: "Cannot provide an Error for SUCCEEDED status.",
		`{"Status":"FAILED","Result":"1"}`:  "Cannot provide a Result for FAILED status.",
		`{"Status":"DONE"}`:                 "Invalid Status in invocation output.",
		`"hello"`:                           "Invalid Status in invocation output.",
		`not json`:                          "Invalid Status in invocation output.",
		`{"Status":"SUCCEEDED","Result":"` + long + `"}`: "Execution output payload size must be less than or equal to 1048576 bytes.",
	} {
		f := w.function("flow", time.Hour, func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
			return &hearth.Result{Payload: []byte(payload)}, nil
		})
		arn, err := w.Start(t.Context(), Begin{Function: f, Input: "{}", MaxResult: maxAsyncInput})
		if err != nil {
			t.Fatal(err)
		}
		w.settle()
		a, _ := ParseARN(arn)
		if x := w.get(a); x.Status != Failed || deref(x.Error.Type) != "InvalidParameterValueException" || deref(x.Error.Message) != want {
			t.Errorf("%.40s: %s %s", payload, x.Status, encode(x.Error))
		}
	}
}

var long = strings.Repeat("x", maxAsyncInput+1)

func TestFunctionsCallOthers(t *testing.T) {
	w := ordinary(t)
	call := func(id, function string) Update {
		return Update{ID: id, Type: TypeChainedInvoke, Action: Start, Function: function, Payload: new(`{"of":"` + id + `"}`)}
	}
	w.function("plain", 0, func(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
		if inv.Caller.ARN != "arn:aws:sts::000000000000:assumed-role/r/flow" || inv.DurableARN != "" {
			t.Errorf("called as %+v", inv.Caller)
		}
		return &hearth.Result{Payload: inv.Payload}, nil
	})
	w.function("broken", 0, func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
		return &hearth.Result{FunctionError: "Unhandled", Payload: []byte(`{"errorType":"E","errorMessage":"m"}`)}, nil
	})
	w.function("child", time.Hour, script(w, does(w, wait("w", 5)), says(Succeeded, `"grown"`)))
	w.function("slow", 7*time.Second, script(w, does(w, wait("w", 60))))
	f := w.function("flow", time.Hour, script(w, func(e *told) (*hearth.Result, error) {
		_, err := w.checkpoint(e, call("plain", "plain"), call("broken", "broken"), call("child", "child:1"), call("slow", "slow:1"), call("nobody", "nobody"), call("bare", "child"))
		if err != nil {
			return nil, err
		}
		return answer(Pending, nil, nil)
	}, func(e *told) (*hearth.Result, error) {
		if e.operation("child").Status == Started || e.operation("slow").Status == Started {
			return answer(Pending, nil, nil)
		}
		return answer(Succeeded, nil, nil)
	}))
	a := w.begin(f, "", "{}")
	w.advance(5 * time.Second)
	w.advance(2 * time.Second)
	if x := w.get(a); x.Status != Succeeded {
		t.Fatalf("%+v %s", x, story(w.history(a)))
	}
	got := map[string]string{}
	for _, e := range w.history(a) {
		if e.OperationID != a.ID && e.Type != ChainedInvokeStarted && e.OperationID != "" {
			got[e.OperationID] = fmt.Sprint(e.Type, " ", deref(e.Result), " ", string(encode(e.Error)))
		}
	}
	for id, want := range map[string]string{
		"plain":  `ChainedInvokeSucceeded {"of":"plain"} null`,
		"broken": `ChainedInvokeFailed  {"ErrorMessage":"m","ErrorType":"E"}`,
		"child":  `ChainedInvokeSucceeded "grown" null`,
		"slow":   `ChainedInvokeTimedOut  {"ErrorMessage":"CHAINED_INVOKE timed out after 7 seconds.","ErrorType":"ChainedInvoke.Timeout"}`,
		"nobody": `ChainedInvokeFailed  {"ErrorMessage":"Function not found: arn:aws:lambda:us-east-1:000000000000:function:nobody","ErrorType":"ResourceNotFoundException"}`,
		"bare":   `ChainedInvokeFailed  {"ErrorMessage":"You cannot invoke a durable function using an unqualified ARN.","ErrorType":"InvalidParameterValueException"}`,
	} {
		if got[id] != want {
			t.Errorf("%s: %s", id, got[id])
		}
	}
}

func TestTheExecutionsOfADeletedFunctionEnd(t *testing.T) {
	w := ordinary(t)
	f := w.function("flow", time.Hour, script(w, does(w, wait("w", 600))))
	a, b := w.begin(f, "", "{}"), w.begin(f, "", "{}")
	if _, err := w.Stop(t.Context(), b, nil); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	delete(w.functions, "flow")
	w.mu.Unlock()
	w.FunctionDeleted(f)
	w.settle()
	if x := w.get(a); x.Status != Failed || *x.Error.Message != "Function not found: arn:aws:lambda:us-east-1:000000000000:function:flow:1" {
		t.Errorf("%+v", x)
	}
	if x := w.get(b); x.Status != Stopped {
		t.Errorf("%+v", x)
	}
}

func TestAFullDiskRefusesACheckpointWhole(t *testing.T) {
	w := ordinary(t)
	f := w.function("flow", time.Hour, script(w, func(e *told) (*hearth.Result, error) {
		w.store.(*handle).fail.Store(1)
		_, err := w.checkpoint(e, wait("w", 5))
		wantMessage(t, err, hearth.Service, "")
		if _, err := w.checkpoint(e, wait("w", 5)); err != nil {
			t.Errorf("the same again: %v", err)
		}
		return answer(Pending, nil, nil)
	}, says(Succeeded, "1")))
	a := w.begin(f, "", "{}")
	w.advance(5 * time.Second)
	if x := w.get(a); x.Status != Succeeded {
		t.Errorf("%+v", x)
	}
}

func TestListsGoByPagesBothWays(t *testing.T) {
	w := ordinary(t)
	f := w.function("flow", time.Hour, script(w, says(Succeeded, "1")))
	w.function("flower", time.Hour, script(w, says(Succeeded, "1")))
	var want []string
	for i := range 7 {
		want = append(want, w.get(w.begin(f, fmt.Sprint("x", i), "{}")).ARN)
		w.advance(time.Second)
	}
	w.begin(w.functions["flower"], "other", "{}")
	for _, oldest := range []bool{true, false} {
		var got []string
		for marker, more := "", true; more; {
			page, next, err := w.List(t.Context(), List{Account: account, Function: "flow", Oldest: oldest, Max: 3, Marker: marker})
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range page {
				got = append(got, x.ARN)
			}
			marker, more = next, next != ""
		}
		if !oldest {
			slices.Reverse(got)
		}
		if !slices.Equal(got, want) {
			t.Errorf("oldest first %v:\n%v\nwant\n%v", oldest, got, want)
		}
	}
	_, _, err := w.List(t.Context(), List{Account: account, Function: "flow", Marker: "%"})
	wantMessage(t, err, hearth.InvalidParameter, "Invalid Marker")
}

func TestALongStateComesByPagesAndWithoutWhatIsOver(t *testing.T) {
	w := ordinary(t)
	big := strings.Repeat("y", maxPayload)
	step := func(id, parent string) Update {
		return Update{ID: id, ParentID: parent, Type: TypeStep, Action: Succeed, Payload: &big}
	}
	f := w.function("flow", time.Hour, script(w, func(e *told) (*hearth.Result, error) {
		for i := range 24 {
			if _, err := w.checkpoint(e, step(fmt.Sprint("s", i), "")); err != nil {
				return nil, err
			}
		}
		context := Update{ID: "c", Type: TypeContext, Action: Start}
		end := Update{ID: "c", Type: TypeContext, Action: Succeed, Payload: new("1")}
		if _, err := w.checkpoint(e, context, step("in", "c")); err != nil {
			return nil, err
		}
		if _, err := w.checkpoint(e, end, wait("w", 1)); err != nil {
			return nil, err
		}
		return answer(Pending, nil, nil)
	}, func(e *told) (*hearth.Result, error) {
		seen := map[string]bool{}
		for _, o := range e.InitialExecutionState.Operations {
			seen[o.ID] = true
		}
		a, _ := ParseARN(e.DurableExecutionArn)
		for next := e.InitialExecutionState.NextMarker; next != ""; {
			page, n, err := w.State(context.Background(), a, e.CheckpointToken, next, 5)
			if err != nil {
				return nil, err
			}
			for _, o := range page {
				if seen[o.ID] {
					return nil, errors.New("twice " + o.ID)
				}
				seen[o.ID] = true
			}
			next = n
		}
		return answer(Succeeded, new(fmt.Sprint(len(seen), seen["in"], seen["c"], e.InitialExecutionState.NextMarker != "")), nil)
	}))
	a := w.begin(f, "", "{}")
	w.advance(time.Second)
	// The execution, 24 steps, the context without what is in it, the wait.
	if x := w.get(a); x.Status != Succeeded || *x.Result != "27 false true true" {
		t.Errorf("%s %s %s", x.Status, deref(x.Result), encode(x.Error))
	}
}
