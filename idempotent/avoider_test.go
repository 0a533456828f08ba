package idempotent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/idempotent"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/files"
	"github.com/hearth-faas/hearth/store/sqlite"
)

const ours hearth.Account = "111111111111"

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// world is what is outside: states by name, and what there is of functions.
type world struct {
	mu        sync.Mutex
	states    map[string]idempotent.State
	down      error
	asked     int
	resources []*idempotent.Resource
	functions map[string]*hearth.Function
	said      []hearth.Decision
	block     chan struct{} // states are not told before it is closed, unless it is nil
}

func newWorld() *world {
	w := new(world)
	w.reset()
	return w
}

// reset makes it a new one.
func (w *world) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.states, w.down, w.said, w.resources = map[string]idempotent.State{}, nil, nil, nil
	w.functions = map[string]*hearth.Function{"f": {Account: ours, Name: "f", Version: hearth.Latest, Package: hearth.Package{SHA256: "one"}}}
}

func (w *world) State(ctx context.Context, r *idempotent.Resource) (idempotent.State, error) {
	w.mu.Lock()
	block := w.block
	w.asked++
	w.resources = append(w.resources, r)
	w.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return idempotent.State{}, ctx.Err()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.states[r.Name], w.down
}

func (w *world) set(name, value string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.states[name] = idempotent.State{Value: value}
}

func (w *world) Resolve(_ context.Context, account hearth.Account, name, _ string) (*hearth.Function, error) {
	if f := w.functions[name]; f != nil && f.Account == account {
		return f, nil
	}
	return nil, hearth.Errorf(hearth.NotFound, "no %s", name)
}

func (w *world) Record(d *hearth.Decision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, *d)
}

// why is what was said of a request, joined.
func (w *world) why(request string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, d := range w.said {
		if d.RequestID == request {
			all = append(all, d.Chosen+": "+d.Why)
		}
	}
	return strings.Join(all, "; ")
}

// plainSeal hides nothing but shows that it was asked.
type plainSeal struct{}

func (plainSeal) Seal(plain, associated []byte) ([]byte, error) {
	out := []byte(string(associated) + "|")
	for _, b := range plain {
		out = append(out, b^0x55)
	}
	return out, nil
}

func (plainSeal) Open(sealed, associated []byte) ([]byte, error) {
	rest, ok := strings.CutPrefix(string(sealed), string(associated)+"|")
	if !ok {
		return nil, errors.New("it belongs to something else")
	}
	out := []byte(rest)
	for i := range out {
		out[i] ^= 0x55
	}
	return out, nil
}

// place is an Avoider with all around it.
type place struct {
	*world
	*idempotent.Avoider
	t     testing.TB
	clock *clock.Fake
	store store.Store
	dir   string
	cfg   idempotent.Config
	n     atomic.Int64 // requests
	runs  atomic.Int64
}

func newPlace(t testing.TB, change ...func(*idempotent.Config)) *place {
	t.Helper()
	dir := t.TempDir()
	s, err := sqlite.Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	p := &place{world: newWorld(), t: t, clock: clock.NewFake(noon), store: s, dir: dir}
	for _, c := range change {
		c(&p.cfg)
	}
	p.open()
	t.Cleanup(p.shut)
	return p
}

func (p *place) open() {
	p.t.Helper()
	blobs, err := files.Open(p.dir + "/results")
	if err != nil {
		p.t.Fatal(err)
	}
	p.cfg.Store, p.cfg.Blobs, p.cfg.Functions, p.cfg.States = p.store, blobs, p.world, p.world
	p.cfg.Seal, p.cfg.Clock, p.cfg.Recorder, p.cfg.Log = plainSeal{}, p.clock, p.world, slog.New(slog.DiscardHandler)
	p.cfg.Timeout = time.Minute
	if p.Avoider, err = idempotent.Open(context.Background(), p.cfg); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) shut() {
	p.t.Helper()
	if err := p.Close(); err != nil {
		p.t.Error(err)
	}
}

