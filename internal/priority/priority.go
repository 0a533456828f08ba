// Package priority lets a server go before what it runs. Where processors are
// short its threads have less to do than the code that waits for them, and are
// what everybody waits for: they weigh more, and are let in as soon as they wake.
package priority

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// niceness is by how much Raise makes a thread less nice than it was: three
// times the weight. With more, a server that is kept at work by hostile requests
// would leave its functions little.
const niceness = 5

// slice is for how long a thread of the server's runs before others have a turn,
// the least that Linux takes. A thread that wakes with a shorter slice than the
// one that runs is let in at once, where the scheduler is of Linux 6.12 or newer;
// else it may wait for the clock's next tick, which is 4 ms with HZ=250. Older
// ones ignore it.
const slice = 100 * time.Microsecond

var (
	raising sync.Mutex
	raised  atomic.Bool  // Raise has done it
	before  atomic.Int32 // the niceness from then
)

// Raise gives every thread of this process, and those that come, more weight and
// a shorter slice. It needs the right to do so. Safe for concurrent use; once is enough.
func Raise() error {
	raising.Lock()
	defer raising.Unlock()
	if raised.Load() {
		return nil
	}
	was, err := nice(0)
	if err != nil {
		return err
	}
	before.Store(int32(was))
	want := max(was-niceness, -20)
	for {
		// A thread inherits from the one that makes it, which may not have had its
		// turn yet: there are no more of those once all were found done.
		changed := false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				return err
			}
			is, err := nice(id)
			if errors.Is(err, unix.ESRCH) {
				continue // it has ended
			}
			if err == nil && is != want {
				changed = true
				err = set(id, want, slice)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("priority of a thread: %w", err)
			}
		}
		if !changed {
			raised.Store(true)
			return nil
		}
	}
}

// Ordinary calls f, which starts a process, on a thread whose priority is what
// it was before Raise.
func Ordinary(f func() error) (err error) {
	if !raised.Load() {
		return f()
	}
	runtime.LockOSThread()
	is, err := nice(0)
	if err == nil {
		err = set(0, int(before.Load()), 0)
	}
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("priority of a process: %w", err)
	}
	defer func() {
		// A thread that stays as it is ends with its goroutine, or serves no other.
		if back := set(0, is, slice); back != nil {
			err = errors.Join(err, fmt.Errorf("priority of a thread: %w", back))
			return
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// set gives a thread a niceness and a slice; 0 is the calling thread, and the
// system's slice. One that somebody gave a policy of another sort, such as that
// of real time, keeps that.
func set(thread, nice int, slice time.Duration) error {
	attr, err := unix.SchedGetAttr(thread, 0)
	if err != nil {
		return err
	}
	if attr.Policy != unix.SCHED_NORMAL && attr.Policy != unix.SCHED_BATCH {
		return unix.Setpriority(unix.PRIO_PROCESS, thread, nice)
	}
	attr.Nice, attr.Runtime = int32(nice), uint64(slice)
	return unix.SchedSetAttr(thread, attr, 0)
}

// nice is a thread's niceness; 0 is the calling one.
func nice(thread int) (int, error) {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, thread)
	return 20 - n, err // the system call's own answer is never negative
}
