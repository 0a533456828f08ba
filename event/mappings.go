package event

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/table"
	"github.com/hearth-faas/hearth/tags"
)

// Poller reads the sources of one kind.
type Poller interface {
	// Run reads m's source and invokes m's function until ctx ends, and
	// returns when nothing of it is under way any more. report tells how it
	// goes, such as "OK" or "PROBLEM: …"; it is for what changes, not for each
	// batch.
	Run(ctx context.Context, m *Mapping, report func(result string))
}

// Config is what Mappings work with. Store, Clock and Region are required.
type Config struct {
	Store  store.Store
	Clock  hearth.Clock
	Region string
	// Pollers are what reads sources, by kind.
	Pollers map[Kind]Poller
	// Scheme is that of the URL of a registered source, or why it cannot be
	// read; nil is that there are none.
	Scheme func(account hearth.Account, arn string) (string, error)
	// Stopped tells whether nothing of an account is read for now; Reconsider
	// has it asked again. nil is never.
	Stopped func(account hearth.Account) bool
	// Deleted hears of a mapping that is gone; nil is nobody.
	Deleted func(ctx context.Context, m *Mapping) error
	Rand    io.Reader    // for UUIDs; nil is crypto/rand
	Log     *slog.Logger // nil is slog.Default
}

const bucket = "eventSourceMappings" // account/id → Mapping

// Mappings keep the event source mappings and have their sources read. A
// change is on disk when it is acknowledged; what follows from it goes on in
// the background, also after a restart. Safe for concurrent use.
type Mappings struct {
	cfg   Config
	table *table.Table[Mapping]

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
	jobs    sync.WaitGroup
	running map[string]*run // by ID
}

// run is a poller at work.
type run struct {
	stop context.CancelFunc
	done chan struct{}
}

// Open reads the mappings, goes on with what a stop interrupted, and has the
// sources of enabled ones read.
func Open(ctx context.Context, cfg Config) (*Mappings, error) {
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	t, err := table.Open[Mapping](ctx, cfg.Store, bucket)
	if err != nil {
		return nil, fmt.Errorf("event source mappings: %w", err)
	}
	s := &Mappings{cfg: cfg, table: t, running: map[string]*run{}}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for _, m := range t.Scan("", "") {
		if m.State == Enabled {
			s.start(m)
		} else if !m.State.Rests() {
			s.settleLater(m)
		}
	}
	return s, nil
}

// Hold has nothing more taken from sources.
func (s *Mappings) Hold() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
}

