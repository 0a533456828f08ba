package inside

import (
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox/namespace/message"
)

// cloners is how many containers are cloned at once. Most of a clone is the
// kernel's work under its own locks: more than a few only wait for each other.
const cloners = 4

// containerFlags are the namespaces that every container has of its own.
const containerFlags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID |
	syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWCGROUP

type spawner struct {
	rootless bool
	stage    string
	home     []int // tasks files of the spawner's own v1 groups

	hearing sync.Mutex    // held by who waits for a request
	gone    chan struct{} // has one when the daemon is gone
}

// runSpawner serves the daemon until it is gone. Then it ends what is left of
// the containers, with their groups, and itself; and were it to end before that
// every container would all the same: each init asked to die with its parent.
func runSpawner() int {
	ignoreChildren()
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	// One huge page in a program that needs half a megabyte is a waste that
	// every container would repeat. Init undoes it for the code it starts.
	_ = unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0)
	syscall.Umask(0o022)
	// The daemon may be protected from the machine's memory shortage; what it
	// runs for others must not be.
	if adj, err := readFile("/proc/self/oom_score_adj"); err == nil && adj[0] == '-' {
		_ = writeFile("/proc/self/oom_score_adj", "0") // not allowed in some containers
	}
	m, fds, err := message.Receive(Socket)
	t, ok := m.(*message.Template)
	if err != nil || !ok {
		complain(SpawnerName + ": no template\n")
		return 1
	}
	stage, f := "", sealFiles()
	if f == nil {
		stage, f = buildTemplate(t)
	}
	if !reply(Socket, 0, f) || f != nil {
		return 1
	}
	parents := min(int(t.Parents), len(fds))
	groups, home := fds[:parents], fds[parents:]
	s := &spawner{rootless: t.Rootless, stage: stage, home: home, gone: make(chan struct{}, cloners)}
	for range cloners {
		go s.serve()
	}
	<-s.gone
	for _, dir := range groups {
		if err := clearInstances(dir); err != nil { // the next start does it
			complain(SpawnerName + ": what is left of the containers: " + err.Error() + "\n")
		}
	}
	return 0
}

// hear gives the next request. The first look at one tells its length, so that
// only one may look at a time.
func (s *spawner) hear() (message.Message, []int, bool) {
	s.hearing.Lock()
	defer s.hearing.Unlock()
	m, fds, err := message.Receive(Socket)
	return m, fds, err == nil && m != nil
}

// ignoreChildren has the kernel reap: the daemon watches containers by pidfd.
func ignoreChildren() {
	setSignal(syscall.SIGCHLD, 1 /* SIG_IGN */)
}

func setSignal(signal syscall.Signal, handler uintptr) {
	action := struct {
		handler, flags, restorer uintptr
		mask                     uint64
	}{handler: handler}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(signal),
		uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0) // SIGKILL and SIGSTOP refuse
}

func reply(socket int, seq uint64, f *failure, fds ...int) bool {
	r := &message.Reply{Seq: seq}
	if f != nil {
		r.Errno, r.Step = uint32(f.errno), f.step
		fds = nil
	}
	return message.Send(socket, r, fds...) == nil
}

// serve works on requests on a thread of its own: cgroups of the first version
// are joined by the thread.
//
// The thread has a table of files of its own, too. To clone is to make a pipe,
// on which the clone waits until its ids are mapped, and which ends when the
// spawner does. A clone made beside it would have a copy of the pipe until it
// executes init, and while both wait each would keep the other's from ending:
// of a spawner killed just then they would be left for ever.
func (s *spawner) serve() {
	runtime.LockOSThread() // for ever: what it has cloned dies with the thread
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		complain(SpawnerName + ": having files of its own: " + err.Error() + "\n")
		syscall.Exit(1)
	}
	if !s.rootless {
		// Keep the capabilities whatever the thread's user: see owner.
		if err := unix.Prctl(unix.PR_SET_SECUREBITS, noSetuidFixup, 0, 0, 0); err != nil {
			complain(SpawnerName + ": setting secure bits: " + err.Error() + "\n")
			syscall.Exit(1)
		}
	}
	for {
		m, fds, ok := s.hear()
		if !ok {
			s.gone <- struct{}{}
			select {}
		}
		switch m := m.(type) {
		case *message.Spawn:
			pid, pidfd, f := s.spawn(m, fds)
			if f != nil {
				reply(Socket, m.Seq, f)
				break
			}
			// Without a daemon to hear it, both are about to end.
			_ = message.Send(Socket, &message.Reply{Seq: m.Seq, Value: int64(pid)}, pidfd)
			_ = syscall.Close(pidfd)
		case *message.Tree:
			tree, err := Tree(m.Path)
			if err != nil {
				reply(Socket, m.Seq, fail("cloning the mounts of "+m.Path, err))
				break
			}
			reply(Socket, m.Seq, nil, tree)
			_ = syscall.Close(tree)
		case *message.Overlay:
			err := Overlay(m.Paths, s.stage+"/mask", func(merged int) {
				reply(Socket, m.Seq, nil, merged)
				_ = syscall.Close(merged)
			})
			if err != nil {
				reply(Socket, m.Seq, fail("merging the layers", err))
			}
		}
		message.CloseAll(fds)
	}
}

