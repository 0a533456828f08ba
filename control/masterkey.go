package control

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// MasterKey is the key that seals all secrets at rest. Safe for concurrent use.
type MasterKey interface {
	Status(ctx context.Context) (KeyStatus, error)
	// Rotate replaces the key while everything goes on. The new one is in the
	// file to, an absolute path; "" is where the old one was. Temporary
	// credentials end soon, or with endSessions at once.
	Rotate(ctx context.Context, to string, endSessions bool) (KeyStatus, error)
}

// KeyStatus tells of the keys what is not secret.
type KeyStatus struct {
	ID     string `json:"id"`     // of the master key
	File   string `json:"file"`   // where it is
	Inside bool   `json:"inside"` // in the data folder
	// DataKeys are the data keys, the oldest first.
	DataKeys []DataKey `json:"dataKeys"`
	// Resealing is whether what older keys have sealed is being sealed by the
	// newest, Resealed how much that was since the server's start, and Failing
	// why it does not come to an end.
	Resealing bool   `json:"resealing"`
	Resealed  int    `json:"resealed"`
	Failing   string `json:"failing,omitempty"`
}

// DataKey is one of the keys that the master key seals.
type DataKey struct {
	Generation uint32    `json:"generation"`
	Created    time.Time `json:"created,omitzero"` // absent: with the data folder
	Current    bool      `json:"current"`          // it seals what comes
	// Records is how much it seals, by kind.
	Records map[string]int `json:"records,omitempty"`
}

// Total is how many records the key seals.
func (s DataKey) Total() (n int) {
	for _, of := range s.Records {
		n += of
	}
	return n
}

func (h *Handler) keyStatus(ctx context.Context, _ ask) (any, error) { return h.MasterKey.Status(ctx) }

func (h *Handler) rotateKey(ctx context.Context, a ask) (any, error) {
	end, err := truth(a, "end-sessions")
	if err != nil {
		return nil, err
	}
	return h.MasterKey.Rotate(ctx, a.q.Get("to"), end)
}

// KeyStatus tells of the server's keys; the operator may ask.
func (c *Client) KeyStatus(ctx context.Context) (KeyStatus, error) {
	return get[KeyStatus](ctx, c, "/key", nil)
}

// RotateKey is MasterKey.Rotate.
func (c *Client) RotateKey(ctx context.Context, to string, endSessions bool) (KeyStatus, error) {
	q := url.Values{"end-sessions": {strconv.FormatBool(endSessions)}}
	set(q, "to", to)
	return send[KeyStatus](ctx, c, http.MethodPost, "/key/rotate", q, nil)
}