// Stop holds, and returns when nothing is under way any more or when ctx ends.
func (s *Mappings) Stop(ctx context.Context) {
	s.Hold()
	done := make(chan struct{})
	go func() {
		s.jobs.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Reads tells whether a mapping of the account has the source.
func (s *Mappings) Reads(account hearth.Account, source string) bool {
	ms, _ := s.List(account, "", source, "", 1)
	return len(ms) > 0
}

// Reopen has the source opened anew by the mappings that read it.
func (s *Mappings) Reopen(account hearth.Account, source string) {
	s.restart(account, func(m *Mapping) bool { return m.Source == source })
}

// Reconsider has the sources of an account's mappings read, or not, as Stopped
// tells now. Nothing is lost while they are not: their sources keep it.
func (s *Mappings) Reconsider(account hearth.Account) {
	s.restart(account, func(*Mapping) bool { return true })
}

// restart stops what reads for the account's mappings that fit, and starts it
// anew if it may.
func (s *Mappings) restart(account hearth.Account, fits func(*Mapping) bool) {
	for _, m := range s.table.Scan(string(account)+"/", "") {
		if m.State != Enabled || !fits(m) {
			continue
		}
		s.mu.Lock()
		if !s.closed {
			s.jobs.Go(func() {
				s.stop(m.ID)
				if now := s.table.Get(key(m.Account, m.ID)); now != nil && now.State == Enabled {
					s.start(now)
				}
			})
		}
		s.mu.Unlock()
	}
}

// Close ends what reads sources and waits for it. No method may be called
// after it.
func (s *Mappings) Close() error {
	s.Hold()
	s.jobs.Wait()
	return nil
}

func key(account hearth.Account, id string) string { return string(account) + "/" + id }

func notFound() error {
	return hearth.Errorf(hearth.NotFound, "The resource you requested does not exist.")
}

// stored is err as the caller is told it: what is no *hearth.Error is the
// disk's.
func stored(op string, err error) error {
	if _, ok := errors.AsType[*hearth.Error](err); err == nil || ok {
		return err
	}
	return &hearth.Error{Op: "event." + op, Kind: hearth.Service, Message: "An internal error occurred.", Err: err}
}

// Create makes a mapping of m, whose account, function, source, settings and
// tags are set, and completes it. Errors: InvalidParameterValue,
// ResourceConflict if there is one of the same function and source.
func (s *Mappings) Create(ctx context.Context, m Mapping) (*Mapping, error) {
	id, err := uuid.NewRandomFromReader(s.cfg.Rand)
	if err != nil {
		return nil, stored("Create", err)
	}
	m.ID, m.Region = id.String(), s.cfg.Region
	if _, _, ok := ParseSourceARN(m.Source); ok && s.cfg.Scheme != nil {
		if m.Scheme, err = s.cfg.Scheme(m.Account, m.Source); err != nil {
			return nil, err
		}
	}
	m.complete()
	if err := m.check(s.cfg.Clock.Now()); err != nil {
		return nil, err
	}
	if err := tags.Check(m.Tags); err != nil {
		return nil, err
	}
	m.State, m.Reason, m.Result, m.Modified = Creating, m.Kind().byUser(), m.Kind().idle(), s.now()
	made, err := s.table.Change(ctx, key(m.Account, m.ID), func(*Mapping) (*Mapping, error) {
		for _, other := range s.table.Scan(string(m.Account)+"/", "") {
			if err := m.conflicts(other); err != nil {
				return nil, err
			}
		}
		return &m, nil
	})
	if err != nil {
		return nil, stored("Create", err)
	}
	s.settleLater(made)
	return made, nil
}

// conflicts tells whether m would do what other does already.
func (m *Mapping) conflicts(other *Mapping) error {
	if m.FunctionARN() != other.FunctionARN() || !overlap(m.sources(), other.sources()) {
		return nil
	}
	update := "already exists. Please update or delete the existing mapping with UUID " + other.ID
	switch m.Kind() {
	case SQS:
		return hearth.Errorf(hearth.Conflict, `An event source mapping with SQS arn (" %s ") and function (" %s ") %s`, m.Source, m.Function, update)
	case Kafka, MSK:
		if !overlap(m.Topics, other.Topics) {
			return nil
		}
		return hearth.Errorf(hearth.Conflict, `An event source mapping with event source ("%s"), function ("%s"), topics ("%s") %s`,
			strings.Join(m.sources(), ","), m.FunctionARN(), strings.Join(m.Topics, ","), update)
	}
	return hearth.Errorf(hearth.Conflict, `The event source arn (" %s ") and function (" %s ") provided mapping %s`, m.Source, m.Function, update)
}

func (s *Mappings) now() time.Time { return s.cfg.Clock.Now().UTC().Round(0) }

// Get returns a mapping. Errors: ResourceNotFound.
func (s *Mappings) Get(account hearth.Account, id string) (*Mapping, error) {
	if m := s.table.Get(key(account, id)); m != nil {
		return m, nil
	}
	return nil, notFound()
}

// List returns at most max of the account's mappings that have the function's
// ARN and the source, where those are not "", in the order of their IDs after
// the given one; more tells whether others follow.
func (s *Mappings) List(account hearth.Account, functionARN, source, after string, max int) (ms []*Mapping, more bool) {
	prefix := string(account) + "/"
	if after != "" {
		after = prefix + after
	}
	return s.table.Page(prefix, after, max, func(m *Mapping) bool {
		return (functionARN == "" || m.FunctionARN() == functionARN) && (source == "" || m.Source == source)
	})
}

// Update changes a mapping that is not in transition: change gets a copy,
// whose settings it may replace. Errors: ResourceNotFound, ResourceInUse,
// InvalidParameterValue, those of change.
func (s *Mappings) Update(ctx context.Context, account hearth.Account, id string, change func(*Mapping) error) (*Mapping, error) {
	return s.transition(ctx, account, id, "update", func(old, m *Mapping) error {
		if err := change(m); err != nil {
			return err
		}
		m.complete()
		if err := m.check(s.cfg.Clock.Now()); err != nil {
			return err
		}
		for _, other := range s.table.Scan(string(account)+"/", "") {
			if other.ID == id {
				continue
			}
			if err := m.conflicts(other); err != nil {
				return err
			}
		}
		m.State = old.State.changing(m.Enabled)
		return nil
	})
}

// Delete removes a mapping that is not in transition, and returns it as it is
// until it is gone. Errors: ResourceNotFound, ResourceInUse.
func (s *Mappings) Delete(ctx context.Context, account hearth.Account, id string) (*Mapping, error) {
	return s.transition(ctx, account, id, "delete", func(_, m *Mapping) error {
		m.State = Deleting
		return nil
	})
}

// transition brings a resting mapping into the state that change gives it.
func (s *Mappings) transition(ctx context.Context, account hearth.Account, id, what string, change func(old, m *Mapping) error) (*Mapping, error) {
	m, err := s.table.Change(ctx, key(account, id), func(old *Mapping) (*Mapping, error) {
		switch {
		case old == nil:
			return nil, notFound()
		case !old.State.Rests():
			return nil, hearth.Errorf(hearth.InUse, "Cannot %s the event source mapping because it is in use.", what)
		}
		m := *old
		if err := change(old, &m); err != nil {
			return nil, err
		}
		m.Reason, m.Modified = m.Kind().byUser(), s.now()
		return &m, nil
	})
	if err != nil {
		return nil, stored(what, err)
	}
	s.settleLater(m)
	return m, nil
}

// settleLater carries out what m's state says is in progress.
func (s *Mappings) settleLater(m *Mapping) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.jobs.Go(func() { s.settle(m, time.Second) })
	}
}

