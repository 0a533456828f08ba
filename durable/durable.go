package durable

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// Config is what Executions works with. Store, Functions, Invoker, Clock and
// ParseName are needed.
type Config struct {
	Store     store.Store
	Functions hearth.Functions
	// Invoker runs the functions. Its invocations that come with a
	// DurableARN are those of executions.
	Invoker hearth.Invoker
	// Done is called after each invocation, as the frontend wants it; nil is
	// no one.
	Done  func(*hearth.Invocation)
	Clock hearth.Clock
	// ParseName reads a function's name as callers write it, which may be an
	// ARN; "" is an account or qualifier that it does not say.
	ParseName func(name string) (account hearth.Account, function, qualifier string, ok bool)
	Rand      io.Reader    // read concurrently; nil is crypto/rand
	Log       *slog.Logger // nil is slog.Default
}

// sweepEvery is how often ended executions are looked for whose time is over.
const sweepEvery = time.Hour

// Executions are the durable executions of all accounts. It is the
// hearth.Invoker of functions that are durable. Safe for concurrent use.
type Executions struct {
	cfg   Config
	setup execSetup

	mu    sync.Mutex
	lives map[string]*live // those that have not ended, by key

	drain  chan struct{} // closed by Drain
	closed bool          // nothing is begun any more
	wg     sync.WaitGroup
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
}

var _ hearth.Invoker = (*Executions)(nil)

// live is an execution that has not ended.
type live struct {
	key       string
	version   string        // of the function
	attention bool          // before Run: see sleeper
	ended     chan struct{} // closed when it has

	mu    sync.Mutex
	x     *execution // nil is not read; it is while an invocation is under way
	timer hearth.Timer
	due   time.Time // of timer
	over  bool      // ended is closed
}

// Open reads which executions have not ended. They go on with Run.
func Open(ctx context.Context, cfg Config) (*Executions, error) {
	if cfg.Store == nil || cfg.Functions == nil || cfg.Invoker == nil || cfg.Clock == nil || cfg.ParseName == nil {
		return nil, errors.New("durable: Config needs a Store, Functions, an Invoker, a Clock and ParseName")
	}
	if cfg.Rand == nil {
		cfg.Rand = crand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Done == nil {
		cfg.Done = func(*hearth.Invocation) {}
	}
	e := &Executions{cfg: cfg, lives: map[string]*live{}, drain: make(chan struct{})}
	e.setup = execSetup{resolve: e.resolve, random: func(b []byte) {
		if _, err := io.ReadFull(cfg.Rand, b); err != nil {
			panic(fmt.Sprintf("durable: no randomness: %v", err)) // crypto/rand never fails
		}
	}}
	e.ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	err := cfg.Store.View(ctx, func(r store.Reader) error {
		for item, err := range r.Scan(bucketRunning, "", "") {
			if err != nil {
				return err
			}
			s, err := decode[sleeper](bucketRunning, item.Key, item.Value)
			if err != nil {
				return err
			}
			e.lives[item.Key] = &live{key: item.Key, version: s.Version, due: s.Due, attention: s.Attention, ended: make(chan struct{})}
		}
		return nil
	})
	if err != nil {
		e.cancel()
		return nil, fmt.Errorf("durable: %w", err)
	}
	return e, nil
}

// Run takes up the executions that had not ended when the last process did.
// It is called once, when functions can be invoked.
func (e *Executions) Run() {
	for _, l := range e.all() {
		l.mu.Lock()
		e.schedule(l, l.due)
		version, attention := l.version, l.attention // as the last process left them
		l.mu.Unlock()
		e.spawn(func() { e.resume(l, version, attention) })
	}
	e.spawn(e.sweep)
}

func (e *Executions) all() []*live {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*live, 0, len(e.lives))
	for _, l := range e.lives {
		all = append(all, l)
	}
	return all
}

// resume goes on with an execution of a process before this one.
func (e *Executions) resume(l *live, version string, attention bool) {
	account, rest, _ := strings.Cut(l.key, "/")
	function, _, _ := strings.Cut(rest, "/")
	if _, err := e.cfg.Functions.Resolve(e.ctx, hearth.Account(account), function, version); hearth.KindOf(err) == hearth.NotFound {
		e.must(l, "end an execution without a function", func(c *change) error { c.orphaned(); return nil })
		return
	}
	if !attention {
		return
	}
	var children []*Operation
	e.must(l, "take an execution up", func(c *change) error {
		c.lost()
		children = nil
		for o := range c.all {
			switch {
			case o.Type != TypeChainedInvoke || o.Status != Started:
			case o.Child == "":
				c.calls = append(c.calls, o.ID)
			default:
				children = append(children, o)
			}
		}
		return nil
	})
	for _, o := range children {
		e.lookAfter(l, o)
	}
}

