package redis_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	goredis "github.com/redis/go-redis/v9"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/redis"
	"github.com/hearth-faas/hearth/event/sourcetest"
	"github.com/hearth-faas/hearth/internal/brokers"
)

func TestMain(m *testing.M) { os.Exit(brokers.Main(m)) }

var streams atomic.Int64

func source(t *testing.T) (sourcetest.Source, *goredis.Client) {
	b := brokers.Shared(t, brokers.Redis)
	client := goredis.NewClient(&goredis.Options{Addr: b.Addr})
	t.Cleanup(func() { client.Close() })
	return sourcetest.Source{
		Opener: redis.Opener, Broker: b, Keeps: true,
		New: func(t *testing.T) (*event.Mapping, poll.Place) {
			name := fmt.Sprintf("orders%d", streams.Add(1))
			m := &event.Mapping{ID: name, Function: "f", Source: "arn:aws:hearth:us-east-1:000000000000:redis/" + name, Region: "us-east-1",
				From: "TRIM_HORIZON", Queues: []string{name}, Settings: event.Settings{BatchSize: 10, WindowSeconds: new(0)}}
			return m, poll.Place{URL: &url.URL{Scheme: "redis", Host: b.Addr}}
		},
		Publish: func(t *testing.T, m *event.Mapping, ids []string) {
			for _, id := range ids {
				publish(t, client, m.Queues[0], map[string]any{"body": sourcetest.Body(id), "type": "order"})
			}
		},
		IDs: sourcetest.Queued,
		Left: func(t *testing.T, m *event.Mapping) int {
			groups, err := client.XInfoGroups(t.Context(), m.Queues[0]).Result()
			if err != nil {
				t.Fatal(err)
			}
			return int(groups[0].Lag + groups[0].Pending)
		},
	}, client
}

