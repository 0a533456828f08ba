package lambda

import (
	"encoding/base64"
	"math"
	"math/big"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/document"
	"github.com/aws/smithy-go/traits"
)

// answer is an encoded response.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// encode serializes an output or an error of the SDK by its own schema.
func encode(status int, v smithy.Serializable) answer {
	e := &encoder{answer: answer{status: status, header: http.Header{}}}
	v.Serialize(e)
	if !e.raw {
		e.header["Content-Type"] = []string{"application/json"}
	}
	return e.answer
}

// encoder is the server's half of restJson1: members of the outermost
// structure go where their traits say, all else is JSON in the body.
type encoder struct {
	answer
	stack []container
	comma bool // something stands before the next member or item
	raw   bool // the body is a payload member
	list  []string
	head  string // the header that a list is being collected for
}

// container is what a value stands in.
type container byte

const (
	inStruct container = '}'
	inList   container = ']'
	inMap    container = 'm'
)

var _ smithy.ShapeSerializer = (*encoder)(nil)

// Bytes returns the body so far.
func (e *encoder) Bytes() []byte { return e.body }

// outermost tells whether the next member is one of the output itself.
func (e *encoder) outermost(s *smithy.Schema) bool { return len(e.stack) == 1 && s != nil }

// at writes what stands before a value: the comma and a member's name.
func (e *encoder) at(s *smithy.Schema) {
	if len(e.stack) == 0 {
		return
	}
	in := e.stack[len(e.stack)-1]
	if in == inMap { // WriteKey did it
		e.comma = true
		return
	}
	if e.comma {
		e.body = append(e.body, ',')
	}
	e.comma = true
	if in == inStruct && s != nil {
		e.body = appendString(e.body, wireName(s))
		e.body = append(e.body, ':')
	}
}

func (e *encoder) headerOf(s *smithy.Schema) (string, bool) {
	if !e.outermost(s) {
		return "", false
	}
	h, ok := smithy.SchemaTrait[*traits.HTTPHeader](s)
	if !ok {
		return "", false
	}
	return http.CanonicalHeaderKey(h.Name), true
}

func (e *encoder) open(s *smithy.Schema, c byte, in container) {
	e.at(s)
	e.body = append(e.body, c)
	e.stack = append(e.stack, in)
	e.comma = false
}

func (e *encoder) close(c byte) {
	e.stack = e.stack[:len(e.stack)-1]
	if e.raw && len(e.stack) == 0 {
		return
	}
	e.body = append(e.body, c)
	e.comma = true
}

// WriteStruct begins a structure.
func (e *encoder) WriteStruct(s *smithy.Schema) { e.open(s, '{', inStruct) }

// CloseStruct ends a structure.
func (e *encoder) CloseStruct() { e.close('}') }

// WriteList begins a list.
func (e *encoder) WriteList(s *smithy.Schema) {
	if name, ok := e.headerOf(s); ok {
		e.head, e.list = name, nil
		return
	}
	e.open(s, '[', inList)
}

// CloseList ends a list.
func (e *encoder) CloseList() {
	if e.head != "" {
		e.header[e.head], e.head = e.list, ""
		return
	}
	e.close(']')
}

// WriteMap begins a map.
func (e *encoder) WriteMap(s *smithy.Schema) { e.open(s, '{', inMap) }

// WriteKey writes a map's key.
func (e *encoder) WriteKey(_ *smithy.Schema, key string) {
	if e.comma {
		e.body = append(e.body, ',')
	}
	e.body = appendString(e.body, key)
	e.body = append(e.body, ':')
	e.comma = false
}

// CloseMap ends a map.
func (e *encoder) CloseMap() { e.close('}') }

// WriteUnion begins a union, which is a structure with one member.
func (e *encoder) WriteUnion(s, _ *smithy.Schema) { e.open(s, '{', inStruct) }

// CloseUnion ends a union.
func (e *encoder) CloseUnion() { e.close('}') }

func (e *encoder) scalar(s *smithy.Schema, text func([]byte) []byte, header string) {
	if e.head != "" {
		e.list = append(e.list, header)
		return
	}
	if name, ok := e.headerOf(s); ok {
		e.header[name] = []string{header}
		return
	}
	e.at(s)
	e.body = text(e.body)
}

