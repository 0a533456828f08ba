package rabbitmq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hearth-faas/hearth/event/poll"
)

// queue is a consumer of a queue as a poll.Queue. RabbitMQ gives what was
// neither acknowledged nor given back to another as soon as the connection
// ends.
type queue struct {
	name, vhost string
	source      string // the ARN
	conn        *amqp.Connection
	channel     *amqp.Channel
	deliveries  <-chan amqp.Delivery
	lost        chan *amqp.Error // why the channel ended
	cancelled   chan string      // that RabbitMQ ended the consumer
	gone        error            // what those two said; Take's
}

func (q *queue) Traits() poll.Traits { return poll.Traits{} }

// Take takes what RabbitMQ has sent ahead.
func (q *queue) Take(ctx context.Context, most int, wait time.Duration) (records []*poll.Record, err error) {
	var timer <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		timer = t.C
	}
	for len(records) < most {
		select {
		case d, ok := <-q.deliveries:
			if records, err = q.add(records, d, ok); err != nil {
				return records, err
			}
			continue
		default:
		}
		if len(records) > 0 || wait <= 0 {
			break
		}
		select {
		case d, ok := <-q.deliveries:
			if records, err = q.add(records, d, ok); err != nil {
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

// add adds a delivery, or says why there will be none any more.
func (q *queue) add(records []*poll.Record, d amqp.Delivery, ok bool) ([]*poll.Record, error) {
	if ok {
		r, err := q.record(d)
		return append(records, r), err
	}
	if q.gone != nil {
		return records, q.gone
	}
	select {
	case e := <-q.lost:
		if e == nil {
			e = amqp.ErrClosed
		}
		q.gone = q.sentence(e)
	case <-q.cancelled:
		q.gone = fmt.Errorf("RabbitMQ ended the consumer of the queue %s: was it deleted?", q.name)
	}
	return records, q.gone
}

func (q *queue) record(d amqp.Delivery) (*poll.Record, error) {
	body, err := json.Marshal(messageOf(d))
	if err != nil {
		return nil, fmt.Errorf("RabbitMQ: a message of the queue %s: %w", q.name, err)
	}
	id := d.MessageId
	if id == "" {
		// AMQP has no name of its own for a message: this is for as long as
		// the connection lasts.
		id = fmt.Sprintf("%s#%d", q.name, d.DeliveryTag)
	}
	return &poll.Record{ID: id, Body: body, Sent: d.Timestamp, Handle: d}, nil
}

// Ack acknowledges each message.
func (q *queue) Ack(_ context.Context, records []*poll.Record) error {
	for _, r := range records {
		if err := r.Handle.(amqp.Delivery).Ack(false); err != nil {
			return err
		}
	}
	return nil
}

// Release has the messages put back into the queue.
func (q *queue) Release(_ context.Context, records []*poll.Record, _ poll.Reason) error {
	for _, r := range records {
		if err := r.Handle.(amqp.Delivery).Nack(false, true); err != nil {
			return err
		}
	}
	return nil
}

// Extend is not called: a message is held for as long as the connection.
func (q *queue) Extend(context.Context, []*poll.Record) error { return nil }

// Lag is how many messages are in the queue and were not sent to a consumer.
func (q *queue) Lag(context.Context) (int64, error) {
	found, err := q.channel.QueueDeclarePassive(q.name, false, false, false, false, nil)
	if err != nil {
		return 0, q.sentence(err)
	}
	return int64(found.Messages), nil
}

// Close ends the connection.
func (q *queue) Close() error {
	err := q.conn.CloseDeadline(time.Now().Add(connectTime))
	if errors.Is(err, amqp.ErrClosed) {
		return nil
	}
	return err
}
