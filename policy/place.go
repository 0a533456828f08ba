package policy

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// Position is a place in a text, from 1, the column in runes.
type Position struct{ Line, Column int }

// Span is where a statement stands in the text of its document: from behind
// what comes before it (the list's bracket, or the statement before; its own
// brace if it is no list's) to behind its last brace. That is how the service's
// simulator has it.
type Span struct{ Start, End Position }

// ParsePlaced is Parse, and tells where each statement stands.
func ParsePlaced(document []byte) (*Document, []Span, error) {
	if !json.Valid(document) {
		return nil, nil, sentence("This policy contains invalid Json")
	}
	r := &reader{Decoder: json.NewDecoder(bytes.NewReader(document))}
	r.UseNumber()
	d := new(Document)
	if err := d.read(r); err != nil {
		return nil, nil, err
	}
	spans, at, from := make([]Span, len(r.ends)), Position{1, 1}, int64(0)
	advance := func(to int64) Position {
		part := document[from:to]
		if lines := bytes.Count(part, []byte{'\n'}); lines > 0 {
			at = Position{at.Line + lines, 1}
			part = part[bytes.LastIndexByte(part, '\n')+1:]
		}
		at.Column += utf8.RuneCount(part)
		from = to
		return at
	}
	for i, end := range r.ends {
		spans[i].Start = advance(end[0])
		spans[i].End = advance(end[1])
	}
	return d, spans, nil
}
