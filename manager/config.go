package manager

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/hearth-faas/hearth"
)

// Config is what a Manager is made of. Worker, Clock and MachineMiB are
// needed; every other zero value has a meaning of its own.
type Config struct {
	Worker   hearth.Worker
	Clock    hearth.Clock
	Recorder hearth.Recorder // nil: decisions are not recorded
	Log      *slog.Logger    // nil: nothing is logged
	Seed     uint64          // of every random choice

	// MachineMiB is the memory that may be promised: to functions as they
	// are configured, and to the warming pool as its budget.
	MachineMiB int
	// Overcommit multiplies what may be promised to functions. 0 is 1: no
	// more than there is.
	Overcommit float64
	// InstanceMiB bounds the memory of the containers of one instance; a
	// function that needs more has an instance of its size. 0 is 3008.
	InstanceMiB int

	// PoolBudgetMiB is what all ready slots may cost together; 0 is no
	// warming pool.
	PoolBudgetMiB float64
	// PoolMin is how many instances of each boot the pool holds at least,
	// as far as the budget goes.
	PoolMin map[hearth.Boot]int
	// PoolExtra bounds how many more of one boot are held while they are in
	// demand. 0 is 8, negative is none.
	PoolExtra int
	// BootConcurrency bounds how many instances are booted for the pool at
	// the same time, and is lowered by one for each invocation in flight: to
	// one as long as no container is being made for a caller, else to none.
	// 0 is the number of processors.
	BootConcurrency int
	// ReplenishDelay is how long the pool waits before it makes up for what
	// was taken, so that the taker has the processors first. 0 is 5 ms.
	ReplenishDelay time.Duration

	// QueueWait bounds how long an invocation waits for a container or for
	// room when nothing is being made for it. 0 is 10 s.
	QueueWait time.Duration
	// MakeTimeout bounds the making of a container. 0 is 30 s, which leaves
	// room for an init phase of 10 s.
	MakeTimeout time.Duration
	// Attempts is how often the making of a container is tried for one
	// invocation. 0 is 3.
	Attempts int

	// Life decides how long idle containers are kept. Zero fields: Min 1
	// min, Max 1 h, Period 10 min, Gaps 3, Last 10 min.
	Life IdleLife
	// SweepEvery is how often idle lives are checked. 0 is a sixth of
	// Life.Min.
	SweepEvery time.Duration
}

// or returns v, or standard if v is the zero value.
func or[T comparable](v, standard T) T {
	var zero T
	if v == zero {
		return standard
	}
	return v
}

// complete checks c and fills in what its zero values mean.
func (c Config) complete() (Config, error) {
	if c.Worker == nil || c.Clock == nil {
		return c, errors.New("manager: Config needs a Worker and a Clock")
	}
	c.Log = or(c.Log, slog.New(slog.DiscardHandler))
	c.Overcommit = or(c.Overcommit, 1)
	c.InstanceMiB = or(c.InstanceMiB, 3008)
	c.PoolExtra = max(or(c.PoolExtra, 8), 0)
	c.BootConcurrency = or(c.BootConcurrency, runtime.NumCPU())
	c.ReplenishDelay = or(c.ReplenishDelay, 5*time.Millisecond)
	c.QueueWait = or(c.QueueWait, 10*time.Second)
	c.MakeTimeout = or(c.MakeTimeout, 30*time.Second)
	c.Attempts = or(c.Attempts, 3)
	c.Life.Min = or(c.Life.Min, time.Minute)
	c.Life.Max = max(or(c.Life.Max, time.Hour), c.Life.Min)
	c.Life.Period = or(c.Life.Period, 10*time.Minute)
	c.Life.Gaps = or(c.Life.Gaps, 3)
	c.Life.Last = or(c.Life.Last, 10*time.Minute)
	c.SweepEvery = or(c.SweepEvery, max(c.Life.Min/6, time.Millisecond))
	if c.forFunctions() <= 0 {
		return c, fmt.Errorf("manager: the warming pool's budget of %.0f MiB leaves nothing of the machine's %d MiB for functions", c.PoolBudgetMiB, c.MachineMiB)
	}
	return c, nil
}

// forFunctions is the memory that may be promised to functions. The pool's
// budget is set aside whether it is used or not, so that neither can ever
// take from the other.
func (c Config) forFunctions() int {
	return int((float64(c.MachineMiB) - c.PoolBudgetMiB) * c.Overcommit)
}
