package durable

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
)

// key is under which an execution is stored. The id, which begins with the
// time, is in it turned inside out, so that the newest of a function comes
// first.
func key(account hearth.Account, function, id string) string {
	u, err := uuid.Parse(id)
	if err != nil {
		return string(account) + "/" + function + "/" + id // of nothing that there is
	}
	for i := range u {
		u[i] = ^u[i]
	}
	return string(account) + "/" + function + "/" + hex.EncodeToString(u[:])
}

// newID makes an execution's id: a UUID of version 7.
func newID(now time.Time, random func([]byte)) string {
	var u uuid.UUID
	random(u[:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(u[:6], ms[2:])
	u[6] = u[6]&0x0f | 0x70
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}

// newName makes a name for an execution that was given none.
func newName(random func([]byte)) string {
	var u uuid.UUID
	random(u[:])
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}

var arnShape = regexp.MustCompile(`^arn:[a-zA-Z0-9-]+:lambda:([a-zA-Z0-9-]+):(\d{12}):function:([a-zA-Z0-9_-]+):(\$LATEST(?:\.PUBLISHED)?|[0-9]+)/durable-execution/([a-zA-Z0-9_-]+)/([a-zA-Z0-9_-]+)$`)

// ARN is the ARN of an execution, taken apart.
type ARN struct {
	Region   string
	Account  hearth.Account
	Function string
	Version  string
	Name     string
	ID       string
}

// ParseARN takes an execution's ARN apart; false if it is none.
func ParseARN(s string) (ARN, bool) {
	m := arnShape.FindStringSubmatch(s)
	if m == nil {
		return ARN{}, false
	}
	return ARN{m[1], hearth.Account(m[2]), m[3], m[4], m[5], m[6]}, true
}

// token is what a checkpoint token says: which of the checkpoints of which
// invocation is to follow. In bytes: version 1, id 16, nonce 8, invocation 4,
// checkpoint 4.
type token struct {
	id          string
	nonce       string
	invocation  int
	checkpoints int
}

const tokenSize = 1 + 16 + 8 + 4 + 4

func (t token) String() string {
	b := make([]byte, 0, tokenSize)
	b = append(b, 1)
	u, _ := uuid.Parse(t.id) // of our own making
	b = append(b, u[:]...)
	nonce, _ := hex.DecodeString(t.nonce)
	b = append(b, nonce...)
	b = binary.BigEndian.AppendUint32(b, uint32(t.invocation))
	b = binary.BigEndian.AppendUint32(b, uint32(t.checkpoints))
	return base64.StdEncoding.EncodeToString(b)
}

func parseToken(s string) (t token, ok bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != tokenSize || b[0] != 1 {
		return t, false
	}
	return token{
		id: uuid.UUID(b[1:17]).String(), nonce: hex.EncodeToString(b[17:25]),
		invocation: int(binary.BigEndian.Uint32(b[25:])), checkpoints: int(binary.BigEndian.Uint32(b[29:])),
	}, true
}

// token is what the next checkpoint of the invocation under way must bring.
func (r *record) token() token {
	return token{r.ID, r.Invocation.Nonce, r.Invocations, r.Invocation.Checkpoints}
}

// callback is what a callback's id says: the operation, and 8 random bytes in
// hexadecimal, without which nobody can end it.
type callback struct {
	account   hearth.Account
	function  string
	id        string
	operation string
	nonce     string
}

func (c callback) String() string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Join(
		[]string{"1", string(c.account), c.function, c.id, c.operation, c.nonce}, "\n")))
}

func parseCallback(s string) (c callback, ok bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return c, false
	}
	p := strings.Split(string(b), "\n")
	if len(p) != 6 || p[0] != "1" {
		return c, false
	}
	return callback{hearth.Account(p[1]), p[2], p[3], p[4], p[5]}, true
}

func randomHex(random func([]byte)) string {
	var b [8]byte
	random(b[:])
	return hex.EncodeToString(b[:])
}
