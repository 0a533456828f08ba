package namespace

import (
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

// How a container ends, and what is done so that nothing of it is left.

// Kill ends init, and the kernel every process in its pid namespace with it.
func (c *container) Kill() error {
	if !c.born.Load() {
		return nil
	}
	c.freezing.Lock()
	defer c.freezing.Unlock()
	c.killed = true
	var errs []error
	raw, err := c.pidfd.SyscallConn()
	if err == nil {
		var signalled error
		err = raw.Control(func(fd uintptr) {
			signalled = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0)
		})
		if signalled != nil && signalled != unix.ESRCH {
			errs = append(errs, fmt.Errorf("namespace: killing container %s: %w", c.id, signalled))
		}
	}
	if err != nil && !errors.Is(err, os.ErrClosed) {
		errs = append(errs, err)
	}
	if c.frozen {
		// A process in a frozen group of the first version dies only when it
		// is let go.
		c.frozen = false
		errs = append(errs, c.group.release())
	}
	return errors.Join(errs...)
}

// dropDisk has the disk forget what processes may still wait to have written,
// and returns what to call when they have ended.
func (c *container) dropDisk() (ended func()) {
	c.mu.Lock()
	c.removed = true
	disk := c.disk
	c.mu.Unlock()
	if disk == nil {
		return func() {}
	}
	gone := make(chan struct{})
	// In the background, since it takes as long as a link, for the same reason.
	c.d.closing.Go(func() {
		if err := disk.abandon(); err != nil {
			c.d.log.Warn("abandoning a container's disk", "container", c.id, "error", err)
		}
		<-gone
		c.d.disks.release(disk)
	})
	return func() { close(gone) }
}

// Destroy implements sandbox.Container.
func (c *container) Destroy() error {
	c.destroy.Do(func() { c.destroyErr = c.remove() })
	return c.destroyErr
}

// patience is how long the end of a killed process may take: it may be in the
// middle of a disk's slow answer.
const patience = 10 * time.Second

func (c *container) remove() error {
	var errs []error
	if c.listener != nil {
		// Whoever serves it may have closed it.
		if err := c.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if c.born.Load() {
		errs = append(errs, c.Kill())
		defer c.dropDisk()()
		select {
		case <-c.gone:
		case <-time.After(patience):
			errs = append(errs, fmt.Errorf("namespace: container %s does not die", c.id))
		}
		errs = append(errs, c.pidfd.Close())
	} else {
		c.finish(sandbox.Exit{Code: -1, Signal: syscall.SIGKILL.String(), At: time.Now()})
	}
	if c.conn != nil {
		errs = append(errs, c.conn.Close())
	}
	if c.control != nil {
		// The worker may have closed it as well.
		if err := c.control.Close(); !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if c.link != nil {
		// The kernel takes 20 ms to remove an interface, most of it waiting
		// for quiet states of all processors, which many removals share.
		c.d.closing.Go(func() {
			if err := c.link.Close(); err != nil {
				c.d.log.Warn("closing a container's link", "container", c.id, "error", err)
			}
		})
	}
	select {
	case r := <-c.replies: // of one who gave up
		message.CloseAll(r.fds)
	default:
	}
	if c.group != nil {
		errs = append(errs, c.group.remove())
	}
	c.in.forget(c)
	return errors.Join(errs...)
}
