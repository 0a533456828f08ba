package poll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/store"
)

// Config is what a Poller works with. Fields without a default are required.
type Config struct {
	Store store.Store // of checkpoints
	Clock hearth.Clock
	// Openers open sources, by kind.
	Openers map[event.Kind]Opener
	// Place tells where a mapping's source is; nil is nowhere in particular.
	Place func(ctx context.Context, m *event.Mapping) (Place, error)
	// Run runs a batch to its end, and Done is told when it has ended: the
	// frontend, for which a batch is one more caller.
	Run  hearth.Invoker
	Done func(*hearth.Invocation)
	// Senders deliver to on-failure destinations, by the service in their ARN.
	Senders map[string]Sender
	// Park keeps what could not be processed and was sent nowhere.
	Park func(ctx context.Context, p Parked) error
	// Places is how many batches of all mappings are at work; 0 is 100.
	Places int
	// Pressed tells whether the machine's processors are all at work; nil is
	// never. It is asked at the end of every batch.
	Pressed  func() bool
	Metrics  *Metrics        // nil counts nothing
	Recorder hearth.Recorder // nil: decisions are not recorded
	Log      *slog.Logger    // nil is slog.Default
}

// Sender delivers a message to a destination. An error means that it may not
// have arrived; it is then sent again.
type Sender interface {
	Send(ctx context.Context, arn string, body []byte, attributes map[string]string) error
}

// Parked is a batch that was given up: the event that its function failed with.
type Parked struct {
	Account   hearth.Account
	Function  string
	Qualifier string
	Mapping   string // its ARN
	Attempts  int
	Reason    string
	Last      string // what the last attempt answered
	Payload   []byte
}

// Poller implements event.Poller for all kinds that it has an Opener of. Safe
// for concurrent use.
type Poller struct {
	cfg    Config
	places *places

	started  chan struct{} // closed by Start
	startOne sync.Once
	hard     context.Context // of batches at work; ends with Abandon
	abandon  context.CancelFunc
}

var _ event.Poller = (*Poller)(nil)

// New makes a Poller, which reads nothing before Start.
func New(cfg Config) *Poller {
	if cfg.Places == 0 {
		cfg.Places = 100
	}
	if cfg.Place == nil {
		cfg.Place = func(context.Context, *event.Mapping) (Place, error) { return Place{}, nil }
	}
	if cfg.Done == nil {
		cfg.Done = func(*hearth.Invocation) {}
	}
	if cfg.Pressed == nil {
		cfg.Pressed = func() bool { return false }
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	p := &Poller{cfg: cfg, places: newPlaces(cfg.Places), started: make(chan struct{})}
	p.hard, p.abandon = context.WithCancel(context.Background())
	return p
}

// Start lets Run begin to read.
func (p *Poller) Start() { p.startOne.Do(func() { close(p.started) }) }

// Abandon gives up the batches at work. Their records come again.
func (p *Poller) Abandon() { p.abandon() }

// How long a source that fails is left alone.
const (
	firstPause = 100 * time.Millisecond
	mostPause  = 30 * time.Second
)

// Run reads m's source until ctx ends; see event.Poller. What a source says is
// wrong with it is reported, and tried again for as long as it takes.
func (p *Poller) Run(ctx context.Context, m *event.Mapping, report func(string)) {
	select {
	case <-p.started:
	case <-ctx.Done():
		return
	}
	r := &run{Poller: p, m: m, kind: m.Kind(), settings: settingsOf(m), last: m.Result, now: m.Result}
	defer r.reportNow()
	r.log = p.cfg.Log.With("mapping", m.ID, "function", m.Function)
	r.tell = report
	pause := firstPause
	for ctx.Err() == nil {
		began := p.cfg.Clock.Now()
		err := r.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			r.report("PROBLEM: " + sentence(err))
			r.log.Warn("an event source cannot be read; it will be tried again", "in", pause, "error", err)
		}
		if p.cfg.Clock.Now().Sub(began) > mostPause {
			pause = firstPause
		}
		if sleep(ctx, p.cfg.Clock, pause) != nil {
			return
		}
		pause = min(2*pause, mostPause)
	}
}

// run is one mapping at work.
type run struct {
	*Poller
	m        *event.Mapping
	kind     event.Kind
	settings settings
	log      *slog.Logger
	filters  filters

	mu    sync.Mutex
	last  string // what was told
	now   string // how it goes
	told  time.Time
	later hearth.Timer // tells it; nil if there is nothing to tell
	tell  func(string)
}

// betweenReports is how long what was told stands: telling is a write, and what
// fails now and then changes with every batch.
const betweenReports = time.Second

// report tells how it goes, if that is new.
func (r *run) report(result string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now = result; r.now == r.last || r.later != nil {
		return
	}
	if wait := r.told.Add(betweenReports).Sub(r.cfg.Clock.Now()); wait > 0 {
		r.later = r.cfg.Clock.AfterFunc(wait, r.reportNow)
		return
	}
	r.tellNow()
}

