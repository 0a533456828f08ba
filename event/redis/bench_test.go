package redis_test

import (
	"fmt"
	"net/url"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/redis"
	"github.com/hearth-faas/hearth/event/sourcetest"
	"github.com/hearth-faas/hearth/internal/brokers"
)

func BenchmarkStream(b *testing.B) {
	broker := brokers.Shared(b, brokers.Redis)
	client := goredis.NewClient(&goredis.Options{Addr: broker.Addr})
	defer client.Close()
	sourcetest.Bench(b, sourcetest.Measured{
		Opener: redis.Opener,
		New: func() (*event.Mapping, poll.Place) {
			name := fmt.Sprintf("bench%d", streams.Add(1))
			if err := client.XGroupCreateMkStream(b.Context(), name, "bare", "0").Err(); err != nil {
				b.Fatal(err)
			}
			return &event.Mapping{ID: name, Function: "f", From: "TRIM_HORIZON", Queues: []string{name}, Settings: event.Settings{WindowSeconds: new(0)}},
				poll.Place{URL: &url.URL{Scheme: "redis", Host: broker.Addr}}
		},
		Publish: func(m *event.Mapping, n int) error {
			for at := 0; at < n; at += 1000 {
				pipe := client.Pipeline()
				for i := at; i < min(at+1000, n); i++ {
					pipe.XAdd(b.Context(), &goredis.XAddArgs{Stream: m.Queues[0], Values: map[string]any{"body": sourcetest.BenchBody(i)}})
				}
				if _, err := pipe.Exec(b.Context()); err != nil {
					return err
				}
			}
			return nil
		},
		Bare: func(m *event.Mapping, n int, heard func()) error {
			stream := m.Queues[0]
			for n > 0 {
				got, err := client.XReadGroup(b.Context(), &goredis.XReadGroupArgs{Group: "bare", Consumer: "bare", Streams: []string{stream, ">"}, Count: 100}).Result()
				if err != nil {
					return err
				}
				var ids []string
				for _, m := range got[0].Messages {
					heard()
					ids = append(ids, m.ID)
				}
				if err := client.XAck(b.Context(), stream, "bare", ids...).Err(); err != nil {
					return err
				}
				n -= len(ids)
			}
			return nil
		},
	})
}
