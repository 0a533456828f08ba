// Package audit keeps the log of control-plane calls: who did what to which
// resource, when, from where, and what came of it; refused calls too.
//
// The log is append-only and chained: each record has a keyed hash over itself
// and the one before it, so that a record that was changed, put in or taken
// out, and an end that was cut off, are found (Verify). A change's answer is
// given only when its record is on disk (Log.Admit, Place.Record); what only
// reads, and what was refused, is written within a moment and waits for
// nothing (Log.Note). Where the disk is full, changes are refused.
//
// No secret gets in: of a request's parameters only those on an allow-list are
// recorded (redact.go), and neither code, environments, policies' texts nor
// messages of errors are on it.
package audit

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hearth-faas/hearth"
)

// Event is one call of the control plane, as it is recorded.
type Event struct {
	// Seq numbers the records from 1, without a gap. The log gives it, and ID
	// and Time where they are not set.
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"` // when the call came
	ID   string    `json:"eventId"`
	// RequestID is what the caller was told.
	RequestID string `json:"requestId,omitempty"`
	// Account is the caller's; "" if it was not proven who called. Then
	// Principal is "" too, and AccessKeyID is what the call claimed.
	Account     hearth.Account `json:"account,omitempty"`
	Principal   string         `json:"principal,omitempty"` // ARN
	AccessKeyID string         `json:"accessKeyId,omitempty"`
	SourceIP    string         `json:"sourceIp,omitempty"` // of a function's own call: its container
	UserAgent   string         `json:"userAgent,omitempty"`
	Service     string         `json:"service"` // as the call was signed for, such as lambda
	Action      string         `json:"action"`  // in IAM's form, such as lambda:CreateFunction
	// Resource is the ARN or the name that the call gave; Owner is whose it
	// is, if it is another account's than the caller's.
	Resource   string            `json:"resource,omitempty"`
	Owner      hearth.Account    `json:"resourceAccount,omitempty"`
	Parameters map[string]string `json:"parameters,omitempty"`
	// Omitted is how many parameters are not on the allow-list.
	Omitted  int  `json:"parametersOmitted,omitempty"`
	ReadOnly bool `json:"readOnly"`
	// ErrorCode is the kind of the error that the caller was told; "" is
	// success.
	ErrorCode string `json:"errorCode,omitempty"`
	// Times is how many calls the record stands for, if not for one: reads and
	// refusals of the same kind beyond what is recorded one by one.
	Times int `json:"times,omitempty"`
}

// Bounds of a record's parts, in bytes, so that maxRecord holds.
const (
	maxText       = 256
	maxARN        = 512
	maxParameters = 24
	maxRecord     = 16 << 10
)

// bound cuts the event's texts to what a record may have.
func (e *Event) bound() {
	for _, f := range []struct {
		text *string
		most int
	}{
		{&e.RequestID, maxText}, {&e.Principal, maxARN}, {&e.AccessKeyID, 128}, {&e.SourceIP, 128}, {&e.UserAgent, maxText},
		{&e.Service, 64}, {&e.Action, 128}, {&e.Resource, maxARN}, {&e.ErrorCode, 128},
	} {
		*f.text = plain(*f.text, f.most)
	}
}

// plain is s in at most n bytes, with nothing in it that is not printed or
// takes more than its own length in JSON.
func plain(s string, n int) string {
	if len(s) > n {
		s = s[:n]
		for s != "" && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r < ' ', r == 0x7f, r == utf8.RuneError, r == '\\', r == '<', r == '>', r == '&', r == '\u2028', r == '\u2029':
			return '?' // what JSON would make longer
		}
		return r
	}, s)
}

// readers begin the names of operations that change nothing.
var readers = []string{"Get", "List", "Describe", "Filter", "Lookup", "Check", "Query", "Test", "Simulate", "Search", "Head", "Export"}

// ReadOnly tells by an operation's name whether it changes nothing. Whoever
// issues credentials changes something: who may do what.
func ReadOnly(service, operation string) bool {
	if service == "sts" {
		return operation == "GetCallerIdentity" || operation == "GetAccessKeyInfo" || operation == "DecodeAuthorizationMessage"
	}
	for _, r := range readers {
		if rest, ok := strings.CutPrefix(operation, r); ok && (rest == "" || rest[0] >= 'A' && rest[0] <= 'Z') {
			return true
		}
	}
	return false
}
