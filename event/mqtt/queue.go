package mqtt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/eclipse/paho.golang/paho"

	"github.com/hearth-faas/hearth/event/message"
	"github.com/hearth-faas/hearth/event/poll"
)

// queue is a session as a poll.Queue. What was not acknowledged when its
// connection ends, the broker sends again on the next one.
type queue struct {
	filter, client string
	form           message.Form
	conn           *paho.Client
	in             chan *paho.Publish // as many as may be unacknowledged
	began          int64              // makes IDs of one connection differ from those of the next
	count          uint64             // only Take's

	mu    sync.Mutex
	back  []*poll.Record // released, for the next Take
	cause error          // why the connection ended
	lost  chan struct{}  // closed when it has
}

func (q *queue) Traits() poll.Traits { return poll.Traits{} }

// receive has what came waiting for Take. It blocks the connection only for
// messages of QoS 0, which the broker sends without counting.
func (q *queue) receive(p paho.PublishReceived) (bool, error) {
	select {
	case q.in <- p.Packet:
	case <-q.lost:
	}
	return true, nil
}

// broken ends the source: it is opened anew.
func (q *queue) broken(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cause == nil {
		q.cause = err
		close(q.lost)
	}
}

// Take takes what was given back, and then what came.
func (q *queue) Take(ctx context.Context, most int, wait time.Duration) (records []*poll.Record, err error) {
	q.mu.Lock()
	n := min(most, len(q.back))
	records, q.back = q.back[:n:n], q.back[n:]
	q.mu.Unlock()
	var timer <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		timer = t.C
	}
	for len(records) < most {
		select {
		case <-q.lost:
			// What is in q.in comes again.
			return records, q.why()
		case p := <-q.in:
			if records, err = q.add(records, p); err != nil {
				return records, err
			}
			continue
		default:
		}
		if len(records) > 0 || wait <= 0 {
			break
		}
		select {
		case <-q.lost:
			return records, q.why()
		case p := <-q.in:
			if records, err = q.add(records, p); err != nil {
				return records, err
			}
		case <-timer:
			return nil, nil
		case <-ctx.Done():
			return nil, nil
		}
	}
	return records, nil
}

func (q *queue) why() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return fmt.Errorf("MQTT: the connection ended: %w", q.cause)
}

// own is what only MQTT's messages have.
type own struct {
	Topic         string              `json:"topic"`
	QoS           byte                `json:"qos"`
	Retain        bool                `json:"retain"`
	ContentType   string              `json:"contentType,omitempty"`
	ResponseTopic string              `json:"responseTopic,omitempty"`
	Correlation   []byte              `json:"correlationData,omitempty"` // in base64
	Properties    map[string][]string `json:"userProperties,omitempty"`
}

// add adds a message. MQTT has no name for one: its ID is one for as long as
// the connection lasts.
func (q *queue) add(records []*poll.Record, p *paho.Publish) ([]*poll.Record, error) {
	q.count++
	o := own{Topic: p.Topic, QoS: p.QoS, Retain: p.Retain}
	headers := map[string]string{}
	if props := p.Properties; props != nil {
		o.ContentType, o.ResponseTopic, o.Correlation = props.ContentType, props.ResponseTopic, props.CorrelationData
		for _, u := range props.User {
			if o.Properties == nil {
				o.Properties = map[string][]string{}
			}
			o.Properties[u.Key] = append(o.Properties[u.Key], u.Value)
			if _, has := headers[u.Key]; !has && utf8.ValidString(u.Value) {
				headers[u.Key] = u.Value
			}
		}
	}
	r, err := q.form.Record(message.Message{ID: fmt.Sprintf("%s-%x-%d", q.client, q.began, q.count), Body: p.Payload, Headers: headers, Own: o})
	if err != nil {
		return records, err
	}
	r.Handle = p
	return append(records, r), nil
}

// Ack has the messages acknowledged, in the order in which they came: one that
// is still at work keeps back the acknowledgements of those after it. An
// acknowledgement that the end of the connection keeps from being sent is a
// message that comes again.
func (q *queue) Ack(_ context.Context, records []*poll.Record) error {
	select {
	case <-q.lost:
		return q.why()
	default:
	}
	for _, r := range records {
		if err := q.conn.Ack(r.Handle.(*paho.Publish)); err != nil {
			return err
		}
	}
	return nil
}

// Release keeps the messages for the next Take: MQTT has no way to give them
// back but to end the connection.
func (q *queue) Release(_ context.Context, records []*poll.Record, _ poll.Reason) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.back = append(q.back, records...)
	return nil
}

// Extend is not called: a message is held for as long as the connection.
func (q *queue) Extend(context.Context, []*poll.Record) error { return nil }

// Event is {"Records": [...]}.
func (q *queue) Event(records []*poll.Record) ([]byte, error) { return poll.Records(records) }

// View has a body that is JSON as JSON.
func (q *queue) View(r *poll.Record) []byte { return message.View(r) }

// errClosed is why a connection ended that was to end.
var errClosed = errors.New("it was closed")

// Close ends the connection, once the broker has taken in the acknowledgements:
// a client that comes next with the session's name ends this one's connection,
// with what was not read of it. The session stays.
func (q *queue) Close() error {
	t := time.NewTimer(2 * ackEvery)
	defer t.Stop()
	select {
	case <-t.C: // they have been sent
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		// The broker answers in turn. If it does not, they come again.
		_ = q.ask(ctx, keepRetained)
	case <-q.lost:
	}
	q.end()
	return nil
}

func (q *queue) end() {
	q.broken(errClosed)
	_ = q.conn.Disconnect(&paho.Disconnect{}) // what is wrong with it now does not matter
	<-q.conn.Done()
}
