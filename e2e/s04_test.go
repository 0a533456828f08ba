package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/manager"
)

// The acceptance scenario of the pool that follows trends, its half hour
// pressed into seconds by shorter windows: a calm load, a ramp of bursts, an
// end, and a second peak by another account; first with a pool that learns,
// then with a fixed one of no fewer instance-seconds, which must find fewer of
// the ramp's requests a ready instance.

var s04Ramp = []int{2, 4, 8, 12, 16, 20}

// s04Pool is a machine whose every container takes an instance of its own.
func s04Pool(t *testing.T, change func(*manager.Config)) *machine {
	return newMachine(t, capacity{memoryMiB: 128 << 10, instanceMiB: 512, poolMiB: 512, queueWait: time.Minute, change: func(c *manager.Config) {
		c.Trend = manager.Trend{Short: time.Second, Long: 10 * time.Second, Burst: 1500 * time.Millisecond}
		c.SweepEvery = 200 * time.Millisecond
		change(c)
	}})
}

// s04Run is what one run came to.
type s04Run struct {
	ramp, ready int           // requests of the ramps, and how many of them found an instance ready
	held        time.Duration // instances in the pool, times how long
	failed      int
}

// s04Load is how large the ramp's bursts are, in times of s04Ramp, and how far
// apart.
type s04Load struct {
	times int
	pause time.Duration
}

// run sends the load and watches the pool from outside its deciders.
func (r *s04Run) run(t *testing.T, m *machine, load s04Load) {
	accounts := []hearth.Account{"111111111111", "222222222222"}
	for _, account := range accounts {
		m.deploy(account, function{name: "f", runtime: "provided.al2023", handler: "bootstrap", zip: goZip(t, "tenant"), memory: 512, timeout: 60})
	}
	m.awaitPool()
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		last := time.Now()
		for ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond) // a sample
			now := time.Now()
			r.held += time.Duration(m.manager.Stats().PoolReady[""]) * now.Sub(last)
			last = now
		}
	})
	var all sync.WaitGroup
	var mu sync.Mutex
	running := time.Duration(len(s04Ramp)+4) * load.pause // longer than the ramp: none is reused
	burst := func(account hearth.Account, n int) {
		for range n {
			all.Go(func() {
				payload, err := json.Marshal(tenantEvent{Nonce: "n", SleepMs: int(running.Milliseconds())})
				if err != nil {
					t.Error(err)
				}
				inv, result, err := m.invoke(account, "f", payload)
				mu.Lock()
				defer mu.Unlock()
				if err != nil || result.FunctionError != "" {
					r.failed++
					return
				}
				r.ramp++
				if inv.Placement.Path == hearth.PathWarm {
					r.ready++
				}
			})
		}
	}
	for _, account := range accounts {
		for _, n := range s04Ramp {
			burst(account, load.times*n)
			time.Sleep(load.pause) // the load's own pace
		}
		time.Sleep(5 * time.Second) // the trough
	}
	all.Wait()
	stop()
	watching.Wait()
}

// It is to win by this share of the ramp's requests, or by less and spare this
// share of those that the control lets wait. How many these are depends on the
// machine: a pool of whatever size is made up again the sooner the faster
// instances boot. Where that is so soon that hardly any wait, the ramp of the next
// round is steeper; where many wait for both, its bursts are further apart.
const (
	s04Margin = 0.15
	s04Least  = 0.1
	s04Spared = 0.5
	s04Easy   = 0.75 // of the requests find a fixed pool ready
	s04Hard   = 0.7  // of the requests find one that follows ready
)

