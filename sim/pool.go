package sim

import (
	"context"
	"time"
)

// Settings are of a replay, for every policy the same.
type Settings struct {
	Seed   uint64
	Spread Spread // "" is Uniform
	// Cold is how long the making of a container takes.
	Cold time.Duration
	// Shared has one container serve any number of invocations of a function
	// at once, as "Serverless in the Wild" models an application. Without it a
	// container serves one at a time, as in Hearth.
	Shared bool
}

// pool is the containers and invocations of one function. It does what the
// manager does: the container used last serves next; an invocation that finds
// none has one made and takes whichever comes first, that or one that has come
// free; makers are never raised beyond those who wait.
type pool struct {
	mib     float64
	keeper  Keeper
	next    *arrivals
	run     time.Duration // of the invocation that comes next
	idle    int
	busy    int
	making  int
	ahead   int // of those being made: for nobody who waits
	waiters []waiter
	sharing int           // of Shared: the invocations in the one container
	asked   time.Duration // when the keeper is asked next; Never if not
	gen     uint32

	at    time.Duration // until which the following are summed up
	tally Tally
	count struct{ all, cold int }
}

type waiter struct{ at, run time.Duration }

// sum adds what the containers have used until now.
func (p *pool) sum(at time.Duration) {
	dt := (at - p.at).Seconds() * p.mib
	p.at = at
	p.tally.Idle += dt * float64(p.idle)
	p.tally.Busy += dt * float64(p.busy)
	p.tally.Making += dt * float64(p.making)
	p.tally.Ahead += dt * float64(p.ahead)
}

// replay is one run of Run.
type replay struct {
	Settings
	queue queue
	pools []pool
	waits histogram
}

// Run replays the trace under the policy.
func Run(ctx context.Context, t *Trace, policy Policy, s Settings) (*Result, error) {
	r := &replay{Settings: s, pools: make([]pool, len(t.Functions))}
	for i := range t.Functions {
		f := &t.Functions[i]
		p := &r.pools[i]
		p.mib, p.keeper, p.next, p.asked = f.MiB, policy.Keeper(f), newArrivals(f, s.Spread, s.Seed), Never
		r.comes(int32(i))
	}
	for n := 0; len(r.queue.heap) > 0; n++ {
		if n&0xffff == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		e := r.queue.pop()
		if e.at >= t.Length {
			break
		}
		r.handle(e)
	}
	return r.result(policy, t), nil
}

// comes has the next invocation of the function come.
func (r *replay) comes(i int32) {
	p := &r.pools[i]
	at, run, ok := p.next.next()
	if !ok {
		return
	}
	p.run = run
	r.queue.push(event{at: at, f: i, kind: arrive})
}

func (r *replay) handle(e event) {
	p := &r.pools[e.f]
	switch e.kind {
	case arrive:
		p.sum(e.at)
		p.count.all++
		if r.Shared && p.busy+len(p.waiters) > 0 {
			r.join(p, e.f, e.at)
			r.comes(e.f)
			return
		}
		p.keeper.Rise(e.at, p.busy+len(p.waiters)+1)
		if p.idle > 0 {
			p.idle--
			r.begin(p, e.f, e.at, waiter{e.at, p.run})
		} else {
			p.count.cold++
			p.waiters = append(p.waiters, waiter{e.at, p.run})
			if p.making < len(p.waiters) {
				p.making++
				r.queue.push(event{at: e.at + r.Cold, f: e.f, kind: ready})
			} else if p.ahead > 0 {
				p.ahead--
			}
		}
		r.comes(e.f)
	case finish:
		p.sum(e.at)
		if p.sharing--; r.Shared && p.sharing > 0 {
			return
		}
		p.busy--
		p.keeper.Fall(e.at, p.busy+len(p.waiters)+1)
		r.free(p, e.f, e.at)
	case ready:
		p.sum(e.at)
		p.making--
		p.ahead = min(p.ahead, p.making)
		r.free(p, e.f, e.at)
	case decide:
		if e.gen == p.gen {
			p.asked = Never
			p.sum(e.at)
			r.decide(p, e.f, e.at)
		}
	}
}

// free gives a container that has nothing to do to who waits first.
func (r *replay) free(p *pool, f int32, at time.Duration) {
	if len(p.waiters) > 0 {
		w := p.waiters[0]
		p.waiters = p.waiters[1:]
		r.begin(p, f, at, w)
		for r.Shared && len(p.waiters) > 0 {
			r.start(p, f, at, p.waiters[0])
			p.waiters = p.waiters[1:]
		}
		return
	}
	p.idle++
	if patience := p.keeper.Patience(); patience == 0 {
		r.decide(p, f, at)
	} else if p.asked > at+patience {
		r.ask(p, f, at+patience)
	}
}

// begin has a container serve who waited.
func (r *replay) begin(p *pool, f int32, at time.Duration, w waiter) {
	p.busy++
	r.start(p, f, at, w)
}

func (r *replay) start(p *pool, f int32, at time.Duration, w waiter) {
	p.sharing++
	r.waits.add(at - w.at)
	r.queue.push(event{at: at + w.run, f: f, kind: finish})
}

// join has an invocation share the container that serves or will serve others.
func (r *replay) join(p *pool, f int32, at time.Duration) {
	w := waiter{at, p.run}
	if p.busy > 0 {
		r.start(p, f, at, w)
		return
	}
	p.count.cold++
	p.waiters = append(p.waiters, w)
}

// ask has the keeper be asked at a time, and not at the one it was to be.
func (r *replay) ask(p *pool, f int32, at time.Duration) {
	if at == Never {
		return
	}
	p.gen++
	p.asked = at
	r.queue.push(event{at: at, f: f, kind: decide, gen: p.gen})
}

// decide does what the keeper wants.
func (r *replay) decide(p *pool, f int32, at time.Duration) {
	keep, create, again := p.keeper.Want(at, p.busy+len(p.waiters), p.busy+p.idle+p.making)
	for p.idle > 0 && p.busy+p.idle+p.making > keep {
		p.idle--
		p.tally.Released++
	}
	for p.busy+p.idle+p.making < create {
		p.making++
		p.ahead++
		p.tally.Prewarmed++
		r.queue.push(event{at: at + r.Cold, f: f, kind: ready})
	}
	if again <= at {
		again = at + time.Second
	}
	if again < p.asked {
		r.ask(p, f, again)
	}
}
