package async

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
)

const account = hearth.Account("111111111111")

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// tester is what testing and rapid have in common.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// function is the Run of a Queue: it answers as told.
type function func(*hearth.Invocation) (*hearth.Result, error)

func (f function) Invoke(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	return f(inv)
}

// world is a Queue over a store that outlives it.
type world struct {
	*Queue
	t     tester
	store interface{ Close() error }
	clock *clock.Fake
	cfg   Config
}

func newWorld(t tester, dir string, run function, edit func(*Config)) *world {
	t.Helper()
	s, err := sqlite.Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: s, clock: clock.NewFake(began)}
	w.cfg = Config{
		Store: s, Clock: w.clock, Region: "us-east-1", Run: run, Done: func(*hearth.Invocation) {},
		Policy: func(hearth.Account, string, string) Policy { return DefaultPolicy },
		Jitter: func() float64 { return 0.5 }, Log: slog.New(slog.DiscardHandler),
	}
	if edit != nil {
		edit(&w.cfg)
	}
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.Queue, err = Open(context.Background(), w.cfg); err != nil {
		w.t.Fatal(err)
	}
	w.Start()
}

func (w *world) close() {
	w.t.Helper()
	w.Stop(context.Background())
	if err := w.store.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// kill ends the Queue as a kill would: what is at work ends unseen.
func (w *world) kill() {
	w.cancel()
	w.Stop(context.Background())
	w.atWork.Wait()
}

func (w *world) accept(name, payload string) string {
	w.t.Helper()
	inv := &hearth.Invocation{Account: account, Name: name, Payload: []byte(payload), Function: &hearth.Function{Version: hearth.Latest}}
	if _, err := w.Invoke(context.Background(), inv); err != nil {
		w.t.Fatal(err)
	}
	return inv.RequestID
}

// settle advances the clock until nothing waits and nothing runs.
func (w *world) settle() {
	w.t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Microsecond) {
		switch c := w.Counts(); {
		case c.Running > 0:
		case c.Waiting > 0:
			w.clock.Advance(time.Minute)
		default:
			return
		}
	}
	w.t.Fatalf("it does not settle: %+v", w.Counts())
}

func TestAnEventIsOnDiskBeforeItIsAccepted(t *testing.T) {
	dir := t.TempDir()
	block := make(chan struct{})
	w := newWorld(t, dir, func(*hearth.Invocation) (*hearth.Result, error) {
		<-block
		return nil, errors.New("killed")
	}, nil)
	given := &hearth.Invocation{Account: account, Name: "f", Payload: []byte(`{"a":1}`), ClientContext: "{}", APIKey: []byte("hash"), Function: &hearth.Function{Version: hearth.Latest}}
	if _, err := w.Invoke(t.Context(), given); err != nil {
		t.Fatal(err)
	}
	id := given.RequestID
	close(block)
	w.kill()

	var ran []string
	w.cfg.Run = function(func(inv *hearth.Invocation) (*hearth.Result, error) {
		ran = append(ran, inv.RequestID+string(inv.Payload))
		if inv.ClientContext != "{}" || string(inv.APIKey) != "hash" {
			t.Errorf("the event ran with the client context %q and the API key's hash %q", inv.ClientContext, inv.APIKey)
		}
		if !inv.Authorized {
			t.Error("an event that was accepted is judged again when it runs")
		}
		return &hearth.Result{}, nil
	})
	w.open()
	w.settle()
	w.close()
	if len(ran) != 1 || ran[0] != id+`{"a":1}` {
		t.Errorf("after the kill ran %v", ran)
	}
}

// What is to be done together with accepting an event is done, or the event is
// not accepted.
func TestAnEventIsAcceptedTogetherWithWhatItIsToldTo(t *testing.T) {
	ran := make(chan string, 2)
	w := newWorld(t, t.TempDir(), func(inv *hearth.Invocation) (*hearth.Result, error) {
		ran <- string(inv.Payload)
		return &hearth.Result{}, nil
	}, nil)
	defer w.close()
	no := errors.New("no")
	for payload, answer := range map[string]error{"1": no, "2": nil} {
		ctx := Together(t.Context(), func(tx store.Tx) error {
			if err := tx.Put("together", "x", []byte(payload)); err != nil {
				return err
			}
			return answer
		})
		inv := &hearth.Invocation{Account: account, Name: "f", Payload: []byte(payload), Function: &hearth.Function{Version: hearth.Latest}}
		if _, err := w.Invoke(ctx, inv); !errors.Is(err, answer) || (err == nil) != (answer == nil) {
			t.Errorf("%s: %v", payload, err)
		}
	}
	w.settle()
	close(ran)
	var got []string
	for p := range ran {
		got = append(got, p)
	}
	err := w.cfg.Store.View(t.Context(), func(r store.Reader) error {
		v, _, err := r.Get("together", "x")
		if string(v) != "2" || len(got) != 1 || got[0] != "2" {
			t.Errorf("ran %v, stored %s", got, v)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// However often the server is killed, each accepted event ends in a success or
// is parked, with its own payload.
func TestEveryAcceptedEventEndsOrIsParkedWhateverIsKilled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "async")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		// What each attempt at each event answers is drawn first: attempts run
		// at once.
		answers := rapid.SliceOfN(rapid.IntRange(0, 5), 64, 64).Draw(t, "answers")
		var mu sync.Mutex
		n, succeeded := 0, map[string]string{}
		w := newWorld(t, dir, func(inv *hearth.Invocation) (*hearth.Result, error) {
			mu.Lock()
			defer mu.Unlock()
			n++
			switch answers[n%len(answers)] {
			case 0:
				return &hearth.Result{FunctionError: "Unhandled", Payload: []byte(`{}`)}, nil
			case 1:
				return nil, hearth.Errorf(hearth.TooManyRequests, "Rate Exceeded.")
			case 2:
				return nil, hearth.Errorf(hearth.Service, "broken")
			}
			succeeded[inv.RequestID] = string(inv.Payload)
			return &hearth.Result{}, nil
		}, nil)
		defer w.close()
		accepted := map[string]string{}
		for i := range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				payload := fmt.Sprintf(`{"n":%d}`, i)
				accepted[w.accept(rapid.SampledFrom([]string{"f", "g"}).Draw(t, "function"), payload)] = payload
			case 2:
				w.clock.Advance(time.Minute)
			case 3:
				w.kill()
				w.open()
			}
		}
		w.settle()
		parked := map[string]string{}
		if err := w.Parked(context.Background(), account, func(p Parked) bool {
			parked[p.ID] = string(p.Payload)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		for id, payload := range accepted {
			if succeeded[id] != payload && parked[id] != payload {
				t.Fatalf("event %s %s is lost", id, payload)
			}
			if succeeded[id] != "" && parked[id] != "" && len(accepted) == 1 {
				t.Fatalf("event %s succeeded and is parked", id)
			}
		}
	})
}

