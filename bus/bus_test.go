package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/delivery"
	"github.com/hearth-faas/hearth/schedule"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
	"github.com/hearth-faas/hearth/store/storetest"
)

const (
	account  = hearth.Account("111111111111")
	function = "arn:aws:lambda:us-east-1:111111111111:function:f"
	queue    = "arn:aws:sqs:us-east-1:111111111111:q"
)

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world is Buses, and what arrived at functions and queues.
type world struct {
	*Buses
	t      testing.TB
	clock  *clock.Fake
	store  *storetest.Memory
	timers *schedule.Timers
	queue  *delivery.Queue

	mu  sync.Mutex
	got []delivery.Delivery
}

func (w *world) Deliver(ctx context.Context, d *delivery.Delivery, settle func(store.Tx) error) (bool, error) {
	if err := w.store.Update(ctx, settle); err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, *d)
	return true, nil
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, clock: clock.NewFake(began), store: &storetest.Memory{}}
	w.open()
	return w
}

// open makes Buses over the world's store, as another server has them.
func (w *world) open() *Buses {
	log := slog.New(slog.DiscardHandler)
	w.timers = schedule.NewTimers(schedule.TimersConfig{Store: w.store, Clock: w.clock, Log: log})
	targets := map[string]delivery.Target{"lambda": w, "sqs": w}
	w.queue = delivery.New(delivery.Config{Store: w.store, Clock: w.clock, Targets: targets, Log: log})
	w.Buses = New(Config{Store: w.store, Clock: w.clock, Region: "us-east-1", Timers: w.timers, Queue: w.queue, Log: log})
	targets["events"] = w.Buses
	return w.Buses
}

