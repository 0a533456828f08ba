package inside

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system call filter. It is a list of what is refused, not of what is
// allowed: users bring arbitrary programs, and what they may do is decided by
// their having no capabilities in namespaces of their own. The filter takes
// away the parts of the kernel that have no use inside and a history of
// holes, and whatever future kernels add: numbers beyond the last that was
// looked at are answered as if they didn't exist.
//
// It is set once, on init itself with all its threads, while the container is
// pooled, and inherited by what init starts: nothing is left to be done on an
// invocation's way. Init still has to attach code, or another
// root, and to resize /tmp. So the
// system calls for that pass if their unused sixth argument holds a random
// number that only init knows; without it, and without init's capabilities as
// well, they are refused.

// refused are answered with EPERM, on every processor.
var refused = []uint32{
	// Mounts and roots: init made what there is to see.
	unix.SYS_OPEN_TREE, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
	unix.SYS_MOUNT_SETATTR, unix.SYS_OPEN_TREE_ATTR, unix.SYS_CHROOT,
	// Namespaces: a user namespace would bring capabilities, and with them
	// most of the kernel's attack surface.
	unix.SYS_UNSHARE, unix.SYS_SETNS,
	// Other processes' memory and descriptors.
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_PIDFD_GETFD, unix.SYS_KCMP, unix.SYS_PROCESS_MADVISE, unix.SYS_MOVE_PAGES, unix.SYS_MIGRATE_PAGES,
	// Keyrings are not namespaced by user id alone.
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	// Programs in the kernel, and what exploits are timed with.
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	// The machine.
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE,
	unix.SYS_DELETE_MODULE, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT,
	unix.SYS_SYSLOG, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_SETTIMEOFDAY,
	unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETDOMAINNAME,
	unix.SYS_VHANGUP, unix.SYS_NFSSERVCTL,
	// Files by handle pass over mounts and the rights of directories.
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT,
	unix.SYS_FANOTIFY_INIT, unix.SYS_FANOTIFY_MARK,
	// Memory that cannot be swapped, moved or seen by who accounts for it.
	unix.SYS_MEMFD_SECRET,
}

// absent are answered with ENOSYS, upon which libraries take the older way.
var absent = []uint32{
	unix.SYS_CLONE3,                                                              // its flags are in memory, out of a filter's sight
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, // works around filters
	unix.SYS_STATMOUNT, unix.SYS_LISTMOUNT,
}

// initOnly pass with the cookie.
var initOnly = []uint32{unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_MOVE_MOUNT, unix.SYS_PIVOT_ROOT, unix.SYS_SETHOSTNAME}

// lastCall is the newest system call that was looked at for this list. The
// numbers of the x32 ABI, which have a bit of their own, lie beyond it too.
const lastCall = unix.SYS_FILE_SETATTR

const namespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Offsets in struct seccomp_data; both processors are little-endian.
const (
	offNumber = 0
	offArch   = 4
)

func offArg(i int) uint32 { return uint32(16 + 8*i) }

// program assembles a classic BPF program.
type program []unix.SockFilter

func (p *program) emit(code uint16, k uint32, yes, no uint8) {
	*p = append(*p, unix.SockFilter{Code: code, Jt: yes, Jf: no, K: k})
}

func (p *program) load(offset uint32) { p.emit(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset, 0, 0) }
func (p *program) ret(action uint32)  { p.emit(unix.BPF_RET|unix.BPF_K, action, 0, 0) }
func (p *program) and(mask uint32)    { p.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, mask, 0, 0) }

// Each of these runs the next `length` instructions if it holds, else skips
// them.
func (p *program) ifEqual(k uint32, length uint8) {
	p.emit(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, k, 0, length)
}
func (p *program) ifAbove(k uint32, length uint8) {
	p.emit(unix.BPF_JMP|unix.BPF_JGT|unix.BPF_K, k, 0, length)
}
func (p *program) ifAnyBit(k uint32, length uint8) {
	p.emit(unix.BPF_JMP|unix.BPF_JSET|unix.BPF_K, k, 0, length)
}

func refuse(errno syscall.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(errno) }

// on runs body, which ends in a return on every path, for one system call.
func (p *program) on(call uint32, body func(*program)) {
	var b program
	body(&b)
	p.ifEqual(call, uint8(len(b)))
	*p = append(*p, b...)
}

