package worker

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

func freezeAfter(d time.Duration) func(*Config) { return func(c *Config) { c.FreezeAfter = d } }

// freezesSoon is for tests that wait for a freeze.
var freezesSoon = freezeAfter(time.Millisecond)

func TestASlotServesFreezesAndServesAgain(t *testing.T) {
	h := newHarness(t, freezesSoon)
	c, sb := h.slot("")
	if got := phaseOf(c); got != phaseSlot {
		t.Fatalf("a new slot is in phase %d", got)
	}
	tl := &hearth.Timeline{}
	tl.Begin(h.clock.Now())
	if err := c.Load(context.Background(), h.function(echo), tl); err != nil {
		t.Fatal(err)
	}
	for _, s := range []hearth.Stage{hearth.StageAttach, hearth.StageBoot, hearth.StageInit} {
		if tl.Spent[s] <= 0 {
			t.Errorf("stage %v took %v", s, tl.Spent[s])
		}
	}
	for range 3 {
		h.serves(c)
		c.Idle()
		eventually(t, "the container is frozen", sb.isFrozen)
		if !c.Frozen() {
			t.Error("a container whose processes are stopped says that it is not frozen")
		}
	}
	h.serves(c)
	if c.Frozen() || sb.isFrozen() {
		t.Error("frozen after an invocation")
	}
	if f, th := h.d.count("Freeze"), h.d.count("Thaw"); f != 3 || th != 3 {
		t.Errorf("frozen %d times, thawed %d times, want 3 and 3", f, th)
	}
	h.wantLog(c, initStart,
		startLine(1), endLine(1), reportLine(1, "Init Duration: t "),
		startLine(2), endLine(2), reportLine(2, ""),
		startLine(3), endLine(3), reportLine(3, ""),
		startLine(4), endLine(4), reportLine(4, ""))
}

func TestTheWholeProcessorIsForInitAndTheShareForInvocations(t *testing.T) {
	h := newHarness(t)
	var during float64
	c, sb := h.started(func(p *process) {
		p.c.mu.Lock()
		during = p.c.limits.CPUs
		p.c.mu.Unlock()
		echo(p)
	})
	h.serves(c)
	if during != 0 || sb.limits.CPUs != 128.0/1769 || sb.limits.MemoryBytes != 128<<20 || sb.limits.TmpBytes != 512<<20 {
		t.Errorf("%v processors during init; afterwards %+v", during, sb.limits)
	}
}

