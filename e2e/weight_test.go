package e2e

import (
	"cmp"
	"encoding/json"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hearth-faas/hearth"
)

// TestTurnsFollowTheAccountsWeights has two accounts want more of the processors
// than there is, and counts whose calls are served. It runs beside no other
// test, which would want some of them, too.
func TestTurnsFollowTheAccountsWeights(t *testing.T) {
	s := start(t)
	heavy, light := s.tenant("heavy"), s.tenant("light")
	burn := "import time\ndef handler(event, context):\n    end = time.process_time() + 0.01\n    while time.process_time() < end: pass\n"
	for _, a := range []*tenant{heavy, light} {
		a.deploy(function{name: "burn", runtime: "python3.12", files: map[string]string{"index.py": burn}, memory: 256, timeout: 60})
		a.mustInvoke("burn", "{}")
	}
	if _, err := s.hearth("account", "quota", "heavy", "--weight", "4"); err != nil {
		t.Fatal(err)
	}
	served := map[*tenant]*atomic.Int64{heavy: {}, light: {}}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for a, n := range served {
		for range 8 * runtime.GOMAXPROCS(0) {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := a.invoke("burn", "{}"); err != nil {
						t.Error(err)
						return
					}
					n.Add(1)
				}
			})
		}
	}
	defer wg.Wait()
	defer close(stop)
	total := func() int64 { return served[heavy].Load() + served[light].Load() }
	await(t, patience, "the accounts to take turns", func() bool {
		return strings.Contains(fetch(t, "GET", s.endpoint+"/metrics", "").body, "hearth_fair_shut 1\n")
	})
	for _, count := range []int64{200, 400} { // at first containers are made
		h, l, from := served[heavy].Load(), served[light].Load(), total()
		await(t, patience, "calls to be served", func() bool { return total() >= from+count || t.Failed() })
		h, l = served[heavy].Load()-h, served[light].Load()-l
		t.Logf("%d calls to %d, %.2f times as many", h, l, float64(h)/float64(l))
		if count == 400 && (float64(h) < 2*float64(l) || float64(h) > 6*float64(l)) {
			t.Errorf("of weights 4 and 1, %d calls were served to %d", h, l)
		}
	}
}

// TestContainersAreMadeByTheAccountsWeights has two accounts want containers at
// once, each of which has to compute while it is made, and counts whose are made
// first. The gate is off, so that nothing else takes turns.
func TestContainersAreMadeByTheAccountsWeights(t *testing.T) {
	const each, first = 24, 20
	s := start(t, "--fair=false")
	heavy, light := s.tenant("heavy"), s.tenant("light")
	slow := `
import time
end = time.process_time() + 0.03
while time.process_time() < end: pass
made = time.time()
def handler(event, context):
    time.sleep(event)
    return made
`
	for _, a := range []*tenant{heavy, light} {
		a.deploy(function{name: "slow", runtime: "python3.12", files: map[string]string{"index.py": slow}, memory: 128, timeout: 60})
	}
	if _, err := s.hearth("account", "quota", "heavy", "--weight", "8"); err != nil {
		t.Fatal(err)
	}
	type made struct {
		at float64
		of *tenant
	}
	var mu sync.Mutex
	seen := map[made]bool{} // one may serve twice
	var wg sync.WaitGroup
	for range each {
		for _, a := range []*tenant{light, heavy} {
			wg.Go(func() {
				got, err := a.invoke("slow", "3") // while others are made
				if err != nil {
					t.Error(err)
					return
				}
				var at float64
				if err := json.Unmarshal([]byte(got.payload), &at); err != nil {
					t.Errorf("%v: %s", err, got.payload)
				}
				mu.Lock()
				defer mu.Unlock()
				seen[made{at, a}] = true
			})
		}
	}
	wg.Wait()
	all := slices.SortedFunc(maps.Keys(seen), func(a, b made) int { return cmp.Compare(a.at, b.at) })
	if len(all) < first {
		t.Fatalf("%d containers were made", len(all))
	}
	n := 0
	for _, m := range all[:first] {
		if m.of == heavy {
			n++
		}
	}
	t.Logf("of the first %d containers %d were of the account of weight 8; the last came %.1f s after the first", first, n, all[len(all)-1].at-all[0].at)
	if n < first*7/10 || n == first {
		t.Errorf("of weights 8 and 1, %d of the first %d containers were the one's", n, first)
	}
}

// TestAnAccountsInstancesDoNotCrowdOutAnothers has one account compute in four
// times as many instances as another, each of which the kernel would give as much
// of the processors as each of the other's, and counts whose calls are served.
func TestAnAccountsInstancesDoNotCrowdOutAnothers(t *testing.T) {
	s := start(t)
	many, few := s.tenant("many"), s.tenant("few")
	burn := "import time\ndef handler(event, context):\n    end = time.process_time() + 0.15\n    while time.process_time() < end: pass\n"
	for _, a := range []*tenant{many, few} {
		a.deploy(function{name: "burn", runtime: "python3.12", files: map[string]string{"index.py": burn}, memory: 1769, timeout: 60})
	}
	served := map[*tenant]*atomic.Int64{many: {}, few: {}}
	var stopped atomic.Bool
	var wg sync.WaitGroup
	for a, times := range map[*tenant]int{many: 4, few: 1} {
		for range times * runtime.GOMAXPROCS(0) {
			wg.Go(func() {
				for !stopped.Load() {
					if _, err := a.invoke("burn", "{}"); err != nil {
						t.Error(err)
						return
					}
					served[a].Add(1)
				}
			})
		}
	}
	defer wg.Wait()
	defer stopped.Store(true)
	await(t, patience, "one account to yield", func() bool {
		return strings.Contains(fetch(t, "GET", s.endpoint+"/metrics", "").body, "hearth_fair_yielding 1\n")
	})
	m, f := served[many].Load(), served[few].Load()
	want := f + 10*int64(runtime.GOMAXPROCS(0))
	await(t, patience, "calls to be served", func() bool { return served[few].Load() >= want || t.Failed() })
	m, f = served[many].Load()-m, served[few].Load()-f
	t.Logf("%d calls of the account with four times as many at once to %d, %.2f times as many", m, f, float64(m)/float64(f))
	if float64(m) > 2.5*float64(f) {
		t.Errorf("%d calls to %d", m, f)
	}
	if told := many.decisions("yield"); len(told) != 1 || told[0].Chosen != "yields" || told[0].Account != hearth.Account(many.id) {
		t.Errorf("the account is told %+v", told)
	}
}