func (w *world) rule(name, bus, pattern string, targets ...Target) {
	w.t.Helper()
	if _, err := w.PutRule(w.t.Context(), Rule{Account: account, Bus: bus, Name: name, Pattern: pattern}); err != nil {
		w.t.Fatal(err)
	}
	wrong, err := w.PutTargets(w.t.Context(), account, bus, name, targets)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, err := range wrong {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) putEvent(e Entry) Outcome {
	w.t.Helper()
	out, err := w.Put(w.t.Context(), account, []Entry{e})
	if err != nil {
		w.t.Fatal(err)
	}
	return out[0]
}

// arrived delivers everything, and tells what came since it was asked last.
func (w *world) arrived() []delivery.Delivery {
	for range 20 {
		w.queue.Settle()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.got
	w.got = nil
	slices.SortFunc(got, func(a, b delivery.Delivery) int { return strings.Compare(a.Target+a.Origin, b.Target+b.Origin) })
	return got
}

func TestAnEventReachesTheTargetsOfTheRulesThatItFits(t *testing.T) {
	w := newWorld(t)
	w.rule("orders", DefaultBus, `{"source":["shop"],"detail":{"total":[{"numeric":[">",10]}]}}`,
		Target{ID: "1", ARN: function}, Target{ID: "2", ARN: queue, InputPath: "$.detail"})
	w.rule("all", DefaultBus, `{"source":[{"prefix":""}]}`, Target{ID: "1", ARN: queue, Input: `{"constant":1}`})
	w.rule("other", DefaultBus, `{"source":["other"]}`, Target{ID: "1", ARN: function})
	o := w.putEvent(Entry{Source: "shop", DetailType: "Order", Detail: `{"total": 12,"b":1,"a":2}`, Resources: []string{"r"}, Time: began})
	if o.ID == "" || o.Code != "" {
		t.Fatalf("%+v", o)
	}
	got := w.arrived()
	want := []struct{ target, payload, rule string }{
		{function, `{"version":"0","id":"` + o.ID + `","detail-type":"Order","source":"shop","account":"111111111111","time":"2026-01-01T00:00:00Z","region":"us-east-1","resources":["r"],"detail":{"total":12,"b":1,"a":2}}`, "orders"},
		{queue, `{"constant":1}`, "all"},
		{queue, `{"total":12,"b":1,"a":2}`, "orders"},
	}
	if len(got) != len(want) {
		t.Fatalf("came %d", len(got))
	}
	for i, d := range got {
		if d.Target != want[i].target || string(d.Payload) != want[i].payload || !strings.HasSuffix(d.Origin, ":rule/"+want[i].rule) || d.Caller.Service != "events.amazonaws.com" {
			t.Errorf("%d: %s %s from %s", i, d.Target, d.Payload, d.Origin)
		}
	}
	// What is changed is what holds, at once and for others on the store.
	other := w.open()
	if err := other.Change(t.Context(), account, DefaultBus, "all", func(r *Rule) error { r.State = Disabled; return nil }); err != nil {
		t.Fatal(err)
	}
	w.putEvent(Entry{Source: "shop", DetailType: "Order", Detail: `{"total":1}`})
	if got := w.arrived(); len(got) != 0 {
		t.Errorf("came %+v", got)
	}
}

func TestWhatIsWrongWithAnEventIsTold(t *testing.T) {
	w := newWorld(t)
	for code, e := range map[string]Entry{
		"InvalidArgument":                 {DetailType: "x", Detail: "{}"},
		"NotAuthorizedForSourceException": {Source: "aws.ec2", DetailType: "x", Detail: "{}"},
		"MalformedDetail":                 {Source: "a", DetailType: "x", Detail: "[]"},
		"ResourceNotFoundException":       {Bus: "nobody", Source: "a", DetailType: "x", Detail: "{}"},
		"AccessDeniedException":           {Bus: "arn:aws:events:us-east-1:222222222222:event-bus/b", Source: "a", DetailType: "x", Detail: "{}"},
		"":                                {Bus: "arn:aws:events:us-east-1:111111111111:event-bus/default", Source: "a", DetailType: "x", Detail: " {}"},
	} {
		if o := w.putEvent(e); o.Code != code || (o.ID == "") != (code != "") {
			t.Errorf("%+v: %+v", e, o)
		}
	}
	if _, err := w.Put(t.Context(), account, make([]Entry, 11)); hearth.KindOf(err) != hearth.Validation {
		t.Error(err)
	}
	if _, err := w.Put(t.Context(), account, []Entry{{Detail: strings.Repeat("x", MaxEvents+1)}}); hearth.KindOf(err) != hearth.Validation {
		t.Error(err)
	}
}

func TestEventsGoFromBusToBusAndNotRoundForEver(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a", "b"} {
		if _, err := w.CreateBus(t.Context(), Bus{Account: account, Name: name, DeadLetter: queue}); err != nil {
			t.Fatal(err)
		}
	}
	arn := func(bus string) string { return "arn:aws:events:us-east-1:111111111111:event-bus/" + bus }
	w.rule("on", "a", `{"source":["x"]}`, Target{ID: "1", ARN: arn("b")})
	w.rule("back", "b", `{"source":["x"]}`, Target{ID: "1", ARN: arn("a")}, Target{ID: "2", ARN: function})
	w.putEvent(Entry{Bus: "a", Source: "x", DetailType: "x", Detail: "{}"})
	calls, dead := 0, 0
	for _, d := range w.arrived() {
		if d.Target == function {
			calls++
		}
		if d.Dead && strings.Contains(d.Letter["ERROR_MESSAGE"], "circle") {
			dead++
		}
	}
	if calls != 5 || dead != 1 {
		t.Errorf("the function was called %d times, %d dead letters", calls, dead)
	}
	if err := w.DeleteBus(t.Context(), account, "a"); hearth.KindOf(err) != hearth.Validation {
		t.Errorf("a bus with rules: %v", err)
	}
}

func TestARuleWithAScheduleFires(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	if _, err := w.PutRule(ctx, Rule{Account: account, Bus: DefaultBus, Name: "r", Schedule: "rate(5 minutes)"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.PutTargets(ctx, account, DefaultBus, "r", []Target{{ID: "1", ARN: function}}); err != nil {
		t.Fatal(err)
	}
	w.timers.Start()
	defer w.timers.Stop()
	for i := range 3 {
		w.clock.Advance(5 * time.Minute)
		var got []delivery.Delivery
		for end := time.Now().Add(2 * time.Minute); len(got) == 0; got = w.arrived() {
			if time.Now().After(end) {
				t.Fatal("it does not fire")
			}
			w.timers.Wake()
			time.Sleep(time.Millisecond)
		}
		var e Event
		if err := json.Unmarshal(got[0].Payload, &e); err != nil {
			t.Fatal(err)
		}
		if at := began.Add(time.Duration(i+1) * 5 * time.Minute).Format(time.RFC3339); len(got) != 1 || e.Source != "aws.events" || e.DetailType != "Scheduled Event" || e.Time != at ||
			e.Resources[0] != "arn:aws:events:us-east-1:111111111111:rule/r" || string(e.Detail) != "{}" {
			t.Errorf("%d: %+v", len(got), e)
		}
	}
}

func TestATransformerFillsItsTemplate(t *testing.T) {
	event := []byte(`{"source":"s","detail":{"a":"x\"y","n":5,"o":{"k":[1,"z"]},"list":[{"v":1},{"v":2},{}]}}`)
	r := &Rule{Account: account, Bus: "b", Name: "r", Region: "us-east-1"}
	paths := map[string]string{"a": "$.detail.a", "n": "$.detail.n", "o": "$.detail.o", "k": "$.detail.o.k[1]", "all": "$.detail.list[*].v", "none": "$.detail.zz", "quoted": "$['detail']['n']"}
	for template, want := range map[string]string{
		`{"a":<a>,"b":"<a> and <n>","n":<n>}`: `{"a":"x\"y","b":"x\"y and 5","n":5}`,
		`"<a> is <k>"`:                        `"x\"y is z"`,
		`{"o":<o>,"t":"<o>"}`:                 `{"o":{"k":[1,"z"]},"t":"{\"k\":[1,\"z\"]}"}`,
		`{"all":<all>,"q":<quoted>}`:          `{"all":[1,2],"q":5}`,
		`{"none":<none>,"s":"<none>"}`:        `{"none":"","s":""}`,
		`<n>`:                                 `5`,
		`n is <n>`:                            `"n is 5"`,
		`{"r":<aws.events.rule-arn>,"n":"<aws.events.rule-name>","t":<aws.events.event.ingestion-time>}`: `{"r":"arn:aws:events:us-east-1:111111111111:rule/b/r","n":"r","t":"2026-01-01T00:00:00Z"}`,
		`{"e":<aws.events.event>}`:      `{"e":{"source":"s"}}`,
		`{"e":<aws.events.event.json>}`: `{"e":` + string(event) + `}`,
	} {
		target := Target{ID: "1", ARN: function, Transformer: &Transformer{Paths: paths, Template: template}}
		if err := target.check(account); err != nil {
			t.Errorf("%s: %v", template, err)
			continue
		}
		if got, err := target.input(r, event, began); err != nil || string(got) != want {
			t.Errorf("%s: %s, not %s, %v", template, got, want, err)
		}
	}
}

func TestWrongRulesAndTargetsAreRefused(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for text, r := range map[string]Rule{
		"'name'":              {Name: "a b", Pattern: `{"a":[1]}`},
		"must be specified":   {Name: "a"},
		"a[0].like: no such":  {Name: "a", Pattern: `{"a":[{"like":1}]}`},
		"rate(1 minute)":      {Name: "a", Schedule: "rate(1 minutes)"},
		"rate(5 minutes)":     {Name: "a", Schedule: "rate(5 minute)"},
		"cron(0 10":           {Name: "a", Schedule: "at(2030-01-01T00:00:00)"},
		"'state'":             {Name: "a", Pattern: `{"a":[1]}`, State: "ON"},
		"only on the default": {Name: "a", Bus: "x", Schedule: "rate(1 minute)"},
		"x does not exist":    {Name: "a", Bus: "x", Pattern: `{"a":[1]}`},
	} {
		r.Account = account
		if r.Bus == "" {
			r.Bus = DefaultBus
		}
		if _, err := w.PutRule(ctx, r); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
	w.rule("r", DefaultBus, `{"a":[1]}`)
	wrongs := map[string]Target{
		"'targets.id'":        {ID: "", ARN: function},
		"correct format":      {ID: "1", ARN: "arn:aws:ecs:us-east-1:111111111111:cluster/c"},
		"other accounts":      {ID: "1", ARN: "arn:aws:sqs:us-east-1:222222222222:q"},
		"Only one of":         {ID: "1", ARN: function, Input: "{}", InputPath: "$.a"},
		"JSON syntax":         {ID: "1", ARN: function, Input: "{"},
		"a path begins":       {ID: "1", ARN: function, InputPath: "detail"},
		"no step":             {ID: "1", ARN: function, InputPath: "$detail"},
		"no index":            {ID: "1", ARN: function, InputPath: "$.a[x]"},
		"no path":             {ID: "1", ARN: function, Transformer: &Transformer{Template: "<x>"}},
		"is no JSON":          {ID: "1", ARN: function, Transformer: &Transformer{Template: `{"a":}`}},
		"MessageGroupId":      {ID: "1", ARN: queue + ".fifo"},
		"DeadLetterConfig":    {ID: "1", ARN: function, DeadLetter: function},
		"RetryPolicy":         {ID: "1", ARN: function, Retry: &delivery.Policy{MaxAge: time.Second}},
		"not for event buses": {ID: "1", ARN: "arn:aws:events:us-east-1:111111111111:event-bus/b", Input: "{}"},
	}
	for text, target := range wrongs {
		wrong, err := w.PutTargets(ctx, account, DefaultBus, "r", []Target{target, {ID: "ok", ARN: function}})
		if err != nil || wrong[0] == nil || !strings.Contains(wrong[0].Error(), text) || wrong[1] != nil {
			t.Errorf("%s: %v, %v", text, wrong, err)
		}
	}
	var many []Target
	for i := range MaxTargets + 1 {
		many = append(many, Target{ID: fmt.Sprint(i), ARN: function})
	}
	if _, err := w.PutTargets(ctx, account, DefaultBus, "r", many); hearth.KindOf(err) != hearth.LimitExceeded {
		t.Error(err)
	}
	if err := w.DeleteRule(ctx, account, DefaultBus, "r"); hearth.KindOf(err) != hearth.Validation {
		t.Errorf("a rule with targets: %v", err)
	}
}

func TestWhoWatchesSeesWhatComesAndHoldsUpNobody(t *testing.T) {
	w := newWorld(t)
	seen := w.Watch(account, DefaultBus)
	o := w.putEvent(Entry{Source: "x", DetailType: "x", Detail: "{}"}) // no rule wants it
	if got := string(<-seen.Events); !strings.Contains(got, o.ID) {
		t.Errorf("came %s", o.ID)
	}
	for range watchAhead + 7 {
		w.putEvent(Entry{Source: "x", DetailType: "x", Detail: "{}"})
	}
	if n := seen.Missed(); n != 7 || len(seen.Events) != watchAhead {
		t.Errorf("%d were missed, %d kept", n, len(seen.Events))
	}
	seen.Stop()
	seen.Stop()
	w.putEvent(Entry{Source: "x", DetailType: "x", Detail: "{}"})
	if len(seen.Events) != watchAhead || len(w.watchers.by) != 0 {
		t.Error("it goes on after the end")
	}
}

func TestAnInvocationRecordBecomesAnEvent(t *testing.T) {
	w := newWorld(t)
	w.rule("r", DefaultBus, `{"source":["lambda"],"detail-type":["Lambda Function Invocation Result - Success"],"detail":{"responsePayload":{"n":[1]}}}`, Target{ID: "1", ARN: queue, InputPath: "$.resources"})
	record := `{"requestContext":{"functionArn":"` + function + `","condition":"Success"},"responsePayload":{"n":1}}`
	arn := "arn:aws:events:us-east-1:111111111111:event-bus/default"
	if err := w.Send(t.Context(), arn, []byte(record), nil); err != nil {
		t.Fatal(err)
	}
	if got := w.arrived(); len(got) != 1 || string(got[0].Payload) != `["`+arn+`","`+function+`"]` {
		t.Errorf("%+v", got)
	}
	if err := w.Send(t.Context(), arn+"x", []byte(record), nil); hearth.KindOf(err) != hearth.NotFound {
		t.Error(err)
	}
}

// Whatever rules are made, changed and removed meanwhile, on whichever server:
// an event comes to what the rules say that were there when it was accepted.
func TestEventsFollowTheRulesThatHold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		servers := []*Buses{w.Buses, w.open()}
		on := map[string]bool{}
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			s := servers[rapid.IntRange(0, 1).Draw(rt, "server")]
			name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "rule")
			ctx := t.Context()
			switch rapid.IntRange(0, 3).Draw(rt, "what") {
			case 0:
				if _, err := s.PutRule(ctx, Rule{Account: account, Bus: DefaultBus, Name: name, Pattern: `{"source":["` + name + `","all"]}`}); err != nil {
					rt.Fatal(err)
				}
				if _, err := s.PutTargets(ctx, account, DefaultBus, name, []Target{{ID: "1", ARN: function}}); err != nil {
					rt.Fatal(err)
				}
				on[name] = true
			case 1:
				if on[name] {
					if err := s.Change(ctx, account, DefaultBus, name, func(r *Rule) error { r.Targets = nil; return nil }); err != nil {
						rt.Fatal(err)
					}
					if err := s.DeleteRule(ctx, account, DefaultBus, name); err != nil {
						rt.Fatal(err)
					}
					delete(on, name)
				}
			default:
				if _, err := s.Put(ctx, account, []Entry{{Source: "all", DetailType: "x", Detail: "{}"}}); err != nil {
					rt.Fatal(err)
				}
				if got := w.arrived(); len(got) != len(on) {
					rt.Fatalf("%d came, of the rules %v", len(got), on)
				}
			}
		}
	})
}

