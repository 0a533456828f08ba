package durable

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/store"
)

const account hearth.Account = "000000000000"

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// memory is a store in memory that outlives those who use it.
type memory struct {
	mu      sync.RWMutex
	records map[string][]byte // bucket NUL key
}

// handle is a process's access to a memory: none any more once it is dead.
type handle struct {
	m    *memory
	dead atomic.Bool
	fail atomic.Int64 // so many Updates fail before they begin
}

var errDead = errors.New("the process has ended")

func (h *handle) View(_ context.Context, fn func(store.Reader) error) error {
	h.m.mu.RLock()
	defer h.m.mu.RUnlock()
	if h.dead.Load() {
		return errDead
	}
	return fn(memoryTx{h.m.records})
}

func (h *handle) Update(_ context.Context, fn func(store.Tx) error) error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if h.dead.Load() {
		return errDead
	}
	if h.fail.Add(-1) >= 0 {
		return errors.New("the disk is full")
	}
	tx := memoryTx{maps.Clone(h.m.records)}
	if err := fn(tx); err != nil {
		return err
	}
	h.m.records = tx.records
	return nil
}

func (h *handle) Close() error { return nil }

type memoryTx struct{ records map[string][]byte }

func (t memoryTx) Get(bucket, key string) ([]byte, bool, error) {
	v, ok := t.records[bucket+"\x00"+key]
	return slices.Clone(v), ok, nil
}

func (t memoryTx) Scan(bucket, prefix, after string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for _, k := range slices.Sorted(maps.Keys(t.records)) {
			key, ok := strings.CutPrefix(k, bucket+"\x00")
			if ok && strings.HasPrefix(key, prefix) && key > after && !yield(store.Record{Key: key, Value: slices.Clone(t.records[k])}, nil) {
				return
			}
		}
	}
}

func (t memoryTx) Put(bucket, key string, value []byte) error {
	if err := store.CheckKey(bucket, key); err != nil {
		return err
	}
	t.records[bucket+"\x00"+key] = slices.Clone(value)
	return nil
}

func (t memoryTx) Delete(bucket, key string) error {
	delete(t.records, bucket+"\x00"+key)
	return nil
}

// world is executions over functions that are Go code.
type world struct {
	t     fataler
	clock *clock.Fake
	store store.Store
	*Executions

	mu        sync.Mutex
	functions map[string]*hearth.Function
	code      map[string]func(context.Context, *hearth.Invocation) (*hearth.Result, error)
	invoked   []*hearth.Invocation
}

type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func newWorld(t fataler, s store.Store) *world {
	w := &world{t: t, clock: clock.NewFake(began), store: s, functions: map[string]*hearth.Function{},
		code: map[string]func(context.Context, *hearth.Invocation) (*hearth.Result, error){}}
	w.open()
	return w
}

func ordinary(t testing.TB) *world {
	w := newWorld(t, &handle{m: &memory{records: map[string][]byte{}}})
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// open makes a process of w's store.
func (w *world) open() {
	w.t.Helper()
	x, err := Open(context.Background(), Config{
		Store: w.store, Functions: w, Invoker: invoker{w}, Clock: w.clock, Log: slog.New(slog.DiscardHandler),
		ParseName: func(name string) (hearth.Account, string, string, bool) {
			function, qualifier, _ := strings.Cut(name, ":")
			return "", function, qualifier, function != ""
		},
		Rand: &lockedRand{r: rand.NewChaCha8([32]byte{1})},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if w.Executions != nil { // its ids must differ from those of the process before
		fresh := &lockedRand{r: rand.NewChaCha8([32]byte{byte(rand.IntN(256)), byte(rand.IntN(256)), byte(rand.IntN(256)), byte(rand.IntN(256))})}
		x.setup.random = func(b []byte) { _, _ = fresh.Read(b) }
	}
	w.Executions = x
	x.Run()
	w.settle()
}

// settle waits until nothing is under way.
func (w *world) settle() { w.wg.Wait() }

type lockedRand struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedRand) Read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(b)
}

// invoker is the frontend: it hands on to the code.
type invoker struct{ w *world }

func (i invoker) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	f, err := i.w.Resolve(ctx, inv.Account, inv.Name, inv.Qualifier)
	if err != nil {
		return nil, err
	}
	inv.Function = f
	i.w.mu.Lock()
	i.w.invoked = append(i.w.invoked, inv)
	code := i.w.code[inv.Name]
	i.w.mu.Unlock()
	return code(ctx, inv)
}

