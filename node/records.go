package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/worker/logs"
)

// What functions print on a node, and what its manager decides, goes to the
// server in batches, in the order in which it came. What the server can't take
// waits, as much as there is room for; what comes beyond that is dropped, and
// the log says how much, as it does when a disk is too slow.

// Bounds of what waits, and of one batch.
const (
	maxWaiting  = 8 << 20
	maxBatch    = 512 << 10
	shipEvery   = 25 * time.Millisecond
	shipAgain   = time.Second
	shipTimeout = 10 * time.Second
)

// record is a line of a batch: a line of a log, a decision, or what was used.
type record struct {
	Account  hearth.Account   `json:"a,omitempty"`
	Group    string           `json:"g,omitempty"`
	Stream   string           `json:"s,omitempty"`
	At       int64            `json:"t,omitempty"` // ns since 1970
	Request  string           `json:"r,omitempty"`
	Message  []byte           `json:"m,omitempty"`
	Decision *hearth.Decision `json:"d,omitempty"`
	Used     *used            `json:"u,omitempty"`
}

// Records takes a node's logs, decisions and use to its server. It is a
// logs.Keeper, a hearth.Recorder and a hearth.Meter. Safe for concurrent use.
type Records struct {
	home *Home
	name string // the node's

	mu      sync.Mutex
	waiting []record
	bytes   int
	dropped int
	used    tally
	wake    chan struct{}

	ctx     context.Context
	cancel  context.CancelFunc
	closing chan struct{}
	done    chan struct{}
}

var (
	_ logs.Keeper     = (*Records)(nil)
	_ hearth.Recorder = (*Records)(nil)
	_ hearth.Meter    = (*Records)(nil)
)

// NewRecords makes a Records and begins to send.
func NewRecords(home *Home, name string) *Records {
	r := &Records{home: home, name: name, used: newTally(), wake: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	go r.run()
	return r
}

type stream struct {
	r       *Records
	account hearth.Account
	group   string
	name    string
}

// Appender implements logs.Keeper.
func (r *Records) Appender(account hearth.Account, group, name string) logs.Appender {
	return &stream{r, account, group, name}
}

// Append implements logs.Appender.
func (s *stream) Append(at time.Time, requestID string, message []byte) {
	s.r.add(record{Account: s.account, Group: s.group, Stream: s.name, At: at.UnixNano(), Request: requestID, Message: bytes.Clone(message)})
}

// Record implements hearth.Recorder.
func (r *Records) Record(d *hearth.Decision) {
	one := *d
	one.Node = r.name
	if one.At.IsZero() {
		one.At = time.Now()
	}
	r.add(record{Decision: &one})
}

// recordBytes is what a record counts for beside its message.
const recordBytes = 300

func (r *Records) add(one record) {
	n := recordBytes + len(one.Message)
	r.mu.Lock()
	if r.bytes+n > maxWaiting {
		r.dropped++
		r.mu.Unlock()
		return
	}
	if r.dropped > 0 && one.Decision == nil {
		lost := one
		lost.Request, lost.Message = "", fmt.Appendf(nil, "[hearth] %d log events and decisions of a node were dropped here: the server could not take them.\n", r.dropped)
		r.waiting = append(r.waiting, lost)
		r.bytes += recordBytes
		r.dropped = 0
	}
	r.waiting = append(r.waiting, one)
	r.bytes += n
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run sends batches until it is closed and nothing waits, or it is too late.
func (r *Records) run() {
	defer close(r.done)
	closing := false
	for {
		if !closing {
			select {
			case <-r.wake:
				select { // others come with it
				case <-time.After(shipEvery):
				case <-r.closing:
				}
			case <-r.closing:
				closing = true
			}
		}
		for r.send() {
		}
		r.mu.Lock()
		left := len(r.waiting) + len(r.used.sums)
		r.mu.Unlock()
		switch {
		case closing && left == 0, r.ctx.Err() != nil:
			return
		case left > 0: // it could not be sent
			select {
			case <-time.After(shipAgain):
			case <-r.ctx.Done():
				return
			}
			select {
			case r.wake <- struct{}{}:
			default:
			}
		}
	}
}

// send sends a batch, and reports whether there is more that may go at once.
func (r *Records) send() (more bool) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	r.mu.Lock()
	r.tellUsed()
	n, size := 0, 0
	for n < len(r.waiting) && size < maxBatch {
		size += recordBytes + len(r.waiting[n].Message)
		n++
	}
	batch := r.waiting[:n:n]
	r.mu.Unlock()
	if n == 0 {
		return false
	}
	for i := range batch {
		if err := enc.Encode(&batch[i]); err != nil { // of plain types never
			r.home.log.Error("a record of this node can't be written", "error", err)
		}
	}
	ctx, cancel := context.WithTimeout(r.ctx, shipTimeout)
	defer cancel()
	if err := r.home.post(ctx, "/records", &b); err != nil {
		if r.ctx.Err() == nil {
			r.home.log.Warn("logs and decisions of this node wait, since the server does not take them", "error", err)
		}
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append([]record(nil), r.waiting[n:]...)
	r.bytes -= size
	return len(r.waiting) > 0
}

// Close sends what waits, for as long as ctx allows.
func (r *Records) Close(ctx context.Context) error {
	close(r.closing)
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		r.cancel()
		<-r.done
		return fmt.Errorf("some of the logs of this node did not get to the server: %w", context.Cause(ctx))
	}
}

// post sends a body as it is.
func (h *Home) post(ctx context.Context, path string, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url+path, body)
	if err != nil {
		return err
	}
	resp, err := h.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxHead))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = refusal(resp.StatusCode, b)
	}
	return err
}

// records takes a batch in.
func (h *HomeHandler) records(w http.ResponseWriter, r *http.Request) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 8*maxBatch))
	type key struct {
		account       hearth.Account
		group, stream string
	}
	streams := map[key]logs.Appender{}
	for {
		var one record
		switch err := dec.Decode(&one); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return hearth.Errorf(hearth.InvalidParameter, "The records can't be read: %w", err)
		}
		if one.Used != nil {
			h.meter(one.Used)
			continue
		}
		if one.Decision != nil {
			one.Decision.Seq, one.Decision.Mono = 0, 0 // they are this server's
			h.Recorder.Record(one.Decision)
			continue
		}
		k := key{one.Account, one.Group, one.Stream}
		if streams[k] == nil {
			streams[k] = h.Logs.Appender(one.Account, one.Group, one.Stream)
		}
		streams[k].Append(time.Unix(0, one.At), one.Request, one.Message)
	}
}