// Drain begins no invocations any more, and lets those go who wait for an
// execution's end.
func (e *Executions) Drain() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.draining() {
		close(e.drain)
	}
}

func (e *Executions) draining() bool {
	select {
	case <-e.drain:
		return true
	default:
		return false
	}
}

// Close is Drain, and gives up what still runs, for the next Open to take up,
// and waits for it. Nothing may be called after it.
func (e *Executions) Close() error {
	e.Drain()
	e.mu.Lock()
	e.closed = true
	lives := e.lives
	e.lives = map[string]*live{}
	e.mu.Unlock()
	e.cancel()
	e.wg.Wait()
	for _, l := range lives {
		l.mu.Lock()
		if l.timer != nil {
			l.timer.Stop()
		}
		l.mu.Unlock()
	}
	return nil
}

// spawn runs f in a goroutine that Close waits for; not at all after Close.
func (e *Executions) spawn(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.wg.Add(1)
	go func() {
		defer e.wg.Done()
		f()
	}()
}

// live finds the execution with the key among those that have not ended, or
// makes it; nil if it is not to be made.
func (e *Executions) live(key string, anew bool) *live {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lives[key]
	if l == nil && anew {
		l = &live{key: key, ended: make(chan struct{})}
		e.lives[key] = l
	}
	return l
}

func (e *Executions) remove(l *live) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lives[l.key] == l {
		delete(e.lives, l.key)
	}
}

// read reads an execution as it is on disk; nil if there is none, or none any
// more.
func (e *Executions) read(ctx context.Context, key string) (x *execution, err error) {
	err = e.cfg.Store.View(ctx, func(r store.Reader) error {
		x, err = load(r, key)
		return err
	})
	if err != nil {
		return nil, internal("durable.read", err)
	}
	if x != nil && x.expired(e.cfg.Clock.Now()) {
		return nil, nil
	}
	return x, nil
}

// update makes a change of l as decide says, whose error changes nothing, and
// returns when it is on disk.
func (e *Executions) update(ctx context.Context, l *live, decide func(*change) error) error {
	l.mu.Lock()
	run, err := e.updateLocked(ctx, l, decide)
	if l.x != nil && l.x.Invocation == nil {
		l.x = nil // it only waits
	}
	l.mu.Unlock()
	if err == nil {
		run()
	}
	return err
}

func (e *Executions) updateLocked(ctx context.Context, l *live, decide func(*change) error) (run func(), err error) {
	if l.x == nil {
		err := e.cfg.Store.View(ctx, func(r store.Reader) error {
			l.x, err = load(r, l.key)
			return err
		})
		if err != nil {
			return nil, internal("durable.update", err)
		}
		if l.x == nil {
			return nil, notFound()
		}
	}
	c := l.x.begin(e.cfg.Clock.Now(), &e.setup)
	if err := decide(c); err != nil {
		return nil, err
	}
	c.settle()
	if len(c.changed) > 0 || len(c.events) > 0 || !reflect.DeepEqual(c.record, l.x.record) {
		err := e.cfg.Store.Update(context.WithoutCancel(ctx), func(tx store.Tx) error { return save(tx, c) })
		if err != nil {
			l.x = nil
			return nil, internal("durable.update", err)
		}
		l.x.apply(c)
	}
	return e.after(l, c), nil
}

// must is update for a change that nobody waits for. What a disk refuses is
// asked of it again.
func (e *Executions) must(l *live, what string, decide func(*change) error) {
	err := e.update(e.ctx, l, decide)
	if err == nil || e.ctx.Err() != nil {
		return
	}
	if kind := hearth.KindOf(err); kind != hearth.Service {
		e.cfg.Log.Error("durable: could not "+what, "execution", l.key, "err", err)
		return
	}
	e.cfg.Log.Error("durable: could not "+what+", and tries again", "execution", l.key, "err", err)
	e.cfg.Clock.AfterFunc(firstRetry, func() { e.spawn(func() { e.must(l, what, decide) }) })
}

