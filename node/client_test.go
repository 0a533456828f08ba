package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
)

func TestAnInvocationGoesThereAndBackWhole(t *testing.T) {
	placement := hearth.Placement{Path: hearth.PathWarm, Why: "why", Instance: "i-1", Container: "c-1", Knew: hearth.Knowledge{Idle: 2}}
	use := hearth.Use{End: hearth.EndOK, MemoryMiB: 128, PeakMiB: 30.5, Duration: time.Second, NetworkIn: 7}
	large := bytes.Repeat([]byte("x"), hearth.MaxPayload)
	n := &fakeNode{}
	n.invoke = func(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
		inv.Placement, inv.Use = placement, use
		inv.Timeline.Spent[hearth.StageRun] = time.Millisecond
		inv.Handing()
		want := invocation("f").Function
		if !reflect.DeepEqual(inv.Function, want) {
			t.Errorf("the function came as %+v, not %+v", inv.Function, want)
		}
		if inv.RequestID != "r-1" || inv.TraceID != "t" || inv.MemoryMiB != 256 || inv.DurableARN != "d" || !inv.Tail || inv.Caller.ARN != "me" {
			t.Errorf("the invocation came as %+v", inv)
		}
		return &hearth.Result{Payload: inv.Payload, ContentType: "text/plain", FunctionError: "Unhandled", Version: "7", LogTail: []byte{0xff, 1}}, nil
	}
	c, _ := pair(t, n)
	for _, payload := range [][]byte{[]byte("{}"), large} {
		inv := invocation("f")
		inv.MemoryMiB, inv.DurableARN, inv.Tail, inv.Caller.ARN, inv.Payload = 256, "d", true, "me", payload
		r, err := c.Invoke(context.Background(), inv)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r.Payload, payload) || r.ContentType != "text/plain" || r.FunctionError != "Unhandled" || r.Version != "7" || !bytes.Equal(r.LogTail, []byte{0xff, 1}) {
			t.Errorf("it answered %d bytes, %q %q %q %q", len(r.Payload), r.ContentType, r.FunctionError, r.Version, r.LogTail)
		}
		if inv.Placement != placement || inv.Use != use || inv.Timeline.Spent[hearth.StageRun] != time.Millisecond {
			t.Errorf("filled in were %+v, %+v, %v", inv.Placement, inv.Use, inv.Timeline.Spent)
		}
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	n := &fakeNode{}
	want := &hearth.Error{Op: "manager.place", Subject: "arn", Kind: hearth.TooManyRequests, Message: "Rate Exceeded.", Reason: hearth.ReasonConcurrency, RetryAfter: time.Second, Err: errors.New("full")}
	n.invoke = func(context.Context, *hearth.Invocation) (*hearth.Result, error) { return nil, want }
	c, _ := pair(t, n)
	_, err := c.Invoke(context.Background(), invocation("f"))
	got, ok := errors.AsType[*hearth.Error](err)
	if !ok || got.Kind != want.Kind || got.Reason != want.Reason || got.RetryAfter != want.RetryAfter || got.Error() != want.Error() {
		t.Errorf("came back as %v", err)
	}
}

// collector takes a streamed answer.
type collector struct {
	mu          sync.Mutex
	contentType string
	left        time.Duration
	b           bytes.Buffer
	fail        error
	first       chan struct{} // closed at the first piece
}

func (s *collector) Start(contentType string, deadline time.Time) error {
	s.contentType, s.left = contentType, time.Until(deadline)
	return nil
}

func (s *collector) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, s.fail
	}
	if s.b.Len() == 0 && s.first != nil {
		close(s.first)
	}
	return s.b.Write(p)
}

func TestAnswersAreStreamedPieceByPiece(t *testing.T) {
	n := &fakeNode{}
	first := make(chan struct{})
	n.invoke = func(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
		inv.Handing()
		if err := inv.Stream.Start("text/event-stream", time.Now().Add(time.Minute)); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(inv.Stream, "one "); err != nil {
			return nil, err
		}
		<-first // the caller has it before there is more
		_, err := io.WriteString(inv.Stream, "two")
		return &hearth.Result{}, err
	}
	c, _ := pair(t, n)
	inv := invocation("f")
	s := &collector{first: first}
	inv.Stream = s
	if _, err := c.Invoke(context.Background(), inv); err != nil {
		t.Fatal(err)
	}
	if s.b.String() != "one two" || s.contentType != "text/event-stream" || s.left < 30*time.Second || s.left > time.Minute {
		t.Errorf("streamed %q as %q, with %v left", s.b.String(), s.contentType, s.left)
	}
}

