package inside

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox/namespace/message"
)

// container is the state of an init. One thread serves the daemon, another
// reaps once there is something to reap.
type container struct {
	rootless bool

	mu      sync.Mutex
	started bool           // there is, or was, a main process
	running map[int]uint32 // by process id: 0 for the main one, otherwise the id of its Run
	reaping bool           // there is a thread that waits for their ends
}

// runInit is process 1 of a container: it builds it, then serves the daemon
// until that is gone.
func runInit() int {
	// Signals whose handling is the default's cannot be sent to process 1
	// from inside: the Go runtime had set its own handlers.
	for signal := syscall.Signal(1); signal <= 64; signal++ {
		setSignal(signal, 0 /* SIG_DFL */)
	}
	// Nobody inside may look at or into this process, whatever its user.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return 1
	}
	if f := sealFiles(); f != nil {
		reply(Socket, 0, f)
		return 1
	}
	m, fds, err := message.Receive(Socket)
	if err != nil {
		return 1
	}
	setup, ok := m.(*message.Setup)
	if !ok {
		return 0 // the daemon changed its mind
	}
	c := &container{rootless: setup.Rootless, running: map[int]uint32{}}
	if f := c.setup(setup, fds); f != nil {
		reply(Socket, 0, f)
		return 1
	}
	for {
		m, fds, err := message.Receive(Socket)
		if err != nil || m == nil {
			return 0 // and the kernel ends whatever is left in here
		}
		give, f := c.handle(m, fds)
		message.CloseAll(fds)
		reply(Socket, 0, f, give...)
		message.CloseAll(give)
	}
}

// setup answers by itself when all went well.
func (c *container) setup(m *message.Setup, fds []int) *failure {
	if len(fds) < len(m.Guests) {
		return fail("counting descriptors", syscall.EBADF)
	}
	if f := buildRoot(m, fds[:len(m.Guests)]); f != nil {
		return f
	}
	if err := syscall.Sethostname([]byte(m.Hostname)); err != nil {
		return fail("setting the host name", err)
	}
	listener, f := listen()
	if f != nil {
		return f
	}
	answer := &message.Reply{}
	give := []int{listener}
	if m.Network {
		link, kind, f := connect(m)
		if f != nil {
			return f
		}
		answer.Value = int64(kind)
		give = append(give, link)
	}
	if f := enterRoot(m); f != nil {
		return f
	}
	if f := setLimits(); f != nil {
		return f
	}
	if f := setFilter(); f != nil {
		return f
	}
	if m.Boot {
		if f := c.start(0, &m.Process, fds[len(m.Guests):]); f != nil {
			return f
		}
	}
	message.CloseAll(fds)
	if err := message.Send(Socket, answer, give...); err != nil {
		return fail("answering", err)
	}
	message.CloseAll(give)
	return nil
}

// handle does what the daemon asks and returns the descriptors of the answer.
func (c *container) handle(m message.Message, fds []int) (give []int, f *failure) {
	switch m := m.(type) {
	case *message.Attach:
		return nil, attach(m, fds)
	case *message.Start:
		return nil, c.start(0, &m.Process, fds)
	case *message.Run:
		return nil, c.start(m.ID, &m.Process, fds)
	case *message.Signal:
		return nil, c.signal(syscall.Signal(m.Signal))
	case *message.Socket:
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			return nil, fail("opening a socket", err)
		}
		return []int{fd}, nil
	case *message.Tmp:
		if err := mount("", "/tmp", "", unix.MS_REMOUNT|tmpFlags, tmpSize(m.Bytes)); err != nil {
			return nil, fail("resizing /tmp", err)
		}
		return nil, nil
	case *message.Stop:
		if m.Continue {
			return nil, signalAll(syscall.SIGCONT)
		}
		return nil, stopAll()
	}
	return nil, fail("understanding the daemon", syscall.EINVAL)
}
