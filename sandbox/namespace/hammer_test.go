package namespace

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/sandbox"
)

// TestHammer does everything at once, from many goroutines, and expects of
// each call only that it returns, and of the driver that nothing is left.
func TestHammer(t *testing.T) {
	d := newDriver(t, &tunNetwork{})
	fds := openFilesBut(t, d)
	var all sync.WaitGroup
	for worker := range 6 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 4 {
				hammerInstance(t, d, random)
			}
		})
	}
	all.Wait()
	if now := openFilesBut(t, d); now > fds {
		t.Errorf("%d files are open, %d were before", now, fds)
	}
	expectNoChildren(t, d)
}

// expectNoChildren fails if the spawner keeps a child. The kernel tells of an
// end before it takes the process off its parent's list, which on a busy
// machine is a moment later.
func expectNoChildren(t *testing.T, d *Driver) {
	t.Helper()
	var left []int
	for range 1000 {
		if left = children(d.spawn.live.cmd.Process.Pid); len(left) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond) // nothing tells of that moment
	}
	t.Errorf("the spawner has the children %v", left)
}

func hammerInstance(t *testing.T, d *Driver, random *rand.Rand) {
	in, err := d.NewInstance(background, newID("i"))
	if err != nil {
		t.Error(err)
		return
	}
	var all sync.WaitGroup
	for range 1 + random.IntN(2) {
		spec := sandbox.ContainerSpec{ID: newID("c"), Limits: sandbox.Limits{MemoryBytes: 64 << 20, Processes: 32}}
		spec.Limits.TmpBytes = []int64{0, usualTmp, 16 << 20}[random.IntN(3)]
		if random.IntN(2) == 0 {
			spec.Boot = &sandbox.Process{Argv: []string{"/bin/sleep", "1000"}}
		}
		// Some give up while the container is made.
		ctx, cancel := background, func() {}
		if random.IntN(4) == 0 {
			ctx, cancel = context.WithTimeout(background, time.Duration(random.IntN(10))*time.Millisecond)
		}
		seed := random.Uint64()
		all.Go(func() {
			defer cancel()
			c, err := in.NewContainer(ctx, spec)
			if err != nil {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("making a container: %v", err)
				}
				return
			}
			hammerContainer(c, spec.Boot != nil, rand.New(rand.NewPCG(2, seed)))
		})
	}
	all.Wait()
	if err := in.Destroy(); err != nil {
		t.Errorf("destroying an instance: %v", err)
	}
	if _, err := in.NewContainer(background, sandbox.ContainerSpec{ID: newID("c")}); err == nil {
		t.Error("a destroyed instance made a container")
	}
}

// hammerContainer calls what may be called from any goroutine in two, beside
// one that does the rest in order.
func hammerContainer(c sandbox.Container, booted bool, random *rand.Rand) {
	var all sync.WaitGroup
	for range 2 {
		pause := time.Duration(random.IntN(20)) * time.Millisecond
		end := random.IntN(3)
		all.Go(func() {
			for range 5 {
				_, _ = c.Usage()
				_, _ = c.OOMKills(), c.Exit()
			}
			select {
			case <-c.Exited():
			case <-time.After(pause):
			}
			switch end {
			case 0:
				_ = c.Kill()
			case 1:
				_ = c.Destroy()
			}
		})
	}
	_ = c.Attach(background, sandbox.Attachment{Task: probeDir})
	if !booted {
		_ = c.Start(background, sandbox.Process{Argv: []string{"/var/task/probe"}})
	}
	for range 3 {
		_ = c.Freeze()
		_ = c.SetLimits(sandbox.Limits{MemoryBytes: 32 << 20, TmpBytes: random.Int64N(1 << 30)})
		_ = c.Thaw()
	}
	all.Wait()
}