// declare declares f, in JSON.
func (p *place) declare(name, declaration string) {
	p.t.Helper()
	var d hearth.Idempotence
	if err := json.Unmarshal([]byte(declaration), &d); err != nil {
		p.t.Fatal(err)
	}
	if err := p.Set(context.Background(), ours, name, &d); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) request(event string) *hearth.Invocation {
	return &hearth.Invocation{RequestID: fmt.Sprint("r", p.n.Add(1)), Account: ours, Name: "f", Function: p.functions["f"], Payload: []byte(event)}
}

// answer runs a request with a result that tells which run made it.
func (p *place) answer(inv *hearth.Invocation) (string, error) {
	r, err := p.Avoider.Invoke(context.Background(), inv, func(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
		inv.Placement.Path = hearth.PathReuse
		inv.Timeline.Spent[hearth.StageRun] = time.Second
		return &hearth.Result{Payload: fmt.Appendf(nil, "run %d", p.runs.Add(1)), LogTail: []byte("log")}, nil
	})
	if err != nil {
		return "", err
	}
	return string(r.Payload), nil
}

// want demands the answer of a request for an event.
func (p *place) want(event, answer string) *hearth.Invocation {
	p.t.Helper()
	inv := p.request(event)
	got, err := p.answer(inv)
	if err != nil || got != answer {
		p.t.Errorf("%s is answered with %q, %v, not %q (%s)", event, got, err, answer, p.why(inv.RequestID))
	}
	p.settle()
	return inv
}

// settle waits until what has run is recorded: then nothing more is said.
func (p *place) settle() {
	p.t.Helper()
	p.await("runs to be recorded", func() bool { return p.InFlight() == 0 })
}

func (p *place) await(what string, is func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !is() {
		if time.Now().After(deadline) {
			p.t.Fatalf("waited for %s for a minute", what)
		}
		time.Sleep(time.Millisecond)
	}
}

const oneObject = `{"dependencies": [{"s3": "s3://b/${$.key}", "endpoint": "http://s3"}]}`

const named = "s3://b/k at http://s3"

func TestAnEqualRequestIsAnsweredWithoutARun(t *testing.T) {
	p := newPlace(t)
	p.declare("f", oneObject)
	p.set(named, "v1")
	first := p.want(`{"key":"k"}`, "run 1")
	if first.Recorded != "" || first.Placement.Path != hearth.PathReuse {
		t.Errorf("the first is answered as %q, %+v", first.Recorded, first.Placement)
	}
	again := p.want(`{ "key": "k" }`, "run 1")
	if again.Recorded != first.RequestID || again.Placement.Path != hearth.PathRecorded {
		t.Errorf("the second is answered as %q, %+v", again.Recorded, again.Placement)
	}
	if c := p.Counts(ours, "f"); c.Recorded != 1 || c.Ran != 1 || c.SavedSeconds != 1 || c.Records != 1 {
		t.Errorf("counted %+v", c)
	}
}

func TestAChangeOfWhateverMattersIsRun(t *testing.T) {
	p := newPlace(t)
	p.declare("f", oneObject)
	p.set(named, "v1")
	p.want(`{"key":"k"}`, "run 1")
	p.set(named, "v2")
	inv := p.want(`{"key":"k"}`, "run 2")
	if why := inv.Placement.Why; !strings.Contains(why, named+" has changed since request r1") {
		t.Errorf("it is run because %s", why)
	}
	p.want(`{"key":"k","more":1}`, "run 3")
	changed := *p.functions["f"]
	for i, change := range []func(){
		func() { changed.Package.SHA256 = "two" },
		func() { changed.Env = map[string]string{"MODE": "fast"} },
		func() { changed.Handler = "other" },
		func() { changed.Role = "arn:aws:iam::111111111111:role/other" },
		func() { changed.Layers = []hearth.Layer{{ARN: "l:1", Package: hearth.Package{SHA256: "l"}}} },
		func() { changed.Version = "1" },
	} {
		change()
		changed.Generation++
		f := changed
		p.functions["f"] = &f
		p.want(`{"key":"k"}`, fmt.Sprint("run ", 4+i))
		p.want(`{"key":"k"}`, fmt.Sprint("run ", 4+i))
	}
	changed.MemoryMiB, changed.Timeout, changed.Description = 512, time.Minute, "another"
	p.want(`{"key":"k"}`, "run 9")
}

