// Hearth-sandbox is the program that containers of the namespace driver are
// made from: see package inside. Hearth starts it; it is of no use by hand.
package main

import (
	"syscall"

	"github.com/hearth-faas/hearth/sandbox/namespace/inside"
)

func main() {
	inside.Main(argv0())
}

// argv0 reads the name that this program was started under: package os, which
// has it, would cost every container its start.
func argv0() string {
	fd, err := syscall.Open("/proc/self/cmdline", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer syscall.Close(fd)
	var buf [64]byte
	n, err := syscall.Read(fd, buf[:])
	if err != nil {
		return ""
	}
	for i, c := range buf[:n] {
		if c == 0 {
			return string(buf[:i])
		}
	}
	return string(buf[:n])
}
