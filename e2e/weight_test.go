package e2e

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
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
