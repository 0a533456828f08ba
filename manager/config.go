package manager

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/execution"
	"github.com/hearth-faas/hearth/store"
)

// Config is what a Manager is made of. Worker, Clock and MachineMiB are
// needed; every other zero value has a meaning of its own.
type Config struct {
	Worker   hearth.Worker
	Clock    hearth.Clock
	Recorder hearth.Recorder // nil: decisions are not recorded
	Log      *slog.Logger    // nil: nothing is logged
	// Policy tells how a function wants to be decided for, each of its fields
	// set. Quick, and taken without a lock. Nil is that nobody said anything.
	Policy func(hearth.Account, string) *hearth.ExecutionPolicy
	// Records is where what is learned about functions is kept; nil is
	// nowhere.
	Records store.Store
	// FullCPUMiB is the memory that comes with one processor, LinkBytesPerMiB
	// what comes with a MiB of the network's bytes a second; 0 is that what
	// comes with it is not limited. The worker limits; the manager only has to
	// know.
	FullCPUMiB      float64
	LinkBytesPerMiB float64
	Seed            uint64 // of every random choice

	// MachineMiB is the memory that may be promised: to functions as they
	// are configured, and to the warming pool as its budget.
	MachineMiB int
	// Overcommit multiplies what may be promised to functions. 0 is 1: no
	// more than there is.
	Overcommit float64
	// InstanceMiB bounds the memory of the containers of one instance; a
	// function that needs more has an instance of its size. 0 is 3008.
	InstanceMiB int

	// VariableMiB of what functions may use is variable capacity: it is there as
	// Market says, and before the first time not at all.
	VariableMiB int
	// FixedPrice is what a GiB of fixed capacity costs an hour, in the currency of
	// the feed.
	FixedPrice float64
	// WithdrawGrace is how long what runs on variable capacity may go on once
	// that is withdrawn. 0 is 30 s, negative is not at all.
	WithdrawGrace time.Duration
	// Functions lists the functions of an account, for those that have instances
	// of their own; nil is that nothing is loaded there before it is called. It
	// is called often, from any goroutine.
	Functions func(hearth.Account) []*hearth.Function

	// PackLevel is the share of the memory of an account's instances that was
	// needed at once lately, below which one of them is given up. 0 is 0.5,
	// negative is never.
	PackLevel float64
	// PackEvery is how long the most that was needed at once is remembered for,
	// at least, and how long an account is left alone after it gave one up. 0
	// is 30 s.
	PackEvery time.Duration

	// PoolBudgetMiB is what all ready slots may cost together; 0 is no
	// warming pool.
	PoolBudgetMiB float64
	// PoolMin is how many instances of each boot the pool holds at least,
	// as far as the budget goes.
	PoolMin map[hearth.Boot]int
	// Trend decides how many will be taken from the pool.
	Trend Trend
	// PoolExtra bounds how many more of one boot are held while they are in
	// demand. 0 is 32, negative is none.
	PoolExtra int
	// BootConcurrency bounds how many instances are booted for the pool at
	// the same time, and is lowered by one for each invocation in flight: to
	// one as long as no container is being made for a caller, else to none.
	// 0 is the number of processors.
	BootConcurrency int
	// ReplenishDelay is how long the pool waits before it makes up for what
	// was taken, so that the taker has the processors first. 0 is 5 ms.
	ReplenishDelay time.Duration

	// PrepareMiB is what all that is made on predictions for one account may
	// use at a time, where a Preparation does not say. 0 is a quarter of what
	// functions may use.
	PrepareMiB int
	// PrepareConcurrency bounds how many containers are made on predictions at
	// the same time. 0 is four for each processor: an init phase waits more
	// than it computes.
	PrepareConcurrency int

	// Scale bounds how fast a function gets new containers. 0 is as the
	// service: 1,000 at once, and 1,000 more each 10 s.
	Scale ScaleRate

	// QueueWait bounds how long an invocation waits for a container or for
	// room when nothing is being made for it. 0 is 10 s.
	QueueWait time.Duration
	// MakeTimeout bounds the making of a container. 0 is 30 s, which leaves
	// room for an init phase of 10 s.
	MakeTimeout time.Duration
	// MakeConcurrency bounds how many containers are made for invocations at the
	// same time; an account that has none being made has one beside them. Each
	// counts for a tenth of a second at most, or half of one while Pressed. 0 is
	// four for each processor. A quarter of it is made at first, and while Pressed;
	// more as it turns out that they wait for something else.
	MakeConcurrency int
	// Refusal tells why an invocation that has waited may not run any more; nil
	// is that it may, and so is no Refusal. It is asked after Reconsider.
	Refusal func(*hearth.Invocation) error
	// Pressed tells whether the machine's processors are all at work; nil is
	// never. It is called under a lock.
	Pressed func() bool
	// Weight is how many accounts' turns an account has at having containers made;
	// less than 1 is 1, and nil is that all have one.
	Weight func(hearth.Account) int
	// Attempts is how often the making of a container is tried for one
	// invocation. 0 is 3.
	Attempts int

	// Life decides how long idle containers are kept.
	Life IdleLife
	// Prewarmer makes containers ahead of invocations when Life finds that it
	// pays. Nil is the Manager itself, by Prepare.
	Prewarmer Prewarmer
	// KeepThrough has containers kept through times in which they would else
	// be let go and made again.
	KeepThrough bool
	// SweepEvery is how often idle lives are checked. 0 is a sixth of
	// Life.Min, and at most 10 s.
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
	if c.Policy == nil {
		standard := execution.Default()
		c.Policy = func(hearth.Account, string) *hearth.ExecutionPolicy { return standard }
	}
	c.Overcommit = or(c.Overcommit, 1)
	c.InstanceMiB = or(c.InstanceMiB, 3008)
	c.WithdrawGrace = max(or(c.WithdrawGrace, 30*time.Second), 0)
	c.PackLevel = or(c.PackLevel, 0.5)
	c.PackEvery = or(c.PackEvery, 30*time.Second)
	c.Trend = c.Trend.Complete()
	c.PoolExtra = max(or(c.PoolExtra, 32), 0)
	c.BootConcurrency = or(c.BootConcurrency, runtime.NumCPU())
	c.PrepareMiB = or(c.PrepareMiB, c.forFunctions()/4)
	c.PrepareConcurrency = or(c.PrepareConcurrency, 4*runtime.NumCPU())
	c.ReplenishDelay = or(c.ReplenishDelay, 5*time.Millisecond)
	c.Scale = ScaleRate{Burst: or(c.Scale.Burst, 1000), PerSecond: or(c.Scale.PerSecond, 100)}
	c.QueueWait = or(c.QueueWait, 10*time.Second)
	c.MakeTimeout = or(c.MakeTimeout, 30*time.Second)
	if c.Refusal == nil {
		c.Refusal = func(*hearth.Invocation) error { return nil }
	}
	if c.Pressed == nil {
		c.Pressed = func() bool { return false }
	}
	if c.Weight == nil {
		c.Weight = func(hearth.Account) int { return 1 }
	}
	c.MakeConcurrency = or(c.MakeConcurrency, 4*runtime.NumCPU())
	c.Attempts = or(c.Attempts, 3)
	c.Life = c.Life.Complete()
	c.SweepEvery = or(c.SweepEvery, min(max(c.Life.Min/6, time.Millisecond), 10*time.Second))
	if c.forFunctions() <= 0 {
		return c, fmt.Errorf("manager: the warming pool's budget of %.0f MiB leaves nothing of the machine's %d MiB for functions", c.PoolBudgetMiB, c.MachineMiB)
	}
	if c.VariableMiB < 0 || c.VariableMiB >= c.forFunctions() {
		return c, fmt.Errorf("manager: variable capacity of %d MiB leaves nothing fixed of the %d MiB for functions", c.VariableMiB, c.forFunctions())
	}
	return c, nil
}

// forFunctions is the memory that may be promised to functions. The pool's
// budget is set aside whether it is used or not, so that neither can ever
// take from the other.
func (c Config) forFunctions() int {
	return int((float64(c.MachineMiB) - c.PoolBudgetMiB) * c.Overcommit)
}
