package logs

import (
	"bytes"
	"encoding/binary"
	"time"
)

// maxEvent bounds one event's message, in bytes: CloudWatch's 256 KiB less its
// 26 bytes of overhead. A longer one becomes several.
const maxEvent = 256<<10 - 26

// A runtime that knows _LAMBDA_TELEMETRY_LOG_FD writes an event of several
// lines as a frame:
//
//	4 bytes  kind: 0xa55a0000, bits 0-1 the form, bits 2-7 the level (1 TRACE … 6 FATAL, 0 none)
//	4 bytes  length of the message
//	8 bytes  time in microseconds since 1970, not in form 1
//	         the message
//
// all in big endian. Form 1 is of the first runtimes that had frames, 2 is JSON
// and 3 text. Frames and lines may follow one another on the same pipe: the
// kind has a zero byte, which text does not.
const (
	frameMark   = 0xa5
	frameForm1  = 8
	frameForm23 = 16
	maxFrame    = 16 << 20 // a longer one is taken for noise
)

// piece is one event as it was found in the output. Its message is valid until
// the splitter is used again, and ends with a line feed.
type piece struct {
	message []byte
	at      time.Time // zero: the frame did not say, or it was a line
	level   Level
	framed  bool
}

// splitter makes events of a stream of bytes. The zero splitter is ready.
type splitter struct {
	carry   []byte // the beginning of what may be a frame's head
	pending []byte // the event that is not complete
	left    int    // bytes that the present frame still has
	frame   piece  // its head
	framed  bool   // pending is a frame's
}

// feed takes more of the stream and emits each event that it completes.
func (s *splitter) feed(b []byte, emit func(piece)) {
	if len(s.carry) > 0 {
		b = append(s.carry, b...)
		s.carry = nil
	}
	for len(b) > 0 {
		if s.left > 0 {
			n := min(len(b), s.left, maxEvent-1-len(s.pending))
			s.pending = append(s.pending, b[:n]...)
			b = b[n:]
			if s.left -= n; s.left == 0 || len(s.pending) == maxEvent-1 {
				s.flush(emit)
			}
			continue
		}
		s.framed = false
		n, head := textUntilFrame(b)
		s.text(b[:n], emit)
		b = b[n:]
		switch {
		case len(b) == 0:
		case head == 0: // a frame's head, as far as it is here
			s.carry = append([]byte(nil), b...)
			return
		default:
			s.flush(emit) // a line without an end, before the frame
			s.begin(b[:head])
			b = b[head:]
		}
	}
}

// text takes bytes that are no frame's.
func (s *splitter) text(b []byte, emit func(piece)) {
	for len(b) > 0 {
		n := min(len(b), maxEvent-1-len(s.pending))
		end := bytes.IndexByte(b[:n], '\n')
		if end >= 0 {
			n = end
		}
		if end >= 0 && len(s.pending) == 0 {
			emit(piece{message: b[:end+1]}) // the usual case, not copied
		} else {
			s.pending = append(s.pending, b[:n]...)
			if end >= 0 {
				s.pending = append(s.pending, '\n')
			}
			if end >= 0 || len(s.pending) >= maxEvent-1 {
				s.flush(emit)
			}
		}
		if end >= 0 {
			n++
		}
		b = b[n:]
	}
}

// flush emits what is pending as an event, complete or not.
func (s *splitter) flush(emit func(piece)) {
	if len(s.pending) == 0 {
		return
	}
	p := piece{}
	if s.framed {
		p = s.frame
	}
	if s.pending[len(s.pending)-1] != '\n' {
		s.pending = append(s.pending, '\n')
	}
	p.message = s.pending
	emit(p)
	if cap(s.pending) > 16<<10 {
		s.pending = nil
	} else {
		s.pending = s.pending[:0]
	}
}

// end emits all that is left when the stream has ended, or when nothing more is
// expected of it: half a frame's head is text, half a frame an event.
func (s *splitter) end(emit func(piece)) {
	if len(s.carry) > 0 {
		s.pending = append(s.pending, s.carry...)
		s.carry = nil
	}
	s.flush(emit)
	s.left = 0
}

// partial emits a line that has no end yet, but no part of a frame: for when an
// invocation ends while the stream goes on.
func (s *splitter) partial(emit func(piece)) {
	if s.left == 0 {
		s.flush(emit)
	}
}

// begin reads a frame's complete head.
func (s *splitter) begin(head []byte) {
	s.left = int(binary.BigEndian.Uint32(head[4:]))
	s.frame = piece{level: Level(head[3] >> 2), framed: true}
	if len(head) == frameForm23 {
		s.frame.at = time.UnixMicro(int64(binary.BigEndian.Uint64(head[8:])))
	}
	s.framed = true
}

// textUntilFrame returns how many bytes of b come before the first frame, and
// the length of that frame's head: 0 if it is not complete. Without a frame n
// is all of b.
func textUntilFrame(b []byte) (n, head int) {
	for from := 0; ; {
		i := bytes.IndexByte(b[from:], frameMark)
		if i < 0 {
			return len(b), 0
		}
		from += i
		head, maybe := frameHead(b[from:])
		if maybe {
			return from, head
		}
		from++
	}
}

// frameHead looks at bytes that begin with the mark: the length of the frame's
// head that they begin with, 0 if it is not complete; maybe is false if it is
// no frame.
func frameHead(b []byte) (head int, maybe bool) {
	if len(b) > 1 && b[1] != 0x5a || len(b) > 2 && b[2] != 0 {
		return 0, false
	}
	if len(b) < 4 {
		return 0, true
	}
	form, level := b[3]&3, b[3]>>2
	if form == 0 || Level(level) > LevelFatal {
		return 0, false
	}
	size := frameForm23
	if form == 1 {
		size = frameForm1
	}
	if len(b) >= 8 && binary.BigEndian.Uint32(b[4:]) > maxFrame {
		return 0, false
	}
	if len(b) < size {
		return 0, true
	}
	return size, true
}
