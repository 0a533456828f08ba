package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	hearth "github.com/hearth-faas/hearth"
)

// BusLine is an event that came to a bus, or how many were left out before the
// next because the reader was too slow.
type BusLine struct {
	Event  json.RawMessage `json:"event,omitempty"`
	Missed uint64          `json:"missed,omitempty"`
}

// BusEvents shows events as they come to a bus. Safe for concurrent use.
type BusEvents interface {
	// Follow calls emit once with nothing when it has begun, and then with each
	// event, until ctx ends or emit returns an error.
	Follow(ctx context.Context, account hearth.Account, bus string, emit func(BusLine) error) error
}

// events streams one JSON document a line, until the client leaves.
func (h *Handler) events(w http.ResponseWriter, r *http.Request, account hearth.Account, q url.Values) {
	out, enc := http.NewResponseController(w), json.NewEncoder(w)
	started := false
	err := h.BusEvents.Follow(r.Context(), account, q.Get("bus"), func(l BusLine) error {
		if !started {
			started = true
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.WriteHeader(http.StatusOK) // so that the client knows at once that it is heard
		}
		if l.Event != nil || l.Missed > 0 {
			if err := enc.Encode(l); err != nil {
				return err
			}
		}
		return out.Flush()
	})
	switch {
	case err == nil || r.Context().Err() != nil:
	case !started:
		h.fail(w, r, err)
	default:
		h.log().Debug("showing events", "err", err) // the client did not read on
	}
}

// Events calls emit with each event that comes to a bus ("" is the default
// one), until emit returns an error or ctx ends.
func (c *Client) Events(ctx context.Context, bus string, emit func(BusLine) error) error {
	v := url.Values{}
	set(v, "bus", bus)
	body, err := c.open(ctx, http.MethodGet, "/events", v, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	dec := json.NewDecoder(bufio.NewReaderSize(body, 64<<10))
	for {
		var l BusLine
		switch err := dec.Decode(&l); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the events broke off: %w", err)
		}
		if err := emit(l); err != nil {
			return err
		}
	}
}
