package prediction

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/history"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/table"
)

// Preparer makes ready what is foretold; manager.Manager is one.
type Preparer interface {
	Prepare(manager.Preparation) manager.Prepared
	ColdStart(*hearth.Function) time.Duration
	RunTime(*hearth.Function) time.Duration
	// Serving tells which invocation a container serves. It takes no lock.
	Serving(container string) (*hearth.Invocation, bool)
}

// Config is what a Predictor is made of. All but Log are needed.
type Config struct {
	Functions hearth.Functions
	Manager   Preparer
	// Policy tells how a function, or with "" an account, wants to be decided
	// for; each of its fields is set.
	Policy func(hearth.Account, string) *hearth.ExecutionPolicy
	Store  store.Store
	Clock  hearth.Clock
	Log    *slog.Logger // nil: nothing is logged
}

// Predictor watches invocations and has ready what will follow them. Safe for
// concurrent use.
type Predictor struct {
	cfg  Config
	ring *ring
	stop chan struct{}
	over sync.WaitGroup

	mu        sync.Mutex
	calls     calls
	responses *history.Table[Response]
	triggers  *table.Table[Trigger]
	hints     *table.Table[Hint]
	watched   watched
	buckets   map[string]*bucket // by trigger
	closed    bool
}

// Open reads what was learned and what was asked for, and begins to watch.
func Open(ctx context.Context, cfg Config) (*Predictor, error) {
	if cfg.Functions == nil || cfg.Manager == nil || cfg.Policy == nil || cfg.Store == nil || cfg.Clock == nil {
		return nil, errors.New("prediction: Config needs Functions, a Manager, a Policy, a Store and a Clock")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Predictor{cfg: cfg, ring: newRing(), stop: make(chan struct{}), buckets: map[string]*bucket{}}
	learned, err := history.Open[Profile](ctx, history.Config{Store: cfg.Store, Bucket: "learned-calls", Clock: cfg.Clock, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	p.responses, err = history.Open[Response](ctx, history.Config{Store: cfg.Store, Bucket: "learned-triggers", Clock: cfg.Clock, Log: cfg.Log})
	if err != nil {
		return nil, errors.Join(err, learned.Close())
	}
	p.calls = calls{
		learned: learned, policy: cfg.Policy, start: p.coldStart, fates: p.linkFate,
		subjects: map[owner]*subject{}, runs: newRuns(),
	}
	if p.triggers, err = table.Open[Trigger](ctx, cfg.Store, "triggers"); err == nil {
		p.hints, err = table.Open[Hint](ctx, cfg.Store, "hints")
	}
	if err != nil {
		return nil, errors.Join(err, learned.Close(), p.responses.Close())
	}
	p.watch()
	p.rearm()
	p.over.Go(p.work)
	return p, nil
}

// Close ends the watching and keeps what was learned.
func (p *Predictor) Close() error {
	p.mu.Lock()
	was := p.closed
	p.closed = true
	p.mu.Unlock()
	if was {
		return nil
	}
	close(p.stop)
	p.over.Wait()
	return errors.Join(p.calls.learned.Close(), p.responses.Close())
}

// Arrived takes in that an invocation has come and is let in, before it is
// placed. It takes no lock and allocates nothing.
func (p *Predictor) Arrived(inv *hearth.Invocation) { p.push(inv, false) }

// Accepted takes in that an invocation was stored, to be run later under the
// same request id.
func (p *Predictor) Accepted(inv *hearth.Invocation) {
	if inv.Within != "" { // else its tag will tell, when it is run
		p.push(inv, true)
	}
}

func (p *Predictor) push(inv *hearth.Invocation, accepted bool) {
	o := observation{
		function: inv.Function, qualifier: inv.Qualifier, request: inv.RequestID, trace: inv.TraceID,
		at: inv.Timeline.Began, accepted: accepted,
	}
	if inv.Within != "" {
		if by, ok := p.cfg.Manager.Serving(inv.Within); ok {
			o.caller = by.RequestID
		}
	}
	p.ring.push(o)
}

// pace is how long the watching rests after it had something to do, so that
// where much is going on it is not woken for each.
const pace = 2 * time.Millisecond

// work takes in what is observed until the Predictor is closed.
func (p *Predictor) work() {
	rest := make(chan struct{}, 1)
	var timer hearth.Timer
	for {
		if p.drain() {
			if timer == nil {
				timer = p.cfg.Clock.AfterFunc(pace, func() { rest <- struct{}{} })
			} else {
				timer.Reset(pace)
			}
			select {
			case <-rest:
			case <-p.stop:
				return
			}
			continue
		}
		if !p.ring.sleep() {
			continue
		}
		select {
		case <-p.ring.wake:
		case <-p.stop:
			return
		}
	}
}

// drain takes in all that waits; it reports whether there was anything.
func (p *Predictor) drain() (any bool) {
	for {
		var orders []order
		p.mu.Lock()
		n := 0
		for ; n < 64; n++ { // then others may have the lock
			o, ok := p.ring.pop()
			if !ok {
				break
			}
			orders = append(orders, p.observe(o)...)
		}
		p.mu.Unlock()
		for i := range orders {
			p.arrange(&orders[i])
		}
		if n == 0 {
			return any
		}
		any = true
	}
}

// observe has both deciders take in an observation. Called with mu held.
func (p *Predictor) observe(o observation) []order {
	orders := p.calls.arrived(o)
	if o.accepted || len(p.watched.runs) == 0 && len(p.watched.targets) == 0 {
		return orders
	}
	me := owner{o.function.Account, o.function.Name}
	for _, key := range p.watched.targets[me] {
		if e := p.responses.Find(key); e != nil { // else the trigger has not come, or is not heeded
			e.Update(func(r *Response) { r.Invoked(o.at) })
		}
	}
	for _, t := range p.watched.runs[me] {
		orders = append(orders, p.triggered(t, o.at)...)
	}
	return orders
}

// arrange has an order carried out when it is time to.
func (p *Predictor) arrange(o *order) {
	wait := o.begin.Sub(p.cfg.Clock.Now())
	if wait <= 0 {
		p.carryOut(o)
		return
	}
	p.cfg.Clock.AfterFunc(wait, func() { p.carryOut(o) })
}

func (p *Predictor) carryOut(o *order) {
	p.mu.Lock()
	wanted := !p.closed && (o.still == nil || o.still())
	p.mu.Unlock()
	if !wanted {
		return
	}
	f, err := p.cfg.Functions.Resolve(context.Background(), o.account, o.function, o.qualifier)
	if err != nil || f.State != hearth.Active || f.TenantIsolation != "" {
		return // it was deleted, or changed, since it was called
	}
	p.cfg.Manager.Prepare(manager.Preparation{
		Function: f, Count: o.count, Until: o.until, Level: o.level, Key: o.key, Why: o.why, BudgetMiB: o.budget, Fate: o.fate,
	})
}

// coldStart is how long the start of a container of the function takes.
func (p *Predictor) coldStart(a hearth.Account, function, qualifier string) time.Duration {
	f, err := p.cfg.Functions.Resolve(context.Background(), a, function, qualifier)
	if err != nil {
		return unknownStart
	}
	if d := p.cfg.Manager.ColdStart(f); d > 0 {
		return d
	}
	return unknownStart
}

// linkFate makes what is told the fate of a container that was made for a link.
// The learned things have locks of their own.
func (p *Predictor) linkFate(o owner, function, qualifier string) func(manager.Fate) {
	return func(f manager.Fate) { p.calls.fated(o, function, qualifier, f) }
}

// Deleted forgets what was learned about a function that was deleted.
func (p *Predictor) Deleted(account hearth.Account, function string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls.forget(owner{account, function})
}

// Dropped is how many observations were lost because there were too many.
func (p *Predictor) Dropped() uint64 { return p.ring.dropped.Load() }
