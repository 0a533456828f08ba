package control

import (
	"net"
	"net/http"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/audit"
)

// record is a call's way into the audit log; nil is that nothing is recorded.
type record struct {
	h         *Handler
	event     audit.Event
	params    audit.Parameters
	place     *audit.Place
	signature string
}

// begin starts the record of a call that was let in, or refused with err.
func (h *Handler) begin(r *http.Request, path string, acts bool, id hearth.Identity, body []byte) *record {
	if h.Audit == nil {
		return nil
	}
	key, signature := credential(r)
	ip, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		ip = r.RemoteAddr
	}
	rec := &record{h: h, signature: signature, event: audit.Event{
		Time: time.Now(), Account: id.Account, Principal: id.ARN, AccessKeyID: key, SourceIP: ip, UserAgent: r.UserAgent(),
		Service: SigningService, Action: ActionOf(path), ReadOnly: !acts,
	}}
	rec.params.Values(r.URL.Query())
	rec.params.JSON(body)
	rec.event.Resource = rec.params.Name("function", "name", "id", "account", "node", "offer", "arn")
	return rec
}

// mayChange takes room for the record of a change, which is refused where there
// is none, and where it was made before with the same signature.
func (r *record) mayChange() (err error) {
	if r == nil || r.event.ReadOnly {
		return nil
	}
	if r.h.Replays != nil && r.signature != "" {
		if err := r.h.Replays.Fresh(r.signature, r.event.SourceIP, time.Now()); err != nil {
			return err
		}
	}
	r.place, err = r.h.Audit.Admit()
	return err
}

// ended records what became of the call, and returns what its caller is told.
func (r *record) ended(err error) error {
	if r == nil {
		return err
	}
	r.params.To(&r.event)
	if err != nil {
		r.event.ErrorCode = string(hearth.KindOf(err))
	}
	if r.place == nil {
		r.h.Audit.Note(&r.event)
		return err
	}
	if werr := r.place.Record(&r.event); werr != nil && err == nil {
		return hearth.Errorf(hearth.Service, "It was done, but is not in the audit log yet: %w", werr)
	}
	return err
}

// credential reads the access key's id and the signature that a request is
// signed with by its header; "" if it is not.
func credential(r *http.Request) (key, signature string) {
	_, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Credential":
			key, _, _ = strings.Cut(value, "/")
		case "Signature":
			signature = value
		}
	}
	return key, signature
}
