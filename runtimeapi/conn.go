package runtimeapi

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// bufferSize holds the head and the body of an ordinary small response.
	bufferSize = 4 << 10
	// freeBuffer is how far any connection's buffer may grow; beyond it, for
	// a header with a whole error report in it, only maxBig connections of
	// an environment may at the same time, since the memory is the host's.
	freeBuffer = 64 << 10
	maxBig     = 2
	// maxHead bounds the head of a request: the service's runtimes send up
	// to 1 MiB of X-Ray error cause as one header.
	maxHead = 1<<20 + 128<<10
	// inline is up to what size a payload is copied behind its head, to
	// leave in one plain write; a larger one leaves by writev, uncopied.
	inline = 16 << 10

	scratchSize = 32 << 10
)

var (
	buffers   = sync.Pool{New: func() any { return new([bufferSize]byte) }}
	scratches = sync.Pool{New: func() any { return new([scratchSize]byte) }}
	outputs   = sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }}
)

// conn is one connection of the runtime, served by one goroutine, which owns
// all fields but those marked.
type conn struct {
	env  *Environment
	net  net.Conn
	base *[bufferSize]byte
	buf  []byte // base, or a larger one
	r, w int    // buf[r:w] is read and not consumed
	big  bool   // counted in env.big

	req  request
	body body

	writing sync.Mutex      // held by whoever writes an answer
	foreign bool            // it is, or was, used for a Handler; guarded by env.mu
	parked  bool            // waits for an event; guarded by env.mu
	last    bool            // the event ends the connection; guarded by env.mu
	turn    chan struct{}   // closed when parked ends; guarded by env.mu
	verdict chan streamEnds // from the Invoke that reads a streamed response
}

// streamEnds tells how a streamed response ended.
type streamEnds uint8

const (
	streamTaken streamEnds = iota
	streamTooLarge
	streamBroken
)

// serve answers requests until the connection ends.
func (c *conn) serve() {
	c.base = buffers.Get().(*[bufferSize]byte)
	c.buf = c.base[:]
	defer c.end()
	for {
		head, err := c.readHead()
		if err == nil {
			err = c.req.parse(head)
			c.r += len(head)
		} else if err != errHeadTooBig {
			return // the runtime hung up, or its connection broke
		}
		if !c.takeTurn() {
			return
		}
		if err != nil {
			status, errorType, message := answerMalformed(err)
			c.refuse(status, errorType, message)
			return
		}
		c.body.begin(c, &c.req)
		if !c.route() {
			return
		}
		c.shrink()
	}
}

// end closes the connection and gives back what it holds.
func (c *conn) end() {
	c.net.Close()
	c.env.remove(c)
	c.smaller()
	buffers.Put(c.base)
}

// takeTurn waits, where this request came while the connection's last one
// still waits for an event, until that one is answered; false if it never
// will be.
func (c *conn) takeTurn() bool {
	e := c.env
	e.mu.Lock()
	if !c.parked {
		e.mu.Unlock()
		return true
	}
	turn := make(chan struct{})
	c.turn = turn
	e.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-e.dead:
		return false
	}
}

// readHead returns the head of the next request, which stays in the buffer.
func (c *conn) readHead() ([]byte, error) {
	searched := 0
	for {
		if searched == 0 { // RFC 9112: an empty line before a request is ignored
			for c.r < c.w && (c.buf[c.r] == '\r' || c.buf[c.r] == '\n') {
				c.r++
			}
		}
		if n := headEnd(c.buf[c.r:c.w], searched); n > 0 {
			return c.buf[c.r : c.r+n], nil
		}
		searched = c.w - c.r
		if err := c.fill(maxHead); err != nil {
			return nil, err
		}
	}
}

// readLine consumes a line of at most limit bytes and returns it without its
// end; it is valid until the next read.
func (c *conn) readLine(limit int) ([]byte, error) {
	for searched := 0; ; {
		b := c.buf[c.r:c.w]
		for i := searched; i < len(b); i++ {
			if b[i] == '\n' {
				line, _ := cutLine(b[:i+1])
				c.r += i + 1
				return line, nil
			}
		}
		if searched = len(b); searched > limit {
			return nil, errMalformed
		}
		if err := c.fill(limit + 2); err != nil {
			return nil, truncatedBy(err)
		}
	}
}