func (s *spawner) spawn(m *message.Spawn, fds []int) (pid, pidfd int, f *failure) {
	for i := 0; i+1 < len(m.Points); i += 2 {
		if err := makePoint(s.stage, m.Points[i], m.Points[i+1] == "d"); err != nil {
			return 0, -1, fail("making the mount point "+m.Points[i], err)
		}
	}
	want := 1 + len(s.home)
	if m.Unified {
		want++
	}
	if len(fds) != want {
		return 0, -1, fail("counting descriptors", syscall.EBADF)
	}
	attr := &syscall.ProcAttr{
		// The network and the rest are of no use to it; its runtime's last
		// words go where the spawner's go.
		Files: []uintptr{2, 2, 2, uintptr(fds[0])},
		Env:   initEnv,
		Sys: &syscall.SysProcAttr{
			Cloneflags: containerFlags,
			Pdeathsig:  syscall.SIGKILL,
			Setsid:     true,
			PidFD:      &pidfd,
		},
	}
	fds = fds[1:]
	if m.Unified {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, fds[0]
		fds = fds[1:]
	}
	s.identity(attr.Sys, m)
	if f = join(fds); f == nil {
		pid, f = s.clone(m.UID, attr)
	}
	if home := join(s.home); home != nil {
		// This thread would keep the container's groups for ever.
		complain(SpawnerName + ": " + home.step + ": " + home.errno.Error() + "\n")
		syscall.Exit(1)
	}
	return pid, pidfd, f
}

const noSetuidFixup = 1 << 2 // SECBIT_NO_SETUID_FIXUP

// clone makes the process. As root it does so as the first user of the
// instance's range, who thereby owns the container's user namespace: what the
// kernel counts per user (inotify instances, pending signals, queued messages,
// locked memory) it counts for a namespace's owner as well, and were that root
// for all, one account could use up what all have.
func (s *spawner) clone(uid uint32, attr *syscall.ProcAttr) (int, *failure) {
	if !s.rootless {
		if err := become(uid); err != nil {
			return 0, fail("becoming the namespace's owner", err)
		}
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{InitName}, attr)
	if !s.rootless {
		if err := become(0); err != nil {
			complain(SpawnerName + ": becoming root again: " + err.Error() + "\n")
			syscall.Exit(1)
		}
	}
	if err != nil {
		return 0, fail("cloning", err)
	}
	return pid, nil
}

// become sets the effective user of this thread alone; syscall.Setresuid would
// set every thread's.
func become(uid uint32) error {
	const keep = ^uintptr(0)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
		return errno
	}
	return nil
}

// initEnv keeps the Go runtime of init small and quiet.
var initEnv = []string{"GOGC=off", "GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1"}

// join puts this thread into groups of the first version. What it clones is
// then born there, so that no process is ever moved: moving one waits for
// every processor to pass a quiet state, 7 to 9 ms on an idle machine, while a
// thread that moves itself ("0", in the tasks file) waits for nothing.
func join(tasks []int) *failure {
	for _, fd := range tasks {
		if _, err := syscall.Write(fd, []byte("0")); err != nil {
			return fail("joining a cgroup", err)
		}
	}
	return nil
}

// identity sets who init is. As root: root of a range of ids of its own. As an
// ordinary user there is one id to give, so that init must run as the very
// user that its code gets; it keeps its rights through exec as ambient
// capabilities, and gives them up for what it starts.
func (s *spawner) identity(sys *syscall.SysProcAttr, m *message.Spawn) {
	if !s.rootless {
		sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(m.UID), Size: int(m.UIDs)}}
		sys.GidMappings = sys.UidMappings
		sys.GidMappingsEnableSetgroups = true
		sys.Credential = &syscall.Credential{}
		return
	}
	sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: UserID, HostID: 0, Size: 1}}
	sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: GroupID, HostID: 0, Size: 1}}
	sys.AmbientCaps = []uintptr{
		unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_KILL, unix.CAP_DAC_OVERRIDE,
		unix.CAP_SYS_PTRACE, // to see processes that hide; no filter lets it trace
	}
}
