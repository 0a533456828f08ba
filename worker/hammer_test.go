package worker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox"
)

// Many containers, each with one who uses it as the manager does, and others
// who kill, destroy and look at whatever they find. Whoever is answered is
// answered rightly; nothing but ContainerGone is an error; nothing is left.
func TestHammer(t *testing.T) {
	const users, rounds = 16, 25
	h := newHarness(t, freezesSoon, initWithin(time.Second), func(c *Config) { c.CodeCacheBytes = 500 })
	h.w.patience.exit = soon
	var failInit atomic.Int64
	functions := make([]*hearth.Function, 4)
	for i := range functions {
		change := []func(*hearth.Function){layered(900 + i), timeout(time.Second)}
		if i%2 == 1 {
			change = append(change, booted)
		}
		functions[i] = h.function(func(p *process) {
			if failInit.Add(1)%7 == 0 {
				p.exitWith(1)
			}
			p.print("begun\n")
			p.serve(func(e event) string {
				p.print("event %s\n", e.payload)
				return string(e.payload)
			})
		}, change...)
	}
	var (
		mu       sync.Mutex
		live     []*container // also some that have ended
		answered atomic.Int64
		killed   atomic.Int64
	)
	use := func(r *rand.Rand, n int) {
		f := functions[r.IntN(len(functions))]
		in, err := h.w.NewInstance(context.Background(), h.w.BootOf(f))
		if err != nil {
			t.Error(err)
			return
		}
		defer func() {
			if err := in.Destroy(); err != nil {
				t.Error(err)
			}
		}()
		c := in.FirstSlot().(*container)
		if r.IntN(2) == 0 {
			s, err := in.NewSlot(context.Background(), h.w.BootOf(f))
			if err != nil {
				t.Error(err)
				return
			}
			c = s.(*container)
		}
		mu.Lock()
		live = append(live, c)
		mu.Unlock()
		if err := c.Load(context.Background(), f, &hearth.Timeline{}); err != nil {
			if hearth.KindOf(err) != hearth.ContainerGone {
				t.Errorf("Load: %v", err)
			}
			return
		}
		for i := range r.IntN(20) {
			payload := fmt.Sprintf(`"%d.%d"`, n, i)
			result, reusable, err := c.Invoke(context.Background(), h.invocation(c, payload))
			switch {
			case err != nil && hearth.KindOf(err) != hearth.ContainerGone:
				t.Errorf("Invoke: %v", err)
			case err == nil && result.FunctionError == "" && string(result.Payload) != payload:
				t.Errorf("%s was answered by %s", payload, result.Payload)
			case err == nil && result.FunctionError != "" && reusable:
				t.Errorf("reusable after %s", result.Payload)
			case err == nil && result.FunctionError == "":
				answered.Add(1)
			}
			if !reusable {
				break
			}
			c.Idle()
			if r.IntN(3) == 0 {
				time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
			}
		}
	}
	stop := make(chan struct{})
	var others sync.WaitGroup
	for i := range 3 {
		r := rand.New(rand.NewPCG(uint64(i), 99))
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(r.IntN(1500)) * time.Microsecond):
				}
				mu.Lock()
				if len(live) == 0 {
					mu.Unlock()
					continue
				}
				c := live[max(0, len(live)-1-r.IntN(users))]
				mu.Unlock()
				c.mu.Lock()
				sb := c.env.sb.(*fakeContainer)
				c.mu.Unlock()
				switch r.IntN(8) {
				case 0:
					killed.Add(1)
					sb.end(sandbox.Exit{Code: 1})
				case 1:
					killed.Add(1)
					sb.outOfMemory()
				case 2:
					killed.Add(1)
					if err := c.Destroy(); err != nil {
						t.Error(err)
					}
				default:
					c.Usage()
					c.Frozen()
				}
			}
		})
	}
	var all sync.WaitGroup
	for u := range users {
		r := rand.New(rand.NewPCG(uint64(u), 1))
		all.Go(func() {
			for i := range rounds {
				use(r, u*rounds+i)
			}
		})
	}
	all.Wait()
	close(stop)
	others.Wait()
	t.Logf("%d answered, %d killed, frozen %d times, %d environments", answered.Load(), killed.Load(), h.d.count("Freeze"), len(h.d.containers()))
	if answered.Load() < users*rounds || killed.Load() == 0 || h.d.count("Thaw") == 0 {
		t.Error("it was no hammer")
	}
	for _, c := range live {
		if !isDone(c) {
			t.Errorf("container %s is not over", c.id)
		}
	}
}
