package lambda

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonReader reads a JSON document in place, one value at a time. It is here
// because a CreateFunction body carries up to 70 MB of base64: encoding/json
// would copy it at each level of nesting, this decodes it once, straight from
// the body.
type jsonReader struct {
	data  []byte
	at    int
	depth int
}

// maxDepth bounds nesting, as the service's parser does. The API's own shapes
// are less than ten deep; events may be anything.
const maxDepth = 1000

// syntaxError is a document that is not JSON.
type syntaxError struct {
	at   int
	text string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("%s at offset %d", e.text, e.at) }

func (r *jsonReader) fail(format string, args ...any) error {
	return &syntaxError{at: r.at, text: fmt.Sprintf(format, args...)}
}

// token is the kind of the next value, by its first byte.
type token byte

const (
	tokenObject token = '{'
	tokenArray  token = '['
	tokenString token = '"'
	tokenNumber token = '0'
	tokenTrue   token = 't'
	tokenFalse  token = 'f'
	tokenNull   token = 'n'
)

// String is the token as the service's messages name it.
func (t token) String() string {
	switch t {
	case tokenObject:
		return "START_OBJECT"
	case tokenArray:
		return "START_ARRAY"
	case tokenString:
		return "STRING_VALUE"
	case tokenNumber:
		return "NUMBER_VALUE"
	case tokenTrue:
		return "TRUE_VALUE"
	case tokenFalse:
		return "FALSE_VALUE"
	}
	return "NULL_VALUE"
}

// closing is the byte that ends an object or array.
func (t token) closing() byte { return byte(t) + 2 } // '{' + 2 is '}', '[' + 2 is ']'

func (r *jsonReader) space() {
	for r.at < len(r.data) {
		switch r.data[r.at] {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return
		}
	}
}

// peek tells what the next value is without reading it.
func (r *jsonReader) peek() (token, error) {
	r.space()
	if r.at == len(r.data) {
		return 0, r.fail("unexpected end of input")
	}
	switch c := r.data[r.at]; c {
	case '{', '[', '"', 't', 'f', 'n':
		return token(c), nil
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return tokenNumber, nil
	default:
		return 0, r.fail("unexpected character %q", c)
	}
}

// end requires that nothing but space is left.
func (r *jsonReader) end() error {
	if r.space(); r.at < len(r.data) {
		return r.fail("unexpected character %q after the document", r.data[r.at])
	}
	return nil
}

func (r *jsonReader) word(w string) error {
	if !bytes.HasPrefix(r.data[r.at:], []byte(w)) {
		return r.fail("unrecognized word")
	}
	r.at += len(w)
	return nil
}

// enter goes into the object or array that is next and tells whether it has a
// first member or item.
func (r *jsonReader) enter(t token) (bool, error) {
	if r.depth++; r.depth > maxDepth {
		return false, r.fail("nested too deeply")
	}
	r.at++
	if r.space(); r.at < len(r.data) && r.data[r.at] == t.closing() {
		r.at++
		r.depth--
		return false, nil
	}
	return true, nil
}

// more goes on to the next member or item, or out at the end.
func (r *jsonReader) more(t token) (bool, error) {
	if r.space(); r.at == len(r.data) {
		return false, r.fail("unexpected end of input")
	}
	switch c := r.data[r.at]; c {
	case ',':
		r.at++
		return true, nil
	case t.closing():
		r.at++
		r.depth--
		return false, nil
	default:
		return false, r.fail("unexpected character %q", c)
	}
}

// beforeName requires that a member's name is next.
func (r *jsonReader) beforeName() error {
	t, err := r.peek()
	if err == nil && t != tokenString {
		err = r.fail("a member's name must be a string")
	}
	return err
}

func (r *jsonReader) colon() error {
	if r.space(); r.at == len(r.data) || r.data[r.at] != ':' {
		return r.fail("expected a colon after a member's name")
	}
	r.at++
	return nil
}

// object calls member for each member of the object that is next; member must
// read the value.
func (r *jsonReader) object(member func(key string) error) error {
	var next bool
	var err error
	for next, err = r.enter(tokenObject); next; next, err = r.more(tokenObject) {
		if err := r.beforeName(); err != nil {
			return err
		}
		key, err := r.string()
		if err != nil {
			return err
		}
		if err := r.colon(); err != nil {
			return err
		}
		if err := member(key); err != nil {
			return err
		}
	}
	return err
}

// array calls item for each item of the array that is next; item must read it.
func (r *jsonReader) array(item func() error) error {
	var next bool
	var err error
	for next, err = r.enter(tokenArray); next; next, err = r.more(tokenArray) {
		if err := item(); err != nil {
			return err
		}
	}
	return err
}

// rawString reads a string and returns what is between its quotes, and whether
// that contains escapes.
func (r *jsonReader) rawString() (raw []byte, escaped bool, err error) {
	r.at++
	start := r.at
	for quote := -1; ; {
		if quote < r.at { // found once for any number of escapes before it
			i := bytes.IndexByte(r.data[r.at:], '"')
			if i < 0 {
				return nil, false, r.fail("unexpected end of input in a string")
			}
			quote = r.at + i
		}
		i := bytes.IndexByte(r.data[r.at:quote], '\\')
		if i < 0 {
			raw = r.data[start:quote]
			r.at = quote + 1
			break
		}
		escaped = true
		r.at += i + 2 // past the escaped byte, which may be the quote
	}
	if hasControl(raw) {
		return nil, false, r.fail("control character in a string")
	}
	return raw, escaped, nil
}