func TestAStreamsReceiverThatLeavesLetsTheFunctionEnd(t *testing.T) {
	n := &fakeNode{}
	ended := make(chan error, 1)
	n.invoke = func(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
		inv.Handing()
		if err := inv.Stream.Start("", time.Now().Add(time.Minute)); err != nil {
			return nil, err
		}
		var err error
		for range 100 {
			if _, err = inv.Stream.Write(make([]byte, 1024)); err != nil {
				break
			}
		}
		inv.Use.End = hearth.EndOK
		ended <- err
		return &hearth.Result{}, err
	}
	c, _ := pair(t, n)
	inv := invocation("f")
	inv.Stream = &collector{fail: errors.New("it has gone")}
	if _, err := c.Invoke(context.Background(), inv); hearth.KindOf(err) != hearth.Canceled {
		t.Errorf("ended with %v", err)
	}
	if err := <-ended; err != nil || inv.Use.End != hearth.EndOK {
		t.Errorf("the function saw %v, its use is %+v", err, inv.Use)
	}
}

func TestANodeIsToldAFunctionOnceAndAgainWhenItWantsTo(t *testing.T) {
	n := &fakeNode{invoke: func(context.Context, *hearth.Invocation) (*hearth.Result, error) { return &hearth.Result{}, nil }}
	c, h := pair(t, n)
	policy := &hearth.ExecutionPolicy{Sizing: &hearth.SizingPolicy{Mode: "off"}}
	told := 0
	c.cfg.Policy = func(hearth.Account, string) *hearth.ExecutionPolicy { told++; return policy }
	invoke := func() {
		t.Helper()
		if _, err := c.Invoke(context.Background(), invocation("f")); err != nil {
			t.Fatal(err)
		}
	}
	invoke()
	invoke()
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	if p, ok := h.Policy("111111111111", "f"); !ok || p.Sizing.Mode != "off" {
		t.Errorf("its policy is %+v there", p)
	}
	h.mu.Lock()
	clear(h.functions) // as after a restart
	h.mu.Unlock()
	invoke()
	if told != 2 {
		t.Errorf("told %d times", told)
	}
	policy = &hearth.ExecutionPolicy{Sizing: &hearth.SizingPolicy{Mode: "auto"}}
	c.PolicyChanged("111111111111", "")
	invoke()
	if got := n.noted(); !slices.Equal(got, []string{"policy f"}) {
		t.Errorf("the node heard of %q", got)
	}
}

// A weight is told with each call, so that a node shares by it what it makes.
func TestANodeIsToldTheAccountsWeight(t *testing.T) {
	n := &fakeNode{invoke: func(context.Context, *hearth.Invocation) (*hearth.Result, error) { return &hearth.Result{}, nil }}
	c, h := pair(t, n)
	weight := 4
	c.cfg.Weight = func(a hearth.Account) int {
		if a != "111111111111" {
			t.Errorf("%s was asked about", a)
		}
		return weight
	}
	for _, weight = range []int{4, 2, 0, 3, 1} {
		if _, err := c.Invoke(t.Context(), invocation("f")); err != nil {
			t.Fatal(err)
		}
		if got := h.Weight("111111111111"); got != max(weight, 1) {
			t.Errorf("it is %d there and not %d", got, weight)
		}
	}
	if got := h.Weight("222222222222"); got != 1 {
		t.Errorf("one of which nothing was told weighs %d", got)
	}
}

func TestNewerCodeEndsOlderAlsoIfNobodySaidSo(t *testing.T) {
	n := &fakeNode{invoke: func(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) { return &hearth.Result{}, nil }}
	c, h := pair(t, n)
	for generation := range uint64(3) {
		inv := invocation("f")
		inv.Function = function("f", generation+1)
		if _, err := c.Invoke(context.Background(), inv); err != nil {
			t.Fatal(err)
		}
	}
	if got := n.noted(); !slices.Equal(got, []string{"changed f", "changed f"}) || len(h.functions) != 1 {
		t.Errorf("the node heard of %q and knows %d", got, len(h.functions))
	}
}

func TestWhoLeavesBeforeAContainerHasTheEventIsNotWaitedFor(t *testing.T) {
	n := &fakeNode{}
	arrived, freed := make(chan struct{}), make(chan struct{})
	n.invoke = func(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
		close(arrived)
		<-ctx.Done() // the node hears of it
		close(freed)
		return nil, context.Cause(ctx)
	}
	c, _ := pair(t, n)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		_, err := c.Invoke(ctx, invocation("f"))
		ended <- err
	}()
	<-arrived
	cancel()
	<-freed
	if err := <-ended; hearth.KindOf(err) != hearth.Canceled {
		t.Errorf("ended with %v", err)
	}
}

func TestWhoLeavesLaterLetsTheFunctionEnd(t *testing.T) {
	n := &fakeNode{}
	ctx, cancel := context.WithCancel(context.Background())
	handed, left := make(chan struct{}), make(chan struct{})
	n.invoke = func(rctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
		inv.Handing()
		close(handed)
		<-left
		if rctx.Err() != nil {
			t.Error("the node was told that the caller has gone")
		}
		return &hearth.Result{Payload: []byte("1")}, nil
	}
	c, _ := pair(t, n)
	tr := invocation("f")
	ended := make(chan error, 1)
	go func() {
		_, err := c.Invoke(ctx, tr)
		ended <- err
	}()
	<-handed
	time.Sleep(20 * time.Millisecond) // for the frame to come; too short only makes it end as the one above
	cancel()
	close(left)
	if err := <-ended; err != nil && hearth.KindOf(err) != hearth.Canceled {
		t.Errorf("ended with %v", err)
	}
}

