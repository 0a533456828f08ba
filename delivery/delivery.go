// Package delivery brings what rules and schedules have for their targets to
// them: what was put into its Queue in a transaction is delivered at least once,
// retried while its policy allows that, and when it is given up goes to its dead
// letters, or is parked.
//
// A delivery is a record whose key tells its turn. What is new stands in one
// line, in which a flood for one target is spread over times to come, so that
// what comes later for another has its turn before most of it. What waits for a
// time (a retry, a window, the end of a lease) stands in a second line, by that
// time. To claim a delivery is to move it to a key of its own, a lease's length
// ahead; so the key is a fencing token: whoever lost the lease to another server
// finds his key gone, and what he was to write with it is not written. A target
// that writes to the same store settles the delivery in its own transaction, and
// so gets it exactly once.
package delivery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// The buckets: what waits or is under way, by its line and turn, and what was
// given up and had nowhere to go, by id.
const (
	bucket       = "deliveries"
	parkedBucket = "parkedDeliveries"
)

// The lines.
const (
	ready = "r/" // by turn
	later = "w/" // by time
)

// Delivery is something for a target. Its JSON, a line end and the payload are
// what is on disk.
type Delivery struct {
	ID string `json:"id"` // a UUID; a new one if empty
	// Account is whose rule or schedule it comes from, and Origin that one's
	// ARN.
	Account hearth.Account `json:"account"`
	Origin  string         `json:"origin"`
	Target  string         `json:"target"` // an ARN
	// Caller is who delivers it, as the target's policies see it.
	Caller  hearth.Identity `json:"caller"`
	GroupID string          `json:"groupId,omitempty"` // in a FIFO queue
	Hops    int             `json:"hops,omitempty"`    // buses that it went through

	Accepted time.Time `json:"accepted"`
	Due      time.Time `json:"due"` // not to be delivered before
	Policy   Policy    `json:"policy"`
	// Letter is what its dead letter tells beside the error.
	Letter map[string]string `json:"letter,omitempty"`

	Attempts int       `json:"attempts,omitempty"` // that failed
	Dead     bool      `json:"dead,omitempty"`     // it is on its way to the dead letters
	Why      string    `json:"why,omitempty"`      // of a parked one
	Parked   time.Time `json:"parked,omitzero"`
	Claimed  bool      `json:"claimed,omitempty"`

	Payload []byte `json:"-"`

	key string
}

// Policy is how long a target is tried.
type Policy struct {
	MaxAge     time.Duration `json:"maxAge"` // since it was due first
	MaxRetries int           `json:"maxRetries"`
	DeadLetter string        `json:"deadLetter,omitempty"` // the ARN of a queue
}

// DefaultPolicy is the service's.
var DefaultPolicy = Policy{MaxAge: 24 * time.Hour, MaxRetries: 185}

// ErrLost is that another server has claimed the delivery meanwhile, or that it
// is done.
var ErrLost = errors.New("the delivery is no longer this server's")

func keyOf(line string, at time.Time, id string) string {
	return fmt.Sprintf("%s%016d/%s", line, at.UnixMicro(), id)
}

// dueOf is the time in a key of the line later.
func dueOf(key string) (time.Time, bool) {
	text, _, ok := strings.Cut(strings.TrimPrefix(key, later), "/")
	us, err := strconv.ParseInt(text, 10, 64)
	return time.UnixMicro(us), ok && err == nil
}

func (d *Delivery) encode() ([]byte, error) {
	head, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	return append(append(head, '\n'), d.Payload...), nil
}

func decode(key string, data []byte) (*Delivery, error) {
	head, payload, ok := bytes.Cut(data, []byte("\n"))
	d := &Delivery{Payload: payload, key: key}
	err := json.Unmarshal(head, d)
	if err == nil && (!ok || d.ID == "") {
		err = errors.New("it has no id or no payload")
	}
	if err != nil {
		return nil, fmt.Errorf("the record of delivery %s is damaged: %w", key, err)
	}
	return d, nil
}

// turn is how far apart in time the turns of what is new for one target are. It
// is about what a delivery takes: only what comes faster is spread over times to
// come.
const turn = time.Millisecond

// maxLanes bounds how many targets' last turns are remembered.
const maxLanes = 10_000

// turnOf is when a new delivery to a target has its turn.
func (q *Queue) turnOf(target string, now time.Time) time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := now
	if last := q.turns[target].Add(turn); last.After(at) {
		at = last
	}
	if len(q.turns) >= maxLanes {
		maps.DeleteFunc(q.turns, func(_ string, last time.Time) bool { return last.Before(now) })
	}
	if len(q.turns) < maxLanes {
		q.turns[target] = at
	}
	return at
}

// Put adds d to the queue as part of a transaction, after which the Queue wants
// a Wake. Account, Origin, Target, Caller, Policy and Payload are set; Due zero
// is at once.
func (q *Queue) Put(tx store.Tx, d Delivery, now time.Time) error {
	if d.ID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		d.ID = id.String()
	}
	now = now.UTC().Round(0)
	if d.Accepted.IsZero() {
		d.Accepted = now
	}
	if d.Due.IsZero() {
		d.Due = now
	}
	data, err := d.encode()
	if err != nil {
		return err
	}
	key := keyOf(later, d.Due, d.ID)
	if !d.Due.After(now) {
		key = keyOf(ready, q.turnOf(d.Target, now), d.ID)
	}
	return tx.Put(bucket, key, data)
}
