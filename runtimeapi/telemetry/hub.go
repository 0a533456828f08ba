package telemetry

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimeapi"
)

// What is kept of the init phase for those who will subscribe in it.
const (
	keptEvents = 1000
	keptBytes  = 256 << 10
)

// Hub takes the events of one execution environment to its subscribers. Safe
// for concurrent use.
type Hub struct {
	clock   hearth.Clock
	dial    Dial
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	closed bool // to subscribers
	kept   []*event
	size   int // of kept, in bytes
	subs   []*subscriber
	paused bool
}

// NewHub makes the hub of an environment whose ports dial reaches.
func NewHub(clock hearth.Clock, dial Dial) *Hub {
	h := &Hub{clock: clock, dial: dial}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// Serve answers a subscription by the extension of that name.
func (h *Hub) Serve(r *runtimeapi.Request, name string) runtimeapi.Reply {
	logs := r.Path == LogsPath
	if r.Method != http.MethodPut {
		return runtimeapi.Reply{Status: http.StatusMethodNotAllowed, Header: [][2]string{{"Allow", http.MethodPut}}}
	}
	s, err := parse(r.Body, logs)
	if err != nil {
		errorType := "ValidationError"
		if logs {
			errorType = "Logs.ValidationError"
		}
		return refusal(http.StatusBadRequest, errorType, err.Error())
	}
	return h.subscribe(s, name)
}

// subscribe adds a subscriber. One that subscribes again keeps what it has.
func (h *Hub) subscribe(sub *subscription, name string) runtimeapi.Reply {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		if sub.logs {
			return refusal(http.StatusForbidden, "Logs.SubscriptionClosed", "Logs API subscription is closed already")
		}
		return refusal(http.StatusForbidden, "Telemetry.SubscriptionClosed", "Telemetry API subscription is closed already")
	}
	ok := runtimeapi.Reply{Status: http.StatusOK, ContentType: "application/json", Body: []byte(`"OK"`)}
	for _, s := range h.subs {
		switch {
		case s.name != name:
		case s.logs == sub.logs:
			return ok
		case s.logs:
			return refusal(http.StatusBadRequest, "ValidationError", "the extension is subscribed to the Logs API already")
		default:
			return refusal(http.StatusBadRequest, "Logs.ValidationError", "the extension is subscribed to the Telemetry API already")
		}
	}
	s := &subscriber{
		subscription: sub, name: name, clock: h.clock, client: newClient(sub, h.dial), awake: make(chan struct{}, 1), paused: h.paused,
	}
	for _, e := range h.kept {
		s.add(e)
	}
	h.subs = append(h.subs, s)
	h.running.Go(func() { s.run(h.ctx) })
	h.publish(&event{at: h.clock.Now(), kind: sub.announcement(), record: marshal(subscriptionRecord{name, "Subscribed", sub.types})})
	return ok
}

// announcement is the event that tells of the subscription.
func (s *subscription) announcement() string {
	if s.logs {
		return "platform.logsSubscription"
	}
	return "platform.telemetrySubscription"
}

// Subscription is what is known of a subscription.
type Subscription struct {
	Name  string
	Logs  bool     // by the Logs API
	Types []string // as they are written in the request
}

// Subscriptions are all that there are.
func (h *Hub) Subscriptions() (all []Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.subs {
		all = append(all, Subscription{s.name, s.logs, s.types})
	}
	return all
}

// Close ends subscribing, with the init phase, and reports whether there is a
// subscriber: if not, nothing needs to be published any more.
func (h *Hub) Close() (subscribed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed, h.kept, h.size = true, nil, 0
	return len(h.subs) > 0
}

// publish takes an event to those who want it, and keeps it for those who may
// subscribe yet. mu is held.
func (h *Hub) publish(e *event) {
	for _, s := range h.subs {
		s.add(e)
	}
	if size := len(e.record) + len(e.object); !h.closed && len(h.kept) < keptEvents && h.size+size <= keptBytes {
		h.kept = append(h.kept, e)
		h.size += size
	}
}

func (h *Hub) send(e *event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.publish(e)
}

// Line publishes a line that the function, or one of its extensions, wrote.
// asJSON says that the function's log format is JSON.
func (h *Hub) Line(at time.Time, extension, asJSON bool, line []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed && len(h.subs) == 0 {
		return
	}
	e := &event{at: at, kind: Function, record: text(line)}
	if extension {
		e.kind = Extension
	}
	if asJSON {
		e.object = objectOf(line)
	}
	h.publish(e)
}

// Pause stops delivery while the environment is frozen; Resume lets it go on.
func (h *Hub) Pause()  { h.setPaused(true) }
func (h *Hub) Resume() { h.setPaused(false) }

func (h *Hub) setPaused(paused bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.paused = paused
	for _, s := range h.subs {
		s.pause(paused)
	}
}

// Flush has what is queued delivered at once; and, if forever, all that comes:
// the environment is about to end.
func (h *Hub) Flush(forever bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.subs {
		s.flush(forever)
	}
}

// Idle reports whether nothing waits for delivery.
func (h *Hub) Idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.subs {
		if !s.idle() {
			return false
		}
	}
	return true
}

// Stop ends delivery, and returns when it has. What was not delivered is lost.
func (h *Hub) Stop() {
	h.mu.Lock()
	h.closed = true
	subs := h.subs
	h.mu.Unlock()
	h.cancel()
	for _, s := range subs {
		s.stop()
	}
	h.running.Wait()
}

// refusal is the answer to a subscription that cannot be.
func refusal(status int, errorType, message string) runtimeapi.Reply {
	body := marshal(struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}{errorType, message})
	return runtimeapi.Reply{Status: status, ContentType: "application/json", Body: append(body, '\n')}
}
