package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tell prints what came of an attempt: "ok", or the name of the error.
func tell(name string, err error) {
	errno, ok := errors.AsType[syscall.Errno](err)
	switch {
	case err == nil:
		fmt.Println(name, "ok")
	case ok:
		fmt.Println(name, unix.ErrnoName(errno))
	default:
		fmt.Println(name, err)
	}
}

func call(name string, trap uintptr, args ...uintptr) {
	var a [6]uintptr
	copy(a[:], args)
	_, _, errno := syscall.Syscall6(trap, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		tell(name, errno)
		return
	}
	tell(name, nil)
}

// text is a system call's argument; what it points to stays, being kept here.
var texts [][]byte

func text(s string) uintptr {
	texts = append(texts, append([]byte(s), 0))
	return uintptr(unsafe.Pointer(&texts[len(texts)-1][0]))
}

func read(path string) {
	f, err := os.Open(path)
	if err == nil {
		_, err = f.Read(make([]byte, 1))
		_ = f.Close()
	}
	tell("read "+path, err)
}

// readFiles tries to read the files that it is given.
func readFiles(paths []string) {
	for _, path := range paths {
		read(path)
	}
}

// writeFiles tries to make a file in the directories that it is given.
func writeFiles(dirs []string) {
	for _, dir := range dirs {
		tell("write "+dir, os.WriteFile(dir+"/new", []byte("x"), 0o600))
		tell("chmod "+dir, os.Chmod(dir, 0o777))
	}
	tell("write /proc/sys/kernel/core_pattern", os.WriteFile("/proc/sys/kernel/core_pattern", []byte("|/tmp/x"), 0))
	tell("write /proc/sys/net/ipv4/ip_forward", os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	tell("write /proc/self/oom_score_adj", os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0))
}

