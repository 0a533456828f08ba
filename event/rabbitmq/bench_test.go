package rabbitmq_test

import (
	"errors"
	"fmt"
	"net/url"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/rabbitmq"
	"github.com/hearth-faas/hearth/event/sourcetest"
	"github.com/hearth-faas/hearth/internal/brokers"
)

func BenchmarkQueue(b *testing.B) {
	broker := brokers.Shared(b, brokers.RabbitMQ)
	conn, err := amqp.Dial("amqp://" + broker.Addr)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err == nil {
		err = ch.Confirm(false)
	}
	if err != nil {
		b.Fatal(err)
	}
	sourcetest.Bench(b, sourcetest.Measured{
		Opener: rabbitmq.Opener,
		New: func() (*event.Mapping, poll.Place) {
			name := fmt.Sprintf("bench%d", queues.Add(1))
			if _, err := ch.QueueDeclare(name, true, false, false, false, nil); err != nil {
				b.Fatal(err)
			}
			return &event.Mapping{ID: name, Function: "f", Queues: []string{name}, Source: "arn:aws:mq:us-east-1:000000000000:broker:b:b-1", Settings: event.Settings{WindowSeconds: new(0)}},
				poll.Place{URL: &url.URL{Scheme: "amqp", Host: broker.Addr}}
		},
		Publish: func(m *event.Mapping, n int) error {
			var last *amqp.DeferredConfirmation
			for i := range n {
				if last, err = ch.PublishWithDeferredConfirm("", m.Queues[0], true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: sourcetest.BenchBody(i)}); err != nil {
					return err
				}
			}
			if !last.Wait() {
				return errors.New("not taken")
			}
			return nil
		},
		Bare: func(m *event.Mapping, n int, heard func()) error {
			bare, err := conn.Channel()
			if err == nil {
				err = bare.Qos(1000, 0, false)
			}
			if err != nil {
				return err
			}
			defer bare.Close()
			got, err := bare.Consume(m.Queues[0], "", false, false, false, false, nil)
			if err != nil {
				return err
			}
			for d := range got {
				heard()
				if err := d.Ack(false); err != nil {
					return err
				}
				if n--; n == 0 {
					return nil
				}
			}
			return errors.New("the channel was closed")
		},
	})
}