func TestAnEventSaysAllThatItsCallerSaid(t *testing.T) {
	h := newHarness(t)
	events := make(chan event, 1)
	c, _ := h.started(func(p *process) {
		e := p.next()
		events <- e
		p.respond(e, `"ok"`)
		echo(p)
	})
	inv := h.invocation(c, `{"a":1}`)
	inv.InvokedARN, inv.TraceID, inv.ClientContext, inv.CognitoID, inv.TenantID = "arn:x:alias", "Root=1", `{"c":1}`, `{"i":1}`, "blue"
	r, _, err := c.Invoke(context.Background(), inv)
	if err != nil || string(r.Payload) != `"ok"` || r.Version != hearth.Latest || !strings.Contains(string(r.LogTail), "REPORT") {
		t.Fatalf("%+v %v", r, err)
	}
	if inv.Timeline.Began.IsZero() {
		t.Error("stage Run was not ended")
	}
	e := <-events
	for name, want := range map[string]string{
		"Invoked-Function-Arn": "arn:x:alias", "Trace-Id": "Root=1", "Client-Context": `{"c":1}`, "Cognito-Identity": `{"i":1}`, "Aws-Tenant-Id": "blue",
	} {
		if got := e.header.Get("Lambda-Runtime-" + name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if e.id != inv.RequestID || string(e.payload) != `{"a":1}` {
		t.Errorf("%+v", e)
	}
}

func TestOnlyWhatWaitsForWorkIsFrozenButNotForEver(t *testing.T) {
	h := newHarness(t, freezesSoon)
	finish := make(chan struct{})
	c, sb := h.started(func(p *process) {
		e := p.next()
		p.respond(e, `1`)
		p.wait(finish) // work of its own, after the response
		e = p.next()
		p.respond(e, `2`)
		p.hang()
	}, timeout(time.Minute))
	h.invoke(c, `{}`)
	c.Idle()
	looked := h.d.count("Freeze")
	time.Sleep(20 * time.Millisecond) // twenty times what it takes
	if looked != 0 || h.d.count("Freeze") != 0 {
		t.Fatal("frozen while it worked")
	}
	close(finish)
	eventually(t, "it is frozen once it waits for work", sb.isFrozen)
	h.invoke(c, `{}`)
	c.Idle()
	time.Sleep(5 * time.Millisecond)
	if sb.isFrozen() {
		t.Fatal("frozen while it worked")
	}
	h.clock.advance(time.Minute)
	eventually(t, "what works for longer than the function's timeout is frozen", sb.isFrozen)
}

func TestAnInvocationDuringFreezingWaitsAndIsServed(t *testing.T) {
	h := newHarness(t, freezesSoon)
	c, _ := h.started(echo)
	freezing, frozen := make(chan struct{}), make(chan struct{})
	h.d.hook("Freeze", func(*fakeContainer) error {
		close(freezing)
		<-frozen
		return nil
	})
	h.serves(c)
	c.Idle()
	await(t, "the freezing begins", freezing)
	served := make(chan struct{})
	go func() {
		defer close(served)
		h.serves(c)
	}()
	close(frozen)
	await(t, "the invocation is served", served)
	if h.d.count("Thaw") != 1 {
		t.Errorf("thawed %d times", h.d.count("Thaw"))
	}
}

func TestATimerThatFiresAmidAnInvocationFreezesNothing(t *testing.T) {
	h := newHarness(t)
	handed, finish := make(chan struct{}), make(chan struct{})
	c, _ := h.started(func(p *process) {
		e := p.next()
		close(handed)
		p.wait(finish)
		p.respond(e, `"ok"`)
		echo(p)
	})
	c.Idle()
	served := make(chan struct{})
	go func() {
		defer close(served)
		h.invoke(c, `{}`)
	}()
	await(t, "the event is handed over", handed)
	c.freezeNow() // it was about to fire when the invocation stopped it
	close(finish)
	await(t, "the invocation is served", served)
	h.serves(c)
	if n := h.d.count("Freeze"); n != 0 {
		t.Errorf("frozen %d times", n)
	}
}

func TestAContainerThatCannotBeFrozenServesOn(t *testing.T) {
	h := newHarness(t, freezesSoon)
	c, sb := h.started(echo)
	h.d.fail("Freeze", errTest)
	h.serves(c)
	c.Idle()
	eventually(t, "the failure is told", func() bool { return strings.Contains(h.told(), errTest.Error()) })
	if c.Frozen() || isDone(c) {
		t.Error("it is frozen, or dead, after a freeze that failed")
	}
	h.serves(c)
	c.Idle()
	eventually(t, "the next freeze succeeds", sb.isFrozen)
}

func TestAContainerThatCannotBeThawedIsGone(t *testing.T) {
	h := newHarness(t, freezesSoon)
	c, sb := h.started(echo)
	c.Idle()
	eventually(t, "it is frozen", sb.isFrozen)
	h.d.fail("Thaw", errTest)
	_, reusable, err := c.Invoke(context.Background(), h.invocation(c, `{}`))
	if hearth.KindOf(err) != hearth.ContainerGone || !errors.Is(err, errTest) || reusable || !isDone(c) {
		t.Errorf("%v, reusable %v, done %v", err, reusable, isDone(c))
	}
}

func TestTheFunctionRunsToItsEndWithoutItsCaller(t *testing.T) {
	h := newHarness(t)
	handed, finish := make(chan struct{}), make(chan struct{})
	c, _ := h.started(func(p *process) {
		e := p.next()
		close(handed)
		p.wait(finish)
		p.respond(e, `"done"`)
		echo(p)
	})
	ctx, cancel := context.WithCancel(context.Background())
	var r *hearth.Result
	var reusable bool
	var err error
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		r, reusable, err = c.Invoke(ctx, h.invocation(c, `{}`))
	}()
	await(t, "the event is handed over", handed)
	cancel()
	select {
	case <-returned:
		t.Fatal("the invocation ended with its caller")
	case <-time.After(10 * time.Millisecond):
	}
	close(finish)
	await(t, "the invocation ends", returned)
	if err != nil || string(r.Payload) != `"done"` || !reusable {
		t.Fatalf("%+v, reusable %v, %v", r, reusable, err)
	}
	h.serves(c)
}

// receiver is a ResponseStream that takes so many writes, and then no more.
type receiver struct {
	mu    sync.Mutex
	takes int
	begun string
	got   strings.Builder
}

func (r *receiver) Start(contentType string, _ time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = contentType
	return nil
}

func (r *receiver) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.takes == 0 {
		return 0, io.ErrClosedPipe
	}
	r.takes--
	return r.got.Write(p)
}

