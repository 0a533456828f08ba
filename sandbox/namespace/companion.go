package namespace

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/sandbox/namespace/message"
)

// What lives in a container beside its main process, and the way to it.

// companion implements sandbox.Companion. exit is set before exited is closed.
type companion struct {
	exited chan struct{}
	exit   sandbox.Exit
}

func (p *companion) Exited() <-chan struct{} { return p.exited }
func (p *companion) Exit() sandbox.Exit      { return p.exit }

// Run implements sandbox.Container.
func (c *container) Run(ctx context.Context, p sandbox.Process, output *os.File) (sandbox.Companion, error) {
	if err := openForWriting(output); err != nil {
		return nil, err
	}
	started := &companion{exited: make(chan struct{})}
	c.mu.Lock()
	limits := c.limits
	c.lastID++
	id := c.lastID
	if c.companions == nil {
		c.companions = map[uint32]*companion{}
	}
	// Before it is started, since its end may be told before the answer is read.
	c.companions[id] = started
	c.mu.Unlock()
	err := c.ask(ctx, &message.Run{ID: id, Process: c.process(p, limits, output)}, outputFDs(output)...)
	if err != nil {
		c.leave(id, sandbox.Exit{Code: -1, At: time.Now()})
		return nil, err
	}
	select {
	case <-c.gone: // perhaps before it was on the list
		c.leave(id, sandbox.Exit{Code: -1, Signal: syscall.SIGKILL.String(), At: time.Now()})
	default:
	}
	return started, nil
}

// leave records the end of a further process; the first to tell counts.
func (c *container) leave(id uint32, exit sandbox.Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.companions[id]; p != nil {
		delete(c.companions, id)
		p.exit = exit
		close(p.exited)
	}
}

// leaveAll records the end of every further process that is left.
func (c *container) leaveAll(exit sandbox.Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, p := range c.companions {
		delete(c.companions, id)
		p.exit = exit
		close(p.exited)
	}
}

// Signal implements sandbox.Container.
func (c *container) Signal(s syscall.Signal) error {
	return c.ask(context.Background(), &message.Signal{Signal: uint32(s)})
}

var errFrozen = errors.New("namespace: the container is frozen")

// Dial implements sandbox.Container. The socket is opened by init, so that it
// is one of the container's network; to connect it needs no rights in there.
func (c *container) Dial(ctx context.Context, port int) (net.Conn, error) {
	fd, err := c.socket()
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "socket") // non-blocking: the runtime's poller watches it
	defer file.Close()                        // FileConn has a duplicate
	if err := connectTo(ctx, file, port); err != nil {
		return nil, fmt.Errorf("namespace: connecting to port %d of container %s: %w", port, c.id, err)
	}
	return net.FileConn(file)
}

// socket has init open a socket. Init is frozen with all others.
func (c *container) socket() (int, error) {
	c.freezing.Lock()
	defer c.freezing.Unlock()
	switch {
	case c.killed || !c.born.Load():
		return -1, errGone
	case c.frozen:
		return -1, errFrozen
	}
	fds, err := c.askFor(context.Background(), &message.Socket{})
	if err == nil && len(fds) != 1 {
		err = errors.New("namespace: init sent other descriptors than it should")
	}
	if err != nil {
		message.CloseAll(fds)
		return -1, err
	}
	return fds[0], nil
}

// connectTo connects a socket to a port of its network's loopback interface.
func connectTo(ctx context.Context, socket *os.File, port int) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		_ = socket.SetWriteDeadline(time.Unix(1, 0)) // an error says that it was closed, which ends the wait as well
	})
	defer stop()
	address := &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	connecting := false
	var result error
	err = raw.Write(func(fd uintptr) bool {
		if !connecting {
			connecting = true
			result = unix.Connect(int(fd), address)
			return result != unix.EINPROGRESS
		}
		errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			result = err
		case errno != 0:
			result = syscall.Errno(errno)
		default:
			// The poller also wakes for what a socket was before it connects.
			if _, err := unix.Getpeername(int(fd)); err != nil {
				return false
			}
			result = nil
		}
		return true
	})
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return result
}
