package frontend_test

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/decision"
	"github.com/hearth-faas/hearth/frontend"
	capacity "github.com/hearth-faas/hearth/manager"
)

// instant is a worker whose one container answers at once.
type instant struct{ done chan struct{} }

func (i instant) BootOf(*hearth.Function) hearth.Boot                                 { return "" }
func (i instant) SlotMiB(hearth.Boot) float64                                         { return 0.5 }
func (i instant) NewInstance(context.Context, hearth.Boot) (hearth.Instance, error)   { return i, nil }
func (i instant) ID() string                                                          { return "i-1" }
func (i instant) NewSlot(context.Context, hearth.Boot) (hearth.Container, error)      { return i, nil }
func (i instant) FirstSlot() hearth.Container                                         { return i }
func (i instant) Destroy() error                                                      { return nil }
func (i instant) Load(context.Context, *hearth.Function, *hearth.Timeline) error      { return nil }
func (i instant) Provision(context.Context, *hearth.Function, *hearth.Timeline) error { return nil }
func (i instant) Settled() <-chan struct{}                                            { return nil }
func (i instant) Idle()                                                               {}
func (i instant) Done() <-chan struct{}                                               { return i.done }
func (i instant) Usage() hearth.Usage                                                 { return hearth.Usage{} }

var result hearth.Result

func (i instant) Invoke(_ context.Context, inv *hearth.Invocation) (*hearth.Result, bool, error) {
	return &result, true, nil
}

// BenchmarkWarmWay is all that Hearth decides, admits, counts and records of a
// warm invocation, from the frontend to the decision's log on disk and back:
// everything between the wire and the worker.
func BenchmarkWarmWay(b *testing.B) {
	log, err := decision.Open(decision.Config{Clock: clock.System(), Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	m, err := capacity.New(capacity.Config{Worker: instant{make(chan struct{})}, Clock: clock.System(), Recorder: log, MachineMiB: 4096})
	if err != nil {
		b.Fatal(err)
	}
	fn := newFunction()
	fn.MemoryMiB = 128
	f, err := frontend.New(frontend.Config{Functions: functions{fn}, Manager: m, Clock: clock.System(), Recorder: log, Metrics: prometheus.NewRegistry(), Limits: frontend.NewLimits(0, -1)})
	if err != nil {
		b.Fatal(err)
	}
	inv := request()
	inv.RequestID, inv.TraceID, inv.Payload = "7f1c9b0e-35a2-4c9b-8a39-6f0e2d1c4b5a", "t", []byte("{}")
	b.ReportAllocs()
	for b.Loop() {
		inv.Timeline, inv.TraceID = hearth.Timeline{}, "t" // else it would be a chain without end
		inv.Timeline.Begin(time.Now())
		if _, err := f.Invoke(context.Background(), inv); err != nil {
			b.Fatal(err)
		}
		inv.Timeline.End(hearth.StageAnswer, time.Now())
		f.Done(inv)
	}
	b.StopTimer()
	if err := m.Drain(context.Background()); err != nil {
		b.Error(err)
	}
}
