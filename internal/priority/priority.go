// Package priority lets a server go before what it runs. Where processors are
// short its threads have less to do than the code that waits for them, and are
// what everybody waits for.
package priority

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// niceness is by how much Raise makes a thread less nice than it was: three
// times the weight. With more, a server that is kept at work by hostile requests
// would leave its functions little.
const niceness = 5

var (
	raising sync.Mutex
	raised  atomic.Bool  // Raise has done it
	before  atomic.Int32 // the niceness from then
)

// Raise gives every thread of this process, and those that come, more weight.
// It needs the right to do so. Safe for concurrent use; once is enough.
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
				err = unix.Setpriority(unix.PRIO_PROCESS, id, want)
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
		err = unix.Setpriority(unix.PRIO_PROCESS, 0, int(before.Load()))
	}
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("priority of a process: %w", err)
	}
	defer func() {
		// A thread that stays as it is ends with its goroutine, or serves no other.
		if back := unix.Setpriority(unix.PRIO_PROCESS, 0, is); back != nil {
			err = errors.Join(err, fmt.Errorf("priority of a thread: %w", back))
			return
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// nice is a thread's niceness; 0 is the calling one.
func nice(thread int) (int, error) {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, thread)
	return 20 - n, err // the system call's own answer is never negative
}