// kernelCalls tries what the filter or the lack of rights refuses.
func kernelCalls([]string) {
	root := text("/")
	call("mount", unix.SYS_MOUNT, text("x"), text("/tmp"), text("tmpfs"), 0, 0)
	call("mount with a guess", unix.SYS_MOUNT, text("x"), text("/tmp"), text("tmpfs"), 0, 0, 12345)
	call("umount2", unix.SYS_UMOUNT2, text("/tmp"), unix.MNT_DETACH)
	call("move_mount", unix.SYS_MOVE_MOUNT, 3, text(""), 3, text("/tmp"), unix.MOVE_MOUNT_F_EMPTY_PATH)
	call("open_tree", unix.SYS_OPEN_TREE, 0, root, unix.OPEN_TREE_CLONE)
	call("fsopen", unix.SYS_FSOPEN, text("tmpfs"), 0)
	call("mount_setattr", unix.SYS_MOUNT_SETATTR, 0, root, 0, 0, 0)
	call("pivot_root", unix.SYS_PIVOT_ROOT, root, root)
	call("chroot", unix.SYS_CHROOT, text("/tmp"))
	call("unshare user", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	call("unshare mount", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
	call("clone user", unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD))
	call("clone3", unix.SYS_CLONE3, 0, 0)
	call("setns", unix.SYS_SETNS, 0, 0)
	call("ptrace", unix.SYS_PTRACE, unix.PTRACE_TRACEME)
	call("process_vm_readv", unix.SYS_PROCESS_VM_READV, 1)
	call("pidfd_getfd", unix.SYS_PIDFD_GETFD, 0, 0, 0)
	call("keyctl", unix.SYS_KEYCTL, 0, ^uintptr(2), 1)
	call("add_key", unix.SYS_ADD_KEY, text("user"), text("x"), text("y"), 1, ^uintptr(2))
	call("request_key", unix.SYS_REQUEST_KEY, text("user"), text("x"), 0, 0)
	call("bpf", unix.SYS_BPF, 0, 0, 0)
	call("perf_event_open", unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0)
	call("userfaultfd", unix.SYS_USERFAULTFD, 0)
	call("io_uring_setup", unix.SYS_IO_URING_SETUP, 8, 0)
	call("kexec_load", unix.SYS_KEXEC_LOAD, 0, 0, 0, 0)
	call("init_module", unix.SYS_INIT_MODULE, 0, 0, 0)
	call("reboot", unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, 0)
	call("swapon", unix.SYS_SWAPON, root, 0)
	call("acct", unix.SYS_ACCT, 0)
	call("syslog", unix.SYS_SYSLOG, 3, 0, 0)
	call("quotactl", unix.SYS_QUOTACTL, 0, 0, 0, 0)
	call("open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0)
	call("name_to_handle_at", unix.SYS_NAME_TO_HANDLE_AT, 0, root, 0, 0, 0)
	call("personality", unix.SYS_PERSONALITY, 0x0400000 /* READ_IMPLIES_EXEC */)
	call("sethostname", unix.SYS_SETHOSTNAME, text("x"), 1)
	call("settimeofday", unix.SYS_SETTIMEOFDAY, 0, 0)
	call("memfd_secret", unix.SYS_MEMFD_SECRET, 0)
	call("beyond the list", 499)
	call("ioctl TIOCSTI", unix.SYS_IOCTL, 0, unix.TIOCSTI, text("x"))
	call("prlimit of init", unix.SYS_PRLIMIT64, 1, unix.RLIMIT_NOFILE, 0, 0)
	call("setuid 0", unix.SYS_SETUID, 0)
	call("setgid 0", unix.SYS_SETGID, 0)
	call("setgroups", unix.SYS_SETGROUPS, 0, 0)
	call("mknod memory", unix.SYS_MKNODAT, 0, text("/tmp/mem"), unix.S_IFCHR|0o666, uintptr(unix.Mkdev(1, 1)), 0)
	call("mknod disk", unix.SYS_MKNODAT, 0, text("/tmp/disk"), unix.S_IFBLK|0o666, uintptr(unix.Mkdev(254, 0)), 0)
	raise := unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}
	call("raising open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&raise)), 0)
	for _, s := range []struct {
		name                   string
		family, kind, protocol int
	}{
		{"packet", unix.AF_PACKET, unix.SOCK_RAW, 0x300},
		{"raw", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP},
		{"raw six", unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6},
		{"vsock", unix.AF_VSOCK, unix.SOCK_STREAM, 0},
		{"alg", unix.AF_ALG, unix.SOCK_SEQPACKET, 0},
		{"netfilter", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER},
		{"route", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE},
		{"unix", unix.AF_UNIX, unix.SOCK_STREAM, 0},
		{"tcp", unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, 0},
		{"udp six", unix.AF_INET6, unix.SOCK_DGRAM | unix.SOCK_NONBLOCK, 0},
	} {
		fd, err := unix.Socket(s.family, s.kind, s.protocol)
		tell("socket "+s.name, err)
		if err == nil {
			_ = unix.Close(fd)
		}
	}
}

// processes tries to see and to reach others; its arguments are process ids of
// the host.
func processes(pids []string) {
	entries, err := os.ReadDir("/proc")
	tell("list processes", err)
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
			fmt.Println("sees process", pid)
		}
	}
	for _, pid := range append(pids, "1") {
		for _, file := range []string{"mem", "environ", "maps", "root/etc/passwd", "fd/0"} {
			read("/proc/" + pid + "/" + file)
		}
	}
	for _, field := range pids {
		pid, _ := strconv.Atoi(field)
		tell("signal "+field, syscall.Kill(pid, 0))
	}
	// Whatever the answer, init must not die of it.
	for signal := syscall.Signal(1); signal <= 64; signal++ {
		_ = syscall.Kill(1, signal)
		for tid := 1; tid < 8; tid++ {
			if tid != os.Getpid() {
				_ = unix.Tgkill(1, tid, signal)
			}
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	tell("read own status", err)
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid":
			fmt.Println(name, strings.Join(strings.Fields(value), " "))
		}
	}
	fds, err := os.ReadDir("/proc/self/fd")
	tell("list files", err)
	for _, fd := range fds {
		if n, _ := strconv.Atoi(fd.Name()); n > 2 {
			target, err := os.Readlink("/proc/self/fd/" + fd.Name())
			if err == nil && !strings.Contains(target, "eventpoll") && !strings.Contains(target, "eventfd") {
				fmt.Println("has file", fd.Name(), target)
			}
		}
	}
}