func TestS04APoolThatFollowsTheTrendBeatsAFixedOne(t *testing.T) {
	const rounds = 3 // at most: a machine that does something else meanwhile decides one
	var came []string
	load := s04Load{times: 1, pause: 400 * time.Millisecond}
	for range rounds {
		trend, fixed := &s04Run{}, &s04Run{}
		learning := s04Pool(t, func(*manager.Config) {})
		began := time.Now()
		trend.run(t, learning, load)
		took := time.Since(began)
		learning.close()
		size := int(trend.held/took) + 1
		control := s04Pool(t, func(c *manager.Config) { c.PoolExtra, c.PoolMin[""] = -1, size })
		fixed.run(t, control, load)
		control.close()
		share := func(r *s04Run) float64 { return float64(r.ready) / float64(r.ramp) }
		t.Logf("ready for %.0f %% of %d, for %.1f instances on average; a fixed pool of %d: %.0f %% of %d", share(trend)*100, trend.ramp,
			float64(trend.held)/float64(took), size, share(fixed)*100, fixed.ramp)
		figure(t, "ready in the ramps", share(trend)*100, "%", true)
		figure(t, "ready in the ramps of the control", share(fixed)*100, "%", true)
		if trend.failed+fixed.failed > 0 {
			t.Errorf("%d and %d requests failed", trend.failed, fixed.failed)
		}
		win := share(trend) - share(fixed)
		if win >= s04Margin || win >= s04Least && win >= s04Spared*(1-share(fixed)) {
			return
		}
		switch {
		case share(fixed) > s04Easy:
			load.times++
		case share(trend) < s04Hard:
			load.pause = min(2*load.pause, 800*time.Millisecond) // a burst is not forgotten by the next
		}
		came = append(came, fmt.Sprintf("%.2f against %.2f", share(trend), share(fixed)))
	}
	t.Errorf("the pool that follows the trend was ready for %v of the requests, wanted %v more, or %v and %v of what the other was not ready for, in one round", came, s04Margin, s04Least, s04Spared)
}

// TestS04AFallingLoadIsPackedAndNothingIsCut: the account's load falls from
// eight at once to three, in two instances. The one with one at work is given
// up although it has more room. Without a warming pool an instance is filled
// before the next is made.
func TestS04AFallingLoadIsPackedAndNothingIsCut(t *testing.T) {
	t.Parallel()
	m := newMachine(t, capacity{memoryMiB: 8192, instanceMiB: 512, change: func(c *manager.Config) {
		c.SweepEvery, c.PackEvery = 100*time.Millisecond, time.Second
	}})
	const account hearth.Account = "111111111111"
	m.deploy(account, function{name: "f", runtime: "provided.al2023", handler: "bootstrap", zip: goZip(t, "tenant"), memory: 128, timeout: 60})
	var all sync.WaitGroup
	placed := make([]*hearth.Invocation, 8)
	ended := make([]time.Time, 8)
	// Those that end first do so when the last has its container: none is reused.
	for i, sleep := range []int{25000, 25000, 5000, 5000, 18000, 5000, 5000, 5000} {
		before := m.manager.Stats().Containers
		all.Go(func() {
			payload := fmt.Appendf(nil, `{"nonce":"%d","sleepMs":%d}`, i, sleep)
			inv, result, err := m.invoke(account, "f", payload)
			placed[i], ended[i] = inv, time.Now()
			if err != nil || result.FunctionError != "" {
				t.Errorf("request %d was cut: %v, %+v", i, err, result)
			}
		})
		await(t, patience, "the request to have a container", func() bool { return m.manager.Stats().Containers > before })
	}
	await(t, patience, "an instance to be given up", func() bool { return m.manager.Stats().Packed > 0 })
	var victim hearth.Decision
	for _, d := range m.records() {
		if d.Kind == hearth.DecisionPack {
			victim = d
		}
	}
	// Nothing new comes to it: all that is idle is in the other one.
	inv, _, err := m.invoke(account, "f", []byte(`{"nonce":"new"}`))
	if err != nil || inv.Placement.Instance == victim.Instance {
		t.Errorf("a new request was served by %s, which is given up: %v", inv.Placement.Instance, err)
	}
	gone := func() bool {
		for _, in := range m.manager.Snapshot() {
			if in.ID == victim.Instance {
				return false
			}
		}
		return true
	}
	if victim.Knew.Busy == 0 || gone() {
		t.Errorf("the victim was at work on nothing: %+v", victim)
	}
	await(t, patience, "the victim to end", gone)
	died := time.Now()
	all.Wait()
	last := time.Time{}
	for i, inv := range placed {
		if inv.Placement.Instance == victim.Instance && ended[i].After(last) {
			last = ended[i]
		}
	}
	if after := died.Sub(last); after < -2*time.Second || after > 10*time.Second {
		t.Errorf("it was gone %v after its last invocation", after)
	}
}
