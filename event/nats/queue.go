package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-faas/hearth/event/message"
	"github.com/hearth-faas/hearth/event/poll"
)

// queue is a pull consumer as a poll.Queue.
type queue struct {
	conn     *nats.Conn
	stream   string
	consumer jetstream.Consumer
	form     message.Form
	hold     time.Duration
}

func (q *queue) Traits() poll.Traits { return poll.Traits{Hold: q.hold} }

// longest is how long a pull waits at the server at a time. One that is given
// up before its end may be answered with a message that nobody hears; so none
// is, and a taking that is to end, ends within this.
const longest = time.Second

// Take pulls what is there, and waits for one message if there is none.
func (q *queue) Take(ctx context.Context, most int, wait time.Duration) ([]*poll.Record, error) {
	until := time.Now().Add(wait)
	for {
		records, err := q.pull(q.consumer.FetchNoWait(most))
		if err != nil || len(records) > 0 {
			return records, err
		}
		left := min(time.Until(until), longest)
		if left < time.Millisecond || ctx.Err() != nil {
			return nil, nil
		}
		if records, err = q.pull(q.consumer.Fetch(1, jetstream.FetchMaxWait(left))); err != nil || len(records) == 0 {
			if err == nil && q.conn.IsConnected() {
				continue
			}
			return nil, q.broken(err)
		}
		if most > 1 {
			more, err := q.pull(q.consumer.FetchNoWait(most - 1))
			return append(records, more...), err
		}
		return records, nil
	}
}

func (q *queue) pull(batch jetstream.MessageBatch, err error) ([]*poll.Record, error) {
	if err != nil {
		return nil, q.broken(err)
	}
	var records []*poll.Record
	for m := range batch.Messages() {
		r, rerr := q.record(m)
		if rerr != nil {
			return records, rerr
		}
		records = append(records, r)
	}
	if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) && len(records) == 0 {
		return nil, q.broken(err)
	}
	return records, nil
}

// broken says why nothing can be taken.
func (q *queue) broken(err error) error {
	if !q.conn.IsConnected() {
		if last := q.conn.LastError(); last != nil {
			err = last
		}
		return fmt.Errorf("there is no connection with NATS: %w", errors.Join(nats.ErrDisconnected, err))
	}
	if errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("the consumer of the stream %s does not answer; it is looked for anew: %w", q.stream, err)
	}
	return fmt.Errorf("nats: %w", err)
}

// own is what only NATS's messages have.
type own struct {
	Stream   string              `json:"stream"`
	Consumer string              `json:"consumer"`
	Subject  string              `json:"subject"`
	Sequence uint64              `json:"sequence"`
	Headers  map[string][]string `json:"headers,omitempty"`
}

func (q *queue) record(m jetstream.Msg) (*poll.Record, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, fmt.Errorf("nats: a message without its place in the stream: %w", err)
	}
	headers := make(map[string]string, len(m.Headers()))
	for name, values := range m.Headers() {
		if len(values) > 0 {
			headers[name] = values[0]
		}
	}
	r, err := q.form.Record(message.Message{
		ID:   fmt.Sprintf("%s:%d", meta.Stream, meta.Sequence.Stream),
		Body: m.Data(), Sent: meta.Timestamp, Receives: int(meta.NumDelivered), Headers: headers,
		Own: own{meta.Stream, meta.Consumer, m.Subject(), meta.Sequence.Stream, m.Headers()},
	})
	if err != nil {
		return nil, err
	}
	r.Handle = m
	return r, nil
}

// ackTime is how long the server may take to confirm acknowledgements. If the
// connection breaks meanwhile the answer never comes.
const ackTime = 2 * time.Second

// Ack acknowledges all and has the last confirmed: the server takes them in
// order. One that is lost all the same is a message that comes again.
func (q *queue) Ack(ctx context.Context, records []*poll.Record) error {
	if !q.conn.IsConnected() {
		return nats.ErrDisconnected
	}
	for i, r := range records {
		m := r.Handle.(jetstream.Msg)
		if i < len(records)-1 {
			if err := ignoreDone(m.Ack()); err != nil {
				return err
			}
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, ackTime)
		defer cancel()
		if err := ignoreDone(m.DoubleAck(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// ignoreDone: a message that was acknowledged already, by a try before that
// failed later, is no error.
func ignoreDone(err error) error {
	if errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
		return nil
	}
	return err
}

// Release has the messages given to whoever asks next.
func (q *queue) Release(_ context.Context, records []*poll.Record, _ poll.Reason) error {
	return each(records, jetstream.Msg.Nak)
}

// Extend gives a sign of life.
func (q *queue) Extend(_ context.Context, records []*poll.Record) error {
	return each(records, jetstream.Msg.InProgress)
}

func each(records []*poll.Record, do func(jetstream.Msg) error) error {
	for _, r := range records {
		if err := ignoreDone(do(r.Handle.(jetstream.Msg))); err != nil {
			return err
		}
	}
	return nil
}

// Event is {"Records": [...]}.
func (q *queue) Event(records []*poll.Record) ([]byte, error) { return poll.Records(records) }

// View has a body that is JSON as JSON.
func (q *queue) View(r *poll.Record) []byte { return message.View(r) }

// Lag is how many messages the consumer has not been given, and how many it has
// not acknowledged.
func (q *queue) Lag(ctx context.Context) (int64, error) {
	info, err := q.consumer.Info(ctx)
	if err != nil {
		return 0, q.broken(err)
	}
	return int64(info.NumPending) + int64(info.NumAckPending), nil
}

// Close ends the connection, with what is under way on it sent.
func (q *queue) Close() error {
	err := q.conn.FlushTimeout(time.Second)
	q.conn.Close()
	if errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrDisconnected) {
		return nil // it was broken; what was not acknowledged comes again
	}
	return err
}
