package server

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/backfill"
	"github.com/hearth-faas/hearth/policy"
	"github.com/hearth-faas/hearth/store"
)

func (s *Server) openBackfills(ctx context.Context) (err error) {
	s.backfills, err = backfill.Open(ctx, backfill.Config{
		Store: s.records, Folder: s.dir("backfills"), Clock: s.clock, Log: s.log, Call: s.callForBackfill, Open: s.backfillSource,
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("backfills", s.backfills.Close)
	return nil
}

// callForBackfill invokes a function as the account's root, who alone starts
// backfills.
func (s *Server) callForBackfill(ctx context.Context, account hearth.Account, function string, payload []byte) ([]byte, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	inv := &hearth.Invocation{
		RequestID: id.String(), Account: account, Payload: payload,
		Caller: hearth.Identity{Account: account, ARN: policy.AccountARN(string(account)), UserID: string(account)},
	}
	inv.Name, inv.Qualifier, _ = strings.Cut(function, ":")
	inv.Timeline.Begin(s.clock.Now())
	r, err := s.frontend.Invoke(ctx, inv)
	s.frontend.Done(inv)
	if err != nil {
		return nil, err
	}
	if r.FunctionError != "" {
		return nil, fmt.Errorf("%s: %s", r.FunctionError, strings.ToValidUTF8(string(r.Payload[:min(len(r.Payload), 1024)]), "?"))
	}
	return r.Payload, nil
}

// backfillSource opens what a backfill's source names: a queue of its account
// by sqs:///NAME, and the rest as backfill.OpenSource does.
func (s *Server) backfillSource(account hearth.Account, spec backfill.Spec) (backfill.Source, error) {
	u, err := url.Parse(spec.Source)
	if err != nil || u.Scheme != "sqs" { // the others are files
		if err := s.mayReadHost(account, spec.Source); err != nil {
			return nil, err
		}
		return backfill.OpenSource(spec.Source, spec.Query)
	}
	name := strings.TrimPrefix(u.Path, "/")
	if err := s.queues.Exists(account, name); err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "There is no queue %q; the source of a queue is sqs:///NAME.", name)
	}
	return backfill.OpenQueue(s.queues, s.queues.ARN(account, name)), nil
}
