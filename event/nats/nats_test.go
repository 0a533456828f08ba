package nats_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/nats"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/sourcetest"
	"github.com/hearth-faas/hearth/internal/brokers"
)

func TestMain(m *testing.M) { os.Exit(brokers.Main(m)) }

var streams atomic.Int64

func client(t *testing.T, b *brokers.Broker, options ...natsgo.Option) jetstream.JetStream {
	t.Helper()
	conn, err := natsgo.Connect("nats://"+b.Addr, append(options, natsgo.MaxReconnects(-1), natsgo.ReconnectWait(20*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func source(t *testing.T) (sourcetest.Source, jetstream.JetStream) {
	b := brokers.Shared(t, brokers.NATS)
	js := client(t, b)
	return sourcetest.Source{
		Opener: nats.Opener, Broker: b, Keeps: true,
		New: func(t *testing.T) (*event.Mapping, poll.Place) {
			name := fmt.Sprintf("orders%d", streams.Add(1))
			asked(t, func(ctx context.Context) error {
				_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}, Storage: jetstream.FileStorage})
				return err
			})
			m := &event.Mapping{ID: name, Function: "f", Source: "arn:aws:hearth:us-east-1:000000000000:source/" + name, Region: "us-east-1",
				From: "TRIM_HORIZON", Settings: event.Settings{BatchSize: 10, WindowSeconds: new(0)}}
			return m, poll.Place{URL: &url.URL{Scheme: "nats", Host: b.Addr, RawQuery: "ackWait=5s&stream=" + name}}
		},
		Publish: func(t *testing.T, m *event.Mapping, ids []string) {
			for _, id := range ids {
				// The client's connection may not be back yet; a repetition is
				// told from the first by its ID.
				publish(t, js, m.ID+".new", sourcetest.Body(id), jetstream.WithMsgID(id))
			}
		},
		IDs: sourcetest.Queued,
		Left: func(t *testing.T, m *event.Mapping) int {
			left := 1
			asked(t, func(ctx context.Context) error {
				c, err := js.Consumer(ctx, m.ID, "hearth-"+m.ID)
				if errors.Is(err, jetstream.ErrConsumerNotFound) {
					return nil
				}
				if err == nil {
					left = int(c.CachedInfo().NumPending) + c.CachedInfo().NumAckPending
				}
				return err
			})
			return left
		},
	}, js
}

func publish(t *testing.T, js jetstream.JetStream, subject string, body []byte, options ...jetstream.PublishOpt) {
	t.Helper()
	asked(t, func(ctx context.Context) error {
		_, err := js.Publish(ctx, subject, body, options...)
		return err
	})
}

// asked asks the broker again for as long as no answer comes: a question, or
// its answer, may have been lost with a connection that was cut.
func asked(t *testing.T, ask func(context.Context) error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err = ask(ctx)
		cancel()
		if err == nil {
			return
		}
	}
	t.Fatal(err)
}

func TestStream(t *testing.T) {
	s, _ := source(t)
	sourcetest.Run(t, s)
}

func TestEventIsThatOfAQueueWithTheMessageBeside(t *testing.T) {
	s, js := source(t)
	m, at := s.New(t)
	if _, err := js.PublishMsg(t.Context(), &natsgo.Msg{Subject: m.ID + ".eu.new", Data: []byte("hello"), Header: natsgo.Header{"Kind": {"order"}}}); err != nil {
		t.Fatal(err)
	}
	q := sourcetest.Opened[poll.Queue](t, nats.Opener, m, at)
	records, err := q.Take(t.Context(), 10, time.Minute)
	if err != nil || len(records) != 1 {
		t.Fatal(len(records), err)
	}
	payload, err := q.Event(records)
	if err != nil {
		t.Fatal(err)
	}
	rec := sourcetest.Decode[events.SQSEvent](t, payload).Records[0]
	if rec.EventSource != "hearth:nats" || rec.EventSourceARN != m.Source || rec.MessageId != m.ID+":1" || rec.Body != "hello" ||
		*rec.MessageAttributes["Kind"].StringValue != "order" || rec.Attributes["ApproximateReceiveCount"] != "1" {
		t.Errorf("%s", payload)
	}
	var own struct {
		Records []struct {
			NATS struct {
				Stream, Subject string
				Sequence        int
			}
		}
	}
	if err := json.Unmarshal(payload, &own); err != nil || own.Records[0].NATS.Subject != m.ID+".eu.new" || own.Records[0].NATS.Sequence != 1 {
		t.Errorf("%s: %v", payload, err)
	}
	if lag, err := q.(interface {
		Lag(context.Context) (int64, error)
	}).Lag(t.Context()); err != nil || lag != 1 {
		t.Errorf("lag %d, %v", lag, err)
	}
}

