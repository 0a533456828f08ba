package async

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// The buckets, both by event id: what waits or runs, and what was given up and
// had nowhere to go.
const (
	eventsBucket = "events"
	parkedBucket = "parkedEvents"
)

// event is an asynchronous invocation that was accepted and has not ended. On
// disk it is its JSON, a line end, and the payload as it came. The names are
// those on disk.
type event struct {
	ID            string         `json:"id"` // the request id of all its attempts
	Account       hearth.Account `json:"account"`
	Function      string         `json:"function"`
	Qualifier     string         `json:"qualifier,omitempty"` // as the caller gave it
	CallerAccount hearth.Account `json:"callerAccount"`
	CallerARN     string         `json:"callerArn"`
	CallerID      string         `json:"callerId,omitempty"`
	ClientContext string         `json:"clientContext,omitempty"`
	APIKey        []byte         `json:"apiKey,omitempty"` // its hash
	TraceID       string         `json:"traceId,omitempty"`
	TenantID      string         `json:"tenantId,omitempty"`
	MemoryMiB     int            `json:"memoryMiB,omitempty"` // that its caller asked for
	Recompute     bool           `json:"recompute,omitempty"` // its caller insists on a run
	Accepted      time.Time      `json:"accepted"`
	Due           time.Time      `json:"due"` // not to be run before

	// Capacity is what its attempts take whatever the function's policy says.
	Capacity hearth.CapacityKind `json:"capacity,omitempty"`

	Attempts int `json:"attempts,omitempty"` // that ran the function and failed
	Misses   int `json:"misses,omitempty"`   // in a row that did not get to run it

	// Reason tells why a parked event was given up, and where it could not be
	// sent; Last what its last attempt answered.
	Reason string `json:"reason,omitempty"`
	Last   string `json:"last,omitempty"`

	payload []byte
}

func (e *event) encode() ([]byte, error) {
	head, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return append(append(head, '\n'), e.payload...), nil
}

// decode reads an event; its payload is a part of data.
func decode(data []byte) (*event, error) {
	head, payload, ok := bytes.Cut(data, []byte("\n"))
	if !ok {
		return nil, errors.New("an event without a payload")
	}
	e := &event{payload: payload}
	if err := json.Unmarshal(head, e); err != nil {
		return nil, err
	}
	if e.ID == "" || e.Account == "" || e.Function == "" {
		return nil, errors.New("an event of nobody")
	}
	return e, nil
}

// journal keeps events on disk.
type journal struct{ store store.Store }

// all yields what is on disk, without payloads, in the order of the ids, which
// is that of acceptance.
func (j journal) all(ctx context.Context, take func(*event)) error {
	return j.store.View(ctx, func(r store.Reader) error {
		for rec, err := range r.Scan(eventsBucket, "", "") {
			if err != nil {
				return err
			}
			e, err := decode(rec.Value)
			if err != nil {
				return fmt.Errorf("the record of event %s is damaged: %w", rec.Key, err)
			}
			e.payload = nil
			take(e)
		}
		return nil
	})
}

// read returns an event, or nil if there is none.
func (j journal) read(ctx context.Context, id string) (e *event, err error) {
	err = j.store.View(ctx, func(r store.Reader) error {
		e = nil
		data, ok, err := r.Get(eventsBucket, id)
		if err != nil || !ok {
			return err
		}
		e, err = decode(data)
		return err
	})
	return e, err
}

// change is what the end of an attempt does to the disk, all at once.
type change struct {
	put    []*event // events that wait from now on
	park   *event
	remove string // the id of an event that has ended
	also   func(store.Tx) error
}

func (j journal) apply(ctx context.Context, c change) error {
	puts := make([][]byte, len(c.put))
	for i, e := range c.put {
		var err error
		if puts[i], err = e.encode(); err != nil {
			return err
		}
	}
	var parked []byte
	if c.park != nil {
		var err error
		if parked, err = c.park.encode(); err != nil {
			return err
		}
	}
	return j.store.Update(ctx, func(tx store.Tx) error {
		for i, e := range c.put {
			if err := tx.Put(eventsBucket, e.ID, puts[i]); err != nil {
				return err
			}
		}
		if c.park != nil {
			if err := tx.Put(parkedBucket, c.park.ID, parked); err != nil {
				return err
			}
		}
		if c.also != nil {
			if err := c.also(tx); err != nil {
				return err
			}
		}
		if c.remove != "" {
			return tx.Delete(eventsBucket, c.remove)
		}
		return nil
	})
}

// parked yields parked events until take returns false.
func (j journal) parked(ctx context.Context, take func(*event) bool) error {
	return j.store.View(ctx, func(r store.Reader) error {
		for rec, err := range r.Scan(parkedBucket, "", "") {
			if err != nil {
				return err
			}
			e, err := decode(rec.Value)
			if err != nil {
				return fmt.Errorf("the record of parked event %s is damaged: %w", rec.Key, err)
			}
			if !take(e) {
				return nil
			}
		}
		return nil
	})
}

// unpark takes a parked event of the account back into the queue, as if it had
// been accepted at now; nil if there is none.
func (j journal) unpark(ctx context.Context, account hearth.Account, id string, now time.Time) (e *event, err error) {
	err = j.store.Update(ctx, func(tx store.Tx) error {
		e = nil
		data, ok, err := tx.Get(parkedBucket, id)
		if err != nil || !ok {
			return err
		}
		if e, err = decode(data); err != nil {
			return err
		}
		if e.Account != account {
			e = nil
			return nil
		}
		e.Accepted, e.Due, e.Attempts, e.Misses, e.Reason, e.Last, e.Capacity = now, now, 0, 0, "", "", ""
		if data, err = e.encode(); err != nil {
			return err
		}
		if err := tx.Put(eventsBucket, id, data); err != nil {
			return err
		}
		return tx.Delete(parkedBucket, id)
	})
	return e, err
}

// forgetAtOnce bounds how many records one transaction removes.
const forgetAtOnce = 1000

// forget removes the parked events that are old.
func (j journal) forget(ctx context.Context, isOld func(*event) bool) error {
	for {
		var old []string
		err := j.parked(ctx, func(e *event) bool {
			if isOld(e) {
				old = append(old, e.ID)
			}
			return len(old) < forgetAtOnce
		})
		if err != nil || len(old) == 0 {
			return err
		}
		err = j.store.Update(ctx, func(tx store.Tx) error {
			for _, id := range old {
				if err := tx.Delete(parkedBucket, id); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}