func TestOnlyTheDeclaredParametersAndVariablesMatter(t *testing.T) {
	p := newPlace(t)
	p.declare("f", `{"parameters": ["$.a", "$.list[1]['x y']"], "environment": ["MODE"]}`)
	p.want(`{"a":1,"b":1}`, "run 1")
	p.want(`{"b":2,"a":1}`, "run 1")
	p.want(`{"a":1,"list":[0,{"x y":true}]}`, "run 2")
	p.want(`{"a":null}`, "run 3")
	p.want(`{}`, "run 4")
	f := *p.functions["f"]
	f.Env = map[string]string{"OTHER": "x"}
	p.functions["f"] = &f
	p.want(`{"a":1}`, "run 1")
	g := f
	g.Env = map[string]string{"MODE": "x"}
	p.functions["f"] = &g
	p.want(`{"a":1}`, "run 5")
}

func TestWhatChangesDuringTheRunIsNotRecordedAsSeen(t *testing.T) {
	p := newPlace(t)
	p.declare("f", oneObject)
	p.set(named, "v1")
	inv := p.request(`{"key":"k"}`)
	_, err := p.Avoider.Invoke(t.Context(), inv, func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
		p.set(named, "v2")
		return &hearth.Result{Payload: []byte("half old, half new")}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p.settle()
	p.want(`{"key":"k"}`, "run 1")
	p.set(named, "v1")
	p.want(`{"key":"k"}`, "run 2")
	if why := p.why(inv.RequestID); !strings.Contains(why, "not recorded: "+named+" has changed during the run") {
		t.Error(why)
	}
}

func TestAFailureLeavesNothing(t *testing.T) {
	p := newPlace(t)
	p.declare("f", oneObject)
	p.set(named, "v1")
	for _, failed := range []struct {
		r   *hearth.Result
		err error
	}{{&hearth.Result{FunctionError: "Unhandled", Payload: []byte("{}")}, nil}, {nil, hearth.Errorf(hearth.TooManyRequests, "full")}} {
		r, err := p.Avoider.Invoke(t.Context(), p.request(`{"key":"k"}`), func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
			return failed.r, failed.err
		})
		if r != failed.r || err != failed.err {
			t.Errorf("a failure is answered with %v, %v", r, err)
		}
	}
	p.want(`{"key":"k"}`, "run 1")
	if _, err := p.Avoider.Invoke(t.Context(), p.request(`{"key":"other"}`), func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
		panic("at the worst moment")
	}); hearth.KindOf(err) != hearth.Service {
		t.Errorf("a run that panics is answered with %v", err)
	}
	p.want(`{"key":"other"}`, "run 2")
}

func TestAStateThatIsNotToBeHadMeansRun(t *testing.T) {
	p := newPlace(t)
	p.declare("f", oneObject)
	p.set(named, "v1")
	p.want(`{"key":"k"}`, "run 1")
	p.down = errors.New("the server is away")
	inv := p.want(`{"key":"k"}`, "run 2")
	if why := inv.Placement.Why; !strings.Contains(why, named+": the server is away") {
		t.Error(why)
	}
	p.down = nil
	p.want(`{"key":"k"}`, "run 1")
	p.want(`{"other":"k"}`, "run 3") // no ${$.key} to ask about
	p.want(`{"other":"k"}`, "run 4")
	if c := p.Counts(ours, "f"); c.Unknown != 3 {
		t.Errorf("%d unknown", c.Unknown)
	}
}

func TestAStateThatJustChangedIsNotSkippedBy(t *testing.T) {
	p := newPlace(t)
	p.declare("f", oneObject)
	p.states[named] = idempotent.State{Value: "v1", Unsettled: true}
	p.want(`{"key":"k"}`, "run 1")
	p.want(`{"key":"k"}`, "run 2")
	p.set(named, "v1")
	p.want(`{"key":"k"}`, "run 3")
	p.want(`{"key":"k"}`, "run 3")
}

func TestTheCallerCanInsistOnARun(t *testing.T) {
	p := newPlace(t)
	p.declare("f", oneObject)
	p.want(`{"key":"k"}`, "run 1")
	inv := p.request(`{"key":"k"}`)
	inv.Recompute = true
	if got, err := p.answer(inv); got != "run 2" || err != nil || inv.Recorded != "" {
		t.Errorf("%q, %v, recorded %q", got, err, inv.Recorded)
	}
	p.await("it to be recorded", func() bool { return strings.Contains(p.why(inv.RequestID), "recorded: ") })
	p.want(`{"key":"k"}`, "run 2") // its result has taken the other's place
}