// hasControl reports whether a byte of b is below 0x20. It takes eight bytes at
// a time: the strings of an event may have megabytes.
func hasControl(b []byte) bool {
	const ones = 0x0101010101010101
	for ; len(b) >= 8; b = b[8:] {
		// A byte's top bit comes out set if the byte is below 0x20: the
		// subtraction borrows, and the byte itself has it not. What a borrow
		// does to the bytes above it matters to nobody: there is one already.
		if x := binary.LittleEndian.Uint64(b); (x-0x20*ones)&^x&(0x80*ones) != 0 {
			return true
		}
	}
	for _, c := range b {
		if c < 0x20 {
			return true
		}
	}
	return false
}

func (r *jsonReader) string() (string, error) {
	raw, escaped, err := r.rawString()
	if err != nil {
		return "", err
	}
	if escaped {
		if raw, err = r.unescape(raw); err != nil {
			return "", err
		}
	}
	if !utf8.Valid(raw) {
		return strings.ToValidUTF8(string(raw), "\uFFFD"), nil
	}
	return string(raw), nil
}

func (r *jsonReader) unescape(raw []byte) ([]byte, error) {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		c := raw[i]
		if c != '\\' {
			out = append(out, c)
			i++
			continue
		}
		if i+1 == len(raw) {
			return nil, r.fail("incomplete escape")
		}
		switch c = raw[i+1]; c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			u, ok := hex4(raw[i+2:])
			if !ok {
				return nil, r.fail("bad \\u escape")
			}
			i += 4
			if utf16.IsSurrogate(u) {
				low, ok := rune(0), false
				if len(raw) >= i+8 && raw[i+2] == '\\' && raw[i+3] == 'u' {
					low, ok = hex4(raw[i+4:])
				}
				if pair := utf16.DecodeRune(u, low); ok && pair != utf8.RuneError {
					u = pair
					i += 6
				} else {
					u = utf8.RuneError
				}
			}
			out = utf8.AppendRune(out, u)
		default:
			return nil, r.fail("bad escape")
		}
		i += 2
	}
	return out, nil
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var u rune
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		u = u<<4 | rune(c)
	}
	return u, true
}

// blob reads a string of base64.
func (r *jsonReader) blob() ([]byte, error) {
	raw, escaped, err := r.rawString()
	if err != nil {
		return nil, err
	}
	if escaped { // "\/" is an allowed way of writing a slash
		if raw, err = r.unescape(raw); err != nil {
			return nil, err
		}
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(raw)))
	n, err := base64.StdEncoding.Decode(out, raw)
	if err != nil {
		return nil, r.fail("a blob must be base64")
	}
	return out[:n], nil
}

// number reads a number and returns its text.
func (r *jsonReader) number() (string, error) {
	start := r.at
	err := r.skipNumber()
	return string(r.data[start:r.at]), err
}

func (r *jsonReader) skipNumber() error {
	r.oneOf("-")
	if !r.oneOf("0") && !r.digits() || r.oneOf(".") && !r.digits() {
		return r.fail("bad number")
	}
	if r.oneOf("eE") {
		r.oneOf("+-")
		if !r.digits() {
			return r.fail("bad number")
		}
	}
	return nil
}

// digits reads digits and tells whether there was one.
func (r *jsonReader) digits() bool {
	from := r.at
	for r.at < len(r.data) && '0' <= r.data[r.at] && r.data[r.at] <= '9' {
		r.at++
	}
	return r.at > from
}

// oneOf reads a byte of the set, if one is next.
func (r *jsonReader) oneOf(set string) bool {
	if r.at < len(r.data) && strings.IndexByte(set, r.data[r.at]) >= 0 {
		r.at++
		return true
	}
	return false
}

func (r *jsonReader) float() (float64, error) {
	text, err := r.number()
	if err != nil {
		return 0, err
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, r.fail("number out of range")
	}
	return f, nil
}

// skip reads any value and forgets it. It allocates nothing: it checks every
// event on the warm path, three times as fast as encoding/json.Valid.
func (r *jsonReader) skip() error {
	t, err := r.peek()
	if err != nil {
		return err
	}
	switch t {
	case tokenObject, tokenArray:
		return r.skipCollection(t)
	case tokenString:
		return r.skipString()
	case tokenNumber:
		return r.skipNumber()
	case tokenTrue:
		return r.word("true")
	case tokenFalse:
		return r.word("false")
	}
	return r.word("null")
}

func (r *jsonReader) skipCollection(t token) error {
	var next bool
	var err error
	for next, err = r.enter(t); next; next, err = r.more(t) {
		if t == tokenObject {
			if err := r.beforeName(); err != nil {
				return err
			}
			if err := r.skipString(); err != nil {
				return err
			}
			if err := r.colon(); err != nil {
				return err
			}
		}
		if err := r.skip(); err != nil {
			return err
		}
	}
	return err
}

func (r *jsonReader) skipString() error {
	raw, escaped, err := r.rawString()
	if err != nil || !escaped {
		return err
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		if i++; i == len(raw) || strings.IndexByte(`"\/bfnrtu`, raw[i]) < 0 {
			return r.fail("bad escape")
		}
		if raw[i] == 'u' {
			if _, ok := hex4(raw[i+1:]); !ok {
				return r.fail("bad \\u escape")
			}
		}
	}
	return nil
}

// validJSON reports the first mistake in a document, nil if there is none.
func validJSON(data []byte) error {
	r := &jsonReader{data: data}
	if err := r.skip(); err != nil {
		return err
	}
	return r.end()
}
