package mqtt_test

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/mqtt"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/sourcetest"
	"github.com/hearth-faas/hearth/internal/brokers"
)

// session is a client whose messages the broker keeps while it is away.
func session(b *testing.B, address, id string, heard func(*paho.Publish)) *paho.Client {
	b.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	config := paho.ClientConfig{Conn: conn}
	if heard != nil {
		config.OnPublishReceived = []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			heard(r.Packet)
			return true, nil
		}}
	}
	c := paho.NewClient(config)
	if _, err := c.Connect(b.Context(), &paho.Connect{ClientID: id, KeepAlive: 60,
		Properties: &paho.ConnectProperties{SessionExpiryInterval: new(uint32(math.MaxUint32))}}); err != nil {
		b.Fatal(err)
	}
	return c
}

// BenchmarkTopic is against a subscriber that acknowledges each message as it
// comes, as the protocol has it.
func BenchmarkTopic(b *testing.B) {
	broker := brokers.Shared(b, brokers.Mosquitto)
	bare := func(name string, heard func(*paho.Publish)) *paho.Client {
		c := session(b, broker.Addr, "bare-"+name, heard)
		if _, err := c.Subscribe(b.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: name + "/#", QoS: 1}}}); err != nil {
			b.Fatal(err)
		}
		return c
	}
	sourcetest.Bench(b, mqtt.Opener,
		func() (*event.Mapping, poll.Place) {
			name := fmt.Sprintf("bench%d", topics.Add(1))
			m := &event.Mapping{ID: name, Function: "f", Source: "arn:aws:hearth:us-east-1:000000000000:source/" + name, Region: "us-east-1", Settings: event.Settings{WindowSeconds: new(0)}}
			at := poll.Place{URL: &url.URL{Scheme: "mqtt", Host: broker.Addr, RawQuery: url.Values{"topic": {name + "/#"}}.Encode()}}
			q, err := mqtt.Opener.Open(b.Context(), m, at) // from now on the broker keeps what comes
			if err != nil {
				b.Fatal(err)
			}
			if err := q.Close(); err != nil {
				b.Fatal(err)
			}
			if err := bare(name, nil).Disconnect(&paho.Disconnect{}); err != nil {
				b.Fatal(err)
			}
			return m, at
		},
		func(m *event.Mapping, n int) {
			c := session(b, broker.Addr, "publisher", nil)
			for i := range n {
				if _, err := c.Publish(b.Context(), &paho.Publish{Topic: m.ID + "/new", QoS: 1, Payload: sourcetest.BenchBody(i)}); err != nil {
					b.Fatal(err)
				}
			}
			if err := c.Disconnect(&paho.Disconnect{}); err != nil {
				b.Fatal(err)
			}
		},
		func(m *event.Mapping, n int) {
			var got atomic.Int64
			done := make(chan struct{})
			c := bare(m.ID, func(*paho.Publish) {
				if got.Add(1) == int64(n) {
					close(done)
				}
			})
			select {
			case <-done:
			case <-time.After(time.Minute):
				b.Errorf("%d of %d came", got.Load(), n)
			}
			if err := c.Disconnect(&paho.Disconnect{}); err != nil {
				b.Fatal(err)
			}
		})
}