func TestAResultIsGoodForItsTime(t *testing.T) {
	p := newPlace(t)
	p.declare("f", `{"ttlSeconds": 60}`)
	p.want(`{}`, "run 1")
	p.clock.Advance(59 * time.Second)
	p.want(`{}`, "run 1")
	p.clock.Advance(time.Second)
	inv := p.want(`{}`, "run 2")
	if why := inv.Placement.Why; !strings.Contains(why, "is older than the 1m0s that it is good for") {
		t.Error(why)
	}
}

func TestRecordsSurviveARestart(t *testing.T) {
	p := newPlace(t)
	p.declare("f", `{"dependencies": [{"s3": "s3://b/${$.key}", "endpoint": "http://s3"}], "secrets": {"x": "y"}}`)
	large := strings.Repeat("x", 100_000)
	if _, err := p.Avoider.Invoke(t.Context(), p.request(`{"key":"large"}`), func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
		return &hearth.Result{Payload: []byte(large)}, nil
	}); err != nil {
		t.Fatal(err)
	}
	p.want(`{"key":"k"}`, "run 1")
	p.shut()
	p.open()
	p.want(`{"key":"k"}`, "run 1")
	p.want(`{"key":"large"}`, large)
	if n, err := p.Forget(t.Context(), ours, "f"); n != 2 || err != nil {
		t.Errorf("%d forgotten, %v", n, err)
	}
	p.want(`{"key":"k"}`, "run 2")
	if err := p.Set(t.Context(), ours, "f", nil); err != nil {
		t.Fatal(err)
	}
	if p.Declared(p.functions["f"]) || p.Counts("", "").Records != 0 {
		t.Error("what was taken back is still there")
	}
	p.want(`{"key":"k"}`, "run 3")
	p.want(`{"key":"k"}`, "run 4")
}

func TestAnotherAccountsFunctionIsNotMeant(t *testing.T) {
	p := newPlace(t)
	p.declare("f", `{}`)
	p.want(`{}`, "run 1")
	other := p.request(`{}`)
	theirs := *p.functions["f"]
	theirs.Account = "222222222222"
	other.Function, other.Account = &theirs, theirs.Account
	if got, err := p.answer(other); got != "run 2" || err != nil || p.Declared(&theirs) {
		t.Errorf("another account's is answered with %q, %v", got, err)
	}
	if err := p.Set(t.Context(), theirs.Account, "f", &hearth.Idempotence{}); err != nil {
		t.Fatal(err)
	}
	if got, err := p.answer(other); got != "run 3" || err != nil {
		t.Errorf("declared, it is answered with %q, %v", got, err)
	}
}

func TestAResultDependsOnWhatAnotherFunctionDependsOn(t *testing.T) {
	p := newPlace(t)
	p.functions["prices"] = &hearth.Function{Account: ours, Name: "prices", Version: hearth.Latest}
	p.declare("f", `{"dependencies": [{"function": "prices", "event": {"key": "${$.day}", "all": "${$}"}}]}`)
	p.want(`{"day":"mon"}`, "run 1") // prices is not declared
	p.want(`{"day":"mon"}`, "run 2")
	p.declare("prices", oneObject)
	p.set("s3://b/mon at http://s3", "v1")
	p.want(`{"day":"mon"}`, "run 3")
	p.want(`{"day":"mon"}`, "run 3")
	p.set("s3://b/mon at http://s3", "v2")
	p.want(`{"day":"mon"}`, "run 4")
	prices := *p.functions["prices"]
	prices.Package.SHA256, prices.Generation = "new", 1
	p.functions["prices"] = &prices
	inv := p.want(`{"day":"mon"}`, "run 5")
	if why := inv.Placement.Why; !strings.Contains(why, "what prices depends on has changed") {
		t.Error(why)
	}
	p.declare("prices", `{"dependencies": [{"function": "f"}]}`) // a circle
	p.want(`{"day":"mon"}`, "run 6")
	p.want(`{"day":"mon"}`, "run 7")
}
