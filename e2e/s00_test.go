package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

// The acceptance scenario of the base that everything stands on: two accounts
// with three functions each, 500 requests, cold, repeated and interleaved, an
// instance killed in the middle. It is judged from the decision records, from
// what the functions say of themselves, and from this side's clock; the
// control run is the same without a warming pool.

const (
	s00Requests = 500
	s00Burst    = 4  // requests at once of each function
	s00Repeats  = 30 // requests one after another of each function
	s00Probes   = 10 // of each account, among the interleaved ones
)

var s00Accounts = []hearth.Account{"111111111111", "222222222222"}

// tenantFunctions are what each account has: one for each way to run code.
func tenantFunctions(t testing.TB, account hearth.Account) []function {
	t.Helper()
	file := func(name string) []byte {
		text, err := os.ReadFile("testdata/tenant/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return zipOf(t, map[string]string{name: string(text)})
	}
	env := map[string]string{"SECRET": "secret-of-" + string(account)}
	return []function{
		{name: "go", runtime: "provided.al2023", handler: "bootstrap", zip: goZip(t, "tenant"), memory: 512, timeout: 60, env: env},
		{name: "node", runtime: "nodejs20.x", handler: "tenant.handler", zip: file("tenant.mjs"), memory: 512, timeout: 60, env: env},
		{name: "python", runtime: "python3.11", handler: "tenant.handler", zip: file("tenant.py"), memory: 512, timeout: 60, env: env},
	}
}

// tenantEvent and tenantAnswer are what these functions take and give.
type tenantEvent struct {
	Nonce   string `json:"nonce"`
	SleepMs int    `json:"sleepMs,omitempty"`
	Probe   bool   `json:"probe,omitempty"`
}

type tenantAnswer struct {
	Nonce, Secret, Process string
	N                      int   // the invocations of this process, this one included
	Born, At               int64 // monotonic: the first instruction of the code, of this invocation

	// Of a probe:
	Found     map[string][]string // secret → where it was seen
	Processes []string
	Bytes     int // looked through
}

// request is one request of the scenario and its one answer.
type request struct {
	account hearth.Account
	name    string
	event   tenantEvent

	id     string        // the request id
	sent   time.Duration // monotonic
	answer tenantAnswer
	failed string // the function error's type, if that is what came
	err    error
}

// scenario is one run.
type scenario struct {
	t *testing.T
	m *machine

	mu     sync.Mutex
	done   []*request
	victim string // the account's instance that was killed
	// dead are the containers that it had. Another may be made in it: what an
	// instance is (its ids, its cgroup) outlives processes that somebody kills.
	dead   map[string]bool
	pooled string        // the instance of the warming pool that was killed; "" if there is no pool
	others int           // of its sort in the pool, which may be enough without it
	killed uint64        // the last decision before they were
	gone   time.Duration // monotonic: from then on no process of theirs was there
}

// send sends one request and notes its answer.
func (s *scenario) send(account hearth.Account, name string, event tenantEvent) {
	s.mu.Lock()
	r := &request{account: account, name: name}
	s.done = append(s.done, r)
	event.Nonce = fmt.Sprintf("%s-%s-%d", account, name, len(s.done))
	s.mu.Unlock()
	r.event = event
	payload, err := json.Marshal(event)
	if err != nil {
		s.t.Error(err)
		return
	}
	r.sent = monotonic()
	inv, result, err := s.m.invoke(account, name, payload)
	r.id = inv.RequestID
	switch {
	case err != nil:
		r.err = err
	case result.FunctionError != "":
		r.failed = inv.Outcome
	default:
		if err := json.Unmarshal(result.Payload, &r.answer); err != nil {
			s.t.Errorf("%s answers %.200s: %v", name, result.Payload, err)
		}
	}
}

// drive sends the 500 requests: alone, in a burst, repeated, interleaved.
func (s *scenario) drive(seed uint64, pooled bool) {
	names := []string{"go", "node", "python"}
	each := func(f func(account hearth.Account, name string)) {
		for _, account := range s00Accounts {
			for _, name := range names {
				f(account, name)
			}
		}
	}
	each(func(account hearth.Account, name string) {
		if pooled {
			s.m.awaitPool()
		}
		s.send(account, name, tenantEvent{})
	})
	var burst sync.WaitGroup
	each(func(account hearth.Account, name string) {
		for range s00Burst {
			burst.Go(func() { s.send(account, name, tenantEvent{SleepMs: 300}) })
		}
	})
	burst.Wait()
	var repeats sync.WaitGroup
	for _, account := range s00Accounts {
		repeats.Go(func() {
			for _, name := range names {
				for range s00Repeats {
					s.send(account, name, tenantEvent{})
				}
			}
		})
	}
	repeats.Wait()

	rest := s00Requests - len(s.done) - 1 // the fault sends one of its own
	type asked struct {
		account hearth.Account
		name    string
		event   tenantEvent
	}
	order := make([]asked, rest)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range order {
		order[i] = asked{s00Accounts[random.IntN(2)], names[random.IntN(3)], tenantEvent{SleepMs: random.IntN(4)}}
		if i%(rest/(2*s00Probes)) == 1 {
			order[i] = asked{s00Accounts[i/(rest/(2*s00Probes))%2], "python", tenantEvent{Probe: true}}
		}
	}
	next := make(chan asked)
	var interleaved sync.WaitGroup
	for range 4 {
		interleaved.Go(func() {
			for a := range next {
				s.send(a.account, a.name, a.event)
			}
		})
	}
	for i, a := range order {
		if i == rest/2 {
			interleaved.Go(func() { s.send(s00Accounts[0], "go", tenantEvent{SleepMs: 5000}) })
			interleaved.Go(func() { s.fault(pooled) })
		}
		next <- a
	}
	close(next)
	interleaved.Wait()
}

// fault kills the instance in which the long request of the first account
// runs, and one that waits in the warming pool, with all of their processes,
// from outside.
func (s *scenario) fault(pooled bool) {
	busy := map[string]time.Time{} // container → since when it was seen at the same invocation
	runs := map[string]uint64{}
	await(s.t, patience, "the long request to run", func() bool {
		for _, in := range s.m.manager.Snapshot() {
			for _, c := range in.Containers {
				if in.Account != s00Accounts[0] || c.Function != "go" || c.State != "busy" {
					delete(busy, c.ID)
					continue
				}
				if _, ok := busy[c.ID]; !ok || runs[c.ID] != uint64(c.Invocations) {
					busy[c.ID], runs[c.ID] = time.Now(), uint64(c.Invocations)
				}
				if time.Since(busy[c.ID]) > 500*time.Millisecond { // no other request of go takes that long
					s.victim = in.ID
					return true
				}
			}
		}
		return false
	})
	if pooled {
		await(s.t, patience, "a ready instance in the pool", func() bool {
			s.others = -1
			for _, in := range s.m.manager.Snapshot() {
				if in.Account == "" && len(in.Containers) == 1 && in.Containers[0].Boot == "python3.11" {
					s.pooled = in.ID
					s.others++
				}
			}
			return s.pooled != ""
		})
	}
	s.dead = map[string]bool{}
	for _, in := range s.m.manager.Snapshot() {
		for _, c := range in.Containers {
			if in.ID == s.victim {
				s.dead[c.ID] = true
			}
		}
	}
	s.killed = s.m.decisions.Last()
	// That of the pool first: once the other one is gone, requests may come to
	// need it.
	for _, id := range []string{s.pooled, s.victim} {
		if id != "" && kill(s.t, id) == 0 {
			s.t.Errorf("no process of instance %s was found", id)
		}
	}
	s.gone = monotonic()
	if pooled {
		await(s.t, patience, "the pool to notice the death of "+s.pooled, func() bool {
			return slices.ContainsFunc(s.m.records(), func(d hearth.Decision) bool {
				return d.Kind == hearth.DecisionLost && d.Instance == s.pooled
			})
		})
	}
}

// s00Run is what one run came to.
type s00Run struct {
	requests map[hearth.Path]int
	// latency is the time to the first instruction of the code, by path. Of
	// the path reuse it is that of the requests that found an idle container;
	// those that waited until one came free are in waited.
	latency map[hearth.Path][]time.Duration
	waited  []time.Duration
	firsts  []time.Duration // of the functions' very first requests
	lost    int             // requests that ended with the killed instance
	unused  int             // containers made for callers that were served by others
}

// s00Rounds are run at most: a machine that does something else meanwhile
// decides one.
const s00Rounds = 3

func TestS00WarmPoolAccountsAndReuse(t *testing.T) {
	paths := map[bool]map[hearth.Path]int{true: {}, false: {}}
	lost, unused := 0, 0
	var wrong []string
	for round := range s00Rounds {
		timing := map[string]time.Duration{}
		for _, pooled := range []bool{true, false} {
			kind := map[bool]string{true: "pool", false: "control"}[pooled]
			run := runS00(t, uint64(round), pooled)
			lost, unused = lost+run.lost, unused+run.unused
			for path, n := range run.requests {
				paths[pooled][path] += n
			}
			for path, ds := range run.latency {
				timing[fmt.Sprintf("%s: %s p50", kind, path)] = quantile(ds, 0.5)
				timing[fmt.Sprintf("%s: %s p99", kind, path)] = quantile(ds, 0.99)
			}
			timing[kind+": first requests p50"] = quantile(run.firsts, 0.5)
			timing[kind+": waited for reuse p50"] = quantile(run.waited, 0.5)
			if t.Failed() {
				t.Fatalf("round %d, %s", round, kind)
			}
		}
		for _, what := range slices.Sorted(maps.Keys(timing)) {
			figure(t, what, float64(timing[what].Microseconds())/1000, "ms", false)
		}
		if wrong = s00Wrong(paths, timing); len(wrong) == 0 {
			break
		}
		t.Logf("round %d: %s", round, strings.Join(wrong, "; "))
	}
	t.Logf("requests by path: with the pool %v, without %v", paths[true], paths[false])
	t.Logf("%d requests ended with the killed instances, each with an answer that says so; %d containers were made for callers whom others served first", lost, unused)

	for _, w := range wrong {
		t.Error(w)
	}
}

// s00Wrong is what the paths of all rounds, and the times of the last, are not
// as they should be.
func s00Wrong(paths map[bool]map[hearth.Path]int, timing map[string]time.Duration) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, path := range []hearth.Path{hearth.PathReuse, hearth.PathContainer, hearth.PathWarm, hearth.PathCold} {
		if paths[true][path]+paths[false][path] == 0 {
			say("the path %s was never taken", path)
		}
	}
	if n := paths[false][hearth.PathWarm]; n > 0 {
		say("%d requests found an instance in a warming pool that is off", n)
	}
	if d := timing["pool: reuse p99"]; d >= 100*time.Millisecond {
		say("a warm request takes %v (p99) to its first instruction", d)
	}
	for _, kind := range []string{"pool", "control"} {
		cold, ok := timing[kind+": cold p50"]
		if warm := timing[kind+": reuse p50"]; ok && cold < 10*warm { // a pool may never have been empty
			say("%s: cold takes %v, which is less than ten times warm, %v", kind, cold, warm)
		}
	}
	if with, without := timing["pool: first requests p50"], timing["control: first requests p50"]; with >= without {
		say("the pool gains nothing: first requests take %v with it and %v without", with, without)
	}
	return wrong
}