func (w *world) Resolve(_ context.Context, _ hearth.Account, name, qualifier string) (*hearth.Function, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f := w.functions[name]; f != nil {
		return f, nil
	}
	if qualifier != "" {
		name += ":" + qualifier
	}
	return nil, hearth.Errorf(hearth.NotFound, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:%s", name)
}

// function makes a function of code; a timeout of 0 makes it one that is not
// durable.
func (w *world) function(name string, timeout time.Duration, code func(context.Context, *hearth.Invocation) (*hearth.Result, error)) *hearth.Function {
	f := &hearth.Function{Account: account, Region: "us-east-1", Name: name, Version: "1", State: hearth.Active, Role: "arn:aws:iam::000000000000:role/r"}
	if timeout > 0 {
		f.Durable = &hearth.Durable{ExecutionTimeout: timeout, RetentionDays: 7}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.functions[name], w.code[name] = f, code
	return f
}

// advance lets time pass, and what comes of it.
func (w *world) advance(d time.Duration) {
	w.clock.Advance(d)
	w.settle()
}

// pass is advance for what makes new timers as it goes.
func (w *world) pass(d time.Duration) {
	for range int(d / time.Second) {
		w.advance(time.Second)
	}
}

func (w *world) begin(f *hearth.Function, name, input string) ARN {
	w.t.Helper()
	arn, err := w.Start(context.Background(), Begin{Function: f, Name: name, Input: input, MaxResult: maxSyncResult})
	if err != nil {
		w.t.Fatal(err)
	}
	a, ok := ParseARN(arn)
	if !ok {
		w.t.Fatalf("%s is no ARN", arn)
	}
	w.settle()
	return a
}

func (w *world) get(a ARN) *Execution {
	w.t.Helper()
	x, err := w.Get(context.Background(), a)
	if err != nil {
		w.t.Fatal(err)
	}
	return x
}

// history is all of an execution's, by pages of three, and the same backwards.
func (w *world) history(a ARN) []*Event {
	w.t.Helper()
	read := func(newest bool) (all []*Event) {
		for marker := ""; ; {
			page, next, err := w.History(context.Background(), a, newest, marker, 3)
			if err != nil {
				w.t.Fatal(err)
			}
			all = append(all, page...)
			if marker = next; next == "" {
				return all
			}
		}
	}
	all, back := read(false), read(true)
	slices.Reverse(back)
	if a, b := story(all), story(back); a != b {
		w.t.Fatalf("forwards %s\nbackwards %s", a, b)
	}
	return all
}

func story(events []*Event) string {
	var all []string
	for _, e := range events {
		all = append(all, string(e.Type))
	}
	return strings.Join(all, " ")
}

// event is what a function is told.
type told struct {
	DurableExecutionArn   string
	CheckpointToken       string
	UpdatedOperationIds   []string
	InitialExecutionState struct {
		Operations []wireOperation
		NextMarker string
	}
}

func read(t fataler, inv *hearth.Invocation) told {
	var e told
	d := json.NewDecoder(bytes.NewReader(inv.Payload))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		t.Fatalf("%s: %v", inv.Payload, err)
	}
	return e
}

func answer(status Status, result *string, err *Error) (*hearth.Result, error) {
	return &hearth.Result{Payload: encode(struct {
		Status Status
		Result *string `json:",omitempty"`
		Error  *Error  `json:",omitempty"`
	}{status, result, err}), Version: "1"}, nil
}

// checkpoint makes one for a function, and keeps the token in e.
func (w *world) checkpoint(e *told, updates ...Update) ([]*Operation, error) {
	a, _ := ParseARN(e.DurableExecutionArn)
	next, changed, err := w.Executions.Checkpoint(context.Background(), Checkpoint{ARN: a, Token: e.CheckpointToken, Updates: updates})
	if err == nil {
		e.CheckpointToken = next
	}
	return changed, err
}

func (e *told) operation(id string) *wireOperation {
	for i := range e.InitialExecutionState.Operations {
		if o := &e.InitialExecutionState.Operations[i]; o.ID == id {
			return o
		}
	}
	return nil
}

func wantMessage(t testing.TB, err error, kind hearth.Kind, message string) {
	t.Helper()
	if hearth.KindOf(err) != kind || !strings.Contains(fmt.Sprint(err), message) {
		t.Errorf("got %v, want %s: %s", err, kind, message)
	}
}
