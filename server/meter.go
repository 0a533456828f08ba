package server

import (
	"context"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/meter"
	"github.com/hearth-faas/hearth/store"
)

func (s *Server) openMeter(ctx context.Context) (err error) {
	s.meter, err = meter.Open(ctx, meter.Config{Store: s.records, Clock: s.clock, Log: s.log, Settle: s.settleUse})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	// After the pools are closed, whose containers' last numbers come then.
	s.opened("meter", s.meter.Close)
	s.metrics.MustRegister(s.meter)
	return nil
}

// settleUse has everybody who counts tell what they have not told.
func (s *Server) settleUse(context.Context) { s.worker.Settle() }

// used tells the meter, which is opened after the worker and before anything
// runs there.
type used struct{ s *Server }

func (u used) Used(f *hearth.Function, m *hearth.Metered) { u.s.meter.Used(f, m) }
