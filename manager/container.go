package manager

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// state is where a container is in its life.
type state uint32

const (
	loading state = iota // being made; nobody else knows of it
	busy                 // one invocation has it
	idle                 // on its group's stack
	ending               // being destroyed; never comes back
)

func (s state) String() string {
	return [...]string{"loading", "busy", "idle", "ending"}[s]
}

// moves are the transitions that are legal. Whoever makes one by move owns
// the container until the next: idle → busy and idle → ending are raced for
// by invocations, sweeps, evictions and deaths, and exactly one wins.
var moves = [4][4]bool{
	loading: {busy: true, idle: true, ending: true},
	busy:    {idle: true, ending: true},
	idle:    {busy: true, ending: true},
}

// slot is a container that has no function yet: in the warming pool, or ready
// in an instance of an account. Its fields but mib and the last are set once; mib is guarded by Manager.mu.
type slot struct {
	env  hearth.Container
	done <-chan struct{} // env.Done(), which can be looked at under a lock
	inst *instance
	boot hearth.Boot
	mib  float64 // what it costs of the pool's budget while it waits; 0 if made for a caller
	made time.Time
	gone chan struct{} // closed when it is destroyed
	// container is what the slot has become; nil before.
	container atomic.Pointer[container]
}

// container is a container that is bound to a function's Key.
type container struct {
	*slot
	group *group
	size  atomic.Int32 // what it was promised, in MiB; changed by who has it, under Manager.mu
	// pledge is what it was made for if it is a provisioned one, else nil.
	pledge *pledge
	// ahead says that it was made before its code took over from older code.
	ahead bool
	// unwanted says that it is let go as soon as it is idle: a provisioned one
	// that is not asked for any more, one of code that was replaced in its
	// instance, or one of an instance that is given up.
	unwanted atomic.Bool
	// withdrawn says that its capacity goes; cut that it did before its
	// invocation had ended.
	withdrawn, cut atomic.Bool
	// foretold is set as long as it was made on a prediction and not used.
	foretold atomic.Pointer[foretold]
	// serving is the invocation that it serves; nil while it serves none.
	serving atomic.Pointer[hearth.Invocation]
	// began is when it was given its invocation, as lastUsed counts.
	began atomic.Int64
	// served says that it has served what it was given; of who has it.
	served bool

	state       atomic.Uint32
	lastUsed    atomic.Int64 // nanoseconds of the manager's clock since its start
	invocations atomic.Uint64
}

// mib is the memory that the container was promised.
func (c *container) mib() int { return int(c.size.Load()) }

func (c *container) now() state { return state(c.state.Load()) }

// move changes the state from one to another and reports whether it was so.
func (c *container) move(from, to state) bool {
	if !moves[from][to] {
		panic(fmt.Sprintf("manager: container %s: illegal transition %v to %v", c.env.ID(), from, to))
	}
	return c.state.CompareAndSwap(uint32(from), uint32(to))
}

// mustMove is move by the owner, for whom the state cannot have changed.
func (c *container) mustMove(from, to state) {
	if !c.move(from, to) {
		panic(fmt.Sprintf("manager: container %s is %v, expected %v", c.env.ID(), c.now(), from))
	}
}

// died reports whether the environment has died by itself.
func (s *slot) died() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// instance is an instance and what the manager has promised of it. All fields
// but the first are guarded by Manager.mu.
type instance struct {
	env hearth.Instance
	sub *subpool

	// owner is the tenant (hearth.Key.Tenant), "" in the warming pool. It is set
	// once, by assign.
	owner hearth.Account
	made  time.Time
	// capMiB bounds usedMiB: the memory of its containers, also of those
	// being made and those being destroyed.
	capMiB, usedMiB int
	// containers counts the same ones. At zero the instance is destroyed.
	containers int
	ready      []*slot // spare slots, once it has an owner
	making     int     // spare slots being made
	ending     bool
	// kept: it is one of its account's own, and is there without containers, too.
	// reservedMiB is what it has taken of fixed capacity for that.
	kept        bool
	reservedMiB int
	// vacant: nothing new is made in it, and nothing of it is used again.
	vacant atomic.Bool

	// wantSpare is set when the account showed concurrent demand; spareBoot
	// and spareMiB tell for what.
	wantSpare bool
	spareBoot hearth.Boot
	spareMiB  int
}

// assign gives the instance its account, for ever.
func (i *instance) assign(a hearth.Account, capMiB int) {
	if i.owner != "" {
		panic(fmt.Sprintf("manager: instance %s of account %s cannot be given to %s", i.env.ID(), i.owner, a))
	}
	i.owner, i.capMiB = a, capMiB
}

func (i *instance) room() int { return i.capMiB - i.usedMiB }

// readySlots counts the ready slots with the boot, and the blank ones if
// that is another boot.
func (i *instance) readySlots(boot hearth.Boot) (exact, blank int) {
	for _, s := range i.ready {
		switch {
		case s.boot == boot:
			exact++
		case s.boot == "":
			blank++
		}
	}
	return exact, blank
}
