// Package stream writes HTTP responses piece by piece while they come to be,
// so that the client has each piece at once and none can hold up for ever who
// writes.
package stream

import (
	"net/http"
	"time"
)

// Stall is how long a client may take to make room for one piece. What one is
// depends on who writes; the runtime API hands on at most 32 KiB at a time.
const Stall = time.Minute

// beyond is how long after its deadline a write may still end: a moment more
// than nothing, so that whoever set the deadline notices its end first.
const beyond = 50 * time.Millisecond

// Writer writes a response's body. Its deadlines are those of the connection:
// after a write that failed nothing more can be sent on it. It is used by one
// goroutine at a time.
type Writer struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	stall    time.Duration
	deadline time.Time
}

// New makes a Writer. stall 0 is Stall.
func New(w http.ResponseWriter, stall time.Duration) *Writer {
	if stall == 0 {
		stall = Stall
	}
	return &Writer{w: w, control: http.NewResponseController(w), stall: stall}
}

// Until makes every write fail that is not done by then; the zero time is no
// such limit.
func (s *Writer) Until(deadline time.Time) { s.deadline = deadline }

// Write sends p, and with it what was sent before: the header, if nothing was.
func (s *Writer) Write(p []byte) (int, error) {
	if err := s.bound(); err != nil {
		return 0, err
	}
	n, err := s.w.Write(p)
	if err == nil {
		err = s.control.Flush()
	}
	return n, err
}

// Flush sends the header, if nothing was sent before.
func (s *Writer) Flush() error {
	if err := s.bound(); err != nil {
		return err
	}
	return s.control.Flush()
}

// bound gives the connection the next write's deadline, which is of the real
// time, as connections are.
func (s *Writer) bound() error {
	at := time.Now().Add(s.stall)
	if !s.deadline.IsZero() {
		if last := s.deadline.Add(beyond); last.Before(at) {
			at = last
		}
	}
	return s.control.SetWriteDeadline(at)
}

// End takes the deadlines off the connection, which may serve other requests,
// but for one to send what is still in its buffer.
func (s *Writer) End() error {
	s.deadline = time.Time{}
	return s.bound()
}
