package frontend

import (
	"crypto/rand"
	"encoding/hex"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
)

func newUUID() string { return uuid.NewString() }

// newTraceID makes an X-Ray trace header for an invocation of fn that brought
// none: a root of the time and 96 random bits, a parent of 64, not sampled, and
// the first of its chain.
func newTraceID(at time.Time, fn *hearth.Function) string {
	var random [20]byte
	_, _ = rand.Read(random[:]) // never fails
	b := make([]byte, 0, 93)
	b = append(b, "Root=1-"...)
	s := uint32(at.Unix())
	b = hex.AppendEncode(b, []byte{byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)})
	b = append(b, '-')
	b = hex.AppendEncode(b, random[:12])
	b = append(b, ";Parent="...)
	b = hex.AppendEncode(b, random[12:])
	b = append(b, ";Sampled=0;"+lineagePrefix...)
	return string(appendEntry(b, lineageID(fn), 0))
}
