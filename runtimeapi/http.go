package runtimeapi

import (
	"bytes"
	"errors"
)

// Errors of a request that cannot be understood. They are answered by the
// status of statusOf, and the connection is closed, since it is not known
// where the next request would begin.
var (
	errMalformed   = errors.New("malformed HTTP request")
	errHeadTooBig  = errors.New("HTTP header too large")
	errEncoding    = errors.New("unsupported transfer encoding")
	errVersion     = errors.New("unsupported HTTP version")
	errTruncated   = errors.New("HTTP request truncated")
	errExpectation = errors.New("unknown expectation")
)

// request is the head of a request. Its slices point into the connection's
// buffer and are valid until the body is read.
type request struct {
	method, path []byte
	fields       []byte // the header lines, for other handlers

	contentType  []byte
	responseMode []byte
	errorType    []byte

	length  int64 // of the body; -1 if it is chunked
	expect  bool  // the client waits for "100 Continue"
	close   bool  // the connection ends with this request
	http10  bool
	hasBody bool
}

// headEnd returns the length of the head at the beginning of b, with its empty
// line, or 0 if it is not complete. The search begins at from, which a caller
// that gets more bytes sets to what it has searched before.
func headEnd(b []byte, from int) int {
	// The line end before the empty line may have been the last byte seen.
	for i := max(0, from-3); ; {
		j := bytes.IndexByte(b[i:], '\n')
		if j < 0 {
			return 0
		}
		i += j + 1
		switch {
		case i < len(b) && b[i] == '\n':
			return i + 1
		case i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n':
			return i + 2
		}
	}
}

// parse reads a complete head, as headEnd delimits it. It is strict where
// leniency is ambiguous (lengths, names, folded lines) and takes a bare line
// feed for a line end, as hand-written runtimes send it.
func (r *request) parse(head []byte) error {
	*r = request{}
	line, rest := cutLine(head)
	if err := r.parseRequestLine(line); err != nil {
		return err
	}
	r.fields = rest
	r.close = r.http10
	length, chunked := int64(-1), false
	for {
		line, rest = cutLine(rest)
		if len(line) == 0 {
			break
		}
		name, value, ok := cutField(line)
		if !ok {
			return errMalformed
		}
		switch len(name) { // most names are told apart by their length
		case len("Expect"):
			if equalFold(name, "expect") {
				if !equalFold(value, "100-continue") {
					return errExpectation
				}
				r.expect = !r.http10
			}
		case len("Connection"):
			if equalFold(name, "connection") {
				r.parseConnection(value)
			}
		case len("Content-Type"):
			if equalFold(name, "content-type") {
				r.contentType = value
			}
		case len("Content-Length"):
			if equalFold(name, "content-length") {
				n, ok := parseLength(value)
				if !ok || length >= 0 && length != n {
					return errMalformed
				}
				length = n
			}
		case len("Transfer-Encoding"):
			if equalFold(name, "transfer-encoding") {
				if chunked || r.http10 {
					return errMalformed
				}
				if !equalFold(value, "chunked") {
					return errEncoding
				}
				chunked = true
			}
		case len("Lambda-Runtime-Function-Error-Type"):
			if equalFold(name, "lambda-runtime-function-error-type") {
				r.errorType = value
			}
		case len("Lambda-Runtime-Function-Response-Mode"):
			if equalFold(name, "lambda-runtime-function-response-mode") {
				r.responseMode = value
			}
		}
	}
	switch {
	case chunked && length >= 0:
		return errMalformed // two ways to find the end of the body
	case chunked:
		r.length, r.hasBody = -1, true
	case length > 0:
		r.length, r.hasBody = length, true
	default:
		r.expect = false
	}
	return nil
}

// parseRequestLine takes the method, the path and the version. The target may
// have the absolute form, as a client behind a proxy sends it; its query is
// dropped, since nothing here has one.
func (r *request) parseRequestLine(line []byte) error {
	method, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok || len(method) == 0 {
		return errMalformed
	}
	for _, b := range method {
		if !isToken(b) {
			return errMalformed
		}
	}
	target, version, ok := bytes.Cut(rest, []byte{' '})
	if !ok || len(target) == 0 {
		return errMalformed
	}
	switch string(version) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		r.http10 = true
	default:
		if !bytes.HasPrefix(version, []byte("HTTP/")) {
			return errMalformed
		}
		return errVersion
	}
	for _, b := range target {
		if b <= ' ' || b == 0x7f {
			return errMalformed
		}
	}
	if after, ok := bytes.CutPrefix(target, []byte("http://")); ok {
		slash := bytes.IndexByte(after, '/')
		if slash < 0 {
			return errMalformed
		}
		target = after[slash:]
	}
	if target[0] != '/' && string(target) != "*" {
		return errMalformed
	}
	target, _, _ = bytes.Cut(target, []byte{'?'})
	r.method, r.path = method, target
	return nil
}

// parseConnection looks for the two options that matter in a comma-separated
// list.
func (r *request) parseConnection(list []byte) {
	for len(list) > 0 {
		var option []byte
		option, list, _ = bytes.Cut(list, []byte{','})
		switch option = bytes.Trim(option, " \t"); {
		case equalFold(option, "close"):
			r.close = true
		case equalFold(option, "keep-alive"):
			r.close = false
		}
	}
}

// header returns the value of a header that parse does not know, nil if there
// is none. name is in lower case.
func (r *request) header(name string) []byte {
	for rest := r.fields; ; {
		var line []byte
		line, rest = cutLine(rest)
		if len(line) == 0 {
			return nil
		}
		if n, v, ok := cutField(line); ok && equalFold(n, name) {
			return v
		}
	}
}

// cutLine returns the line at the beginning of b without its end, and what
// follows; all of b if it has no line end.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return b, nil
	}
	line, rest = b[:i], b[i+1:]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, rest
}

// cutField splits a header line. It refuses what RFC 9112 does: a line that
// continues another, blanks before the colon, control characters in the value.
func cutField(line []byte) (name, value []byte, ok bool) {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return nil, nil, false
	}
	name, value = line[:colon], line[colon+1:]
	for _, b := range name {
		if !isToken(b) {
			return nil, nil, false
		}
	}
	for len(value) > 0 && (value[0] == ' ' || value[0] == '\t') {
		value = value[1:]
	}
	for n := len(value); n > 0 && (value[n-1] == ' ' || value[n-1] == '\t'); n-- {
		value = value[:n-1]
	}
	for _, b := range value {
		if b < ' ' && b != '\t' || b == 0x7f {
			return nil, nil, false
		}
	}
	return name, value, true
}

// parseLength reads a Content-Length: decimal digits only.
func parseLength(b []byte) (n int64, ok bool) {
	const most = 1 << 50 // far beyond any body, far from overflow
	if len(b) == 0 {
		return 0, false
	}
	for _, d := range b {
		if d < '0' || d > '9' || n > most {
			return 0, false
		}
		n = n*10 + int64(d-'0')
	}
	return n, true
}

// equalFold compares b with lower, which is in lower case, ignoring the case
// of ASCII letters.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// tokens are the bytes that RFC 9110 allows in a method or a header's name.
var tokens = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-0x20] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

func isToken(b byte) bool { return tokens[b] }
