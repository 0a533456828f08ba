package sqs

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"maps"
	"slices"
	"strings"
	"time"
)

// Attribute is a message attribute: a value with a type, such as String,
// Number.int or Binary.
type Attribute struct {
	Type  string
	Value []byte // text, unless Binary
}

// Binary tells whether the value is bytes and not text.
func (a Attribute) Binary() bool { return a.Type == "Binary" || strings.HasPrefix(a.Type, "Binary.") }

// Message is a message that was received.
type Message struct {
	ID         string
	Handle     string // deletes it, or changes its visibility
	Body       string
	Attributes map[string]Attribute

	SenderID      string
	Sent          time.Time // to the queue, in milliseconds
	Receives      int       // this one included
	FirstReceived time.Time
	Group         string // "" has none
	Deduplication string // of a FIFO queue
	Sequence      string // of a FIFO queue: twenty digits
	TraceHeader   string // the system attribute AWSTraceHeader
	DeadLetterOf  string // the ARN of the queue that gave it up
}

// BodyMD5 is the MD5 of a body, in hex, by which clients see that it arrived
// whole.
func BodyMD5(body string) string {
	sum := md5.Sum([]byte(body))
	return hex.EncodeToString(sum[:])
}

// AttributesMD5 is the MD5 of message attributes as SQS computes it; "" of
// none: for each, in the order of their names, the name, the type, whether the
// value is bytes, and the value, each but the third after its length.
func AttributesMD5(attributes map[string]Attribute) string {
	if len(attributes) == 0 {
		return ""
	}
	h := md5.New()
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		a := attributes[name]
		sized(h, []byte(name))
		sized(h, []byte(a.Type))
		transport := []byte{1}
		if a.Binary() {
			transport[0] = 2
		}
		h.Write(transport)
		sized(h, a.Value)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func sized(h hash.Hash, b []byte) {
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(b))) // a message is at most 1 MiB
	h.Write(n[:])
	h.Write(b)
}

// sizeOf is what counts of a message against limits, in bytes.
func sizeOf(body string, attributes map[string]Attribute) int {
	n := len(body)
	for name, a := range attributes {
		n += len(name) + len(a.Type) + len(a.Value)
	}
	return n
}
