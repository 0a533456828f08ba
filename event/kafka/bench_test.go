package kafka_test

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/kafka"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/sourcetest"
	"github.com/hearth-faas/hearth/internal/brokers"
)

func BenchmarkTopic(b *testing.B) {
	broker := brokers.Shared(b, brokers.Kafka)
	client := func(more ...kgo.Opt) *kgo.Client {
		c, err := kgo.NewClient(append(more, kgo.SeedBrokers(broker.Addr), kgo.MaxVersions(kversion.V0_9_0()))...)
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	producer := client(kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(-1))
	defer producer.Close()
	sourcetest.Bench(b, sourcetest.Measured{
		Opener: kafka.Opener,
		New: func() (*event.Mapping, poll.Place) {
			name := fmt.Sprintf("bench%d", topics.Add(1))
			return &event.Mapping{ID: name, Function: "f", From: "TRIM_HORIZON", Topics: []string{name}, Brokers: []string{broker.Addr}, Settings: event.Settings{WindowSeconds: new(0)}},
				poll.Place{URL: &url.URL{Scheme: "kafka", RawQuery: "version=0.9.0"}}
		},
		Publish: func(m *event.Mapping, n int) error {
			records := make([]*kgo.Record, n)
			for i := range records {
				records[i] = &kgo.Record{Topic: m.Topics[0], Value: sourcetest.BenchBody(i)}
			}
			return producer.ProduceSync(b.Context(), records...).FirstErr()
		},
		Bare: func(m *event.Mapping, n int, heard func()) error {
			bare := client(kgo.ConsumerGroup("bare-"+m.ID), kgo.ConsumeTopics(m.Topics[0]), kgo.DisableAutoCommit(), kgo.SessionTimeout(10*time.Second), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
			defer bare.Close()
			for n > 0 {
				fetches := bare.PollRecords(b.Context(), 100)
				if err := fetches.Err(); err != nil {
					return err
				}
				for range fetches.NumRecords() {
					heard()
				}
				if err := bare.CommitRecords(b.Context(), fetches.Records()...); err != nil {
					return err
				}
				n -= fetches.NumRecords()
			}
			return nil
		},
	})
}