func TestADeathBeforeTheFunctionSawTheEventMovesTheInvocation(t *testing.T) {
	for name, after := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			c := dying(t, func(w http.ResponseWriter, r *http.Request, die func()) {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					t.Error(err)
				}
				if after {
					if _, err := w.Write(appendFrame(nil, frameTaken, nil)); err != nil {
						t.Error(err)
					}
					if err := http.NewResponseController(w).Flush(); err != nil {
						t.Error(err)
					}
				}
				die()
			})
			want := hearth.NodeGone
			if after {
				want = hearth.Service
			}
			if _, err := c.Invoke(context.Background(), invocation("f")); hearth.KindOf(err) != want {
				t.Errorf("ended with %v, want %s", err, want)
			}
		})
	}
}

func TestANodeThatIsNotThereIsGone(t *testing.T) {
	l := listen(t)
	c, err := NewClient(ClientConfig{Address: l.Addr().String(), Token: token(t), Clock: clock.System()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Invoke(context.Background(), invocation("f")); hearth.KindOf(err) != hearth.NodeGone {
		t.Errorf("ended with %v", err)
	}
}

func TestALostNodesInvocationsEndClearly(t *testing.T) {
	n := &fakeNode{}
	arrived, over := make(chan struct{}, 2), make(chan struct{})
	n.invoke = func(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
		arrived <- struct{}{}
		<-over // one that is lost says nothing more
		return nil, ctx.Err()
	}
	c, _ := pair(t, n)
	defer close(over)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Invoke(context.Background(), invocation("f"))
		ended <- err
	}()
	<-arrived
	c.Close()
	if err := <-ended; hearth.KindOf(err) != hearth.Service || !strings.Contains(err.Error(), "is not known") {
		t.Errorf("ended with %v", err)
	}
}

func TestStepsOfUpdatesReachTheNodeInOrder(t *testing.T) {
	n := &fakeNode{}
	c, _ := pair(t, n)
	a, b := function("f", 1), function("f", 2)
	ctx := context.Background()
	if err := c.Prepare(ctx, b); err != nil {
		t.Error(err)
	}
	if err := c.Prepare(ctx, function("broken", 1)); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("prepared: %v", err)
	}
	c.Overtake(ctx, a, b)
	c.Ahead(ctx, a, b, 0.5)
	c.Changed(a, b)
	c.Changed(b, nil)
	want := []string{"prepare f", "prepare broken", "overtake f", "ahead f", "changed f", "changed f"}
	await(t, "the changes", func() bool { return slices.Equal(n.noted(), want) })
}

func TestStrangersAreRefusedBothWays(t *testing.T) {
	n := &fakeNode{invoke: func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
		t.Error("a stranger's invocation ran")
		return &hearth.Result{}, nil
	}}
	l, h := listen(t), NewHandler(HandlerConfig{Clock: clock.System()})
	go func() { _ = h.Serve(l, token(t), n) }() // it ends with the listener
	c, err := NewClient(ClientConfig{Address: l.Addr().String(), Token: token(t), Clock: clock.System()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Ping(context.Background()); err == nil || !strings.Contains(err.Error(), errStranger.Error()) {
		t.Errorf("greeted with %v", err)
	}
	// One that does not look whom it talks to, and has no key.
	plain := &http.Client{Transport: insecure()}
	if resp, err := plain.Get("https://" + l.Addr().String() + prefix + "/ping"); err == nil {
		resp.Body.Close()
		t.Errorf("without a key the answer is %s", resp.Status)
	}
}

func TestATokenThatOthersCanReadIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	a, err := CreateToken(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := CreateToken(file)
	if err != nil || !a.key.Equal(b.key) {
		t.Errorf("made anew: %v", err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v: %v", info.Mode(), err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadToken(file); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("read: %v", err)
	}
	if _, err := ParseToken("abc"); err == nil {
		t.Error("abc is a token")
	}
}

func TestAConnectionServesAgain(t *testing.T) {
	n := &fakeNode{invoke: func(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
		inv.Handing()
		return &hearth.Result{Payload: inv.Payload}, nil
	}}
	c, _ := pair(t, n)
	var mu sync.Mutex
	dialed := 0
	tr := c.http.Transport.(*http.Transport)
	dial := tr.DialContext
	tr.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		dialed++
		mu.Unlock()
		return dial(ctx, network, address)
	}
	for range 20 {
		if _, err := c.Invoke(context.Background(), invocation("f")); err != nil {
			t.Fatal(err)
		}
	}
	// The pool learns of an answer's end a moment after its reader, so that it
	// may be one more now and then.
	if dialed > 10 {
		t.Errorf("20 invocations took %d connections", dialed)
	}
}
