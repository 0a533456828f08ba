package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// The form of a segment, in lines. The first is its header, the others are
// records; each begins with its link of the chain in hexadecimal:
//
//	<64 digits> {"audit":1,"first":N}
//	<64 digits> {"seq":N,...}
//
// A link is HMAC-SHA-256 of the link before it and the text after it, under a
// key that is not in the segments. The first header of all follows zeros.

// formatVersion is the version of segments, the head and the anchor.
const formatVersion = 1

// link is one link of the chain.
type link [sha256.Size]byte

// chain makes links.
type chain struct{ key []byte }

func (c chain) next(prev link, text []byte) (l link) {
	h := hmac.New(sha256.New, c.key)
	h.Write(prev[:])
	h.Write(text)
	h.Sum(l[:0])
	return l
}

// header is the first line of a segment.
type header struct {
	Audit int    `json:"audit"`
	First uint64 `json:"first"`
}

// appendLine appends a line and returns its link.
func (c chain) appendLine(b []byte, prev link, v any) ([]byte, link, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return b, prev, err
	}
	l := c.next(prev, text)
	b = hex.AppendEncode(b, l[:])
	b = append(b, ' ')
	b = append(b, text...)
	return append(b, '\n'), l, nil
}

const linkDigits = 2 * sha256.Size

var errLine = errors.New("a line is damaged")

// splitLine takes a line, without its end, apart.
func splitLine(line []byte) (l link, text []byte, err error) {
	if len(line) <= linkDigits+1 || line[linkDigits] != ' ' {
		return l, nil, errLine
	}
	if _, err := hex.Decode(l[:], line[:linkDigits]); err != nil {
		return l, nil, errLine
	}
	if !bytes.Equal(line[:linkDigits], hex.AppendEncode(nil, l[:])) {
		return l, nil, errLine // one spelling
	}
	return l, line[linkDigits+1:], nil
}

// decodeHeader reads the text of a segment's first line.
func decodeHeader(text []byte) (h header, err error) {
	if err := json.Unmarshal(text, &h); err != nil {
		return h, errors.New("its header is damaged")
	}
	switch {
	case h.Audit > formatVersion:
		return h, fmt.Errorf("%w (format %d, this program knows %d)", errNewer, h.Audit, formatVersion)
	case h.Audit != formatVersion || h.First == 0:
		return header{}, errors.New("its header is damaged")
	}
	return h, nil
}

// decodeEvent reads the text of a record's line.
func decodeEvent(text []byte) (e Event, err error) {
	err = json.Unmarshal(text, &e)
	if err == nil && e.Seq == 0 {
		err = errLine
	}
	return e, err
}

// mark is a place in the chain: the record, and its link.
type mark struct {
	Seq  uint64
	Link link
}

// String is the form in which people keep a mark: SEQ:LINK.
func (m mark) String() string { return fmt.Sprintf("%d:%s", m.Seq, hex.EncodeToString(m.Link[:])) }

func parseMark(s string) (m mark, err error) {
	var digits string
	if n, _ := fmt.Sscanf(s, "%d:%s", &m.Seq, &digits); n != 2 {
		return m, fmt.Errorf("%q is no SEQ:LINK", s)
	}
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != len(m.Link) {
		return m, fmt.Errorf("%q is no SEQ:LINK", s)
	}
	m.Link = link(b)
	return m, nil
}
