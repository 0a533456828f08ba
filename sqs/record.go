package sqs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// The buckets. A message is two records: a small one that changes with each
// receipt, and what was sent, which never does. Their formats begin with a
// version.
const (
	queuesBucket = "sqs.queues" // by account and name
	indexBucket  = "sqs.index"  // by queue and sequence number
	bodyBucket   = "sqs.bodies" // by the sequence number that it was sent under
	dedupBucket  = "sqs.dedup"  // by queue and deduplication key
	tasksBucket  = "sqs.tasks"  // by account and id
	metaBucket   = "sqs.meta"
)

const formatVersion = 1

// key is a number as a key, in whose order numbers are.
func key(n uint64) string {
	const digits = "0123456789abcdef"
	var b [16]byte
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = digits[n&15]
		n >>= 4
	}
	return string(b[:])
}

func parseKey(s string) (uint64, error) {
	if len(s) != 16 {
		return 0, fmt.Errorf("%q is no sequence number", s)
	}
	return strconv.ParseUint(s, 16, 64)
}

// entry is what is kept of a message beside what was sent. Times are
// milliseconds since 1970.
type entry struct {
	body   uint64 // where what was sent is
	sent   int64
	due    int64 // when it is visible again, or first; past if it is now
	first  int64 // when it was received first; 0 is never
	count  uint32
	size   uint32 // of what counts against limits, in bytes
	group  string
	source string // the ARN of the queue that gave it up
}

func (e *entry) encode() []byte {
	b := make([]byte, 0, 48+len(e.group)+len(e.source))
	b = append(b, formatVersion)
	for _, n := range [...]uint64{e.body, uint64(e.sent), uint64(e.due), uint64(e.first), uint64(e.count), uint64(e.size)} {
		b = binary.AppendUvarint(b, n)
	}
	b = appendText(b, e.group)
	return appendText(b, e.source)
}

func decodeEntry(b []byte) (e entry, err error) {
	d := decoder{b: b}
	d.version()
	e.body, e.sent, e.due, e.first = d.number(), int64(d.number()), int64(d.number()), int64(d.number())
	e.count, e.size = uint32(d.number()), uint32(d.number())
	e.group, e.source = d.text(), d.text()
	return e, d.end()
}

// content is what was sent.
type content struct {
	id, sender, dedup, trace string
	body                     string
	attributes               map[string]Attribute
}

func (c *content) encode() []byte {
	b := make([]byte, 0, 96+len(c.id)+len(c.sender)+len(c.dedup)+len(c.trace)+sizeOf(c.body, c.attributes)+12*len(c.attributes))
	b = append(b, formatVersion)
	for _, s := range [...]string{c.id, c.sender, c.dedup, c.trace, c.body} {
		b = appendText(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(c.attributes)))
	for name, a := range c.attributes {
		b = appendText(b, name)
		b = appendText(b, a.Type)
		b = appendText(b, string(a.Value))
	}
	return b
}

func decodeContent(b []byte) (c content, err error) {
	d := decoder{b: b}
	d.version()
	c.id, c.sender, c.dedup, c.trace, c.body = d.text(), d.text(), d.text(), d.text(), d.text()
	if n := d.number(); n > 0 && d.err == nil {
		c.attributes = map[string]Attribute{}
		for ; n > 0 && d.err == nil; n-- {
			name := d.text()
			c.attributes[name] = Attribute{Type: d.text(), Value: []byte(d.text())}
		}
	}
	return c, d.end()
}

// dedup is what a deduplication id stands for until it expires.
type dedup struct {
	expires int64
	seq     uint64
	id      string // of the message
}

func (x *dedup) encode() []byte {
	b := []byte{formatVersion}
	b = binary.AppendUvarint(b, uint64(x.expires))
	b = binary.AppendUvarint(b, x.seq)
	return appendText(b, x.id)
}

func decodeDedup(b []byte) (x dedup, err error) {
	d := decoder{b: b}
	d.version()
	x.expires, x.seq, x.id = int64(d.number()), d.number(), d.text()
	return x, d.end()
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decoder reads a record. After an error it reads zeros.
type decoder struct {
	b   []byte
	err error
}

var errDamaged = errors.New("a record of a queue is damaged")

func (d *decoder) version() {
	if len(d.b) == 0 || d.b[0] != formatVersion {
		d.err = errDamaged
		return
	}
	d.b = d.b[1:]
}

func (d *decoder) number() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 || d.err != nil {
		d.err = errDamaged
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) text() string {
	n := d.number()
	if d.err != nil || n > uint64(len(d.b)) {
		d.err = errDamaged
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.err = errDamaged
	}
	return d.err
}
