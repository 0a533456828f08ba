package frontend_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/frontend"
)

// updating are functions of which one is being updated: it is old until it has
// settled.
type updating struct {
	old, now *hearth.Function
	settled  atomic.Bool
	waits    atomic.Int64
	fail     error
}

func (u *updating) Resolve(context.Context, hearth.Account, string, string) (*hearth.Function, error) {
	if u.settled.Load() {
		return u.now, nil
	}
	return u.old, nil
}

func (u *updating) Updating() bool { return !u.settled.Load() }

func (u *updating) Settled(context.Context, hearth.Account, string, string) (bool, error) {
	u.waits.Add(1)
	if u.settled.Load() {
		return false, nil
	}
	if u.fail != nil {
		return true, u.fail
	}
	u.settled.Store(true)
	return true, nil
}

func TestAnInvocationRunsTheCodeThatItInsistsOn(t *testing.T) {
	oldSum, newSum, other := strings.Repeat("a", 64), strings.Repeat("b", 64), strings.Repeat("c", 64)
	failed := hearth.Errorf(hearth.Conflict, "the update has failed")
	for name, c := range map[string]struct {
		require, mode string
		settled       bool // there is no update in progress
		fail          error
		want          string // the SHA-256 of what runs
		kind          hearth.Kind
		waits         int64
	}{
		"by default the old code answers":           {want: oldSum},
		"the newest is waited for":                  {require: hearth.NewestCode, want: newSum, waits: 1},
		"so it is where the policy says so":         {mode: "wait", want: newSum, waits: 1},
		"the old code by name needs no wait":        {require: oldSum, want: oldSum},
		"even where the policy has others wait":     {require: oldSum, mode: "wait", want: oldSum},
		"the new code by name is waited for":        {require: newSum, want: newSum, waits: 1},
		"other code is refused":                     {require: other, kind: hearth.PreconditionFailed, waits: 1},
		"without an update nothing is waited for":   {mode: "wait", settled: true, want: newSum},
		"the newest is what there is":               {require: hearth.NewestCode, settled: true, want: newSum, waits: 1},
		"the old code is gone":                      {require: oldSum, settled: true, kind: hearth.PreconditionFailed, waits: 1},
		"a failed update is told to who insists":    {require: hearth.NewestCode, fail: failed, kind: hearth.Conflict, waits: 1},
		"a failed update leaves others what it was": {mode: "wait", fail: failed, want: oldSum, waits: 1},
	} {
		t.Run(name, func(t *testing.T) {
			u := &updating{old: newFunction(), now: newFunction(), fail: c.fail}
			u.old.Package.SHA256, u.now.Package.SHA256 = oldSum, newSum
			u.settled.Store(c.settled)
			ran := ""
			f := newFrontend(t, func(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
				ran = inv.Function.Package.SHA256
				return &hearth.Result{}, nil
			}, func(cfg *frontend.Config) {
				cfg.Functions, cfg.Updates = u, u
				cfg.Policy = func(hearth.Account, string) *hearth.ExecutionPolicy {
					return &hearth.ExecutionPolicy{Update: &hearth.UpdatePolicy{Mode: c.mode}}
				}
			})
			inv := request()
			inv.RequireCode = c.require
			_, err := f.Invoke(context.Background(), inv)
			if ran != c.want || c.kind == "" && err != nil || c.kind != "" && hearth.KindOf(err) != c.kind || u.waits.Load() != c.waits {
				t.Errorf("ran %.4s, error %v, waited %d times", ran, err, u.waits.Load())
			}
		})
	}
}

func TestAnInvocationThatWaitsForAnUpdateLeavesWithItsCaller(t *testing.T) {
	u := &updating{old: newFunction(), now: newFunction(), fail: errors.New("the wait was given up")}
	f := newFrontend(t, echo, func(cfg *frontend.Config) { cfg.Functions, cfg.Updates = u, u })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	inv := request()
	inv.RequireCode = hearth.NewestCode
	if _, err := f.Invoke(ctx, inv); hearth.KindOf(err) != hearth.Canceled {
		t.Errorf("got %v", err)
	}
}

func TestNoMoreOfAnAccountWaitForUpdatesThanMay(t *testing.T) {
	u := &stuck{old: newFunction(), all: make(chan struct{}), release: make(chan struct{})}
	f := newFrontend(t, echo, func(cfg *frontend.Config) { cfg.Functions, cfg.Updates = u, u })
	ask := func() error {
		inv := request()
		inv.RequireCode = hearth.NewestCode
		_, err := f.Invoke(context.Background(), inv)
		return err
	}
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			if err := ask(); err != nil {
				t.Error(err)
			}
		})
	}
	<-u.all
	if err := ask(); hearth.KindOf(err) != hearth.TooManyRequests {
		t.Errorf("one more is answered with %v", err)
	}
	close(u.release)
	wg.Wait()
	if err := ask(); err != nil {
		t.Errorf("when the others have gone: %v", err)
	}
}

// stuck is an update that goes on until it is released, and tells when 1,000
// wait for it.
type stuck struct {
	old          *hearth.Function
	n            atomic.Int64
	all, release chan struct{}
}

func (s *stuck) Resolve(context.Context, hearth.Account, string, string) (*hearth.Function, error) {
	return s.old, nil
}
func (s *stuck) Updating() bool { return true }
func (s *stuck) Settled(context.Context, hearth.Account, string, string) (bool, error) {
	if s.n.Add(1) == 1000 {
		close(s.all)
	}
	<-s.release
	return true, nil
}
