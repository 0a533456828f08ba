// Package inside is the program of the namespace driver that is not the
// daemon: the spawner, a small process from which every container is cloned,
// and the init that is process 1 of each container.
//
// It is a package of its own, with few imports, because a copy of it lives in
// every container: what it costs at start is paid for each one, what it keeps
// in memory is kept a thousand times. It must not import os, fmt or net.
//
// The daemon never clones namespaces itself: clone copies the page tables of
// the caller when a user namespace is asked for (10 ms with a heap of 512
// MiB), and the spawner's are small.
package inside

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// The names under which the program is started.
const (
	SpawnerName = "hearth-sandbox-spawner"
	InitName    = "hearth-sandbox-init"
)

// Socket is the descriptor on which both find the daemon.
const Socket = 3

// The user and group as which code runs inside; the same as on Lambda.
const (
	UserID  = 993
	GroupID = 990
)

// Is reports whether a program started as argv0 is the spawner or an init.
func Is(argv0 string) bool { return argv0 == SpawnerName || argv0 == InitName }

// Main runs the program that argv0 names and ends the process.
func Main(argv0 string) {
	switch argv0 {
	case SpawnerName:
		syscall.Exit(runSpawner())
	case InitName:
		syscall.Exit(runInit())
	}
	complain("this program is started by hearth, not by hand\n")
	syscall.Exit(2)
}

// sealFiles keeps every file that this process was started with from what it
// starts: its own socket, and whatever the daemon had inherited unknowingly.
func sealFiles() *failure {
	_, _, errno := syscall.Syscall(unix.SYS_CLOSE_RANGE, Socket, uintptr(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
	if errno != 0 {
		return fail("sealing inherited files", errno)
	}
	return nil
}

func complain(s string) {
	_, _ = syscall.Write(2, []byte(s)) // there is nobody else to tell
}

// failure is what went wrong: the step and the kernel's answer.
type failure struct {
	step  string
	errno syscall.Errno
}

func fail(step string, err error) *failure {
	errno, ok := err.(syscall.Errno)
	if !ok {
		errno = syscall.EINVAL
	}
	return &failure{step, errno}
}
