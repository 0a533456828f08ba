package runtimeapi

import (
	"encoding/base64"
	"errors"
	"io"
)

// maxTrailer bounds the trailers of a chunked body, in bytes: an error report
// with a long stack trace in base64 fits.
const maxTrailer = 1 << 20

// body reads one request's body from its connection. It never reads past the
// body's end except into the connection's buffer.
type body struct {
	c       *conn
	left    int64 // bytes to come: of the body, or of the present chunk
	chunked bool
	inChunk bool // a chunk was begun and its line end is still to come
	done    bool
	expect  bool // "100 Continue" is still to be sent

	// From the trailers of a streamed response that failed on its way.
	errorType string
	errorBody []byte
}

// begin prepares b for the body of r.
func (b *body) begin(c *conn, r *request) {
	*b = body{c: c, left: max(r.length, 0), chunked: r.length < 0, done: !r.hasBody, expect: r.expect}
}

// ready sends the interim answer that the client may wait for before it sends
// the body.
func (b *body) ready() error {
	if !b.expect {
		return nil
	}
	b.expect = false
	if b.c.r < b.c.w {
		return nil // it did not wait
	}
	return b.c.send(continueAnswer)
}

// advance makes left positive or the body done.
func (b *body) advance() error {
	if b.left > 0 || b.done {
		return nil
	}
	if !b.chunked {
		b.done = true
		return nil
	}
	if b.inChunk {
		line, err := b.c.readLine(2)
		if err != nil {
			return err
		}
		if len(line) != 0 {
			return errMalformed
		}
		b.inChunk = false
	}
	line, err := b.c.readLine(256)
	if err != nil {
		return err
	}
	size, ok := parseChunkSize(line)
	if !ok {
		return errMalformed
	}
	if size > 0 {
		b.left, b.inChunk = size, true
		return nil
	}
	if err := b.readTrailers(); err != nil {
		return err
	}
	b.done = true
	return nil
}

func (b *body) readTrailers() error {
	for total := 0; ; {
		line, err := b.c.readLine(maxTrailer)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return nil
		}
		if total += len(line); total > maxTrailer {
			return errHeadTooBig
		}
		name, value, ok := cutField(line)
		if !ok {
			return errMalformed
		}
		switch {
		case equalFold(name, "lambda-runtime-function-error-type"):
			b.errorType = validType(value)
		case equalFold(name, "lambda-runtime-function-error-body"):
			b.errorBody = decodeErrorBody(value)
		}
	}
}

// decodeErrorBody undoes the base64 of an error trailer; what is not base64 is
// taken as it is.
func decodeErrorBody(value []byte) []byte {
	out := make([]byte, base64.StdEncoding.DecodedLen(len(value)))
	n, err := base64.StdEncoding.Decode(out, value)
	if err != nil {
		return append(out[:0], value...)
	}
	return out[:n]
}

// parseChunkSize reads the hexadecimal size of a chunk; extensions after a
// semicolon are ignored.
func parseChunkSize(line []byte) (n int64, ok bool) {
	digits := 0
	for ; digits < len(line); digits++ {
		var d byte
		switch c := line[digits]; {
		case '0' <= c && c <= '9':
			d = c - '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			d = c | 0x20 - 'a' + 10
		case c == ';' || c == ' ' || c == '\t':
			return n, digits > 0
		default:
			return 0, false
		}
		if digits == 12 { // 2^48: far beyond any limit, far from overflow
			return 0, false
		}
		n = n<<4 | int64(d)
	}
	return n, digits > 0
}

// Read gives the body's bytes, and io.EOF at its end. Bytes that are not in
// the connection's buffer yet are read into p directly.
func (b *body) Read(p []byte) (int, error) {
	if err := b.ready(); err != nil {
		return 0, err
	}
	if err := b.advance(); err != nil {
		return 0, err
	}
	if b.done {
		return 0, io.EOF
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	if len(p) == 0 {
		return 0, nil
	}
	var n int
	var err error
	if c := b.c; c.r < c.w {
		n = copy(p, c.buf[c.r:c.w])
		c.r += n
	} else if n, err = c.net.Read(p); err != nil && n == 0 {
		return 0, truncatedBy(err)
	}
	b.left -= int64(n)
	return n, nil
}

// errTooLarge: the body is beyond what its reader takes.
var errTooLarge = errors.New("body too large")

// readAll returns the whole body in memory of its own, or errTooLarge as soon
// as it is known to be longer than limit. A body of known length is allocated
// once and each byte is copied at most once.
func (b *body) readAll(limit int) ([]byte, error) {
	var all []byte
	for {
		// The length is judged before the client is told to go on.
		if !b.done && b.left == 0 && b.chunked {
			if err := b.ready(); err != nil {
				return nil, err
			}
		}
		if err := b.advance(); err != nil {
			return nil, err
		}
		if b.done {
			return all, nil
		}
		if b.left > int64(limit-len(all)) {
			return nil, errTooLarge
		}
		if need := len(all) + int(b.left); need > cap(all) {
			if all != nil { // one more of many chunks
				need = min(max(need, 2*cap(all)), limit)
			}
			grown := make([]byte, len(all), need)
			copy(grown, all)
			all = grown
		}
		n, err := b.Read(all[len(all) : len(all)+int(b.left)])
		if err != nil {
			return nil, err
		}
		all = all[:len(all)+n]
	}
}

// discard reads the rest of the body and forgets it, so that the connection
// can go on; an error means that it cannot. A client that waits for leave to
// send gets none, and its connection ends.
func (b *body) discard() error {
	if b.done {
		return nil
	}
	if b.expect {
		return errTruncated
	}
	scratch := scratches.Get().(*[scratchSize]byte)
	defer scratches.Put(scratch)
	for {
		if _, err := b.Read(scratch[:]); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

// truncatedBy turns the end of a connection amid a body into errTruncated.
func truncatedBy(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errTruncated
	}
	return err
}
