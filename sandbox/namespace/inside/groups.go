package inside

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// clearPatience is how long the end of what is killed may take: it may be in
// the middle of a disk's slow answer.
const clearPatience = 10 * time.Second

// ClearGroups kills every process of the cgroup whose directory is open as dir,
// and of those below it, and removes those below it. Frozen ones of the first
// version are let go, without which they don't die. What has gone meanwhile is
// no error; ETIMEDOUT is of processes that do not die.
//
// Nothing is found by its name from the top, so that groups that were made anew
// under the same names are another's.
func ClearGroups(dir int) error {
	// All of them first, so that none goes on while others are waited for.
	if err := killEach(dir); err != nil {
		return err
	}
	deadline := time.Now().Add(clearPatience)
	return each(dir, func(group int) error { return killAll(group, deadline) },
		func(parent int, name string) error { return removeAt(parent, name, deadline) })
}

// ServerGroup is the name of the daemon's own group among the instances', where it
// has one.
const ServerGroup = "server"

// clearInstances does as ClearGroups does with all groups of dir but the daemon's:
// the spawner's end need not be the daemon's, too. In dir itself is no process.
func clearInstances(dir int) error {
	names, err := below(dir)
	if err != nil {
		return gone(err)
	}
	deadline := time.Now().Add(clearPatience)
	for _, do := range [...]func(group int, name string) error{
		func(group int, _ string) error { return killEach(group) },
		func(group int, name string) error {
			if err := ClearGroups(group); err != nil {
				return err
			}
			return removeAt(dir, name, deadline)
		},
	} {
		for _, name := range names {
			if name == ServerGroup {
				continue
			}
			group, err := syscall.Openat(dir, name, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
			if err == nil {
				err = do(group, name)
				_ = syscall.Close(group)
			}
			if err = gone(err); err != nil {
				return err
			}
		}
	}
	return nil
}

// killEach kills what is in a group and in those below it, and waits for nothing.
func killEach(dir int) error {
	return each(dir, func(group int) error {
		_, err := kill(group)
		return err
	}, nil)
}

// each calls do with every group below dir, the lowest first, and with dir
// itself, and if after is given that for each but dir when all below it is done.
func each(dir int, do func(group int) error, after func(parent int, name string) error) error {
	names, err := below(dir)
	if err != nil {
		return gone(err)
	}
	for _, name := range names {
		child, err := syscall.Openat(dir, name, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
		if err == nil {
			err = each(child, do, after)
			_ = syscall.Close(child)
			if err == nil && after != nil {
				err = after(dir, name)
			}
		}
		if err = gone(err); err != nil {
			return err
		}
	}
	return gone(do(dir))
}

// gone is err, unless that is of a directory that is not there any more.
func gone(err error) error {
	if err == syscall.ENOENT || err == syscall.ENODEV {
		return nil
	}
	return err
}

// below gives the names of the directories in one.
func below(dir int) (names []string, err error) {
	if _, err := syscall.Seek(dir, 0, 0); err != nil {
		return nil, err
	}
	var buf [4096]byte
	for {
		n, err := syscall.ReadDirent(dir, buf[:])
		if err != nil || n == 0 {
			return names, err
		}
		_, _, all := syscall.ParseDirent(buf[:n], -1, nil)
		for _, name := range all {
			var st unix.Stat_t
			if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
				names = append(names, name)
			}
		}
	}
}

// killAll kills every process of a group and waits until none is left.
func killAll(group int, deadline time.Time) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		left, err := kill(group)
		if err != nil || !left {
			return err
		}
		if time.Now().After(deadline) {
			return syscall.ETIMEDOUT
		}
		nap(wait)
	}
}

// kill tells every process of a group to end, and whether there was any.
func kill(group int) (any bool, err error) {
	procs, err := readAt(group, "cgroup.procs")
	if err != nil || procs == "" {
		return false, err
	}
	pid := 0
	for _, c := range []byte(procs) {
		if c >= '0' && c <= '9' {
			pid = 10*pid + int(c-'0')
			continue
		}
		// 0 is of another pid namespace, out of reach. A thread of this process
		// may be there to clone; it leaves again.
		if pid > 1 && pid != syscall.Getpid() {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				return true, err
			}
		}
		pid = 0
	}
	return true, gone(writeAt(group, "freezer.state", "THAWED"))
}

// removeAt removes an empty group. The kernel may still be busy with what was in
// it a moment ago, and so may a thread that was there to clone.
func removeAt(dir int, name string, deadline time.Time) error {
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		if err != syscall.EBUSY || time.Now().After(deadline) {
			return gone(err)
		}
		nap(wait)
	}
}

func nap(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // an early end is as good
}

func readAt(dir int, name string) (string, error) {
	fd, err := syscall.Openat(dir, name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	return readAll(fd)
}

func writeAt(dir int, name, content string) error {
	fd, err := syscall.Openat(dir, name, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	_, err = syscall.Write(fd, []byte(content))
	return err
}
