// Package rabbitmq reads queues of RabbitMQ, in Lambda's form for Amazon MQ.
//
// A mapping names its queue in Queues, or the place's URL does:
// amqp://host:5672/VHOST?queue=NAME, amqps:// with TLS. &prefetch=N is how many
// messages are taken ahead of their acknowledgement. The queue must be there.
package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/access"
	"github.com/hearth-faas/hearth/event/poll"
)

// Opener opens queues of RabbitMQ.
var Opener = poll.OpenerFunc(open)

// Heartbeats find a connection that is dead and does not say so. connectTime
// bounds the making of one.
const (
	heartbeat   = 10 * time.Second
	connectTime = 10 * time.Second
)

func open(ctx context.Context, m *event.Mapping, at poll.Place) (poll.Source, error) {
	a, err := access.Of(m, at, access.Want{Port: "5672", Secure: []string{"amqps"}})
	if err != nil {
		return nil, err
	}
	name := access.Name(m, at, "queue")
	if name == "" {
		return nil, errors.New("neither the mapping nor the URL names a queue: amqp://host:5672/VHOST?queue=NAME")
	}
	prefetch := min(max(10*m.Settings.BatchSize, 100), 10_000)
	if text := access.Parameter(at.URL, "prefetch"); text != "" {
		if prefetch, err = strconv.Atoi(text); err != nil || prefetch < 1 || prefetch > 65_535 {
			return nil, fmt.Errorf("prefetch=%s of the URL is not a number from 1 to 65535", text)
		}
	}
	q := &queue{name: name, vhost: vhost(a, at.URL), source: m.Source, lost: make(chan *amqp.Error, 1), cancelled: make(chan string, 1)}
	if err := q.connect(ctx, a, prefetch); err != nil {
		if q.conn != nil {
			q.conn.Close() // what is said is why it could not be used
		}
		return nil, q.sentence(err)
	}
	return q, nil
}

// vhost is the virtual host: as the mapping says, or the URL's path, in which
// RabbitMQ has "/" written as %2F.
func vhost(a *access.Access, u *url.URL) string {
	switch {
	case a.VirtualHost != "":
		return a.VirtualHost
	case u != nil && len(u.Path) > 1:
		return strings.TrimPrefix(u.Path, "/")
	}
	return "/"
}

func (q *queue) connect(ctx context.Context, a *access.Access, prefetch int) (err error) {
	user, password := a.User, a.Password
	if user == "" && password == "" {
		user, password = "guest", "guest" // RabbitMQ's own, which it takes from the same machine only
	}
	dialer := net.Dialer{Timeout: connectTime}
	config := amqp.Config{
		SASL: []amqp.Authentication{&amqp.PlainAuth{Username: user, Password: password}}, Vhost: q.vhost,
		Heartbeat: heartbeat, TLSClientConfig: a.TLS, Properties: amqp.Table{"connection_name": "hearth", "product": "hearth"},
		Dial: func(network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err == nil {
				err = conn.SetDeadline(time.Now().Add(connectTime)) // until it is open
			}
			return conn, err
		},
	}
	scheme := "amqp://"
	if a.TLS != nil {
		scheme = "amqps://"
	}
	for _, addr := range a.Addrs {
		if q.conn, err = amqp.DialConfig(scheme+addr, config); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	if q.channel, err = q.conn.Channel(); err != nil {
		return err
	}
	q.channel.NotifyClose(q.lost)
	q.channel.NotifyCancel(q.cancelled)
	if _, err = q.channel.QueueDeclarePassive(q.name, false, false, false, false, nil); err != nil {
		return err
	}
	if err = q.channel.Qos(prefetch, 0, false); err != nil {
		return err
	}
	q.deliveries, err = q.channel.Consume(q.name, "", false, false, false, false, nil)
	return err
}

// sentence says of RabbitMQ's errors what can be done about them.
func (q *queue) sentence(err error) error {
	var e *amqp.Error
	switch {
	case errors.As(err, &e) && e.Code == amqp.NotFound:
		return fmt.Errorf("there is no queue %s in the virtual host %s: declare it first: %w", q.name, q.vhost, err)
	case errors.As(err, &e) && e.Code == amqp.AccessRefused:
		return fmt.Errorf("RabbitMQ refuses the user or the password: %w", err)
	}
	return fmt.Errorf("RabbitMQ: %w", err)
}
