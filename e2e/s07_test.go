package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/async"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/execution"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/market"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// The acceptance scenario of sub-pools, its twenty minutes pressed into seconds:
// six fixed instances, of which two are D's own, and up to ten variable ones,
// whose price and number a file tells. F takes fixed capacity, V variable at a
// price of 2 at most, L can wait. The control run is the same load on a machine
// that has all of it fixed.

const (
	s07F hearth.Account = "111111111111"
	s07V hearth.Account = "222222222222"
	s07D hearth.Account = "333333333333"
	s07L hearth.Account = "444444444444"
	s07X hearth.Account = "555555555555" // whom nothing ever suits

	s07Unit     = 256 // MiB of an instance, which is one container
	s07MaxPrice = 2.0
	s07Fixed    = 4.0
	s07Limit    = 5 * time.Second // L's latest start
)

// s07Trace is the price, and how many variable instances there are, from a time
// on.
var s07Trace = []struct {
	at        time.Duration
	price     float64
	instances int
}{
	{0, 1.5, 10},
	{1500 * time.Millisecond, 6, 10}, // a spike
	{3500 * time.Millisecond, 1, 10}, // a trough
	{5000 * time.Millisecond, 1.8, 10},
	{5600 * time.Millisecond, 1.8, 2}, // the fault: what V has at work does not fit any more
	{6300 * time.Millisecond, 1.8, 10},
	{7800 * time.Millisecond, 5, 0},
	{11800 * time.Millisecond, 1, 10}, // for what was cut again on a slow machine
}

// s07Ran is one invocation and what came of it.
type s07Ran struct {
	account  hearth.Account
	inv      *hearth.Invocation
	answer   tenantAnswer
	accepted time.Duration // monotonic
	err      error
	failed   string
}

// s07 is one run of the scenario.
type s07 struct {
	t       *testing.T
	m       *machine
	queue   *async.Queue
	feed    string
	fns     map[hearth.Account]*hearth.Function
	began   time.Duration // monotonic
	mu      sync.Mutex
	ran     []s07Ran
	waiting map[string]time.Duration // L's events: when they were accepted
	wall    map[string]time.Time     // the same by the wall clock
	misses  int                      // of them, those whose code began after their limit
}

func s07Policies() map[hearth.Account]*hearth.ExecutionPolicy {
	all := map[hearth.Account]*hearth.ExecutionPolicy{}
	for account, c := range map[hearth.Account]hearth.CapacityPolicy{
		s07V: {Kind: "variable", MaxPrice: s07MaxPrice},
		s07D: {Dedicated: 2, WhenShort: "wait"},
		s07L: {Kind: "variable", DelaySeconds: int(s07Limit.Seconds())},
		s07X: {Kind: "variable", MaxPrice: 0.1, WhenShort: "refuse"},
	} {
		p := execution.Default()
		p.Capacity = &c
		all[account] = p
	}
	return all
}

