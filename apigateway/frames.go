package apigateway

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// maxFrame bounds a frame of a WebSocket, in bytes. The library that speaks the
// protocol knows a bound for messages only.
const maxFrame = 32 << 10

// framed has the connection that is taken over bound its frames.
type framed struct {
	http.ResponseWriter
	conn *frames // once it is taken over
}

// Hijack implements http.Hijacker.
func (f *framed) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	inner, rw, err := http.NewResponseController(f.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, err := rw.Reader.Peek(rw.Reader.Buffered()) // what came right behind the request
	if err != nil {
		return nil, nil, errors.Join(err, inner.Close())
	}
	f.conn = &frames{Conn: inner, early: bytes.Clone(early)}
	return f.conn, bufio.NewReadWriter(bufio.NewReader(f.conn), rw.Writer), nil
}

// frames is a connection from which frames are read that are not too large.
// It is read by one goroutine at a time.
type frames struct {
	net.Conn
	early []byte

	head [14]byte // of the frame whose header comes
	have int      // bytes of head
	left uint64   // of the frame's payload
	over bool     // a frame was too large
}

// errFrame: a frame is too large.
var errFrame = errors.New("a frame is too large")

// Read implements net.Conn.
func (f *frames) Read(p []byte) (n int, err error) {
	if f.over {
		return 0, errFrame
	}
	if len(f.early) > 0 {
		n = copy(p, f.early)
		f.early = f.early[n:]
	} else if n, err = f.Conn.Read(p); n == 0 {
		return n, err
	}
	if f.fit(p[:n]) {
		return n, err
	}
	f.over = true
	// A close frame with the status 1009: the connection ends with it, so that it
	// does not matter what it comes between.
	_, _ = f.Conn.Write([]byte{0x88, 2, 1009 >> 8, 1009 & 0xff})
	f.linger()
	return 0, errFrame
}

// linger reads on for a moment, and forgets what comes: a connection that is
// closed before all was read is reset, and the client would not learn why.
func (f *frames) linger() {
	if f.Conn.SetReadDeadline(time.Now().Add(time.Second)) == nil {
		_, _ = io.CopyN(io.Discard, f.Conn, 1<<20)
	}
}

// fit follows the frames in what was read, and tells whether all are small
// enough (RFC 6455, section 5.2).
func (f *frames) fit(p []byte) bool {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(p)))
			f.left -= n
			p = p[n:]
			continue
		}
		f.head[f.have] = p[0]
		f.have++
		p = p[1:]
		if f.have < 2 {
			continue
		}
		size, extended := uint64(f.head[1]&0x7f), 0
		switch size {
		case 126:
			extended = 2
		case 127:
			extended = 8
		}
		mask := 0
		if f.head[1]&0x80 != 0 {
			mask = 4
		}
		if f.have < 2+extended+mask {
			continue
		}
		switch extended {
		case 2:
			size = uint64(binary.BigEndian.Uint16(f.head[2:]))
		case 8:
			size = binary.BigEndian.Uint64(f.head[2:])
		}
		if size > maxFrame {
			return false
		}
		f.left, f.have = size, 0
	}
	return true
}
