package nats_test

import (
	"fmt"
	"net/url"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/nats"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/sourcetest"
	"github.com/hearth-faas/hearth/internal/brokers"
)

func BenchmarkStream(b *testing.B) {
	broker := brokers.Shared(b, brokers.NATS)
	conn, err := natsgo.Connect("nats://" + broker.Addr)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		b.Fatal(err)
	}
	sourcetest.Bench(b, sourcetest.Measured{
		Opener: nats.Opener,
		New: func() (*event.Mapping, poll.Place) {
			name := fmt.Sprintf("bench%d", streams.Add(1))
			if _, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name}}); err != nil {
				b.Fatal(err)
			}
			return &event.Mapping{ID: name, Function: "f", From: "TRIM_HORIZON", Settings: event.Settings{WindowSeconds: new(0)}},
				poll.Place{URL: &url.URL{Scheme: "nats", Host: broker.Addr, RawQuery: "stream=" + name}}
		},
		Publish: func(m *event.Mapping, n int) error {
			for i := range n {
				if _, err := js.PublishAsync(m.ID, sourcetest.BenchBody(i)); err != nil {
					return err
				}
				if i%1000 == 999 {
					<-js.PublishAsyncComplete()
				}
			}
			<-js.PublishAsyncComplete()
			return nil
		},
		Bare: func(m *event.Mapping, n int, heard func()) error {
			c, err := js.CreateConsumer(b.Context(), m.ID, jetstream.ConsumerConfig{Durable: "bare", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 10_000})
			if err != nil {
				return err
			}
			messages, err := c.Messages(jetstream.PullMaxMessages(100))
			if err != nil {
				return err
			}
			defer messages.Stop()
			for ; n > 1; n-- {
				msg, err := messages.Next()
				if err != nil {
					return err
				}
				heard()
				if err := msg.Ack(); err != nil {
					return err
				}
			}
			last, err := messages.Next()
			if err != nil {
				return err
			}
			heard()
			return last.DoubleAck(b.Context())
		},
	})
}
