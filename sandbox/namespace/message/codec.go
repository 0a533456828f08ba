package message

import "errors"

// ErrMalformed says that a message does not follow its layout.
var ErrMalformed = errors.New("namespace: malformed message")

// writer appends fields: numbers as varints of seven bits a byte, lowest
// first; strings and lists by length and content.
type writer struct{ b []byte }

func (w *writer) num(v uint64) {
	for v >= 0x80 {
		w.b = append(w.b, byte(v)|0x80)
		v >>= 7
	}
	w.b = append(w.b, byte(v))
}

func (w *writer) flag(v bool) {
	if v {
		w.num(1)
	} else {
		w.num(0)
	}
}

func (w *writer) str(s string) {
	w.num(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) strs(list []string) {
	w.num(uint64(len(list)))
	for _, s := range list {
		w.str(s)
	}
}

// reader takes fields off a message. After the first field that is not there
// bad is set and every field is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) num() uint64 {
	var v uint64
	for shift := uint(0); shift < 64; shift += 7 {
		if len(r.b) == 0 {
			break
		}
		c := r.b[0]
		r.b = r.b[1:]
		if shift == 63 && c > 1 {
			break
		}
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
	r.bad, r.b = true, nil
	return 0
}

func (r *reader) flag() bool { return r.num() == 1 }

func (r *reader) str() string {
	n := r.num()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) strs() []string {
	n := r.num()
	if n > uint64(len(r.b)) { // each takes a byte at least
		r.bad, r.b = true, nil
		return nil
	}
	if n == 0 {
		return nil
	}
	list := make([]string, 0, n)
	for range n {
		list = append(list, r.str())
	}
	return list
}

// end reports whether the message was well formed and wholly read.
func (r *reader) end() error {
	if r.bad || len(r.b) != 0 {
		return ErrMalformed
	}
	return nil
}
