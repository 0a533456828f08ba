package server

import (
	"context"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/async"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/delivery"
)

// events lets the frontend, which is opened first, hand on to the queue of
// asynchronous invocations, which runs them through it.
type events struct{ s *Server }

func (e events) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	if shared := inv.Function.Shared; shared != nil && shared.API != "" {
		if err := e.s.tasks.Accept(ctx, inv); err != nil {
			return nil, err
		}
	}
	return e.s.async.Invoke(ctx, inv)
}

// eventPolicy is how the function has configured that its events be handled.
func (s *Server) eventPolicy(account hearth.Account, name, qualifier string) async.Policy {
	p := async.DefaultPolicy
	ctx := context.Background()
	settings, err := s.registry.Settings(ctx, account, name, qualifier)
	if err != nil { // it was deleted meanwhile: the queue finds that out, too
		return p
	}
	if f, err := s.registry.Get(ctx, account, name, qualifier); err == nil {
		p.DeadLetter = f.DeadLetterTarget
	}
	if whole, err := s.registry.Settings(ctx, account, name, ""); err == nil {
		p.Halted = whole.ReservedConcurrency != nil && *whole.ReservedConcurrency == 0
	}
	c := settings.EventInvoke
	if c == nil {
		return p
	}
	if c.MaxAgeSeconds != nil {
		p.MaxAge = time.Duration(*c.MaxAgeSeconds) * time.Second
	}
	if c.MaxRetries != nil {
		p.MaxRetries = *c.MaxRetries
	}
	p.OnSuccess, p.OnFailure = c.OnSuccess, c.OnFailure
	return p
}

// functionMiB is the memory of the function; 0 if it is gone, which is soon
// found out.
func (s *Server) functionMiB(account hearth.Account, name, qualifier string) int {
	f, err := functions{s.registry, s.shares}.Get(context.Background(), account, name, qualifier)
	if err != nil {
		return 0
	}
	return f.MemoryMiB
}

// parkedEvents is the control API's source of parked events.
type parkedEvents struct{ s *Server }

func (p parkedEvents) List(ctx context.Context, account hearth.Account, limit int) (list []control.ParkedEvent, err error) {
	err = p.s.async.Parked(ctx, account, func(e async.Parked) bool {
		list = append(list, control.ParkedEvent{
			ID: e.ID, Function: e.Function, Qualifier: e.Qualifier, Accepted: e.Accepted, Attempts: e.Attempts, Reason: e.Reason, Last: e.Last,
		})
		return len(list) < limit
	})
	if err != nil || len(list) >= limit {
		return list, err
	}
	err = p.s.deliveries.Parked(ctx, account, func(d *delivery.Delivery) bool {
		list = append(list, control.ParkedEvent{
			ID: d.ID, Function: d.Target, Accepted: d.Accepted, Attempts: d.Attempts, Reason: "of " + d.Origin, Last: d.Why,
		})
		return len(list) < limit
	})
	return list, err
}

func (p parkedEvents) Redrive(ctx context.Context, account hearth.Account, id string) error {
	err := p.s.async.Redrive(ctx, account, id)
	if hearth.KindOf(err) != hearth.NotFound {
		return err
	}
	if derr := p.s.deliveries.Redrive(ctx, account, id); hearth.KindOf(derr) != hearth.NotFound {
		return derr
	}
	return err
}
