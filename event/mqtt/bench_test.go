package mqtt_test

import (
	"errors"
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
func session(b *testing.B, address, id string, heard func(*paho.Publish)) (*paho.Client, error) {
	b.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	config := paho.ClientConfig{Conn: conn}
	if heard != nil {
		config.OnPublishReceived = []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			heard(r.Packet)
			return true, nil
		}}
	}
	c := paho.NewClient(config)
	_, err = c.Connect(b.Context(), &paho.Connect{ClientID: id, KeepAlive: 60,
		Properties: &paho.ConnectProperties{SessionExpiryInterval: new(uint32(math.MaxUint32))}})
	return c, err
}

// BenchmarkTopic is against a subscriber that acknowledges each message as it
// comes, as the protocol has it.
func BenchmarkTopic(b *testing.B) {
	broker := brokers.Shared(b, brokers.Mosquitto)
	bare := func(name string, heard func(*paho.Publish)) (*paho.Client, error) {
		c, err := session(b, broker.Addr, "bare-"+name, heard)
		if err != nil {
			return nil, err
		}
		_, err = c.Subscribe(b.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: name + "/#", QoS: 1}}})
		return c, err
	}
	publisher, err := session(b, broker.Addr, "publisher", nil)
	if err != nil {
		b.Fatal(err)
	}
	sourcetest.Bench(b, sourcetest.Measured{
		Opener: mqtt.Opener,
		New: func() (*event.Mapping, poll.Place) {
			name := fmt.Sprintf("bench%d", topics.Add(1))
			m := &event.Mapping{ID: name, Function: "f", Source: "arn:aws:hearth:us-east-1:000000000000:source/" + name, Region: "us-east-1", Settings: event.Settings{WindowSeconds: new(0)}}
			at := poll.Place{URL: &url.URL{Scheme: "mqtt", Host: broker.Addr, RawQuery: url.Values{"topic": {name + "/#"}}.Encode()}}
			q, err := mqtt.Opener.Open(b.Context(), m, at) // from now on the broker keeps what comes
			if err != nil {
				b.Fatal(err)
			}
			c, err := bare(name, nil)
			if err != nil {
				b.Fatal(err)
			}
			if err := errors.Join(q.Close(), c.Disconnect(&paho.Disconnect{})); err != nil {
				b.Fatal(err)
			}
			return m, at
		},
		Publish: func(m *event.Mapping, n int) error {
			for i := range n {
				if _, err := publisher.Publish(b.Context(), &paho.Publish{Topic: m.ID + "/new", QoS: 1, Payload: sourcetest.BenchBody(i)}); err != nil {
					return err
				}
			}
			return nil
		},
		Bare: func(m *event.Mapping, n int, heard func()) error {
			var got atomic.Int64
			done := make(chan struct{})
			c, err := bare(m.ID, func(*paho.Publish) {
				heard()
				if got.Add(1) == int64(n) {
					close(done)
				}
			})
			if err != nil {
				return err
			}
			select {
			case <-done:
			case <-time.After(time.Minute):
				return fmt.Errorf("%d of %d came", got.Load(), n)
			}
			return c.Disconnect(&paho.Disconnect{})
		},
	})
	if err := publisher.Disconnect(&paho.Disconnect{}); err != nil {
		b.Fatal(err)
	}
}