// runS00 makes a machine, drives the scenario and judges it.
func runS00(t *testing.T, seed uint64, pooled bool) s00Run {
	t.Helper()
	c := capacity{memoryMiB: 16384, instanceMiB: 1024} // two containers in an instance
	if pooled {
		c.poolMiB = 256
	}
	m := newMachine(t, c)
	deployed := map[hearth.Account]map[string]*hearth.Function{}
	for _, account := range s00Accounts {
		deployed[account] = map[string]*hearth.Function{}
		for _, f := range tenantFunctions(t, account) {
			deployed[account][f.name] = m.deploy(account, f)
		}
	}
	s := &scenario{t: t, m: m}
	s.drive(seed, pooled)
	if pooled {
		m.awaitPool() // also after the fault
	}
	run := s.judge(pooled)
	was := tracesOf(t, m.dir)
	m.close()
	was.gone(t, m.dir)
	s.secretsAreGone()
	// Code comes to the machine once, however many instances and containers run
	// it. The accounts' packages are the same: their environments tell them
	// apart.
	for _, fs := range deployed {
		for name, f := range fs {
			if n := m.fetches(f.Package.SHA256); n != 1 {
				t.Errorf("the package of %s was fetched %d times", name, n)
			}
		}
	}
	return run
}

// quantile is the q-quantile of ds; zero of none.
func quantile(ds []time.Duration, q float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(ds))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}
