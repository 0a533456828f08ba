package egress

import (
	"bytes"
	"errors"
	"io"
	"net"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// splice carries a connection between the container and the outside until both
// directions have ended. Each direction ends by itself (half-close); a reset
// on one side is a reset on the other. A side that does not read stops the
// other side's writing, once the buffers between them are full, and so does the
// link's rate.
func splice(inside tcpip.Endpoint, queue *waiter.Queue, outside *net.TCPConn, l *link) {
	up := make(chan error, 1)
	go func() {
		err := toOutside(inside, queue, outside, l)
		if err != nil {
			abort(inside, outside)
		}
		up <- err
	}()
	if err := toInside(inside, queue, outside, l); err != nil {
		abort(inside, outside)
	}
	<-up
}

// abort resets both sides, which ends both directions.
func abort(inside tcpip.Endpoint, outside *net.TCPConn) {
	inside.Abort()
	reset(outside)
}

// errReset is how a direction ends that the container has reset.
var errReset = errors.New("reset by the container")

// toOutside carries what the container sends. It returns nil after its end.
func toOutside(inside tcpip.Endpoint, queue *waiter.Queue, outside *net.TCPConn, l *link) error {
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	for {
		if !l.release() {
			return net.ErrClosed
		}
		err := moveOutside(inside, outside)
		switch {
		case err == nil:
		case errors.Is(err, errWouldBlock):
			<-readable
		case errors.Is(err, io.EOF):
			return outside.CloseWrite()
		default:
			return err
		}
	}
}

var errWouldBlock = errors.New("nothing to read")

// moveOutside carries one bufferful, if there is any.
func moveOutside(inside tcpip.Endpoint, outside *net.TCPConn) error {
	b := frames.Get().(*frame)
	defer frames.Put(b)
	writer := tcpip.SliceWriter(b[:])
	result, err := inside.Read(&writer, tcpip.ReadOptions{})
	switch err.(type) {
	case nil:
		_, err := outside.Write(b[:result.Count])
		return err
	case *tcpip.ErrWouldBlock:
		return errWouldBlock
	case *tcpip.ErrClosedForReceive:
		return io.EOF
	}
	return errReset
}

// toInside carries what comes from outside. It returns nil after its end.
func toInside(inside tcpip.Endpoint, queue *waiter.Queue, outside *net.TCPConn, l *link) error {
	raw, err := outside.SyscallConn()
	if err != nil {
		return err
	}
	entry, writable := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	for {
		b, n, err := readInto(raw, 0, true)
		if errors.Is(err, io.EOF) {
			if err := inside.Shutdown(tcpip.ShutdownWrite); err != nil {
				return errReset
			}
			return nil
		}
		if err != nil {
			return err
		}
		if !l.admit(n) {
			frames.Put(b)
			return net.ErrClosed
		}
		err = writeInside(inside, writable, b[:n])
		frames.Put(b)
		if err != nil {
			return err
		}
	}
}

// writeInside writes all of b.
func writeInside(inside tcpip.Endpoint, writable <-chan struct{}, b []byte) error {
	r := bytes.NewReader(b)
	for r.Len() > 0 {
		_, err := inside.Write(r, tcpip.WriteOptions{})
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			<-writable
		default:
			return errReset
		}
	}
	return nil
}