// settle stops what reads m's source, and starts it anew if it is to be read.
// While the outcome cannot be stored, which is the disk's fault, it is tried
// again.
func (s *Mappings) settle(m *Mapping, again time.Duration) {
	s.stop(m.ID)
	now, err := s.table.Change(s.ctx, key(m.Account, m.ID), func(now *Mapping) (*Mapping, error) {
		if now == nil || m.State == Deleting {
			return nil, nil
		}
		done := *now
		done.State, done.Reason, done.Modified = settled(m.Enabled), m.Kind().byUser(), s.now()
		if done.State == Enabled && s.cfg.Pollers[m.Kind()] == nil {
			done.Reason = fmt.Sprintf("This version of Hearth does not read %s sources: no records will arrive.", m.Kind())
		}
		return &done, nil
	})
	if err == nil && now == nil && s.cfg.Deleted != nil {
		if derr := s.cfg.Deleted(s.ctx, m); derr != nil && s.ctx.Err() == nil {
			s.cfg.Log.Warn("how far a deleted event source mapping had got is still kept", "mapping", m.ARN(), "error", derr)
		}
	}
	switch {
	case err == nil && now != nil && now.State == Enabled:
		s.start(now)
	case err != nil && s.ctx.Err() == nil:
		s.cfg.Log.Error("the state of an event source mapping could not be stored; it will be tried again", "mapping", m.ARN(), "in", again, "error", err)
		s.cfg.Clock.AfterFunc(again, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if !s.closed {
				s.jobs.Go(func() { s.settle(m, min(2*again, time.Minute)) })
			}
		})
	}
}

// start has m's source read, if something can.
func (s *Mappings) start(m *Mapping) {
	poller := s.cfg.Pollers[m.Kind()]
	s.mu.Lock()
	defer s.mu.Unlock()
	if poller == nil || s.closed || s.running[m.ID] != nil || s.cfg.Stopped != nil && s.cfg.Stopped(m.Account) {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	r := &run{cancel, make(chan struct{})}
	s.running[m.ID] = r
	s.jobs.Go(func() {
		defer close(r.done)
		poller.Run(ctx, m, func(result string) { s.report(m, result) })
	})
}

// stop ends what reads the mapping's source and waits for it.
func (s *Mappings) stop(id string) {
	s.mu.Lock()
	r := s.running[id]
	delete(s.running, id)
	s.mu.Unlock()
	if r != nil {
		r.stop()
		<-r.done
	}
}

// report keeps how the reading goes.
func (s *Mappings) report(m *Mapping, result string) {
	_, err := s.table.Change(s.ctx, key(m.Account, m.ID), func(now *Mapping) (*Mapping, error) {
		if now == nil || now.Result == result {
			return now, nil
		}
		told := *now
		told.Result = result
		return &told, nil
	})
	if err != nil && s.ctx.Err() == nil {
		s.cfg.Log.Warn("the result of an event source mapping could not be stored", "mapping", m.ARN(), "result", result, "error", err)
	}
}

// Tags returns the mapping's tags, which must not be changed. Errors:
// ResourceNotFound.
func (s *Mappings) Tags(_ context.Context, account hearth.Account, id string) (map[string]string, error) {
	m := s.table.Get(key(account, id))
	if m == nil {
		return nil, s.noSuch(account, id)
	}
	return m.Tags, nil
}

// Tag sets tags of the mapping. Errors: ResourceNotFound,
// InvalidParameterValue if it would have too many.
func (s *Mappings) Tag(ctx context.Context, account hearth.Account, id string, more map[string]string) error {
	return s.retag(ctx, account, id, func(now map[string]string) (map[string]string, error) { return tags.With(now, more) })
}

// Untag removes tags of the mapping. Errors: ResourceNotFound.
func (s *Mappings) Untag(ctx context.Context, account hearth.Account, id string, keys []string) error {
	return s.retag(ctx, account, id, func(now map[string]string) (map[string]string, error) { return tags.Without(now, keys), nil })
}

func (s *Mappings) retag(ctx context.Context, account hearth.Account, id string, change func(map[string]string) (map[string]string, error)) error {
	_, err := s.table.Change(ctx, key(account, id), func(old *Mapping) (_ *Mapping, err error) {
		if old == nil {
			return nil, s.noSuch(account, id)
		}
		m := *old
		m.Tags, err = change(old.Tags)
		return &m, err
	})
	return stored("retag", err)
}

func (s *Mappings) noSuch(account hearth.Account, id string) error {
	m := Mapping{Account: account, Region: s.cfg.Region, ID: id}
	return hearth.Errorf(hearth.NotFound, "Event source mapping not found: %s", m.ARN())
}