// WriteInt64 writes an integer, or sets the status.
func (e *encoder) WriteInt64(s *smithy.Schema, n int64) {
	if e.outermost(s) {
		if _, ok := smithy.SchemaTrait[*traits.HTTPResponseCode](s); ok {
			e.status = int(n)
			return
		}
	}
	e.scalar(s, func(b []byte) []byte { return strconv.AppendInt(b, n, 10) }, strconv.FormatInt(n, 10))
}

// WriteInt8 writes an integer.
func (e *encoder) WriteInt8(s *smithy.Schema, n int8) { e.WriteInt64(s, int64(n)) }

// WriteInt16 writes an integer.
func (e *encoder) WriteInt16(s *smithy.Schema, n int16) { e.WriteInt64(s, int64(n)) }

// WriteInt32 writes an integer.
func (e *encoder) WriteInt32(s *smithy.Schema, n int32) { e.WriteInt64(s, int64(n)) }

// WriteFloat32 writes a number.
func (e *encoder) WriteFloat32(s *smithy.Schema, f float32) { e.WriteFloat64(s, float64(f)) }

// WriteFloat64 writes a number; what JSON has no number for is a string.
func (e *encoder) WriteFloat64(s *smithy.Schema, f float64) {
	switch {
	case math.IsNaN(f):
		e.WriteString(s, "NaN")
	case math.IsInf(f, 1):
		e.WriteString(s, "Infinity")
	case math.IsInf(f, -1):
		e.WriteString(s, "-Infinity")
	default:
		text := strconv.FormatFloat(f, 'g', -1, 64)
		e.scalar(s, func(b []byte) []byte { return append(b, text...) }, text)
	}
}

// WriteBool writes a boolean.
func (e *encoder) WriteBool(s *smithy.Schema, v bool) {
	e.scalar(s, func(b []byte) []byte { return strconv.AppendBool(b, v) }, strconv.FormatBool(v))
}

// WriteString writes a string.
func (e *encoder) WriteString(s *smithy.Schema, v string) {
	e.scalar(s, func(b []byte) []byte { return appendString(b, v) }, v)
}

// WriteBigInt writes a number.
func (e *encoder) WriteBigInt(s *smithy.Schema, n *big.Int) {
	e.scalar(s, func(b []byte) []byte { return n.Append(b, 10) }, n.String())
}

// WriteBigFloat writes a number.
func (e *encoder) WriteBigFloat(s *smithy.Schema, f *big.Float) {
	e.scalar(s, func(b []byte) []byte { return f.Append(b, 'g', -1) }, f.Text('g', -1))
}

// WriteBlob writes bytes: raw if they are the payload, else as base64.
func (e *encoder) WriteBlob(s *smithy.Schema, v []byte) {
	if e.outermost(s) {
		if _, ok := smithy.SchemaTrait[*traits.HTTPPayload](s); ok {
			e.raw = true
			e.body = append(e.body[:0], v...)
			e.header["Content-Type"] = []string{"application/octet-stream"}
			return
		}
	}
	e.scalar(s, func(b []byte) []byte {
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, v)
		return append(b, '"')
	}, base64.StdEncoding.EncodeToString(v))
}

// WriteTime writes seconds since 1970 in the body, an HTTP date in a header.
func (e *encoder) WriteTime(s *smithy.Schema, t time.Time) {
	e.scalar(s, func(b []byte) []byte {
		return strconv.AppendFloat(b, float64(t.UnixMilli())/1000, 'f', -1, 64)
	}, t.UTC().Format(http.TimeFormat))
}

// WriteDocument is not called: the API has no documents.
func (e *encoder) WriteDocument(*smithy.Schema, document.Value) {
	panic("lambda: the API has no documents")
}

// WriteNil writes null.
func (e *encoder) WriteNil(s *smithy.Schema) {
	e.scalar(s, func(b []byte) []byte { return append(b, "null"...) }, "")
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[from:i]...), "\uFFFD"...)
				from = i + 1
			}
			i += size
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}