// connects tries to reach addresses.
func connects(addresses []string) {
	for _, address := range addresses {
		network := "tcp"
		if address[0] == '@' {
			network = "unix"
		}
		conn, err := net.DialTimeout(network, address, 2*time.Second)
		tell("connect "+address, err)
		if err == nil {
			_ = conn.Close()
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:9001")
	tell("listen on the runtime API's address", err)
	if err == nil {
		_ = l.Close()
	}
}

// exhaust takes files, then processes, until there are no more.
func exhaust([]string) {
	n := 0
	var err error
	var files []int
	for ; err == nil && n < 1<<17; n++ {
		var fd int
		if fd, err = unix.Open("/dev/null", unix.O_RDONLY, 0); err == nil {
			files = append(files, fd)
		}
	}
	fmt.Println("files", n < 2000)
	tell("one more file", err)
	for _, fd := range files {
		_ = unix.Close(fd)
	}
	n, err = 0, nil
	var pids [5000]uintptr
	for ; err == nil && n < len(pids); n++ {
		// Not os/exec: it needs threads, and those are what there are no more of.
		pid, _, errno := syscall.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
		if errno != 0 {
			err = errno
		} else if pid == 0 {
			for {
				_, _, _ = syscall.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
			}
		}
		pids[n] = pid
	}
	for _, pid := range pids[:n] { // the runtime wants room for a thread by now
		if pid != 0 {
			_, _, _ = syscall.RawSyscall(unix.SYS_KILL, pid, uintptr(unix.SIGKILL), 0)
			_, _, _ = syscall.RawSyscall6(unix.SYS_WAIT4, pid, 0, 0, 0, 0, 0)
		}
	}
	fmt.Println("processes", n < 200)
	tell("one more process", err)
}

// leave leaves traces; seek looks for them.
func leave([]string) {
	tell("leave in /tmp", os.WriteFile("/tmp/secret", []byte("x"), 0o666))
	tell("leave in /dev/shm", os.WriteFile("/dev/shm/secret", []byte("x"), 0o666))
	call("leave in shared memory", unix.SYS_SHMGET, 4711, 4096, 0o666|unix.IPC_CREAT)
	l, err := net.Listen("unix", "@secret")
	tell("leave a socket", err)
	if err == nil {
		defer l.Close()
	}
	fmt.Println("left")
	time.Sleep(time.Hour)
}

func seek([]string) {
	read("/tmp/secret")
	read("/dev/shm/secret")
	call("find shared memory", unix.SYS_SHMGET, 4711, 4096, 0)
	_, err := net.Dial("unix", "@secret")
	tell("find socket", err)
	entries, err := os.ReadDir("/tmp")
	tell("list /tmp", err)
	for _, e := range entries {
		fmt.Println("found", e.Name())
	}
}

// whoAmI is what a set-user-id copy of the probe runs.
func whoAmI([]string) { fmt.Println("effective user", os.Geteuid()) }

// hog takes all inotify instances, says how that ended, and keeps them.
func hog([]string) {
	var err error
	for err == nil {
		_, err = unix.InotifyInit1(0)
	}
	errno, _ := errors.AsType[syscall.Errno](err)
	_, _ = unix.Write(3, []byte(unix.ErrnoName(errno)))
	time.Sleep(time.Hour)
}

func watch([]string) {
	_, err := unix.InotifyInit1(0)
	tell("inotify", err)
}