// fill reads more into the buffer, which may grow so far that limit bytes are
// unconsumed.
func (c *conn) fill(limit int) error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	if c.w == len(c.buf) {
		if c.r == 0 && !c.grow(limit) {
			return errHeadTooBig
		}
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	n, err := c.net.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}

// grow doubles a full buffer, up to limit.
func (c *conn) grow(limit int) bool {
	size := min(2*len(c.buf), max(limit, bufferSize))
	if size <= len(c.buf) {
		return false
	}
	if size > freeBuffer && !c.big {
		e := c.env
		e.mu.Lock()
		ok := e.big < maxBig
		if ok {
			e.big++
			c.big = true
		}
		e.mu.Unlock()
		if !ok {
			return false
		}
	}
	larger := make([]byte, size)
	copy(larger, c.buf)
	c.buf = larger
	return true
}

// shrink goes back to the ordinary buffer once what is unconsumed fits.
func (c *conn) shrink() {
	if len(c.buf) > bufferSize && c.w-c.r <= bufferSize {
		c.w = copy(c.base[:], c.buf[c.r:c.w])
		c.r = 0
		c.buf = c.base[:]
		c.smaller()
	}
}

// smaller gives up the right to a large buffer.
func (c *conn) smaller() {
	if c.big {
		c.big = false
		c.env.mu.Lock()
		c.env.big--
		c.env.mu.Unlock()
	}
}

// send writes b as this connection's answer.
func (c *conn) send(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.net.Write(b)
	return err
}

// sendEvent writes the answer to "next". c.writing is held. Where the payload
// is so large that the write may block, the end of ctx breaks it off.
func (c *conn) sendEvent(ctx context.Context, ev *Event) error {
	out := outputs.Get().(*[]byte)
	defer outputs.Put(out)
	b := appendEventHead((*out)[:0], ev)
	if len(ev.Payload) <= inline {
		b = append(b, ev.Payload...)
		*out = b
		_, err := c.net.Write(b)
		return err
	}
	*out = b
	if ctx.Done() != nil {
		defer breakOff(ctx, c.net.SetWriteDeadline)()
	}
	pieces := net.Buffers{b, ev.Payload}
	_, err := pieces.WriteTo(c.net)
	return err
}

// breakOff makes what uses a deadline fail when ctx ends, until the returned
// function is called, which leaves no deadline behind. An error of set says that
// the connection is closed, which breaks it off as well.
func breakOff(ctx context.Context, set func(time.Time) error) (end func()) {
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(fired)
		_ = set(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-fired
			_ = set(time.Time{})
		}
	}
}

// answer sends a complete answer and gets the connection ready for the next
// request: false if there cannot be one.
func (c *conn) answer(status int, contentType string, header [][2]string, body []byte) bool {
	last := c.req.close
	if err := c.body.discard(); err != nil {
		last = true
	}
	out := outputs.Get().(*[]byte)
	defer outputs.Put(out)
	b := appendAnswer((*out)[:0], status, contentType, header, body, string(c.req.method) == "HEAD", last)
	if cap(b) <= inline {
		*out = b
	}
	if err := c.send(b); err != nil {
		return false
	}
	if last {
		c.linger()
	}
	return !last
}

// accepted answers 202, the commonest answer.
func (c *conn) accepted() bool {
	if !c.req.close && c.body.done {
		return c.send(acceptedAnswer) == nil
	}
	return c.answer(202, "application/json", nil, acceptedBody)
}

// fail answers an error.
func (c *conn) fail(status int, errorType, message string) bool {
	return c.answer(status, "application/json", nil, errorBody(errorType, message))
}

// refuse answers an error after which nothing more can be understood.
func (c *conn) refuse(status int, errorType, message string) {
	b := appendAnswer(nil, status, "application/json", nil, errorBody(errorType, message), false, true)
	if c.send(b) == nil {
		c.linger()
	}
}

// linger lets the runtime read the last answer: closing while it still sends
// would reset the connection, and the answer with it.
func (c *conn) linger() {
	tc, ok := c.net.(interface{ CloseWrite() error })
	if !ok || tc.CloseWrite() != nil {
		return
	}
	if c.net.SetReadDeadline(time.Now().Add(250*time.Millisecond)) != nil {
		return
	}
	// Whatever ends the copy, the connection is closed next.
	_, _ = io.CopyN(io.Discard, c.net, 1<<20)
}
