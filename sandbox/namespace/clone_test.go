package namespace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
)

// A spawner that is killed between two steps of two clones at once leaves
// neither of them: not the one that waits for its ids to be mapped, and not the
// one that has a copy of what the first waits on.
func TestClonesEndWithASpawnerThatIsKilledBetweenTheirSteps(t *testing.T) {
	d := newDriver(t, nil)
	in := newInstance(t, d)
	// A thread that stands still keeps one of the runtime's two places to run, so
	// that now and then nobody is left to begin the other clone.
	for patience := 2 * time.Second; patience < 2*time.Minute; patience *= 2 {
		if killAmidClones(t, d, in, patience) {
			return
		}
	}
	t.Fatal("two clones at once could not be had")
}

// killAmidClones kills the spawner amid two clones, and tells whether they could
// be had in that time.
func killAmidClones(t *testing.T, d *Driver, in sandbox.Instance, patience time.Duration) bool {
	p, err := d.spawn.process(background)
	if err != nil {
		t.Fatal(err)
	}
	traced := make(chan struct{})
	steps := make(chan stepped)
	killed := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		runtime.LockOSThread() // which traces
		defer runtime.UnlockOSThread()
		step := stepClones(p.cmd.Process.Pid, 2, patience, sync.OnceFunc(func() { close(traced) }))
		steps <- step
		<-killed
		step.reap()
	}()
	<-traced // or one may have been cloned before
	var making sync.WaitGroup
	for range 2 {
		making.Go(func() {
			// By the next spawner, once this one has died.
			c, err := in.NewContainer(background, sandbox.ContainerSpec{ID: newID("c")})
			if err != nil {
				t.Error(err)
				return
			}
			if err := c.Destroy(); err != nil {
				t.Error(err)
			}
		})
	}
	step := <-steps
	if err := p.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	close(killed)
	if step.err != nil && step.err != errNoClones {
		t.Error(step.err)
	}
	for _, fd := range step.clones {
		if !endsWithin(fd, 20*time.Second) {
			t.Error("a clone outlived the spawner")
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		_ = unix.Close(fd)
	}
	<-over
	<-p.gone
	making.Wait()
	return step.err != errNoClones
}

// endsWithin tells whether a process ends in that time.
func endsWithin(pidfd int, d time.Duration) bool {
	for deadline := time.Now().Add(d); time.Now().Before(deadline); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 1000)
		if n == 1 && err == nil {
			return true
		}
		if err != nil && err != unix.EINTR {
			return false
		}
	}
	return false
}

var errNoClones = errors.New("no two clones at once in that time")

// stepped is a spawner that stands still amid clones.
type stepped struct {
	threads map[int]bool
	clones  []int // pidfds
	err     error
}

// reap takes note of the ends of the threads, without which the process's is not
// told.
func (s *stepped) reap() {
	for tid := range s.threads {
		for {
			var status unix.WaitStatus
			_, err := unix.Wait4(tid, &status, unix.WALL, nil)
			if err == unix.EINTR {
				continue
			}
			if err != nil || status.Exited() || status.Signaled() {
				break
			}
		}
	}
}

// stepClones lets n threads of a process come to where they are about to clone
// a container's init, each with the pipe on which that will wait; then has each
// clone, and stands still before its clone is told anything. The clones go on.
// begun is called when nothing of the process is unseen any more, or it can't be
// had.
func stepClones(pid, n int, patience time.Duration, begun func()) (s stepped) {
	defer begun()
	s.threads = map[int]bool{}
	running := map[int]bool{}
	// Until there is no thread that could have made another unseen.
	for more := true; more && s.err == nil; {
		more, s.err = s.trace(pid, running)
	}
	if s.err != nil {
		return s
	}
	begun()
	ready := map[int]bool{}
	for deadline := time.Now().Add(patience); len(s.clones) < n; {
		if time.Now().After(deadline) {
			s.err = errNoClones
			return s
		}
		moved := false
		for tid := range running {
			var status unix.WaitStatus
			got, err := unix.Wait4(tid, &status, unix.WALL|unix.WNOHANG, nil)
			if err != nil || got == 0 || !status.Stopped() {
				continue
			}
			moved = true
			signal := 0
			switch {
			case status.TrapCause() == unix.PTRACE_EVENT_FORK:
				if err := s.cloned(tid); err != nil {
					s.err = err
					return s
				}
				delete(running, tid)
				continue
			case status.TrapCause() == unix.PTRACE_EVENT_CLONE: // a thread
				if child, err := unix.PtraceGetEventMsg(tid); err == nil {
					running[int(child)], s.threads[int(child)] = true, true
				}
			case status.StopSignal() == unix.SIGTRAP|0x80:
				if clones(tid) {
					ready[tid] = true
					delete(running, tid)
					continue
				}
			case status.StopSignal() != unix.SIGTRAP:
				signal = int(status.StopSignal())
			}
			if err := unix.PtraceSyscall(tid, signal); err != nil {
				s.err = fmt.Errorf("letting a thread of the spawner go on: %w", err)
				return s
			}
		}
		if len(ready) == n { // none of them has cloned
			for tid := range ready {
				delete(ready, tid)
				running[tid] = true
				if err := unix.PtraceCont(tid, 0); err != nil {
					s.err = fmt.Errorf("letting a thread of the spawner clone: %w", err)
					return s
				}
			}
		}
		if !moved {
			time.Sleep(time.Millisecond) // to wait for all would take note of other tests' processes
		}
	}
	return s
}

// trace begins to trace the threads of a process that are not traced yet, and
// tells whether there were any.
func (s *stepped) trace(pid int, running map[int]bool) (more bool, err error) {
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACECLONE
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return false, err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil || running[tid] {
			continue
		}
		_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(tid), 0, options, 0, 0)
		if errno != 0 && errno != unix.EPERM { // one that is traced made it
			return false, fmt.Errorf("tracing the spawner: %w", errno)
		}
		if err := unix.PtraceInterrupt(tid); err != nil {
			return false, fmt.Errorf("stopping a thread of the spawner: %w", err)
		}
		more, running[tid] = true, true
		if tid != pid { // the process's end is told to whoever waits for it
			s.threads[tid] = true
		}
	}
	return more, nil
}

// cloned lets the clone that a thread has just made go on.
func (s *stepped) cloned(tid int) error {
	child, err := unix.PtraceGetEventMsg(tid)
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(int(child), 0)
	if err != nil {
		return err
	}
	s.clones = append(s.clones, fd)
	var status unix.WaitStatus
	for {
		if _, err = unix.Wait4(int(child), &status, unix.WALL, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return err
	}
	if err := unix.PtraceDetach(int(child)); err != nil {
		return fmt.Errorf("letting a clone go on: %w", err)
	}
	return nil
}

// clones tells whether a thread that has stopped is about to clone a process
// with a user namespace.
func clones(tid int) bool {
	var info [88]byte // struct ptrace_syscall_info
	const getSyscallInfo, entry = 0x420e, 1
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, getSyscallInfo, uintptr(tid), uintptr(len(info)), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 || info[0] != entry {
		return false
	}
	nr, first := binary.NativeEndian.Uint64(info[24:]), binary.NativeEndian.Uint64(info[32:])
	switch nr {
	case unix.SYS_CLONE:
	case unix.SYS_CLONE3:
		var flags [8]byte
		if n, err := unix.PtracePeekData(tid, uintptr(first), flags[:]); n != len(flags) || err != nil {
			return false
		}
		first = binary.NativeEndian.Uint64(flags[:])
	default:
		return false
	}
	return first&unix.CLONE_NEWUSER != 0
}
