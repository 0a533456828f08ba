package decision

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math"
	"time"

	"github.com/hearth-faas/hearth"
)

// The log is a row of segment files. A segment is the header and then
// records, each
//
//	length of the body   unsigned varint, at most maxBody
//	CRC-32C of the body  4 bytes, little-endian
//	body
//
// A body is the fields of a decision in the order of encode, below: numbers
// as varints, strings as references. A reference is an unsigned varint: n > 0
// is the n-th string that the segment has defined; 0 defines the next, or,
// once there are maxStrings of them, only spells one out, and is followed by
// its length and bytes. A request id that is a UUID, which nearly all are, is
// its 16 bytes. So a decision takes about 70 bytes.
//
// Since strings refer backwards, a record that is damaged makes what follows
// it in its segment unreadable. Nothing is ever appended to a segment of an
// earlier run, or after a failed write, so that a torn end is the end.
const (
	header = "hearth decisions 1\n"
	// maxBody bounds a body, so that a damaged length can't ask for memory.
	maxBody    = 64 << 10
	maxStrings = 4096
	// maxString bounds a string in the log; a longer one is cut.
	maxString = 4096
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encoder appends records to a segment.
type encoder struct {
	known map[string]uint64
	body  []byte
}

func newEncoder() *encoder { return &encoder{known: map[string]uint64{}} }

// append appends the record of d to b.
func (e *encoder) append(b []byte, d *hearth.Decision) []byte {
	e.body = e.body[:0]
	e.number(d.Seq)
	e.signed(d.At.UnixNano())
	e.signed(int64(d.Mono))
	e.str(string(d.Kind))
	e.requestID(d.RequestID)
	for _, s := range []string{string(d.Account), d.Function, d.Version, d.Chosen, d.Why, d.Instance, d.Container, d.Outcome} {
		e.str(s)
	}
	for _, n := range []int{d.Knew.Idle, d.Knew.Busy, d.Knew.Slots, d.Knew.Room, d.Knew.Pool, d.Knew.Waiting, d.Knew.FreeMiB, d.Knew.Committed} {
		e.signed(int64(n))
	}
	e.number(uint64(len(d.Spent)))
	for _, s := range d.Spent {
		e.signed(int64(s))
	}
	e.number(d.Generation)
	e.str(d.Node)
	e.str(d.Fleet)
	if d.Capacity != "" || d.Owner != "" {
		e.str(string(d.Capacity))
		e.body = binary.LittleEndian.AppendUint64(e.body, math.Float64bits(d.Price))
		e.body = binary.LittleEndian.AppendUint64(e.body, math.Float64bits(d.Cost))
	}
	if d.Owner != "" {
		for _, s := range []string{string(d.Owner), d.OwnerFunction, d.Terms, d.Withheld} {
			e.str(s)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(e.body)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(e.body, castagnoli))
	return append(b, e.body...)
}

func (e *encoder) number(n uint64) { e.body = binary.AppendUvarint(e.body, n) }
func (e *encoder) signed(n int64)  { e.body = binary.AppendVarint(e.body, n) }

func (e *encoder) str(s string) {
	s = s[:min(len(s), maxString)]
	if n, ok := e.known[s]; ok {
		e.number(n)
		return
	}
	if len(e.known) < maxStrings {
		e.known[s] = uint64(len(e.known) + 1)
	}
	e.body = append(e.body, 0)
	e.spell(s)
}

func (e *encoder) spell(s string) {
	e.number(uint64(len(s)))
	e.body = append(e.body, s...)
}

// How a request id is written.
const (
	idSpelled = 0
	idUUID    = 1
)

func (e *encoder) requestID(s string) {
	var id [16]byte
	if parseUUID(s, &id) {
		e.body = append(e.body, idUUID)
		e.body = append(e.body, id[:]...)
		return
	}
	e.body = append(e.body, idSpelled)
	e.spell(s[:min(len(s), maxString)])
}

// parseUUID reads the one spelling that formatUUID writes: lower case.
func parseUUID(s string, id *[16]byte) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	for n, i := range [16]int{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34} {
		hi, lo := nibble(s[i]), nibble(s[i+1])
		if hi > 15 || lo > 15 {
			return false
		}
		id[n] = hi<<4 | lo
	}
	return true
}

func nibble(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

func formatUUID(id []byte) string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// errDamaged ends the reading of a segment: what follows is torn or damaged.
var errDamaged = errors.New("damaged")

// decoder reads the records of a segment.
type decoder struct {
	rest    []byte // of the segment
	strings []string

	body []byte // rest of the record
	bad  bool
}

// newDecoder reads a segment from its first byte.
func newDecoder(segment []byte) (*decoder, error) {
	if len(segment) < len(header) || string(segment[:len(header)]) != header {
		return nil, errDamaged
	}
	return &decoder{rest: segment[len(header):]}, nil
}

// next reads a decision into d; false at the end. errDamaged if what is left
// is no record.
func (r *decoder) next(d *hearth.Decision) (bool, error) {
	if len(r.rest) == 0 {
		return false, nil
	}
	n, w := binary.Uvarint(r.rest)
	if w <= 0 || n > maxBody || uint64(len(r.rest)-w) < n+4 {
		return false, errDamaged
	}
	sum := binary.LittleEndian.Uint32(r.rest[w:])
	r.body = r.rest[w+4 : w+4+int(n)]
	r.rest = r.rest[w+4+int(n):]
	if crc32.Checksum(r.body, castagnoli) != sum {
		return false, errDamaged
	}
	*d = hearth.Decision{}
	d.Seq = r.number()
	d.At = time.Unix(0, r.signed())
	d.Mono = time.Duration(r.signed())
	d.Kind = hearth.DecisionKind(r.str())
	d.RequestID = r.requestID()
	d.Account = hearth.Account(r.str())
	for _, s := range []*string{&d.Function, &d.Version, &d.Chosen, &d.Why, &d.Instance, &d.Container, &d.Outcome} {
		*s = r.str()
	}
	for _, n := range []*int{&d.Knew.Idle, &d.Knew.Busy, &d.Knew.Slots, &d.Knew.Room, &d.Knew.Pool, &d.Knew.Waiting, &d.Knew.FreeMiB, &d.Knew.Committed} {
		*n = int(r.signed())
	}
	// A version with more stages, or fewer, writes how many it has.
	stages := r.number()
	for i := uint64(0); i < stages && !r.bad; i++ {
		if s := time.Duration(r.signed()); i < uint64(len(d.Spent)) {
			d.Spent[i] = s
		}
	}
	if len(r.body) > 0 { // those of earlier versions end here
		d.Generation = r.number()
	}
	if len(r.body) > 0 {
		d.Node, d.Fleet = r.str(), r.str()
	}
	if len(r.body) > 0 { // there is more than one kind of capacity
		d.Capacity = hearth.CapacityKind(r.str())
		d.Price, d.Cost = r.float(), r.float()
	}
	if len(r.body) > 0 { // another account's code ran
		d.Owner = hearth.Account(r.str())
		d.OwnerFunction, d.Terms, d.Withheld = r.str(), r.str(), r.str()
	}
	if r.bad || len(r.body) > 0 {
		return false, errDamaged
	}
	return true, nil
}

func (r *decoder) number() uint64 {
	n, w := binary.Uvarint(r.body)
	if w <= 0 {
		r.bad, r.body = true, nil
		return 0
	}
	r.body = r.body[w:]
	return n
}

func (r *decoder) float() float64 {
	if len(r.body) < 8 {
		r.bad, r.body = true, nil
		return 0
	}
	f := math.Float64frombits(binary.LittleEndian.Uint64(r.body))
	r.body = r.body[8:]
	return f
}

func (r *decoder) signed() int64 {
	n, w := binary.Varint(r.body)
	if w <= 0 {
		r.bad, r.body = true, nil
		return 0
	}
	r.body = r.body[w:]
	return n
}

func (r *decoder) str() string {
	n := r.number()
	if n > 0 {
		if n > uint64(len(r.strings)) {
			r.bad = true
			return ""
		}
		return r.strings[n-1]
	}
	s := r.spelled()
	if len(r.strings) < maxStrings {
		r.strings = append(r.strings, s)
	}
	return s
}

func (r *decoder) spelled() string {
	n := r.number()
	if n > maxString || n > uint64(len(r.body)) {
		r.bad, r.body = true, nil
		return ""
	}
	s := string(r.body[:n])
	r.body = r.body[n:]
	return s
}

func (r *decoder) requestID() string {
	if len(r.body) == 0 {
		r.bad = true
		return ""
	}
	how := r.body[0]
	r.body = r.body[1:]
	switch {
	case how == idSpelled:
		return r.spelled()
	case how == idUUID && len(r.body) >= 16:
		s := formatUUID(r.body[:16])
		r.body = r.body[16:]
		return s
	}
	r.bad = true
	return ""
}