func TestAStreamedResponseArrivesPieceByPiece(t *testing.T) {
	h := newHarness(t)
	c, _ := h.started(func(p *process) {
		e := p.next()
		p.stream(e, strings.NewReader("a long story"))
		echo(p)
	})
	inv, to := h.invocation(c, `{}`), &receiver{takes: 100}
	inv.Stream = to
	r, reusable, err := c.Invoke(context.Background(), inv)
	if err != nil || !reusable || to.got.String() != "a long story" || to.begun != "text/plain" || len(r.Payload) != 0 {
		t.Fatalf("%+v %+v, reusable %v, %v", to, r, reusable, err)
	}
	h.serves(c)
}

func TestAStreamWhoseReceiverHasGoneRunsToItsEnd(t *testing.T) {
	h := newHarness(t)
	c, _ := h.started(func(p *process) {
		p.stream(p.next(), strings.NewReader("nobody listens"))
		echo(p)
	})
	inv := h.invocation(c, `{}`)
	inv.Stream = &receiver{}
	_, reusable, err := c.Invoke(context.Background(), inv)
	if hearth.KindOf(err) != hearth.Canceled || !reusable || isDone(c) {
		t.Fatalf("%v, reusable %v, done %v", err, reusable, isDone(c))
	}
	h.wantLog(c, initStart, startLine(1), endLine(1), reportLine(1, "Init Duration: t "))
	h.serves(c)
}

func TestContainersAreRetiredBeforeTheirCredentialsExpire(t *testing.T) {
	h := newHarness(t)
	c, _ := h.started(echo)
	h.clock.advance(containerLife - time.Minute)
	h.serves(c)
	h.clock.advance(2 * time.Minute)
	if r, reusable, err := c.Invoke(context.Background(), h.invocation(c, `{}`)); hearth.KindOf(err) != hearth.ContainerGone || reusable {
		t.Errorf("an invocation was given old credentials: %+v, reusable %v, %v", r, reusable, err)
	}
	if !isDone(c) {
		t.Error("it is not over")
	}
}

func TestAnInvocationInWhichTheCredentialsGetOldIsTheLast(t *testing.T) {
	h := newHarness(t)
	c, _ := h.started(func(p *process) {
		p.serve(func(e event) string {
			h.clock.advance(containerLife + time.Minute)
			return string(e.payload)
		})
	}, timeout(24*time.Hour))
	r, reusable := h.invoke(c, `{}`)
	if r.FunctionError != "" || reusable {
		t.Errorf("%+v, reusable %v", r, reusable)
	}
}

func TestTheAgeOfCredentialsIsNotThatOfTheSlot(t *testing.T) {
	h := newHarness(t)
	c, _ := h.slot("")
	h.clock.advance(48 * time.Hour) // in the pool
	if err := c.Load(context.Background(), h.function(echo), &hearth.Timeline{}); err != nil {
		t.Fatal(err)
	}
	h.serves(c)
	h.serves(c)
}

func TestUsageIsOfTheSandboxAndNothingOnceThatHasGone(t *testing.T) {
	h := newHarness(t)
	c, _ := h.started(echo)
	if u := c.Usage(); u.MemoryMiB != 3 || u.PeakMiB != 5 || u.CPU != time.Millisecond {
		t.Errorf("%+v", u)
	}
	if err := c.Destroy(); err != nil {
		t.Fatal(err)
	}
	if u := c.Usage(); u != (hearth.Usage{}) {
		t.Errorf("after its end: %+v", u)
	}
}
