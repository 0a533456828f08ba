package egress

import (
	"errors"
	"io"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// frame has room for the largest frame; a datagram's headers can be put in
// front of its payload.
type frame [ethernetLen + 65535 + 3]byte

// frames are shared by all links and held only while there is data to move:
// waiting for data holds none.
var frames = sync.Pool{New: func() any { return new(frame) }}

// readInto waits until the connection has data and reads it into a buffer from
// the pool, behind room bytes. The caller returns the buffer; it is nil if err
// is not. The end of a stream is io.EOF, an empty datagram is n == 0.
func readInto(raw syscall.RawConn, room int, stream bool) (b *frame, n int, err error) {
	waitErr := raw.Read(func(fd uintptr) bool {
		b = frames.Get().(*frame)
		for {
			n, err = unix.Read(int(fd), b[room:])
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if err != nil {
			frames.Put(b)
			b = nil
		}
		return !errors.Is(err, unix.EAGAIN)
	})
	switch {
	case waitErr != nil:
		err = waitErr
	case err == nil && n == 0 && stream:
		err = io.EOF
	}
	if err != nil && b != nil {
		frames.Put(b)
		b = nil
	}
	return b, n, err
}