func TestReadingBeginsWhereTheMappingSays(t *testing.T) {
	s, js := source(t)
	for from, want := range map[string]string{"TRIM_HORIZON": "old", "LATEST": "new", "AT_TIMESTAMP": "new"} {
		t.Run(from, func(t *testing.T) {
			m, at := s.New(t)
			s.Publish(t, m, []string{"old"})
			stream, err := js.Stream(t.Context(), m.ID)
			if err != nil {
				t.Fatal(err)
			}
			m.From = from
			m.FromAt = new(stream.CachedInfo().State.LastTime.Add(time.Millisecond))
			q := sourcetest.Opened[poll.Queue](t, nats.Opener, m, at)
			for { // the clock must have moved on from the first one's
				info, err := stream.Info(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if time.Since(info.State.LastTime) > 2*time.Millisecond {
					break
				}
			}
			s.Publish(t, m, []string{"new"})
			if got := s.IDs(t, sourcetest.Take(t, q, 1)); got[0] != want {
				t.Errorf("%s begins with %v, want %s", from, got, want)
			}
		})
	}
}

func TestSubjectNarrowsAStream(t *testing.T) {
	s, js := source(t)
	m, at := s.New(t)
	at.URL.RawQuery += "&subject=" + m.ID + ".eu.*"
	publish(t, js, m.ID+".us.new", sourcetest.Body("us"))
	publish(t, js, m.ID+".eu.new", sourcetest.Body("eu"))
	q := sourcetest.Opened[poll.Queue](t, nats.Opener, m, at)
	records, err := q.Take(t.Context(), 10, time.Minute)
	if err != nil || len(records) != 1 || !strings.Contains(string(q.View(records[0])), `"body":{"id":"eu"}`) {
		t.Fatal(records, err)
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	s, _ := source(t)
	m, at := s.New(t)
	b := brokers.Start(t, brokers.NATS, brokers.Options{User: "ada", Password: "lovelace", TLS: brokers.NewCertificate(t)})
	secret := func(password string) []byte {
		text, err := json.Marshal(map[string]string{"username": "ada", "password": password, "ca": b.Options.TLS.CAText})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	there := &url.URL{Scheme: "nats", Host: b.Addr, RawQuery: "stream=none"}
	for want, at := range map[string]poll.Place{
		"there is no stream none: make it first": {URL: there, Secret: secret("lovelace")}, // it got in
		"Authorization Violation":                {URL: there, Secret: secret("wrong")},
		"names no stream":                        {URL: &url.URL{Scheme: "nats", Host: b.Addr}},
		"ackWait=soon of the URL":                {URL: &url.URL{Scheme: "nats", Host: b.Addr, RawQuery: "stream=x&ackWait=soon"}},
	} {
		if _, err := nats.Opener.Open(t.Context(), m, at); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	_ = at
}

func TestConsumerGoesWithItsMapping(t *testing.T) {
	s, js := source(t)
	m, at := s.New(t)
	src, err := nats.Opener.Open(t.Context(), m, at)
	if err != nil {
		t.Fatal(err)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
	for range 2 { // again: that it is gone already is no error
		if err := nats.Opener.(poll.Forgetter).Forget(t.Context(), m, at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := js.Consumer(t.Context(), m.ID, "hearth-"+m.ID); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Error(err)
	}
}
