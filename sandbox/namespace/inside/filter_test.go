package inside

import (
	"encoding/binary"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// seccompData is what a filter sees of a system call.
type seccompData struct {
	number uint32
	arch   uint32
	args   [6]uint64
}

// run interprets a filter as the kernel does.
func (p program) run(t interface{ Fatalf(string, ...any) }, d seccompData) uint32 {
	memory := make([]byte, 64)
	binary.LittleEndian.PutUint32(memory[offNumber:], d.number)
	binary.LittleEndian.PutUint32(memory[offArch:], d.arch)
	for i, a := range d.args {
		binary.LittleEndian.PutUint64(memory[offArg(i):], a)
	}
	var a uint32
	for pc := 0; pc < len(p); pc++ {
		in := p[pc]
		jump := func(yes bool) {
			if yes {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = binary.LittleEndian.Uint32(memory[in.K:])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(a == in.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump(a > in.K)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(a&in.K != 0)
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			t.Fatalf("instruction %d has the code %#x", pc, in.Code)
		}
	}
	t.Fatalf("the filter has no answer to %+v", d)
	return 0
}

const testCookie = 0x1234_5678_9abc_def0

func verdict(t *testing.T, number uint32, args ...uint64) uint32 {
	t.Helper()
	d := seccompData{number: number, arch: auditArch}
	copy(d.args[:], args)
	return assemble(testCookie).run(t, d)
}

func TestFilterFitsTheKernel(t *testing.T) {
	if n := len(assemble(testCookie)); n > 4096 {
		t.Errorf("%d instructions are more than the kernel takes", n)
	}
}

func TestFilterEndsCodeOfAnotherArchitecture(t *testing.T) {
	d := seccompData{number: unix.SYS_READ, arch: 0x40000003} // 32-bit x86
	if got := assemble(testCookie).run(t, d); got != unix.SECCOMP_RET_KILL_PROCESS {
		t.Errorf("the answer is %#x", got)
	}
}

func TestFilterAnswersByTheLists(t *testing.T) {
	for _, call := range slices.Concat(refused, refusedHere) {
		if got := verdict(t, call); got != refuse(syscall.EPERM) {
			t.Errorf("system call %d: %#x", call, got)
		}
	}
	for _, call := range append([]uint32{lastCall + 1, 1 << 30, 1<<30 | unix.SYS_READ, 1<<32 - 1}, absent...) {
		if got := verdict(t, call); got != refuse(syscall.ENOSYS) {
			t.Errorf("system call %d: %#x", call, got)
		}
	}
	for _, call := range []uint32{unix.SYS_READ, unix.SYS_EXECVE, unix.SYS_FUTEX, unix.SYS_MMAP, unix.SYS_OPENAT, unix.SYS_WAIT4} {
		if got := verdict(t, call); got != unix.SECCOMP_RET_ALLOW {
			t.Errorf("system call %d: %#x", call, got)
		}
	}
}

func TestFilterLetsOnlyTheCookieMount(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		guess := rapid.OneOf(
			rapid.Uint64(),
			rapid.Just(uint64(testCookie&0xffff_ffff)),
			rapid.Just(uint64(testCookie>>32<<32)),
			rapid.Just(uint64(testCookie)),
		).Draw(rt, "guess")
		for _, call := range initOnly {
			got := verdict(t, call, 0, 0, 0, 0, 0, guess)
			if (got == unix.SECCOMP_RET_ALLOW) != (guess == testCookie) {
				rt.Fatalf("system call %d with %#x: %#x", call, guess, got)
			}
		}
	})
}

func TestFilterLooksAtArguments(t *testing.T) {
	allow, no := uint32(unix.SECCOMP_RET_ALLOW), refuse(syscall.EPERM)
	for _, test := range []struct {
		name   string
		number uint32
		args   []uint64
		want   uint32
	}{
		{"a thread", unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_THREAD}, allow},
		{"a fork", unix.SYS_CLONE, []uint64{uint64(unix.SIGCHLD)}, allow},
		{"a user namespace", unix.SYS_CLONE, []uint64{unix.CLONE_NEWUSER}, no},
		{"a network namespace", unix.SYS_CLONE, []uint64{unix.CLONE_NEWNET | unix.CLONE_VM}, no},
		{"own limits", unix.SYS_PRLIMIT64, []uint64{0}, allow},
		{"others' limits", unix.SYS_PRLIMIT64, []uint64{1}, no},
		{"no random addresses", unix.SYS_PERSONALITY, []uint64{addrNoRandomize}, allow},
		{"executable data", unix.SYS_PERSONALITY, []uint64{0x400000}, no},
		{"asking for the personality", unix.SYS_PERSONALITY, []uint64{0xffffffff}, allow},
		{"unix socket", unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_DGRAM}, allow},
		{"tcp socket", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_CLOEXEC}, allow},
		{"udp socket", unix.SYS_SOCKET, []uint64{unix.AF_INET6, unix.SOCK_DGRAM | unix.SOCK_NONBLOCK}, allow},
		{"raw socket", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_RAW | unix.SOCK_CLOEXEC}, no},
		{"sctp socket", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_SEQPACKET}, no},
		{"route socket", unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, allow},
		{"audit socket", unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}, no},
		{"packet socket", unix.SYS_SOCKET, []uint64{unix.AF_PACKET, unix.SOCK_DGRAM}, refuse(syscall.EAFNOSUPPORT)},
		{"vsock", unix.SYS_SOCKET, []uint64{unix.AF_VSOCK, unix.SOCK_STREAM}, refuse(syscall.EAFNOSUPPORT)},
		{"reading a terminal's size", unix.SYS_IOCTL, []uint64{0, unix.TIOCGWINSZ}, allow},
		{"typing into a terminal", unix.SYS_IOCTL, []uint64{0, unix.TIOCSTI}, no},
		// The kernel looks at the lower half of a request alone, and so must
		// the filter.
		{"the same, disguised", unix.SYS_IOCTL, []uint64{0, 1<<32 | unix.TIOCSTI}, no},
	} {
		if got := verdict(t, test.number, test.args...); got != test.want {
			t.Errorf("%s: %#x, not %#x", test.name, got, test.want)
		}
	}
}