func assemble(cookie uint64) program {
	var p program
	p.load(offArch)
	p.emit(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, auditArch, 1, 0)
	p.ret(unix.SECCOMP_RET_KILL_PROCESS) // 32-bit code: other numbers, other rules
	p.load(offNumber)
	p.ifAbove(lastCall, 1)
	p.ret(refuse(syscall.ENOSYS))

	p.on(unix.SYS_CLONE, func(b *program) {
		b.load(offArg(0))
		b.ifAnyBit(namespaceFlags, 1)
		b.ret(refuse(syscall.EPERM))
		b.ret(unix.SECCOMP_RET_ALLOW)
	})
	p.on(unix.SYS_SOCKET, filterSocket)
	p.on(unix.SYS_PERSONALITY, func(b *program) {
		b.load(offArg(0))
		for _, allowed := range []uint32{0, 0xffffffff, addrNoRandomize} {
			b.ifEqual(allowed, 1)
			b.ret(unix.SECCOMP_RET_ALLOW)
		}
		b.ret(refuse(syscall.EPERM))
	})
	// Limits of others: as an ordinary user's container, init has the same
	// user id as the code.
	p.on(unix.SYS_PRLIMIT64, func(b *program) {
		b.load(offArg(0))
		b.ifEqual(0, 1)
		b.ret(unix.SECCOMP_RET_ALLOW)
		b.ret(refuse(syscall.EPERM))
	})
	p.on(unix.SYS_IOCTL, func(b *program) {
		b.load(offArg(1))
		for _, request := range []uint32{unix.TIOCSTI, tiocLinux} { // typing into somebody's terminal
			b.ifEqual(request, 1)
			b.ret(refuse(syscall.EPERM))
		}
		b.ret(unix.SECCOMP_RET_ALLOW)
	})
	for _, call := range initOnly {
		p.on(call, func(b *program) {
			b.load(offArg(5))
			b.ifEqual(uint32(cookie), 3)
			b.load(offArg(5) + 4)
			b.ifEqual(uint32(cookie>>32), 1)
			b.ret(unix.SECCOMP_RET_ALLOW)
			b.ret(refuse(syscall.EPERM))
		})
	}
	for _, list := range [][]uint32{refused, refusedHere} {
		for _, call := range list {
			p.on(call, func(b *program) { b.ret(refuse(syscall.EPERM)) })
		}
	}
	for _, call := range absent {
		p.on(call, func(b *program) { b.ret(refuse(syscall.ENOSYS)) })
	}
	p.ret(unix.SECCOMP_RET_ALLOW)
	return p
}

const (
	addrNoRandomize = 0x0040000
	tiocLinux       = 0x541c
)

// filterSocket allows local and internet sockets, and of netlink what
// getifaddrs needs. Raw and packet sockets, vsock (to the hypervisor), and
// the dozens of protocols that load modules on demand are refused.
func filterSocket(b *program) {
	b.load(offArg(0))
	b.ifEqual(unix.AF_UNIX, 1)
	b.ret(unix.SECCOMP_RET_ALLOW)
	b.ifEqual(unix.AF_NETLINK, 4)
	b.load(offArg(2))
	b.ifEqual(unix.NETLINK_ROUTE, 1)
	b.ret(unix.SECCOMP_RET_ALLOW)
	b.ret(refuse(syscall.EPERM))
	// jump over the refusal for the two internet families
	b.emit(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, unix.AF_INET, 2, 0)
	b.emit(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, unix.AF_INET6, 1, 0)
	b.ret(refuse(syscall.EAFNOSUPPORT))
	b.load(offArg(1))
	b.and(0xf) // without SOCK_NONBLOCK and SOCK_CLOEXEC
	b.ifEqual(unix.SOCK_STREAM, 1)
	b.ret(unix.SECCOMP_RET_ALLOW)
	b.ifEqual(unix.SOCK_DGRAM, 1)
	b.ret(unix.SECCOMP_RET_ALLOW)
	b.ret(refuse(syscall.EPERM))
}

// setFilter puts the filter on every thread of the process.
func setFilter() *failure {
	var random [8]byte
	if _, err := unix.Getrandom(random[:], 0); err != nil {
		return fail("drawing a random number", err)
	}
	secret := *(*uint64)(unsafe.Pointer(&random))
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fail("setting no_new_privs", err)
	}
	instructions := assemble(secret)
	prog := unix.SockFprog{Len: uint16(len(instructions)), Filter: &instructions[0]}
	r, _, errno := syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fail("setting the system call filter", errno)
	}
	if r != 0 { // a thread that could not be brought along
		return fail("setting the system call filter", syscall.ESRCH)
	}
	cookie = uintptr(secret)
	return nil
}
