package control

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// Sources keeps the event sources that are registered under a name. Safe for
// concurrent use.
type Sources interface {
	List(ctx context.Context, account hearth.Account) ([]EventSource, error)
	// Add makes a source, or changes the one that has the name; nil leaves its
	// secret as it is. A token that it made for one that needs it is told this
	// once.
	Add(ctx context.Context, account hearth.Account, name, url string, secret *string) (EventSource, error)
	Remove(ctx context.Context, account hearth.Account, name string) error
	// Notify takes in what an object store's server sends about what happened in
	// it, with the source's token, and returns when it is on disk.
	Notify(ctx context.Context, account hearth.Account, name, token string, body []byte) error
}

// EventSource is a registered event source.
type EventSource struct {
	Name     string    `json:"name"`
	ARN      string    `json:"arn"` // what mappings call it
	URL      string    `json:"url,omitempty"`
	Kind     string    `json:"kind,omitempty"`
	Secret   bool      `json:"secret"` // it has one
	Modified time.Time `json:"modified"`
	// Token lets an object store's server notify. It is told only by
	// /sources/add.
	Token string `json:"token,omitempty"`
}

// SourceList is the answer of /sources, by name.
type SourceList struct {
	Sources []EventSource `json:"sources"`
}

func (h *Handler) sources(ctx context.Context, a ask) (any, error) {
	list, err := h.Sources.List(ctx, a.account)
	return SourceList{some(list)}, err
}

// SourceSettings are the body of /sources/add.
type SourceSettings struct {
	URL    string  `json:"url,omitempty"`
	Secret *string `json:"secret,omitempty"` // absent leaves it as it is
}

func (h *Handler) addSource(ctx context.Context, a ask) (any, error) {
	name, err := needed(a, "name")
	if err != nil {
		return nil, err
	}
	var s SourceSettings
	dec := json.NewDecoder(strings.NewReader(string(a.body)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The body is no event source: %v.", err)
	}
	return h.Sources.Add(ctx, a.account, name, s.URL, s.Secret)
}

// SourceName is the answer of /sources/remove.
type SourceName struct {
	Name string `json:"name"`
}

func (h *Handler) removeSource(ctx context.Context, a ask) (any, error) {
	name, err := needed(a, "name")
	if err != nil {
		return nil, err
	}
	return SourceName{name}, h.Sources.Remove(ctx, a.account, name)
}

// notifyPath is where object stores' servers notify, with a source's token.
const notifyPath = "/sources/notify"

// notify is how a server that cannot sign says what happened to its objects: as
// it has to be told one URL, the token may stand there.
func (h *Handler) notify(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	token := q.Get("token")
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		token = bearer
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		err = hearth.Errorf(hearth.InvalidParameter, "The body can't be read: %v.", err)
	} else {
		err = h.Sources.Notify(r.Context(), hearth.Account(q.Get("account")), q.Get("name"), token, body)
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusOK) // and no body, which servers leave unread, and their connection with it
}

// Sources lists the registered event sources.
func (c *Client) Sources(ctx context.Context) ([]EventSource, error) {
	list, err := get[SourceList](ctx, c, "/sources", nil)
	return list.Sources, err
}

// AddSource registers an event source, or changes the one that has the name; a
// nil secret leaves it as it is.
func (c *Client) AddSource(ctx context.Context, name, rawURL string, secret *string) (EventSource, error) {
	body, err := json.Marshal(SourceSettings{rawURL, secret})
	if err != nil {
		return EventSource{}, err
	}
	return send[EventSource](ctx, c, http.MethodPost, "/sources/add", url.Values{"name": {name}}, body)
}

// RemoveSource forgets an event source.
func (c *Client) RemoveSource(ctx context.Context, name string) error {
	_, err := send[SourceName](ctx, c, http.MethodPost, "/sources/remove", url.Values{"name": {name}}, nil)
	return err
}