// publish adds an entry, again if the broker was just killed.
func publish(t *testing.T, client *goredis.Client, stream string, values map[string]any) {
	t.Helper()
	if err := client.XAdd(t.Context(), &goredis.XAddArgs{Stream: stream, Values: values}).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestStream(t *testing.T) {
	s, _ := source(t)
	sourcetest.Run(t, s)
}

func TestEventIsThatOfAQueueWithTheEntryBeside(t *testing.T) {
	s, client := source(t)
	m, at := s.New(t)
	publish(t, client, m.Queues[0], map[string]any{"kind": "order", "blob": "\xff\xfe"})
	r := sourcetest.Read(t, sourcetest.Source{Opener: s.Opener, IDs: func(*testing.T, []byte) []string { return []string{"x"} }}, sourcetest.Store(t), m, at, nil)
	r.Processed([]string{"x"})
	payload := r.Events()[0]
	rec := sourcetest.Decode[events.SQSEvent](t, payload).Records[0]
	if rec.EventSource != "hearth:redis" || rec.EventSourceARN != m.Source || rec.AWSRegion != "us-east-1" || !strings.Contains(rec.MessageId, "-") ||
		*rec.MessageAttributes["kind"].StringValue != "order" || rec.Attributes["SentTimestamp"] == "" || rec.Body != `{"blob":"//4=","kind":"order"}` {
		t.Errorf("%s", payload)
	}
	var own struct {
		Records []struct {
			Redis struct {
				Stream       string
				Fields       map[string]string
				Base64Fields []string
			}
		}
	}
	if err := json.Unmarshal(payload, &own); err != nil {
		t.Fatal(err)
	}
	if o := own.Records[0].Redis; o.Stream != m.Queues[0] || o.Fields["kind"] != "order" || o.Fields["blob"] != "//4=" || o.Base64Fields[0] != "blob" {
		t.Errorf("%s", payload)
	}
}

func TestReadingBeginsWhereTheMappingSays(t *testing.T) {
	s, client := source(t)
	for _, c := range []struct {
		from string
		want []string
	}{{"TRIM_HORIZON", []string{"old", "middle", "new"}}, {"AT_TIMESTAMP", []string{"middle", "new"}}, {"LATEST", []string{"new"}}} {
		t.Run(c.from, func(t *testing.T) {
			m, at := s.New(t)
			m.From = c.from
			add := func(id, ms string) {
				if err := client.XAdd(t.Context(), &goredis.XAddArgs{Stream: m.Queues[0], ID: ms + "-1", Values: map[string]any{"body": sourcetest.Body(id)}}).Err(); err != nil {
					t.Fatal(err)
				}
			}
			add("old", "1000000")
			add("middle", "2000000")
			m.FromAt = new(time.UnixMilli(2000000))
			// The position counts from when the source is opened first.
			src, err := redis.Opener.Open(t.Context(), m, at)
			if err != nil {
				t.Fatal(err)
			}
			add("new", "3000000")
			var got []string
			for len(got) < len(c.want) {
				records, err := src.(poll.Queue).Take(t.Context(), 10, time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				payload, err := src.Event(records)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, s.IDs(t, payload)...)
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("read %v, want %v", got, c.want)
			}
			if err := src.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPasswordAndTLSComeWithTheRegistration(t *testing.T) {
	cert := brokers.NewCertificate(t)
	b := brokers.Start(t, brokers.Redis, brokers.Options{User: "ada", Password: "lovelace", TLS: cert})
	m := &event.Mapping{ID: "m", Source: "arn", Queues: []string{"s"}}
	secret := func(password, ca string) []byte {
		text, err := json.Marshal(map[string]string{"username": "ada", "password": password, "ca": ca})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	at := poll.Place{URL: &url.URL{Scheme: "rediss", Host: b.Addr}, Secret: secret("lovelace", cert.CAText)}
	src, err := redis.Opener.Open(t.Context(), m, at)
	if err != nil {
		t.Fatal(err)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
	for what, at := range map[string]poll.Place{
		"WRONGPASS": {URL: at.URL, Secret: secret("wrong", cert.CAText)},
		"x509":      {URL: at.URL, Secret: secret("lovelace", "")},
	} {
		if _, err := redis.Opener.Open(t.Context(), m, at); err == nil || !strings.Contains(err.Error(), what) || strings.Contains(err.Error(), "lovelace") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestEntryOfAServerThatIsGoneIsClaimed(t *testing.T) {
	s, client := source(t)
	m, at := s.New(t)
	src, err := redis.Opener.Open(t.Context(), m, at)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	publish(t, client, m.Queues[0], map[string]any{"body": "x"})
	stream, group := m.Queues[0], "hearth-"+m.ID
	if err := client.XReadGroup(t.Context(), &goredis.XReadGroupArgs{Group: group, Consumer: "gone", Streams: []string{stream, ">"}}).Err(); err != nil {
		t.Fatal(err)
	}
	q := src.(poll.Queue)
	if got, err := q.Take(t.Context(), 10, 0); err != nil || len(got) != 0 {
		t.Fatalf("took %d of another's, %v", len(got), err)
	}
	// It has been without a sign of life for an hour.
	id, err := client.XPendingExt(t.Context(), &goredis.XPendingExtArgs{Stream: stream, Group: group, Start: "-", End: "+", Count: 1}).Result()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Do(context.Background(), "xclaim", stream, group, "gone", "0", id[0].ID, "idle", "3600000").Err(); err != nil {
		t.Fatal(err)
	}
	src2, err := redis.Opener.Open(t.Context(), m, at)
	if err != nil {
		t.Fatal(err)
	}
	defer src2.Close()
	got, err := src2.(poll.Queue).Take(t.Context(), 10, time.Minute)
	if err != nil || len(got) != 1 || got[0].ID != id[0].ID {
		t.Fatalf("took %d, %v", len(got), err)
	}
}

func TestGroupGoesWithItsMapping(t *testing.T) {
	s, client := source(t)
	m, at := s.New(t)
	src, err := redis.Opener.Open(t.Context(), m, at)
	if err != nil {
		t.Fatal(err)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
	if err := redis.Opener.(poll.Forgetter).Forget(t.Context(), m, at); err != nil {
		t.Fatal(err)
	}
	if groups, err := client.XInfoGroups(t.Context(), m.Queues[0]).Result(); err != nil || len(groups) != 0 {
		t.Error(groups, err)
	}
}