// after carries out what a change that was committed and applied asks for.
// The caller holds l.mu, and runs what after returns when it has let it go.
func (e *Executions) after(l *live, c *change) (run func()) {
	l.version = c.record.Version
	e.schedule(l, c.due())
	if c.ended && !l.over {
		l.over = true
		close(l.ended)
	}
	if c.record.Status != Running && c.record.Invocation == nil {
		e.remove(l)
	}
	if c.launched && !e.draining() {
		inv := e.invocation(l.x, c.known)
		number := c.record.Invocations
		e.spawn(func() { e.run(l, number, inv) })
	}
	var calls []*Operation
	for _, id := range c.calls {
		calls = append(calls, l.x.byID[id])
	}
	rec, x := c.record, l.x
	return func() {
		for _, child := range c.children {
			e.must(e.live(child.record.key(), true), "start the execution of a CHAINED_INVOKE", func(*change) error { return nil })
		}
		for _, o := range calls {
			e.spawn(func() { e.call(l, &rec, o, 1) })
		}
		if c.ended && rec.Parent != "" {
			if p := e.live(rec.Parent, false); p != nil {
				out := x.outcome()
				e.must(p, "tell what became of a CHAINED_INVOKE", func(c *change) error {
					c.chainedEnded(rec.ParentOperation, out)
					return nil
				})
			}
		}
	}
}

// schedule has l looked at when due. The caller holds l.mu.
func (e *Executions) schedule(l *live, due time.Time) {
	if l.timer != nil {
		if due.Equal(l.due) {
			return
		}
		l.timer.Stop()
		l.timer = nil
	}
	l.due = due
	if due.IsZero() {
		return
	}
	var timer hearth.Timer
	timer = e.cfg.Clock.AfterFunc(due.Sub(e.cfg.Clock.Now()), func() {
		l.mu.Lock()
		if l.timer == timer {
			l.timer = nil
		}
		l.mu.Unlock()
		if !e.draining() {
			e.spawn(func() { e.must(l, "do what was due", func(c *change) error { c.tick(); return nil }) })
		}
	})
	l.timer = timer
}

// FunctionDeleted ends the executions of a function's version, which can't be
// invoked any more. It returns before they have ended.
func (e *Executions) FunctionDeleted(f *hearth.Function) {
	prefix := string(f.Account) + "/" + f.Name + "/"
	for _, l := range e.all() {
		if strings.HasPrefix(l.key, prefix) {
			e.spawn(func() {
				e.must(l, "end an execution of a deleted function", func(c *change) error {
					if c.record.Version == f.Version {
						c.orphaned()
					}
					return nil
				})
			})
		}
	}
}

// orphaned ends an execution whose function is no more.
func (c *change) orphaned() {
	if r := &c.record; r.Status == Running {
		c.end(Failed, nil, failure(string(hearth.NotFound),
			"Function not found: arn:aws:lambda:"+r.Region+":"+string(r.Account)+":function:"+r.Function+":"+r.Version))
	}
}

// sweep forgets ended executions whose time is over, and comes back.
func (e *Executions) sweep() {
	defer e.cfg.Clock.AfterFunc(sweepEvery, func() { e.spawn(e.sweep) })
	for !e.draining() {
		n, err := e.sweepSome()
		if err != nil && e.ctx.Err() == nil {
			e.cfg.Log.Error("durable: could not forget old executions", "err", err)
		}
		if err != nil || n == 0 {
			return
		}
	}
}

// sweepSome forgets some executions, and tells how many.
func (e *Executions) sweepSome() (n int, err error) {
	var keys []string
	before := fmt.Sprintf("%012d", e.cfg.Clock.Now().Unix()+1)
	err = e.cfg.Store.View(e.ctx, func(r store.Reader) error {
		keys = nil
		for item, err := range r.Scan(bucketEnded, "", "") {
			if err != nil {
				return err
			}
			if item.Key >= before || len(keys) == 64 {
				break
			}
			keys = append(keys, item.Key)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, k := range keys {
		err := e.cfg.Store.Update(e.ctx, func(tx store.Tx) error {
			rec, err := get[record](tx, bucketExecutions, keyOfEnded(k))
			if err != nil {
				return err
			}
			if rec == nil {
				return tx.Delete(bucketEnded, k)
			}
			return forget(tx, rec)
		})
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
