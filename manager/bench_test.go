package manager_test

import (
	"context"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/manager"
)

// instant is a worker whose containers answer at once, so that what is
// measured is the manager.
type instant struct{}

func (instant) BootOf(*hearth.Function) hearth.Boot { return "" }
func (instant) SlotMiB(hearth.Boot) float64         { return 0.5 }
func (instant) NewInstance(context.Context, hearth.Boot) (hearth.Instance, error) {
	return instant{}, nil
}
func (instant) ID() string { return "i" }
func (instant) NewSlot(context.Context, hearth.Boot) (hearth.Container, error) {
	return &instantContainer{done: make(chan struct{})}, nil
}
func (instant) FirstSlot() hearth.Container { return &instantContainer{done: make(chan struct{})} }
func (instant) Destroy() error              { return nil }

type instantContainer struct{ done chan struct{} }

var result hearth.Result

func (*instantContainer) ID() string { return "c" }
func (c *instantContainer) Provision(context.Context, *hearth.Function, *hearth.Timeline) error {
	return nil
}
func (*instantContainer) Load(context.Context, *hearth.Function, *hearth.Timeline) error { return nil }
func (*instantContainer) Invoke(_ context.Context, inv *hearth.Invocation) (*hearth.Result, bool, error) {
	inv.Use = hearth.Use{End: hearth.EndOK, MemoryMiB: 128, PeakMiB: 40, Duration: time.Millisecond, NetworkIn: 100}
	return &result, true, nil
}
func (*instantContainer) Settled() <-chan struct{} { return nil }
func (*instantContainer) Idle()                    {}
func (c *instantContainer) Done() <-chan struct{}  { return c.done }
func (*instantContainer) Usage() hearth.Usage      { return hearth.Usage{} }
func (*instantContainer) Destroy() error           { return nil }

func benchManager(b *testing.B) *manager.Manager {
	m, err := manager.New(manager.Config{Worker: instant{}, Clock: clock.System(), MachineMiB: 1 << 20})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := m.Drain(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return m
}

func BenchmarkWarmInvoke(b *testing.B) {
	m := benchManager(b)
	f := function(acct, "f", 128)
	ctx, inv := context.Background(), invocation(f)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Invoke(ctx, inv); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWarmInvokeParallelOneFunction(b *testing.B) {
	m := benchManager(b)
	f := function(acct, "f", 128)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		ctx, inv := context.Background(), invocation(f)
		for pb.Next() {
			if _, err := m.Invoke(ctx, inv); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkWarmInvokeParallelManyFunctions(b *testing.B) {
	m := benchManager(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		ctx, inv := context.Background(), invocation(function(acct, "f", 128))
		for pb.Next() {
			if _, err := m.Invoke(ctx, inv); err != nil {
				b.Error(err)
			}
		}
	})
}
