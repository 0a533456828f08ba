package inside

import (
	"syscall"
	"time"
)

// signalAll sends a signal to every process in here but init.
func signalAll(signal syscall.Signal) *failure {
	if err := syscall.Kill(-1, signal); err != nil && err != syscall.ESRCH {
		return fail("signalling every process", err)
	}
	return nil
}

// stopAll stops every process and waits until each has: a signal that was
// sent is not yet obeyed, and a process may have forked meanwhile.
func stopAll() *failure {
	for range 2000 {
		if f := signalAll(syscall.SIGSTOP); f != nil {
			return f
		}
		going, f := anyGoing()
		if f != nil || !going {
			return f
		}
		nap(time.Millisecond)
	}
	return fail("stopping every process", syscall.ETIMEDOUT)
}

// anyGoing reports whether a process but init is not stopped.
func anyGoing() (bool, *failure) {
	fd, err := syscall.Open("/proc", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return false, fail("looking at processes", err)
	}
	defer syscall.Close(fd)
	var buf [4096]byte
	for {
		n, err := syscall.ReadDirent(fd, buf[:])
		if err != nil {
			return false, fail("looking at processes", err)
		}
		if n == 0 {
			return false, nil
		}
		_, _, names := syscall.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if name[0] >= '1' && name[0] <= '9' && name != "1" && going(name) {
				return true, nil
			}
		}
	}
}

func going(pid string) bool {
	stat, err := readFile("/proc/" + pid + "/stat")
	if err != nil {
		return false // it has ended
	}
	// The state follows the name, which is in parentheses and may hold any.
	for i := len(stat) - 3; i > 0; i-- {
		if stat[i] == ')' {
			switch stat[i+2] {
			case 'T', 't', 'Z', 'X':
				return false
			}
			return true
		}
	}
	return false
}
