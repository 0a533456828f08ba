// Package nats reads NATS JetStream. Each mapping is a durable pull consumer,
// so that the server keeps what was not acknowledged, and several servers of
// Hearth share one stream.
//
// The place's URL is nats://host:4222?stream=NAME, of several hosts with commas
// between them. &subject=orders.* takes only some of the stream's subjects,
// &consumer=NAME names the consumer (otherwise it has the mapping's ID),
// &ackWait=30s is how long the server waits for a sign of life before it gives
// a message to another, &tls=true encrypts. The secret is a password, a token
// (without a user name), or the text of a credentials file.
package nats

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/access"
	"github.com/hearth-faas/hearth/event/message"
	"github.com/hearth-faas/hearth/event/poll"
)

// Opener opens JetStream streams.
var Opener poll.Opener = opener{}

type opener struct{}

// defaultHold is how long a message is this server's without a sign of life.
const defaultHold = 30 * time.Second

// maxHeld bounds how many messages are taken and not acknowledged.
const maxHeld = 10_000

// connectTime bounds the making of a connection.
const connectTime = 10 * time.Second

// Open implements poll.Opener.
func (opener) Open(ctx context.Context, m *event.Mapping, at poll.Place) (poll.Source, error) {
	q, c, err := open(m, at)
	if err != nil {
		return nil, err
	}
	if err := q.begin(ctx, c); err != nil {
		q.conn.Close()
		return nil, err
	}
	return q, nil
}

// Forget removes the consumer, if it was made for the mapping alone.
func (opener) Forget(ctx context.Context, m *event.Mapping, at poll.Place) error {
	q, c, err := open(m, at)
	if err != nil {
		return err
	}
	defer q.conn.Close()
	if c.Durable != ownConsumer(m) {
		return nil
	}
	js, err := jetstream.New(q.conn)
	if err == nil {
		err = js.DeleteConsumer(ctx, q.stream, c.Durable)
	}
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	return err
}

func ownConsumer(m *event.Mapping) string { return "hearth-" + m.ID }

func open(m *event.Mapping, at poll.Place) (q *queue, c jetstream.ConsumerConfig, err error) {
	a, err := access.Of(m, at, access.Want{Port: "4222"})
	if err != nil {
		return nil, c, err
	}
	stream := access.Name(m, at, "stream")
	if stream == "" {
		return nil, c, errors.New("the URL names no stream: nats://host:4222?stream=NAME")
	}
	hold := defaultHold
	if text := access.Parameter(at.URL, "ackWait"); text != "" {
		if hold, err = time.ParseDuration(text); err != nil || hold < time.Second {
			return nil, c, fmt.Errorf("ackWait=%s of the URL is not a time of 1s or more", text)
		}
	}
	q = &queue{stream: stream, form: message.Of(m, "nats")}
	if q.conn, err = connect(a, at.Secret); err != nil {
		return nil, c, fmt.Errorf("nats: %w", err)
	}
	return q, config(m, at, hold), nil
}

func connect(a *access.Access, secret []byte) (*nats.Conn, error) {
	options := []nats.Option{
		nats.Name("hearth"), nats.Timeout(connectTime), nats.MaxReconnects(-1),
		// What is wrong for longer, Take says, and the source is opened anew.
		nats.CustomReconnectDelay(func(attempt int) time.Duration { return min(50*time.Millisecond<<min(attempt, 10), 5*time.Second) }),
		nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2),
	}
	switch {
	case strings.Contains(string(secret), "BEGIN NATS USER JWT"):
		options = append(options, nats.UserCredentialBytes(secret))
	case a.User != "":
		options = append(options, nats.UserInfo(a.User, a.Password))
	case a.Password != "":
		options = append(options, nats.Token(a.Password))
	}
	scheme := "nats://"
	if a.TLS != nil {
		options = append(options, nats.Secure(a.TLS))
		scheme = "tls://"
	}
	urls := make([]string, len(a.Addrs))
	for i, addr := range a.Addrs {
		urls[i] = scheme + addr
	}
	return nats.Connect(strings.Join(urls, ","), options...)
}

// config is that of the mapping's consumer.
func config(m *event.Mapping, at poll.Place, hold time.Duration) jetstream.ConsumerConfig {
	c := jetstream.ConsumerConfig{
		Durable: access.Parameter(at.URL, "consumer"), AckPolicy: jetstream.AckExplicitPolicy, AckWait: hold, MaxAckPending: maxHeld,
		FilterSubject: access.Parameter(at.URL, "subject"), DeliverPolicy: jetstream.DeliverNewPolicy,
		Description: "event source mapping " + m.ID + " of Hearth",
	}
	if c.Durable == "" {
		c.Durable = ownConsumer(m)
	}
	switch {
	case m.From == "TRIM_HORIZON":
		c.DeliverPolicy = jetstream.DeliverAllPolicy
	case m.From == "AT_TIMESTAMP" && m.FromAt != nil:
		c.DeliverPolicy, c.OptStartTime = jetstream.DeliverByStartTimePolicy, m.FromAt
	}
	return c
}

// begin makes the consumer unless it is there, in which case it stays as it is:
// it knows how far the mapping has got.
func (q *queue) begin(ctx context.Context, c jetstream.ConsumerConfig) error {
	js, err := jetstream.New(q.conn)
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	q.consumer, err = js.Consumer(ctx, q.stream, c.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		q.consumer, err = js.CreateConsumer(ctx, q.stream, c)
	}
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("there is no stream %s: make it first (nats stream add)", q.stream)
	case err != nil:
		return fmt.Errorf("the consumer %s of the stream %s: %w", c.Durable, q.stream, err)
	}
	info := q.consumer.CachedInfo()
	if info.Config.AckPolicy != jetstream.AckExplicitPolicy || info.Config.DeliverSubject != "" {
		return fmt.Errorf("the consumer %s of the stream %s is not one that is pulled from and acknowledges each message", c.Durable, q.stream)
	}
	q.hold = info.Config.AckWait
	return nil
}