// newS07 makes the machine, and has it be ready for the load. Without kinds all
// of its capacity is fixed.
func newS07(t *testing.T, kinds bool) *s07 {
	s := &s07{t: t, fns: map[hearth.Account]*hearth.Function{}, waiting: map[string]time.Duration{}, wall: map[string]time.Time{}, feed: filepath.Join(t.TempDir(), "prices.json")}
	policies, standard := s07Policies(), execution.Default()
	var functions atomic.Pointer[registry.Registry]
	s.m = newMachine(t, capacity{memoryMiB: 16 * s07Unit, instanceMiB: s07Unit, poolMiB: 16, change: func(c *manager.Config) {
		c.FixedPrice, c.WithdrawGrace, c.SweepEvery = s07Fixed, 300*time.Millisecond, 100*time.Millisecond
		if !kinds {
			return
		}
		c.VariableMiB = 10 * s07Unit
		c.Policy = func(a hearth.Account, _ string) *hearth.ExecutionPolicy {
			if p := policies[a]; p != nil {
				return p
			}
			return standard
		}
		c.Functions = func(a hearth.Account) []*hearth.Function {
			r := functions.Load()
			if r == nil {
				return nil
			}
			all, _, err := r.List(context.Background(), a, "", 50, false)
			if err != nil {
				t.Error(err)
			}
			return all
		}
	}})
	functions.Store(s.m.registry)
	zip := goZip(t, "tenant")
	for _, a := range []hearth.Account{s07F, s07V, s07D, s07L, s07X} {
		s.fns[a] = s.m.deploy(a, function{name: "f", runtime: "provided.al2023", handler: "bootstrap", zip: zip, memory: s07Unit, timeout: 30, env: map[string]string{"SECRET": "of" + string(a)}})
	}
	records, err := sqlite.Open(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	clk := clock.System()
	timing := &market.Timing{Delay: market.Delay{Learn: time.Second}, Room: s.m.manager.Room}
	cfg := async.Config{
		Store: records, Clock: clk, Region: hearth.DefaultRegion, Run: s07Frontend{s}, Done: s.m.frontend.Done, Recorder: s.m.decisions,
		Policy: func(hearth.Account, string, string) async.Policy { return async.DefaultPolicy },
	}
	if kinds {
		cfg.Holds = func(a hearth.Account, _ string) bool { return timing.Holds(policies[a].Capacity) }
		cfg.Start = func(h async.Held) async.Start {
			return async.StartOf(timing.Start(policies[h.Account].Capacity, s07Unit, h.Running, h.Accepted, time.Hour, clk.Now()))
		}
	}
	if s.queue, err = async.Open(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	s.queue.Start()
	t.Cleanup(func() {
		s.queue.Stop(context.Background())
		if err := records.Close(); err != nil {
			t.Error(err)
		}
	})
	if !kinds {
		return s
	}
	s.say(s07Trace[0].price, s07Trace[0].instances)
	feed, err := market.NewFeed(market.FeedConfig{Source: s.feed, Every: 10 * time.Millisecond, Clock: clk, Changed: func(st market.State) {
		timing.Note(clk.Now(), st)
		s.m.manager.Market(st)
		s.queue.Reconsider()
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := feed.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, a := range []hearth.Account{s07V, s07D, s07L, s07X} {
		s.m.manager.PolicyChanged(a, "")
	}
	await(t, patience, "D's instances to be there, with its function", func() bool { return len(s.own()) == 2 })
	return s
}

// s07Frontend notes what comes of L's events.
type s07Frontend struct{ s *s07 }

func (f s07Frontend) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	r, err := f.s.m.frontend.Invoke(ctx, inv)
	f.s.mu.Lock()
	accepted := f.s.waiting[inv.RequestID]
	f.s.mu.Unlock()
	f.s.note(inv.Account, inv, r, err, accepted)
	return r, err
}

func (s *s07) note(account hearth.Account, inv *hearth.Invocation, r *hearth.Result, err error, accepted time.Duration) {
	one := s07Ran{account: account, inv: inv, err: err, accepted: accepted}
	if err == nil {
		one.failed = r.FunctionError
		if e := json.Unmarshal(r.Payload, &one.answer); e != nil {
			s.t.Error(e)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ran = append(s.ran, one)
}

// own are D's instances with a container of its function that is idle.
func (s *s07) own() map[string]bool {
	found := map[string]bool{}
	for _, i := range s.m.manager.Snapshot() {
		for _, c := range i.Containers {
			if i.Account == s07D && i.Capacity == hearth.CapacityDedicated && c.Function == "f" && (c.State == "idle" || c.State == "frozen") {
				found[i.ID] = true
			}
		}
	}
	return found
}

// say writes the feed, whole.
func (s *s07) say(price float64, instances int) {
	tmp := s.feed + ".new"
	if err := os.WriteFile(tmp, fmt.Appendf(nil, `{"price": %v, "availableMiB": %d}`, price, instances*s07Unit), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(tmp, s.feed); err != nil {
		s.t.Fatal(err)
	}
}

func payload(sleep time.Duration) []byte {
	return fmt.Appendf(nil, `{"nonce":"n","sleepMs":%d}`, sleep.Milliseconds())
}

// drive sends the load while the price moves, and returns when all of it has
// ended.
func (s *s07) drive(kinds bool) {
	var all sync.WaitGroup
	s.began = monotonic()
	at := func(d time.Duration) { time.Sleep(time.Until(time.Now().Add(d - (monotonic() - s.began)))) } // the load's own pace
	call := func(a hearth.Account, sleep time.Duration) {
		all.Go(func() {
			inv, r, err := s.m.invoke(a, "f", payload(sleep))
			s.note(a, inv, r, err, 0)
		})
	}
	every := func(a hearth.Account, step, until, sleep time.Duration) {
		all.Go(func() {
			for d := step; d < until; d += step {
				at(d)
				call(a, sleep)
			}
		})
	}
	if kinds {
		all.Go(func() {
			for _, q := range s07Trace[1:] {
				at(q.at)
				s.say(q.price, q.instances)
			}
		})
		all.Go(func() {
			at(time.Second)
			call(s07X, 0)
		})
	}
	every(s07F, 250*time.Millisecond, 8*time.Second, 100*time.Millisecond)
	every(s07V, 400*time.Millisecond, 5*time.Second, 150*time.Millisecond)
	every(s07D, 300*time.Millisecond, 8*time.Second, 100*time.Millisecond)
	// Those that are at work when their capacity is withdrawn.
	all.Go(func() {
		at(5200 * time.Millisecond)
		for range 5 {
			call(s07V, 1200*time.Millisecond)
		}
	})
	all.Go(func() {
		// The last of them find nothing cheap until their limit.
		times := []time.Duration{6300 * time.Millisecond, 6400 * time.Millisecond}
		for d := 4700 * time.Millisecond; d > 0; d -= 300 * time.Millisecond {
			times = append([]time.Duration{d}, times...)
		}
		for _, d := range times {
			at(d)
			fn := s.fns[s07L]
			inv := &hearth.Invocation{Account: s07L, Name: "f", Function: fn, Payload: payload(150 * time.Millisecond), Caller: hearth.Identity{Account: s07L}}
			s.mu.Lock() // it may run before its id is known here
			accepted, wall := monotonic(), time.Now()
			if _, err := s.queue.Invoke(context.Background(), inv); err != nil {
				s.t.Error(err)
			}
			s.waiting[inv.RequestID], s.wall[inv.RequestID] = accepted, wall
			s.mu.Unlock()
		}
	})
	all.Wait()
	await(s.t, patience, "L's events to end", func() bool { c := s.queue.Counts(); return c.Waiting == 0 && c.Running == 0 })
}

// costs are what each account's invocations have cost.
func (s *s07) costs() (sum float64, by map[hearth.Account]float64) {
	by = map[hearth.Account]float64{}
	for _, d := range s.m.records() {
		if d.Kind == hearth.DecisionPlace {
			sum += d.Cost
			by[d.Account] += d.Cost
		}
	}
	return sum, by
}

// suited tells whether at a time, or up to a second before, variable capacity
// was there for V by the trace.
func suited(at time.Duration) bool {
	for i, q := range s07Trace {
		until := time.Hour
		if i+1 < len(s07Trace) {
			until = s07Trace[i+1].at
		}
		if q.price <= s07MaxPrice && q.instances > 0 && at >= q.at && at < until+time.Second {
			return true
		}
	}
	return false
}

// judge judges the run by the records, the functions' own clocks, and the
// trace; it returns how long V waited for its first run after the spike, and what
// came later than it was to.
func (s *s07) judge(own map[string]bool) (late time.Duration, wrong []string) {
	t := s.t
	s.mu.Lock()
	defer s.mu.Unlock()
	late = time.Hour
	ofL := 0
	for _, r := range s.ran {
		if r.account == s07X {
			if hearth.KindOf(r.err) != hearth.TooManyRequests || !strings.Contains(r.inv.Placement.Why, "does not wait") {
				t.Errorf("X, whom no price suits: %v, %q", r.err, r.inv.Placement.Why)
			}
			continue
		}
		if r.err != nil || r.failed != "" {
			t.Errorf("an invocation of %s failed: %v %s", r.account, r.err, r.failed)
			continue
		}
		p, began := r.inv.Placement, time.Duration(r.answer.At)-s.began
		if own[p.Instance] != (r.account == s07D) {
			t.Errorf("an invocation of %s ran in %s; D's own are %v", r.account, p.Instance, own)
		}
		switch r.account {
		case s07F:
			if p.Capacity != hearth.CapacityFixed || p.Price != s07Fixed {
				t.Errorf("F: %+v", p)
			}
		case s07D:
			if p.Capacity != hearth.CapacityDedicated || p.Path != hearth.PathReuse || time.Duration(r.answer.Born) > s.began {
				t.Errorf("D was not served by what was loaded: %+v, its code is there for %v", p, time.Duration(r.answer.At-r.answer.Born))
			}
		case s07V:
			if p.Capacity != hearth.CapacityVariable || p.Price > s07MaxPrice {
				t.Errorf("V ran at a price of %v, %v after the start, on %s", p.Price, began, p.Capacity)
			}
			if !suited(began) {
				wrong = append(wrong, fmt.Sprintf("V ran %v after the start", began))
			}
			if spike := s07Trace[2].at; began > spike-time.Second {
				late = min(late, max(began-spike, 0))
			}
		case s07L:
			ofL++
			if time.Duration(r.answer.At)-r.accepted > s07Limit {
				s.misses++
			}
		}
	}
	for _, d := range s.decided(hearth.DecisionEvent, "start") {
		if waited := d.At.Sub(s.wall[d.RequestID]); waited > s07Limit {
			wrong = append(wrong, fmt.Sprintf("L's %s was started %v after it was accepted: %s", d.RequestID, waited, d.Why))
		}
	}
	if ofL != len(s.waiting) {
		t.Errorf("of %d events of L %d ran", len(s.waiting), ofL)
	}
	return late, wrong
}

// decided counts decisions, and tells those of the kinds that matter here.
func (s *s07) decided(kind hearth.DecisionKind, chosen string) (found []hearth.Decision) {
	for _, d := range s.m.records() {
		if d.Kind == kind && d.Chosen == chosen {
			found = append(found, d)
		}
	}
	return found
}

// TestS07SubPools is the scenario, its timing judged by the best of a few
// rounds.
func TestS07SubPools(t *testing.T) {
	const rounds = 3 // at most: a machine that does something else meanwhile decides one
	var wrong []string
	for round := range rounds {
		control := newS07(t, false)
		s := newS07(t, true)
		own := s.own()
		fetched := s.m.fetches(s.fns[s07D].Package.SHA256)
		// Side by side: the one run is little work for the machine.
		var both sync.WaitGroup
		both.Go(func() { control.drive(false) })
		both.Go(func() { s.drive(true) })
		both.Wait()
		var late time.Duration
		late, wrong = s.judge(own)
		say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
		if n := s.m.fetches(s.fns[s07D].Package.SHA256); n > fetched+1 { // the others' code is the same package
			t.Errorf("the package was fetched %d times after D's instances had it", n-fetched)
		}
		// The fault, and what became of it.
		victims := map[string]bool{}
		for _, d := range s.decided(hearth.DecisionWithdraw, "instance") {
			victims[d.Instance] = true
		}
		cut, again := s.decided(hearth.DecisionWithdraw, "cut"), s.decided(hearth.DecisionWithdraw, "retry")
		if len(victims) < 3 || len(cut) < 3 || len(again) < 3 {
			say("%d instances withdrawn, %d invocations cut, %d run again, wanted three of each", len(victims), len(cut), len(again))
		}
		if late > time.Second || s.misses > 0 {
			say("V ran %v after the first suitable price, wanted a second; %d of L's began late", late, s.misses)
		}
		// What could wait did, and did not all wait for the end.
		cheap, fixed := 0, 0
		for _, r := range s.ran {
			if r.account == s07L && r.inv.Placement.Price <= 1.5 {
				cheap++
			}
			if r.account == s07L && r.inv.Placement.Capacity == hearth.CapacityFixed {
				fixed++
			}
		}
		sum, by := s.costs()
		whole, without := control.costs()
		t.Logf("cost %.4f, with fixed capacity alone %.4f (%.0f %%); V %.4f of %.4f, L %.4f of %.4f; of L's %d runs %d at 1.5 or less, %d on fixed; V ran %v after the spike; %d instances withdrawn, %d cut",
			sum, whole, 100*sum/whole, by[s07V], without[s07V], by[s07L], without[s07L], len(s.waiting), cheap, fixed, late, len(victims), len(cut))
		if cheap < len(s.waiting)/2 || fixed == 0 || fixed > len(s.waiting)/2 {
			say("of L's %d runs %d were cheap, and %d took fixed capacity", len(s.waiting), cheap, fixed)
		}
		if sum >= whole || by[s07L] >= without[s07L] || whole == 0 {
			say("it cost %v, and %v with fixed capacity alone; L %v and %v", sum, whole, by[s07L], without[s07L])
		}
		s.m.close()
		control.m.close()
		if len(wrong) == 0 || t.Failed() {
			break
		}
		t.Logf("round %d: %s", round, strings.Join(wrong, "; "))
	}
	for _, w := range wrong {
		t.Error(w)
	}
}

// TestS07TheServerFollowsItsFeed is the same through the program: a feed in a
// file, policies by the command line, and what it shows.
func TestS07TheServerFollowsItsFeed(t *testing.T) {
	t.Parallel()
	feed := filepath.Join(t.TempDir(), "prices.json")
	say := func(text string) {
		t.Helper()
		if err := os.WriteFile(feed, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	say(`{"price": 9}`)
	s := start(t, "--memory", "2048", "--instance-memory", "512", "--variable-memory", "1024", "--capacity-feed", feed, "--fixed-price", "3", "--pool", "64")
	s.deploy(function{name: "v", runtime: "provided.al2023", handler: "bootstrap", zip: goZip(t, "echo"), memory: 128})
	s.must("policy", "set", "v", "capacity.kind=variable", "capacity.maxPrice=1", "capacity.waitSeconds=1")
	if _, err := s.invoke("v", `{}`); err == nil || !strings.Contains(err.Error(), "TooManyRequestsException") {
		t.Errorf("at a price that does not suit: %v", err)
	}
	if out := s.must("explain", "v"); !strings.Contains(out, "costs 9, and its policy pays 1 at most") {
		t.Errorf("explain: %s", out)
	}
	// An event waits on disk until the price suits.
	if _, err := s.client().Invoke(context.Background(), &lambda.InvokeInput{FunctionName: ptr("v"), Payload: []byte(`{}`), InvocationType: types.InvocationTypeEvent}); err != nil {
		t.Fatal(err)
	}
	spent := func() (runs uint64, cost float64) {
		var c control.Capacity
		if err := json.Unmarshal([]byte(s.must("capacity", "--json")), &c); err != nil {
			t.Fatal(err)
		}
		for _, f := range c.Functions {
			if f.Function == "v" && f.Kind == hearth.CapacityVariable {
				return f.Invocations, f.Cost
			}
		}
		return 0, 0
	}
	if n, _ := spent(); n != 0 {
		t.Errorf("%d ran at a price that does not suit", n)
	}
	say(`{"price": 0.5, "availableMiB": 512}`)
	await(t, patience, "the event to run", func() bool { n, cost := spent(); return n == 1 && cost > 0 })
	s.mustInvoke("v", `{}`)
	if out := s.must("explain", "--last", "v"); !strings.Contains(out, "on variable capacity at a price of 0.5") {
		t.Errorf("explain: %s", out)
	}
	if out := s.must("capacity"); !strings.Contains(out, "fresh") || !strings.Contains(out, "variable") {
		t.Errorf("capacity: %s", out)
	}
	if out := s.must("top", "--once"); !strings.Contains(out, "CAPACITY") {
		t.Errorf("top: %s", out)
	}
	// An account's own instances are there before it calls.
	s.deploy(function{name: "d", runtime: "provided.al2023", handler: "bootstrap", zip: goZip(t, "echo"), memory: 128})
	s.must("policy", "set", "capacity.dedicated=1")
	await(t, patience, "its own instance, with its function", func() bool {
		out := s.must("ps")
		return strings.Contains(out, "d:$LATEST (dedicated)")
	})
	s.mustInvoke("d", `{}`)
	if out := s.must("explain", "--last", "d"); !strings.Contains(out, "reuse") || !strings.Contains(out, "on dedicated capacity at a price of 3") {
		t.Errorf("explain: %s", out)
	}
}
