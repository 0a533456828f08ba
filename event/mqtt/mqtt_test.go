package mqtt_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/eclipse/paho.golang/paho"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/mqtt"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/sourcetest"
	"github.com/hearth-faas/hearth/internal/brokers"
)

func TestMain(m *testing.M) { os.Exit(brokers.Main(m)) }

var topics atomic.Int64

// client is a client of its own: one from before the broker was killed is dead.
func client(t *testing.T, b *brokers.Broker, id string, config paho.ClientConfig) *paho.Client {
	t.Helper()
	conn, err := net.Dial("tcp", b.Addr)
	if err != nil {
		t.Fatal(err)
	}
	config.Conn = conn
	c := paho.NewClient(config)
	if _, err := c.Connect(t.Context(), &paho.Connect{ClientID: id, KeepAlive: 60, CleanStart: false,
		Properties: &paho.ConnectProperties{SessionExpiryInterval: new(uint32(math.MaxUint32))}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Disconnect(&paho.Disconnect{}) })
	return c
}

func publish(t *testing.T, b *brokers.Broker, messages ...*paho.Publish) {
	t.Helper()
	c := client(t, b, "publisher", paho.ClientConfig{})
	for _, m := range messages {
		if _, err := c.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	c.Disconnect(&paho.Disconnect{})
}

func source(t *testing.T) sourcetest.Source {
	b := brokers.Shared(t, brokers.Mosquitto)
	return sourcetest.Source{
		Opener: mqtt.Opener, Broker: b, Blind: true,
		New: func(t *testing.T) (*event.Mapping, poll.Place) {
			name := fmt.Sprintf("orders%d", topics.Add(1))
			m := &event.Mapping{ID: name, Function: "f", Source: "arn:aws:hearth:us-east-1:000000000000:source/" + name, Region: "us-east-1",
				Settings: event.Settings{BatchSize: 10, WindowSeconds: new(0)}}
			at := poll.Place{URL: &url.URL{Scheme: "mqtt", Host: b.Addr, RawQuery: url.Values{"topic": {name + "/#"}}.Encode()}}
			opened(t, m, at).Close() // from now on the broker keeps what comes
			return m, at
		},
		Publish: func(t *testing.T, m *event.Mapping, ids []string) {
			var messages []*paho.Publish
			for _, id := range ids {
				messages = append(messages, &paho.Publish{Topic: m.ID + "/new", QoS: 1, Payload: sourcetest.Body(id)})
			}
			publish(t, b, messages...)
		},
		IDs: sourcetest.Queued,
		Left: func(t *testing.T, m *event.Mapping) (n int) {
			// Whoever has the session gets what is left, before what is new.
			got := make(chan string, 1000)
			c := client(t, b, "hearth-"+m.ID, paho.ClientConfig{EnableManualAcknowledgment: true, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
				func(p paho.PublishReceived) (bool, error) { got <- string(p.Packet.Payload); return true, nil },
			}})
			defer c.Disconnect(&paho.Disconnect{})
			mark := fmt.Sprintf("mark-%d", topics.Add(1))
			publish(t, b, &paho.Publish{Topic: m.ID + "/new", QoS: 1, Payload: sourcetest.Body(mark)})
			for body := range got {
				if body == string(sourcetest.Body(mark)) {
					return n
				}
				if !strings.Contains(body, "mark-") {
					n++
				}
			}
			return n
		},
	}
}

func opened(t *testing.T, m *event.Mapping, at poll.Place) poll.Queue {
	t.Helper()
	src, err := mqtt.Opener.Open(t.Context(), m, at)
	if err != nil {
		t.Fatal(err)
	}
	return src.(poll.Queue)
}

func TestTopic(t *testing.T) { sourcetest.Run(t, source(t)) }

func TestEventIsThatOfAQueueWithTheMessageBeside(t *testing.T) {
	s := source(t)
	m, at := s.New(t)
	q := opened(t, m, at)
	defer q.Close()
	publish(t, brokers.Shared(t, brokers.Mosquitto), &paho.Publish{Topic: m.ID + "/a/b", QoS: 1, Payload: []byte(`{"t": 21.5}`), Properties: &paho.PublishProperties{
		ContentType: "application/json", CorrelationData: []byte{1, 2}, User: paho.UserProperties{{Key: "unit", Value: "C"}},
	}})
	records, err := q.Take(t.Context(), 10, time.Minute)
	if err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	payload, err := q.Event(records)
	if err != nil {
		t.Fatal(err)
	}
	rec := sourcetest.Decode[events.SQSEvent](t, payload).Records[0]
	if rec.EventSource != "hearth:mqtt" || rec.EventSourceARN != m.Source || rec.MessageId == "" || rec.Body != `{"t": 21.5}` || *rec.MessageAttributes["unit"].StringValue != "C" {
		t.Errorf("%s", payload)
	}
	var own struct {
		Records []struct {
			MQTT struct {
				Topic, ContentType string
				QoS                int
				CorrelationData    []byte
				UserProperties     map[string][]string
			}
		}
	}
	if err := json.Unmarshal(payload, &own); err != nil {
		t.Fatal(err)
	}
	if o := own.Records[0].MQTT; o.Topic != m.ID+"/a/b" || o.QoS != 1 || o.ContentType != "application/json" || string(o.CorrelationData) != "\x01\x02" || o.UserProperties["unit"][0] != "C" {
		t.Errorf("%s", payload)
	}
	if view := string(q.View(records[0])); !strings.Contains(view, `"body":{"t":21.5}`) {
		t.Errorf("filters see %s", view)
	}
}