func TestADestinationIsToldInTheServicesFormat(t *testing.T) {
	var told []byte
	w := newWorld(t, t.TempDir(), func(inv *hearth.Invocation) (*hearth.Result, error) {
		if inv.Name == "told" {
			told = inv.Payload
			return &hearth.Result{}, nil
		}
		return &hearth.Result{Version: "$LATEST", FunctionError: "Unhandled", Payload: []byte(`{"errorMessage":"no"}`)}, nil
	}, func(c *Config) {
		c.Policy = func(_ hearth.Account, name, _ string) Policy {
			p := DefaultPolicy
			if name == "f" {
				p.OnFailure = "arn:aws:lambda:us-east-1:111111111111:function:told"
			}
			return p
		}
	})
	id := w.accept("f", `{"a":1}`)
	w.settle()
	w.close()
	var got map[string]any
	if err := json.Unmarshal(told, &got); err != nil {
		t.Fatalf("%s: %v", told, err)
	}
	delete(got, "timestamp")
	want := map[string]any{
		"version": "1.0",
		"requestContext": map[string]any{"requestId": id, "functionArn": "arn:aws:lambda:us-east-1:111111111111:function:f:$LATEST",
			"condition": "RetriesExhausted", "approximateInvokeCount": 3.0},
		"requestPayload":  map[string]any{"a": 1.0},
		"responseContext": map[string]any{"statusCode": 200.0, "executedVersion": "$LATEST", "functionError": "Unhandled"},
		"responsePayload": map[string]any{"errorMessage": "no"},
	}
	if a, b := fmt.Sprint(got), fmt.Sprint(want); a != b {
		t.Errorf("told\n%s\nwant\n%s", a, b)
	}
}

func TestAParkedEventCanBeRedrivenAndIsForgottenInTheEnd(t *testing.T) {
	works := false
	w := newWorld(t, t.TempDir(), func(*hearth.Invocation) (*hearth.Result, error) {
		if works {
			return &hearth.Result{}, nil
		}
		return nil, hearth.Errorf(hearth.AccessDenied, "no")
	}, nil)
	defer w.close()
	list := func() (all []Parked) {
		if err := w.Parked(context.Background(), account, func(p Parked) bool { all = append(all, p); return true }); err != nil {
			t.Fatal(err)
		}
		return all
	}
	id := w.accept("f", `1`)
	w.settle()
	if p := list(); len(p) != 1 || p[0].ID != id || p[0].Reason != "RetriesExhausted" || p[0].Last != "AccessDeniedException no" {
		t.Fatalf("parked %+v", p)
	}
	if err := w.Redrive(context.Background(), "222222222222", id); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("another account redrove it: %v", err)
	}
	works = true
	if err := w.Redrive(context.Background(), account, id); err != nil {
		t.Fatal(err)
	}
	w.settle()
	if p := list(); len(p) != 0 || w.Counts().Succeeded != 1 {
		t.Errorf("after the redrive %+v, %+v", p, w.Counts())
	}
	works = false
	w.accept("f", `2`)
	w.settle()
	if len(list()) != 1 {
		t.Fatal("not parked")
	}
	w.clock.Advance(15 * 24 * time.Hour)
	for end := time.Now().Add(2 * time.Minute); len(list()) != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not forgotten after its time")
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, err := (&event{ID: "i", Account: "1", Function: "f", payload: []byte("{}")}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decode(data)
		if err != nil {
			return
		}
		again, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := decode(again)
		if err != nil || back.ID != e.ID || string(back.payload) != string(e.payload) {
			t.Errorf("%q became %+v %v", data, back, err)
		}
	})
}
