package inside

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox/namespace/message"
)

// setLimits sets what is the same for every process in here, whatever the
// daemon itself was allowed.
func setLimits() *failure {
	for _, l := range []struct {
		resource int
		max      uint64
	}{
		// No core files. 1 and not 0: to a limit of 0 the kernel pays no heed
		// when the machine pipes cores to a program, which runs as root.
		{syscall.RLIMIT_CORE, 1},
		{unix.RLIMIT_RTPRIO, 0},
		{unix.RLIMIT_NICE, 0},
		{unix.RLIMIT_MEMLOCK, 8 << 20},
	} {
		if err := lower(l.resource, l.max); err != nil {
			return fail("setting limits", err)
		}
	}
	return nil
}

// StepWorkingDir is the step that fails for want of a process's directory.
const StepWorkingDir = "entering the working directory"

// start runs the main process, if id is 0, or a further one. Limits are set on
// init itself, to be inherited: they are the same for all of a container.
func (c *container) start(id uint32, p *message.Process, fds []int) *failure {
	if id == 0 && c.started { // only this thread changes it
		return fail("starting a second main process", syscall.EBUSY)
	}
	want := 0
	if p.Output {
		want++
	}
	if p.Control {
		want++
	}
	if len(fds) != want {
		return fail("counting descriptors", syscall.EBADF)
	}
	if len(p.Argv) == 0 {
		return fail("starting a process without arguments", syscall.EINVAL)
	}
	if p.Dir != "" && !isDir(p.Dir) {
		return fail(StepWorkingDir, syscall.ENOENT)
	}
	file, err := executable(p.Argv[0], p.Env)
	if err != nil {
		return fail("executing "+p.Argv[0], err)
	}
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fail("opening /dev/null", err)
	}
	defer syscall.Close(null)
	files := []uintptr{uintptr(null), uintptr(null), uintptr(null)}
	if p.Output {
		files[1], files[2] = uintptr(fds[0]), uintptr(fds[0])
		fds = fds[1:]
	}
	if p.Control {
		files = append(files, uintptr(fds[0]))
	}
	if p.OpenFiles > 0 {
		if err := lower(syscall.RLIMIT_NOFILE, p.OpenFiles); err != nil {
			return fail("limiting open files", err)
		}
	}
	if p.Tasks > 0 {
		if err := lower(unix.RLIMIT_NPROC, p.Tasks); err != nil {
			return fail("limiting processes", err)
		}
	}
	attr := &syscall.ProcAttr{Dir: p.Dir, Env: p.Env, Files: files, Sys: &syscall.SysProcAttr{Setsid: true}}
	if attr.Env == nil {
		attr.Env = []string{} // not init's
	}
	if c.rootless {
		// Capabilities are the thread's, so that the same one must fork. (Not
		// syscall.AllThreadsSyscall: it needs the signals that init has let go.)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if f := keepCapabilities(); f != nil {
			return f
		}
	} else {
		attr.Sys.Credential = &syscall.Credential{Uid: UserID, Gid: GroupID}
	}
	// The new program inherits this from init's memory as it is at exec.
	_ = unix.Prctl(unix.PR_SET_THP_DISABLE, 0, 0, 0, 0)
	// Its end must not be noticed before it is known.
	c.mu.Lock()
	defer c.mu.Unlock()
	pid, err := syscall.ForkExec(file, p.Argv, attr)
	_ = unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0)
	if err != nil {
		return fail("executing "+p.Argv[0], err)
	}
	c.running[pid] = id
	c.started = c.started || id == 0
	if !c.reaping {
		c.reaping = true
		go c.reap()
	}
	return nil
}

// signal sends a signal to the main process and its group.
func (c *container) signal(s syscall.Signal) *failure {
	c.mu.Lock() // until then its id is not given to another
	defer c.mu.Unlock()
	for pid, id := range c.running {
		if id != 0 {
			continue
		}
		if err := syscall.Kill(-pid, s); err != nil && err != syscall.ESRCH {
			return fail("signalling the main process", err)
		}
	}
	return nil
}

// lower sets a limit, soft and hard. It can be raised to what init was
// started with at most.
func lower(resource int, n uint64) error {
	var now syscall.Rlimit
	if err := syscall.Getrlimit(resource, &now); err != nil {
		return err
	}
	n = min(n, now.Max)
	return syscall.Setrlimit(resource, &syscall.Rlimit{Cur: n, Max: n})
}

// reap waits for every process that ends in here, among them those whose
// parent has ended. When the main process ends, so do all others, unless a
// further one is left that the daemon has started.
func (c *container) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		c.mu.Lock()
		if err != nil && len(c.running) == 0 { // none is left
			c.reaping = false
			c.mu.Unlock()
			return
		}
		id, known := c.running[pid]
		if err != nil || !known {
			c.mu.Unlock()
			continue
		}
		delete(c.running, pid)
		last := id == 0 && len(c.running) == 0
		c.mu.Unlock()
		if last {
			// First the others, so that they write nothing after the last word.
			_ = syscall.Kill(-1, syscall.SIGKILL) // ESRCH: there are none
		}
		exited := &message.Exited{ID: id, Code: uint32(max(status.ExitStatus(), 0))}
		if status.Signaled() {
			exited = &message.Exited{ID: id, Signal: uint32(status.Signal())}
		}
		_ = message.Send(Socket, exited) // without a daemon init is about to end
	}
}

// keepCapabilities makes what this thread executes have none; the thread keeps
// its own.
func keepCapabilities() *failure {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fail("dropping ambient capabilities", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fail("reading capabilities", err)
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fail("dropping inheritable capabilities", err)
	}
	return nil
}
