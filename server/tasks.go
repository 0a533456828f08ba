package server

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/frontend"
	"github.com/hearth-faas/hearth/lambda/sigv4"
	"github.com/hearth-faas/hearth/meter"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/taskset"
)

// openTasks opens the task APIs.
func (s *Server) openTasks(ctx context.Context) (err error) {
	s.tasks, err = taskset.Open(ctx, taskset.Config{
		Store: s.records, Functions: s.registry, Next: s.shares, Seal: s.authority.Key(), Clock: s.clock, Region: s.cfg.Region, Log: s.log,
		Usable: s.accounts.Usable,
		Publish: func(ctx context.Context, account hearth.Account, function string) (string, error) {
			f, err := s.registry.Publish(ctx, account, function, registry.Publish{})
			if err != nil {
				return "", err
			}
			return f.Version, nil
		},
		Changed: func(old, now *hearth.Function) {
			s.manager.Changed(old, now)
			s.tellNodes(func(n hearth.Node) { n.Changed(old, now) })
		},
		Taken: func(account hearth.Account, prefix string) string { return s.nameWith(ctx, account, prefix) },
		CPU: func(ctx context.Context, account, owner hearth.Account, api string) (time.Duration, error) {
			u, err := s.meter.Month(ctx, account, func(k *meter.Key) bool { return k.Owner == owner && k.API == api })
			return u.CPU, err
		},
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("task APIs", s.tasks.Close)
	return nil
}

// nameWith is a function or a shared alias of the account's whose name begins
// with the prefix; "" if there is none.
func (s *Server) nameWith(ctx context.Context, account hearth.Account, prefix string) string {
	names, err := s.functionNames(context.WithoutCancel(ctx), account)
	if err != nil {
		return prefix // of which nothing is known
	}
	for _, a := range s.shares.Aliases(account) {
		names = append(names, a.Name)
	}
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			return name
		}
	}
	return ""
}

// sharedRuns lets runs of another account's code in: those of shared aliases and
// those of task APIs.
type sharedRuns struct{ s *Server }

var _ frontend.Shares = sharedRuns{}

func (r sharedRuns) of(inv *hearth.Invocation) frontend.Shares {
	if inv.Function.Shared.API != "" {
		return r.s.tasks
	}
	return r.s.shares
}

func (r sharedRuns) Enter(ctx context.Context, inv *hearth.Invocation) error {
	return r.of(inv).Enter(ctx, inv)
}

func (r sharedRuns) Leave(inv *hearth.Invocation) { r.of(inv).Leave(inv) }

// taskCalls serves calls of tasks by HTTP, before next.
func (s *Server) taskCalls(next http.Handler) http.Handler {
	verifier := sigv4.New(s.authority, s.clock, s.cfg.Region, "execute-api")
	verifier.Guard = &s.guard
	return (&taskset.Gateway{
		Sets: s.tasks, Invoker: s.frontend, Done: s.frontend.Done, Clock: s.clock, Region: s.cfg.Region, Log: s.log,
		Verify: func(r *http.Request, body []byte) (hearth.Identity, error) {
			claim, err := verifier.Verify(r, body)
			return claim.Identity, err
		},
	}).Over(next)
}

// taskAPIs are the task APIs as the control API asks for them.
type taskAPIs struct{ *taskset.Sets }

func (t taskAPIs) APIs(owner hearth.Account) ([]*taskset.API, error) { return t.Sets.APIs(owner), nil }

func (t taskAPIs) Subscriptions(account hearth.Account) ([]*taskset.Subscription, error) {
	return t.Sets.Subscriptions(account), nil
}

func (t taskAPIs) Subscribers(owner hearth.Account, name string) ([]*taskset.Subscription, error) {
	if _, err := t.API(owner, name); err != nil {
		return nil, err
	}
	return t.Sets.Subscribers(owner, name), nil
}

// forgetTasks removes an account's task APIs and subscriptions.
func (s *Server) forgetTasks(ctx context.Context, a hearth.Account) error {
	for _, r := range s.tasks.Subscriptions(a) {
		if err := s.tasks.Unsubscribe(ctx, a, r.Alias); err != nil {
			return err
		}
	}
	for _, api := range s.tasks.APIs(a) {
		if err := s.tasks.Delete(ctx, a, api.Name); err != nil {
			return err
		}
	}
	return nil
}
