package sim

import (
	"context"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/manager"
)

// liveWorker makes containers that only take time, and sums up how long they
// wait.
type liveWorker struct {
	makes  time.Duration
	serial atomic.Int64
	mu     sync.Mutex
	idle   float64 // MiB·s
}

func (w *liveWorker) BootOf(*hearth.Function) hearth.Boot { return "" }
func (w *liveWorker) SlotMiB(hearth.Boot) float64         { return 1 }
func (w *liveWorker) NewInstance(ctx context.Context, b hearth.Boot) (hearth.Instance, error) {
	first, err := w.NewSlot(ctx, b)
	return &liveInstance{w, first}, err
}
func (w *liveWorker) NewSlot(context.Context, hearth.Boot) (hearth.Container, error) {
	time.Sleep(w.makes)
	return &liveContainer{w: w, id: strconv.FormatInt(w.serial.Add(1), 10), done: make(chan struct{})}, nil
}

type liveInstance struct {
	*liveWorker
	first hearth.Container
}

func (i *liveInstance) ID() string                  { return "i" }
func (i *liveInstance) FirstSlot() hearth.Container { return i.first }
func (i *liveInstance) Destroy() error              { return nil }

type liveContainer struct {
	w     *liveWorker
	id    string
	mib   float64
	since time.Time // when it began to wait; zero while it does not
	done  chan struct{}
}

// busy ends a wait.
func (c *liveContainer) busy() {
	if !c.since.IsZero() {
		c.w.mu.Lock()
		c.w.idle += c.mib * time.Since(c.since).Seconds()
		c.w.mu.Unlock()
		c.since = time.Time{}
	}
}

func (c *liveContainer) ID() string { return c.id }
func (c *liveContainer) Load(_ context.Context, f *hearth.Function, _ *hearth.Timeline) error {
	c.mib = float64(f.MemoryMiB)
	return nil
}
func (c *liveContainer) Provision(ctx context.Context, f *hearth.Function, t *hearth.Timeline) error {
	return c.Load(ctx, f, t)
}
func (c *liveContainer) Invoke(_ context.Context, inv *hearth.Invocation) (*hearth.Result, bool, error) {
	c.busy()
	ms, err := strconv.ParseInt(string(inv.Payload), 10, 64)
	time.Sleep(time.Duration(ms))
	return &hearth.Result{}, true, err
}
func (c *liveContainer) Settled() <-chan struct{} { return nil }
func (c *liveContainer) Idle()                    { c.since = time.Now() }
func (c *liveContainer) Done() <-chan struct{}    { return c.done }
func (c *liveContainer) Usage() hearth.Usage      { return hearth.Usage{} }
func (c *liveContainer) Destroy() error           { c.busy(); return nil }

// TestTheModelDoesWhatTheManagerDoes replays the same invocations through the
// pool model and through the manager itself, in the time of a synctest bubble.
func TestTheModelDoesWhatTheManagerDoes(t *testing.T) {
	t.Run("kept or let go", func(t *testing.T) { modelAndManager(t, true, 0.03) })
	// What is made ahead stays until the time that was said when it was asked
	// for, whatever is decided meanwhile, and a sweep longer.
	t.Run("and made ahead", func(t *testing.T) { modelAndManager(t, false, 0.1) })
}

func modelAndManager(t *testing.T, keepOnly bool, within float64) {
	runs := RunTimes{100, 100, 800, 2000, 5000, 20_000, 30_000}
	trace := &Trace{Length: 4 * time.Hour}
	for i, gap := range []uint32{1, 3, 10, 17} {
		f := Function{Name: "f" + strconv.Itoa(i), MiB: 128 * float64(i+1), RunTimes: runs}
		for _, m := range [][]uint32{every(gap, 0, 100), every(2*gap, 130, 200)} {
			for _, at := range m {
				f.Minutes = append(f.Minutes, Minute{at, 1 + at*7%6})
			}
		}
		trace.Functions = append(trace.Functions, f)
	}
	life := manager.IdleLife{Worth: 10_000}.Complete() // so that much is let go
	s := Settings{Seed: 5, Spread: Uniform, Cold: 300 * time.Millisecond}
	model := run(t, trace, &Learned{IdleLife: life, Lead: s.Cold, KeepOnly: keepOnly}, s)

	synctest.Test(t, func(t *testing.T) {
		w := &liveWorker{makes: s.Cold}
		m, err := manager.New(manager.Config{Worker: w, Clock: clock.System(), MachineMiB: 1 << 20, InstanceMiB: 1 << 20, Life: life, PackLevel: -1, KeepThrough: keepOnly,
			BootConcurrency: 8, MakeConcurrency: 32, PrepareConcurrency: 8})
		if err != nil {
			t.Fatal(err)
		}
		var cold atomic.Int64
		var all sync.WaitGroup
		began := time.Now()
		for i := range trace.Functions {
			f := &trace.Functions[i]
			fn := &hearth.Function{Account: "000000000000", Region: hearth.DefaultRegion, Name: f.Name, Version: hearth.Latest,
				Generation: uint64(i + 1), MemoryMiB: int(f.MiB), Timeout: time.Minute, State: hearth.Active}
			next := newArrivals(f, s.Spread, s.Seed)
			all.Go(func() {
				for {
					at, took, ok := next.next()
					if !ok {
						return
					}
					time.Sleep(time.Until(began.Add(at)))
					all.Go(func() {
						inv := &hearth.Invocation{Account: fn.Account, Name: fn.Name, Function: fn, Payload: []byte(strconv.FormatInt(int64(took), 10))}
						inv.Timeline.Begin(time.Now())
						if _, err := m.Invoke(context.Background(), inv); err != nil {
							t.Error(err)
						}
						if inv.Timeline.Total() > 0 { // it waited for a container
							cold.Add(1)
						}
					})
				}
			})
		}
		time.Sleep(trace.Length)
		all.Wait()
		if err := m.Drain(context.Background()); err != nil {
			t.Error(err)
		}
		t.Logf("the manager: %d of %d cold, %.0f MiB·s of waiting; the model: %d, %.0f", cold.Load(), model.Invocations, w.idle, model.Cold, model.Tally.Idle)
		// The manager sweeps at its own times, up to 1.7 s off the model's.
		if math.Abs(float64(cold.Load())-float64(model.Cold)) > within*float64(model.Cold)+2 {
			t.Errorf("%d cold starts, of the model %d", cold.Load(), model.Cold)
		}
		if math.Abs(w.idle-model.Tally.Idle) > within*model.Tally.Idle {
			t.Errorf("%.0f MiB·s of waiting, of the model %.0f", w.idle, model.Tally.Idle)
		}
	})
}
