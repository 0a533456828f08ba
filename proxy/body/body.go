// Package body turns the bodies of requests and responses into values and back:
// JSON, XML and forms. A value is what JSON has: nil, bool, int64, float64,
// string, []any and map[string]any.
package body

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hearth-faas/hearth/proxy/expression"
)

// Format is how a body is written.
type Format string

// The formats.
const (
	JSON Format = "json"
	XML  Format = "xml"
	Form Format = "form"
)

// mediaTypes are by which names formats go; the first is what Hearth writes.
var mediaTypes = map[Format][]string{
	JSON: {"application/json", "text/json"},
	XML:  {"application/xml", "text/xml"},
	Form: {"application/x-www-form-urlencoded"},
}

// formats in the order of preference.
var formats = []Format{JSON, XML, Form}

// ContentType is the media type of a body of the format.
func (f Format) ContentType() string {
	t := mediaTypes[f][0]
	if f == XML {
		t += "; charset=utf-8"
	}
	return t
}

// Of tells a body's format by its Content-Type; "" is JSON. It reports false for
// one that there is none for, such as another character set than UTF-8.
func Of(contentType string) (Format, bool) {
	if contentType == "" {
		return JSON, true
	}
	t, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "", false
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "us-ascii") {
		return "", false
	}
	return ofType(t)
}

func ofType(t string) (Format, bool) {
	for _, f := range formats {
		if slices.Contains(mediaTypes[f], t) {
			return f, true
		}
	}
	switch {
	case strings.HasSuffix(t, "+json"):
		return JSON, true
	case strings.HasSuffix(t, "+xml"):
		return XML, true
	}
	return "", false
}

// Negotiate chooses the format of a response by the request's Accept: of what is
// asked for most, and where that is several, XML if the request came in it, then
// JSON: who sends a form wants none back. It reports false where none is
// acceptable.
func Negotiate(accept []string, came Format) (Format, bool) {
	ranges := strings.Join(accept, ",")
	if strings.TrimSpace(ranges) == "" {
		ranges = "*/*"
	}
	wants := map[Format]want{}
	for part := range strings.SplitSeq(ranges, ",") {
		t, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue // what can't be read asks for nothing
		}
		q := 1.0
		if s, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(s, 64); err != nil || !(q >= 0 && q <= 1) {
				continue
			}
		}
		for _, f := range formats {
			if rank := matches(t, f); rank > 0 && rank >= wants[f].rank {
				wants[f] = want{rank, q}
			}
		}
	}
	best, found := Format(""), false
	order := formats
	if came == XML {
		order = []Format{XML, JSON, Form}
	}
	for _, f := range order {
		if wants[f].q > 0 && (!found || wants[f].q > wants[best].q) {
			best, found = f, true
		}
	}
	return best, found
}

// want is how much a format is asked for, by the range that says most about it.
type want struct {
	rank int // 1 anything, 2 a type, 3 the very one
	q    float64
}

func matches(mediaRange string, f Format) int {
	if mediaRange == "*/*" {
		return 1
	}
	if of, ok := ofType(mediaRange); ok && of == f {
		return 3
	}
	if kind, ok := strings.CutSuffix(mediaRange, "/*"); ok {
		for _, t := range mediaTypes[f] {
			if strings.HasPrefix(t, kind+"/") {
				return 2
			}
		}
	}
	return 0
}

var errNotUTF8 = errors.New("it is not UTF-8")

// Decode reads a body. One of nothing is nil. Errors say what is wrong with it.
func Decode(f Format, data []byte) (any, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	switch f {
	case JSON:
		if !utf8.Valid(data) {
			return nil, errNotUTF8 // or what is none would be replaced without a word
		}
		return expression.FromJSON(data)
	case XML:
		return decodeXML(data)
	case Form:
		return decodeForm(data)
	}
	return nil, fmt.Errorf("%q is no format", f)
}

// Encode writes a value; root is what the outermost element of XML is called. An
// error is of a value that the format does not have.
func Encode(f Format, v any, root string) ([]byte, error) {
	switch f {
	case JSON:
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return nil, err
		}
		return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
	case XML:
		return encodeXML(v, root)
	case Form:
		return encodeForm(v)
	}
	return nil, fmt.Errorf("%q is no format", f)
}