func TestNoMoreIsTakenThanMayBeInFlight(t *testing.T) {
	s := source(t)
	m, at := s.New(t)
	at.URL.RawQuery += "&inflight=3"
	s.Publish(t, m, sourcetest.IDs("x", 5))
	q := opened(t, m, at)
	defer q.Close()
	var held []*poll.Record
	for len(held) < 3 {
		records, err := q.Take(t.Context(), 10, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, records...)
	}
	if more, err := q.Take(t.Context(), 10, 50*time.Millisecond); err != nil || len(more) > 0 || len(held) > 3 {
		t.Fatalf("%d and %d taken with 3 allowed, %v", len(held), len(more), err)
	}
	// What was given back is taken again; what is acknowledged makes room.
	if err := q.Release(t.Context(), held[2:], poll.Unused); err != nil {
		t.Fatal(err)
	}
	if err := q.Ack(t.Context(), held[:2]); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 3; {
		records, err := q.Take(t.Context(), 10, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		n += len(records)
	}
}

func TestRetainedMessageComesOnceIfReadingBeginsAtTheBeginning(t *testing.T) {
	s := source(t)
	for from, want := range map[string]string{"TRIM_HORIZON": "old", "LATEST": "new"} {
		t.Run(from, func(t *testing.T) {
			b := brokers.Shared(t, brokers.Mosquitto)
			name := fmt.Sprintf("retained%d", topics.Add(1))
			publish(t, b, &paho.Publish{Topic: name, QoS: 1, Retain: true, Payload: sourcetest.Body("old")})
			m := &event.Mapping{ID: name, From: from, Topics: []string{name}}
			q := opened(t, m, poll.Place{URL: &url.URL{Scheme: "mqtt", Host: b.Addr}})
			defer q.Close()
			publish(t, b, &paho.Publish{Topic: name, QoS: 1, Payload: sourcetest.Body("new")})
			if got := s.IDs(t, sourcetest.Take(t, q, 1)); got[0] != want {
				t.Errorf("%s begins with %v, want %s", from, got, want)
			}
		})
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	b := brokers.Start(t, brokers.Mosquitto, brokers.Options{User: "ada", Password: "lovelace", TLS: brokers.NewCertificate(t)})
	secret := func(password string) []byte {
		text, err := json.Marshal(map[string]string{"username": "ada", "password": password, "ca": b.Options.TLS.CAText})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	there := &url.URL{Scheme: "mqtts", Host: b.Addr}
	m := &event.Mapping{ID: "m", Topics: []string{"t"}}
	q := opened(t, m, poll.Place{URL: there, Secret: secret("lovelace")})
	defer q.Close()
	second := opened(t, m, poll.Place{URL: there, Secret: secret("lovelace")})
	defer second.Close()
	if _, err := q.Take(t.Context(), 1, time.Minute); err == nil {
		t.Error("a session that was taken over goes on")
	}
	for want, place := range map[string]poll.Place{
		"refuses the user or the password": {URL: there, Secret: secret("wrong")},
		"inflight=0 of the URL":            {URL: &url.URL{Scheme: "mqtts", Host: b.Addr, RawQuery: "inflight=0"}, Secret: secret("lovelace")},
	} {
		if _, err := mqtt.Opener.Open(context.Background(), m, place); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestSessionGoesWithItsMapping(t *testing.T) {
	s := source(t)
	m, at := s.New(t)
	if err := mqtt.Opener.(poll.Forgetter).Forget(t.Context(), m, at); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; { // the broker ends it when it reads that the connection did
		conn, err := net.Dial("tcp", at.URL.Host)
		if err != nil {
			t.Fatal(err)
		}
		c := paho.NewClient(paho.ClientConfig{Conn: conn})
		answer, err := c.Connect(t.Context(), &paho.Connect{ClientID: "hearth-" + m.ID, CleanStart: false})
		if err != nil {
			t.Fatal(err)
		}
		c.Disconnect(&paho.Disconnect{})
		if !answer.SessionPresent {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the session is still there")
		}
	}
}