// reportNow tells what has not been told.
func (r *run) reportNow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.later != nil {
		r.later.Stop()
		r.later = nil
		r.tellNow()
	}
}

// tellNow tells how it goes. r.mu is held.
func (r *run) tellNow() {
	if r.now != r.last {
		r.last, r.told = r.now, r.cfg.Clock.Now()
		r.tell(r.now)
	}
}

// once opens the source and reads it until ctx ends or it fails.
func (r *run) once(ctx context.Context) (err error) {
	opener := r.cfg.Openers[r.kind]
	if opener == nil {
		return fmt.Errorf("nothing here reads %s sources", r.kind)
	}
	if r.filters, err = compile(r.m.Settings.Filters); err != nil {
		return err
	}
	at, err := r.cfg.Place(ctx, r.m)
	if err != nil {
		return err
	}
	source, err := opener.Open(ctx, r.m, at)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := source.Close(); cerr != nil {
			r.log.Warn("an event source did not close well", "error", cerr)
		}
	}()
	if l, ok := source.(Lagger); ok {
		watching, stop := context.WithCancel(ctx)
		var watcher sync.WaitGroup
		watcher.Go(func() { r.watchLag(watching, l) })
		defer func() {
			stop()
			watcher.Wait()
		}()
	}
	switch s := source.(type) {
	case Queue:
		return newQueueRun(r, s).read(ctx)
	case Stream:
		return newStreamRun(r, s).read(ctx)
	}
	return fmt.Errorf("a source of type %T is neither a queue nor a stream", source)
}

// settings are a mapping's with all defaults filled in.
type settings struct {
	batch    int
	window   time.Duration
	partial  bool          // the function reports batch item failures
	tries    int           // attempts that ran the function; 0 is without end
	age      time.Duration // of a record; 0 is no limit
	bisect   bool
	parallel int           // batches of one shard
	tumbling time.Duration // 0 is none
	least    int           // batches at work that the pace begins with
	ceiling  int           // batches at work
}

// What settings are that nobody set.
const (
	ownWindow      = 500 * time.Millisecond // of kinds that gather unless told not to
	defaultCeiling = 1000
	perPoller      = 10 // batches at work that a provisioned poller stands for
)

func settingsOf(m *event.Mapping) settings {
	of := m.Settings
	s := settings{batch: max(of.BatchSize, 1), window: ownWindow, bisect: of.Bisect, parallel: max(of.Parallelism, 1),
		tumbling: time.Duration(of.TumblingSeconds) * time.Second, ceiling: defaultCeiling}
	if of.WindowSeconds != nil {
		s.window = time.Duration(*of.WindowSeconds) * time.Second
	}
	for _, t := range of.ResponseTypes {
		s.partial = s.partial || t == "ReportBatchItemFailures"
	}
	if of.MaxRetries != nil && *of.MaxRetries != event.Infinite {
		s.tries = *of.MaxRetries + 1
	}
	if of.MaxAgeSeconds != nil && *of.MaxAgeSeconds != event.Infinite {
		s.age = time.Duration(*of.MaxAgeSeconds) * time.Second
	}
	if of.MaxConcurrency != nil {
		s.ceiling = *of.MaxConcurrency
	}
	if p := of.Pollers; p != nil {
		if p.Min != nil {
			s.least = *p.Min * perPoller
		}
		if p.Max != nil {
			s.ceiling = *p.Max * perPoller
		}
	}
	if s.tumbling > 0 {
		s.parallel = 1 // the state of a window is handed from batch to batch
	}
	return s
}

// sleep waits for d, or returns ctx's error when that ends first.
func sleep(ctx context.Context, clock hearth.Clock, d time.Duration) error {
	done := make(chan struct{})
	t := clock.AfterFunc(d, func() { close(done) })
	defer t.Stop()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sentence is err as the owner of a mapping is told it.
func sentence(err error) string {
	if e, ok := errors.AsType[*hearth.Error](err); ok && e.Message != "" {
		return e.Message
	}
	return err.Error()
}

// forgetTime is how long a source may take to forget a mapping.
const forgetTime = 30 * time.Second

// Forget removes how far the shards of a mapping that is gone have been read,
// here and where the source is.
func (p *Poller) Forget(ctx context.Context, m *event.Mapping) error {
	err := checkpoints{p.cfg.Store, m.ID}.forget(ctx)
	f, ok := p.cfg.Openers[m.Kind()].(Forgetter)
	if !ok {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, forgetTime)
	defer cancel()
	at, perr := p.cfg.Place(ctx, m)
	if perr == nil {
		perr = f.Forget(ctx, m, at)
	}
	if perr != nil {
		perr = fmt.Errorf("the source keeps what it kept for it: %w", perr)
	}
	return errors.Join(err, perr)
}
