package rabbitmq_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/rabbitmq"
	"github.com/hearth-faas/hearth/event/sourcetest"
	"github.com/hearth-faas/hearth/internal/brokers"
)

func TestMain(m *testing.M) { os.Exit(brokers.Main(m)) }

var queues atomic.Int64

// channel is a channel of a connection of its own: one that was made before the
// broker was killed is dead.
func channel(t *testing.T, b *brokers.Broker) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial("amqp://" + b.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func publish(t *testing.T, ch *amqp.Channel, queue string, messages ...amqp.Publishing) {
	t.Helper()
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		m.DeliveryMode = amqp.Persistent
		c, err := ch.PublishWithDeferredConfirm("", queue, true, false, m)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := c.WaitContext(t.Context()); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
}

func source(t *testing.T) sourcetest.Source {
	b := brokers.Shared(t, brokers.RabbitMQ)
	return sourcetest.Source{
		Opener: rabbitmq.Opener, Broker: b,
		New: func(t *testing.T) (*event.Mapping, poll.Place) {
			name := fmt.Sprintf("orders%d", queues.Add(1))
			if _, err := channel(t, b).QueueDeclare(name, true, false, false, false, nil); err != nil {
				t.Fatal(err)
			}
			m := &event.Mapping{ID: name, Function: "f", Source: "arn:aws:mq:us-east-1:000000000000:broker:b:b-1", Region: "us-east-1",
				Queues: []string{name}, Settings: event.Settings{BatchSize: 10, WindowSeconds: new(0)}}
			return m, poll.Place{URL: &url.URL{Scheme: "amqp", Host: b.Addr}}
		},
		Publish: func(t *testing.T, m *event.Mapping, ids []string) {
			var messages []amqp.Publishing
			for _, id := range ids {
				messages = append(messages, amqp.Publishing{Body: sourcetest.Body(id)})
			}
			publish(t, channel(t, b), m.Queues[0], messages...)
		},
		IDs: func(t *testing.T, payload []byte) (ids []string) {
			for _, messages := range sourcetest.Decode[events.RabbitMQEvent](t, payload).MessagesByQueue {
				for _, m := range messages {
					body, err := base64.StdEncoding.DecodeString(m.Data)
					if err != nil {
						t.Errorf("data: %v", err)
					}
					ids = append(ids, sourcetest.ID(t, body))
				}
			}
			return ids
		},
		Left: func(t *testing.T, m *event.Mapping) int {
			q, err := channel(t, b).QueueDeclarePassive(m.Queues[0], true, false, false, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			return q.Messages
		},
		Blind: true,
	}
}

func TestQueue(t *testing.T) { sourcetest.Run(t, source(t)) }

func TestEventIsLambdas(t *testing.T) {
	s := source(t)
	m, at := s.New(t)
	at.URL.Path = "/" // the virtual host
	publish(t, channel(t, brokers.Shared(t, brokers.RabbitMQ)), m.Queues[0], amqp.Publishing{
		ContentType: "application/json", CorrelationId: "c", MessageId: "m-1", Expiration: "60000", Priority: 3,
		Timestamp: time.Date(1970, 1, 1, 0, 33, 41, 0, time.UTC),
		Headers:   amqp.Table{"text": "v\u00fc", "number": int32(10), "inner": amqp.Table{"list": []any{"a", int64(1)}}},
		Body:      []byte(`{"total": 12}`),
	})
	q := sourcetest.Opened[poll.Queue](t, rabbitmq.Opener, m, at)
	records, err := q.Take(t.Context(), 10, time.Minute)
	if err != nil || len(records) != 1 || records[0].ID != "m-1" {
		t.Fatal(records, err)
	}
	payload, err := q.Event(records)
	if err != nil {
		t.Fatal(err)
	}
	e := sourcetest.Decode[events.RabbitMQEvent](t, payload)
	messages := e.MessagesByQueue[m.Queues[0]+"::/"]
	if e.EventSource != "aws:rmq" || e.EventSourceARN != m.Source || len(messages) != 1 {
		t.Fatalf("%s", payload)
	}
	p := messages[0].BasicProperties
	if p.ContentType != "application/json" || *p.CorrelationID != "c" || *p.MessageID != "m-1" || p.Expiration != "60000" || p.Priority != 3 ||
		p.Timestamp != "Jan 1, 1970, 12:33:41 AM" || p.BodySize != 13 || p.ContentEncoding != nil || p.DeliveryMode != 2 || messages[0].Redelivered {
		t.Errorf("%s", payload)
	}
	headers, err := json.Marshal(p.Headers)
	if err != nil || string(headers) != `{"inner":{"list":[{"bytes":[97]},1]},"number":10,"text":{"bytes":[118,-61,-68]}}` {
		t.Errorf("%s %v", headers, err)
	}
	if view := string(q.View(records[0])); !strings.Contains(view, `"data":{"total":12}`) {
		t.Errorf("filters see %s", view)
	}
	if err := q.Release(t.Context(), records, poll.Unused); err != nil {
		t.Fatal(err)
	}
	if records, err = q.Take(t.Context(), 1, time.Minute); err != nil || len(records) != 1 || !strings.Contains(string(records[0].Body), `"redelivered":true`) {
		t.Error(records, err)
	}
}

func TestDeletedQueueIsReported(t *testing.T) {
	s := source(t)
	m, at := s.New(t)
	q := sourcetest.Opened[poll.Queue](t, rabbitmq.Opener, m, at)
	if _, err := channel(t, brokers.Shared(t, brokers.RabbitMQ)).QueueDelete(m.Queues[0], false, false, false); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as is done while something that was taken is at work
		if _, err := q.Take(t.Context(), 1, time.Minute); err == nil || !strings.Contains(err.Error(), m.Queues[0]) {
			t.Error(err)
		}
	}
	if _, err := rabbitmq.Opener.Open(t.Context(), m, at); err == nil || !strings.Contains(err.Error(), "there is no queue "+m.Queues[0]+" in the virtual host /: declare it first") {
		t.Error(err)
	}
}

func TestPasswordAndTLSComeWithTheMappingsAccess(t *testing.T) {
	b := brokers.Start(t, brokers.RabbitMQ, brokers.Options{User: "ada", Password: "lovelace", TLS: brokers.NewCertificate(t)})
	ca, err := json.Marshal(map[string]string{"certificate": b.Options.TLS.CAText})
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string][]byte{"login": []byte(`{"username":"ada","password":"lovelace"}`), "wrong": []byte(`{"username":"ada","password":"x"}`), "ca": ca}
	at := poll.Place{URL: &url.URL{Scheme: "amqps", Host: b.Addr}, Lookup: func(uri string) ([]byte, error) { return secrets[uri], nil }}
	for login, want := range map[string]string{
		"login": "there is no queue none in the virtual host /", // it got in
		"wrong": "RabbitMQ refuses the user or the password",
	} {
		m := &event.Mapping{ID: "m", Source: "arn", Queues: []string{"none"}, Settings: event.Settings{BatchSize: 1, Access: []event.Access{
			{Type: "BASIC_AUTH", URI: login}, {Type: "SERVER_ROOT_CA_CERTIFICATE", URI: "ca"}, {Type: "VIRTUAL_HOST", URI: "/"},
		}}}
		if _, err := rabbitmq.Opener.Open(t.Context(), m, at); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "lovelace") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
