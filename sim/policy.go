package sim

import (
	"strings"
	"time"

	"github.com/hearth-faas/hearth/manager"
)

// Policy decides, for one function at a time, how many containers wait.
type Policy interface {
	Name() string
	// Keeper returns the decider of one function.
	Keeper(f *Function) Keeper
}

// Keeper decides for one function. Demand is how many invocations are in the
// system, running or waiting for a container; its n-th level is occupied while
// it is n or more. Since the container used last is used first, the container
// at level n idles exactly as long as the level is not occupied.
//
// Times count from the trace's beginning, and never go back.
type Keeper interface {
	// Rise tells that level n, from 1, became occupied.
	Rise(at time.Duration, n int)
	// Fall tells that level n is not occupied any more.
	Fall(at time.Duration, n int)
	// Patience is how long after a Fall nothing has to be decided.
	Patience() time.Duration
	// Want decides how many containers may stay, busy ones included, up to
	// how many should be made if there are fewer, and when to ask again if
	// nothing happens; Never if not at all. demand and containers are how
	// many there are now.
	Want(at time.Duration, demand, containers int) (keep, create int, again time.Duration)
}

// Never is later than any time of a trace.
const Never = manager.Never

// levels remembers since when the levels of one function are not occupied.
type levels struct{ since []time.Duration }

func (l *levels) fall(at time.Duration, n int) {
	for len(l.since) < n {
		l.since = append(l.since, 0)
	}
	l.since[n-1] = at
}

// Fixed keeps each idle container for the same time; 0 is not at all.
type Fixed time.Duration

// Name says what it is.
func (f Fixed) Name() string {
	if f == 0 {
		return "no keep-alive"
	}
	return "fixed " + strings.TrimSuffix(time.Duration(f).String(), "0s")
}

// Keeper returns the decider of one function.
func (f Fixed) Keeper(*Function) Keeper { return &fixedKeeper{life: time.Duration(f)} }

type fixedKeeper struct {
	levels
	life time.Duration
}

func (k *fixedKeeper) Rise(time.Duration, int)      {}
func (k *fixedKeeper) Fall(at time.Duration, n int) { k.fall(at, n) }
func (k *fixedKeeper) Patience() time.Duration      { return k.life }
func (k *fixedKeeper) Want(at time.Duration, demand, containers int) (int, int, time.Duration) {
	want := max(containers, demand)
	for want > demand && (want > len(k.since) || at-k.since[want-1] >= k.life) {
		want--
	}
	if want == demand {
		return want, 0, Never
	}
	return want, 0, k.since[want-1] + k.life
}
