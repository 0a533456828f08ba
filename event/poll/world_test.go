package poll

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
)

const account = hearth.Account("111111111111")

// function is what a world's records are processed by. It is told the IDs.
type function func(ids []string) (answer string, err error)

// world is a Poller over a made-up source, in the time of a bubble.
type world struct {
	*Poller
	t *testing.T

	mu        sync.Mutex
	do        function
	takes     func(ids []string) time.Duration // how long it runs
	calls     [][]string                       // in the order of their beginning
	payloads  []string
	running   int
	most      int // that ran at once
	processed map[string]int
	parked    map[string]string // reason by ID
	reports   []string
	decisions []string
}

// idsIn are the IDs of the records in an event.
func idsIn(payload []byte) (ids []string) {
	var e struct {
		Records []struct{ ID string }
	}
	if err := json.Unmarshal(payload, &e); err != nil {
		panic(err)
	}
	for _, r := range e.Records {
		ids = append(ids, r.ID)
	}
	return ids
}

// mostAtOnce is how many calls there were at once at most.
func (w *world) mostAtOnce() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.most
}

// Invoke is the frontend.
func (w *world) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	ids := idsIn(inv.Payload)
	w.mu.Lock()
	w.calls = append(w.calls, ids)
	w.payloads = append(w.payloads, string(inv.Payload))
	w.running++
	w.most = max(w.most, w.running)
	do, takes := w.do, time.Millisecond
	if w.takes != nil {
		takes = w.takes(ids)
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.running--
		w.mu.Unlock()
	}()
	inv.Timeline.Spent[hearth.StageRun] = takes
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, hearth.Errorf(hearth.Canceled, "given up")
	}
	answer := "null"
	if do != nil {
		var err error
		if answer, err = do(ids); err != nil {
			return nil, err
		}
	}
	r := &hearth.Result{Payload: []byte(answer), Version: "$LATEST"}
	if answer == "fail" {
		r.FunctionError, r.Payload = "Unhandled", []byte(`{"errorType":"Poison"}`)
		return r, nil
	}
	failed := answer[0] == '{'
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		if !failed || !slices.Contains(failedIn(answer), id) {
			w.processed[id]++
		}
	}
	return r, nil
}

func failedIn(answer string) (ids []string) {
	raw, err := itemFailures([]byte(answer))
	if err != nil {
		panic(err)
	}
	for _, r := range raw {
		var id string
		_ = json.Unmarshal(r, &id)
		ids = append(ids, id)
	}
	return ids
}

// Record takes a decision.
func (w *world) Record(d *hearth.Decision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.decisions = append(w.decisions, d.Chosen)
}

func (w *world) park(_ context.Context, p Parked) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range idsIn(p.Payload) {
		w.parked[id] = p.Reason
	}
	return nil
}

func (w *world) report(result string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports = append(w.reports, result)
}

// sums are the records that were processed, or parked.
func (w *world) finished() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.parked)
	for id := range w.processed {
		if _, twice := w.parked[id]; !twice {
			n++
		}
	}
	return n
}

// newWorld makes a world in a bubble. records is nil for queues.
func newWorld(t *testing.T, open Opener, records store.Store, change ...func(*Config)) *world {
	w := &world{t: t, processed: map[string]int{}, parked: map[string]string{}}
	cfg := Config{
		Store: records, Clock: clock.System(), Openers: map[event.Kind]Opener{event.SQS: open, event.Kinesis: open},
		Run: w, Park: w.park, Recorder: w, Places: 64, Log: slog.New(slog.DiscardHandler),
	}
	if testing.Verbose() && os.Getenv("POLL_LOG") != "" {
		cfg.Log = slog.Default()
	}
	for _, c := range change {
		c(&cfg)
	}
	w.Poller = New(cfg)
	w.Start()
	return w
}

// run runs a mapping until the returned function is called.
func (w *world) run(m *event.Mapping) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Poller.Run(ctx, m, w.report)
	}()
	return func() {
		cancel()
		<-done
	}
}

// until waits, in the bubble's time, until ok.
func (w *world) until(what string, ok func() bool) error {
	for range 200_000 {
		if ok() {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("never: %s", what)
}

// bubble runs f in time that passes when all wait. f says what is wrong.
func bubble(t *testing.T, f func(t *testing.T) error) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { err = f(t) })
	return err
}

func queueMapping(change ...func(*event.Mapping)) *event.Mapping {
	m := &event.Mapping{
		ID: "q", Account: account, Region: "us-east-1", Function: "f",
		Source:   "arn:aws:sqs:us-east-1:111111111111:q",
		Settings: event.Settings{BatchSize: 10, WindowSeconds: new(0)},
	}
	for _, c := range change {
		c(m)
	}
	return m
}

func streamMapping(change ...func(*event.Mapping)) *event.Mapping {
	m := queueMapping(func(m *event.Mapping) {
		m.ID, m.Source, m.From = "s", "arn:aws:kinesis:us-east-1:111111111111:stream/s", "TRIM_HORIZON"
		m.Settings.BatchSize, m.Settings.MaxRetries, m.Settings.MaxAgeSeconds = 100, new(-1), new(-1)
	})
	for _, c := range change {
		c(m)
	}
	return m
}

func openStore(t testing.TB) store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func body(id string) json.RawMessage { return json.RawMessage(`{"ID":"` + id + `"}`) }
