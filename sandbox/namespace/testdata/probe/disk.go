package main

import (
	"bytes"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// useDisk tries what would change /tmp's file system, or reach what is below
// it, rather than files in it.
func useDisk([]string) {
	dir, err := unix.Open("/tmp", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	tell("open /tmp", err)
	file, err := unix.Open("/tmp/file", unix.O_RDWR|unix.O_CREAT, 0o600)
	tell("open a file", err)
	var argument [8]uint64
	try := func(name string, request uintptr) {
		call(name, unix.SYS_IOCTL, uintptr(dir), request, uintptr(unsafe.Pointer(&argument)))
	}
	try("shut down", 0x8004587d)
	try("trim", 0xc0185879)
	try("freeze", 0xc0045877)
	try("grow", 0x40086610)
	try("get encryption policy", 0x400c6615)
	argument[0] = unix.STATX_ATTR_IMMUTABLE
	call("make immutable", unix.SYS_IOCTL, uintptr(file), unix.FS_IOC_SETFLAGS, uintptr(unsafe.Pointer(&argument)))
	call("give away", unix.SYS_FCHOWN, uintptr(file), 0, 0)
	for _, device := range []string{"/dev/loop-control", "/dev/loop0", "/sys/block", "/proc/diskstats", "/proc/partitions", "/tmp/lost+found"} {
		read(device)
	}
	var st unix.Statfs_t
	tell("statfs", unix.Fstatfs(dir, &st))
	fmt.Println("kind", st.Type == unix.EXT4_SUPER_MAGIC, st.Flags&unix.ST_NOSUID != 0, st.Flags&unix.ST_NODEV != 0)
}

// shareMemory maps a file of /tmp twice, and looks whether one mapping and
// the file see what is written to the other.
func shareMemory([]string) {
	const length = 64 << 20
	f, err := os.Create("/tmp/shared")
	if err == nil {
		err = f.Truncate(length)
	}
	tell("create", err)
	one, err := unix.Mmap(int(f.Fd()), 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	tell("map", err)
	two, err := unix.Mmap(int(f.Fd()), 0, length, unix.PROT_READ, unix.MAP_SHARED)
	tell("map again", err)
	for i := range one {
		one[i] = byte(i / 4096)
	}
	fmt.Println("mappings", bytes.Equal(one, two))
	tell("msync", unix.Msync(one, unix.MS_SYNC))
	content, err := os.ReadFile("/tmp/shared")
	tell("read the file", err)
	fmt.Println("file", bytes.Equal(one, content))
}