func FuzzPathsAndTemplates(f *testing.F) {
	f.Add("$.detail['a b'][0][*].c", `{"a":<x>,"b":"<x>"}`, `{"detail":{"a b":[[{"c":1}]]}}`)
	f.Add("$[", `"<`, `{`)
	f.Fuzz(func(t *testing.T, p, template, event string) {
		if !json.Valid([]byte(event)) {
			return
		}
		target := Target{ID: "1", ARN: function, Transformer: &Transformer{Paths: map[string]string{"x": p}, Template: template}}
		if target.check(account) != nil {
			return
		}
		r := &Rule{Account: account, Bus: "b", Name: "r", Region: "us-east-1"}
		if got, err := target.input(r, []byte(event), began); err != nil || !json.Valid(got) {
			t.Fatalf("%q of %q by %q: %q, %v", template, event, p, got, err)
		}
	})
}

// How many events a second a bus takes whose rule sends them on, and of what it
// is made: transactions that share the disk's flush.
func BenchmarkPutEvents(b *testing.B) {
	s, err := sqlite.Open(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	bare := func(b *testing.B) {
		var n atomic.Uint64
		b.SetParallelism(32)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				err := s.Update(b.Context(), func(tx store.Tx) error { return tx.Put("bare", fmt.Sprint(n.Add(1)), make([]byte, 600)) })
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	log := slog.New(slog.DiscardHandler)
	timers := schedule.NewTimers(schedule.TimersConfig{Store: s, Clock: clock.System(), Log: log})
	buses := New(Config{Store: s, Clock: clock.System(), Region: "us-east-1", Timers: timers, Log: log,
		Queue: delivery.New(delivery.Config{Store: s, Clock: clock.System(), Log: log})})
	if _, err := buses.PutRule(b.Context(), Rule{Account: account, Bus: DefaultBus, Name: "r", Pattern: `{"source":["x"],"detail":{"n":[{"numeric":[">",0]}]}}`}); err != nil {
		b.Fatal(err)
	}
	if _, err := buses.PutTargets(b.Context(), account, DefaultBus, "r", []Target{{ID: "1", ARN: function}}); err != nil {
		b.Fatal(err)
	}
	b.Run("floor=one record", bare)
	b.Run("events", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				out, err := buses.Put(b.Context(), account, []Entry{{Source: "x", DetailType: "d", Detail: `{"n":1}`}})
				if err != nil || out[0].Code != "" {
					b.Fatal(out, err)
				}
			}
		})
	})
}
