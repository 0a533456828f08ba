package server

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/backfill"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/postgres"
	"github.com/hearth-faas/hearth/policy"
	"github.com/hearth-faas/hearth/store"
)

func (s *Server) openBackfills(ctx context.Context) (err error) {
	s.backfills, err = backfill.Open(ctx, backfill.Config{
		Store: s.records, Folder: s.dir("backfills"), Clock: s.clock, Log: s.log, Recorder: s.decisions,
		Call: s.callForBackfill, Open: s.backfillSource,
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
	if s.accounts.Stopped(account) { // the job waits
		return nil, hearth.Errorf(hearth.TooManyRequests, "The account %s is not active.", account)
	}
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
	r, err := s.frontend.Invoke(access.Arrived(ctx, access.Inside), inv)
	s.frontend.Done(inv)
	if err != nil {
		return nil, err
	}
	if r.FunctionError != "" {
		return nil, fmt.Errorf("%s: %s", r.FunctionError, strings.ToValidUTF8(string(r.Payload[:min(len(r.Payload), 1024)]), "?"))
	}
	return r.Payload, nil
}

// backfillSource opens what a backfill's source names: a queue or a registered
// database of its account, and the rest as backfill.OpenSource does. That is of
// the server's machine, or by the server's own credentials, and for the account
// alone that these are of.
func (s *Server) backfillSource(account hearth.Account, spec backfill.Spec) (backfill.Source, error) {
	u, err := url.Parse(spec.Source)
	if err != nil { // the others are files
		if err := s.mayReadHost(account, spec.Source); err != nil {
			return nil, err
		}
		return nil, hearth.Errorf(hearth.InvalidParameter, "The source is no URL.") // what it is may have a password
	}
	name := strings.TrimPrefix(u.Path, "/")
	switch u.Scheme {
	case "sqs":
		if err := s.queues.Exists(account, name); err != nil {
			return nil, hearth.Errorf(hearth.InvalidParameter, "There is no queue %q; the source of a queue is sqs:///NAME.", name)
		}
		return backfill.OpenQueue(s.queues, s.queues.ARN(account, name)), nil
	case "source":
		return s.registeredRows(account, name, spec)
	case "postgres", "postgresql":
		return nil, hearth.Errorf(hearth.InvalidParameter, "Give a PostgreSQL a name first, which keeps its password sealed: hearth source add NAME postgres://USER@HOST/DATABASE --secret-file FILE. The source is then source:///NAME.")
	}
	if account != s.authority.Root().Account {
		return nil, hearth.Errorf(hearth.AccessDenied, "The source %s is of the server's own files or objects, which only the account of whoever runs it may list. Queues (sqs:///NAME) and registered databases (source:///NAME) are open to you.", u.Scheme)
	}
	return backfill.OpenSource(spec, s.objects)
}

// registeredRows is a query of a registered database.
func (s *Server) registeredRows(account hearth.Account, name string, spec backfill.Spec) (backfill.Source, error) {
	of, err := s.sources.Get(account, name)
	if err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "%w", err)
	}
	if of.Kind() != event.PostgreSQL {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The source %s is of %s; a query can be asked of a PostgreSQL only.", name, of.Kind())
	}
	at := poll.Place{}
	if at.URL, err = url.Parse(of.URL); err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The source %s has no URL that can be read.", name)
	}
	if at.Secret, err = s.sources.Secret(of); err != nil {
		return nil, err
	}
	config, err := postgres.Config(at)
	if err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The source %s: %w", name, err)
	}
	return backfill.OpenPostgreSQL(config, spec)
}
