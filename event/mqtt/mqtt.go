// Package mqtt reads topics of an MQTT 5 broker, with a session that outlives
// connections and QoS 1: the broker keeps what comes while nobody reads, and
// what was not acknowledged.
//
// The place's URL is mqtt://host:1883?topic=sensors/%23, mqtts:// with TLS (the
// # of a filter is written %23). &client=ID is the client's ID, otherwise made
// of the mapping's: it is the session's name, so that no two may have the same.
// &inflight=N is how many messages are taken ahead of their acknowledgement.
// Several servers share a topic by $share/GROUP/TOPIC and a client for each.
package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/access"
	"github.com/hearth-faas/hearth/event/message"
	"github.com/hearth-faas/hearth/event/poll"
)

// Opener opens topics of MQTT brokers.
var Opener poll.Opener = opener{}

type opener struct{}

const (
	// defaultInflight bounds what is held in memory: the broker sends no more
	// before some are acknowledged.
	defaultInflight = 100
	// maxPacket is the largest message that is taken: what fits into an event.
	// The broker drops larger ones, as MQTT has it.
	maxPacket = poll.MaxEvent
	// keepAlive finds a connection that is dead and does not say so, in s.
	keepAlive   = 15
	connectTime = 10 * time.Second
	// ackEvery is how often acknowledgements are sent, which MQTT wants in the
	// order of the messages.
	ackEvery = 20 * time.Millisecond
	// closeTime is how long the broker may take to take them in at the end.
	closeTime = 5 * time.Second
)

// Open implements poll.Opener.
func (opener) Open(ctx context.Context, m *event.Mapping, at poll.Place) (poll.Source, error) {
	const never = math.MaxUint32
	q, err := open(ctx, m, at, never)
	if err != nil {
		return nil, err
	}
	if err := q.subscribe(ctx, m); err != nil {
		q.end() // what is said is why it could not be used
		return nil, fmt.Errorf("MQTT: the topic %s: %w", q.filter, err)
	}
	return q, nil
}

// Forget ends the session: it is taken over by a client that lets it end with
// its connection.
func (opener) Forget(ctx context.Context, m *event.Mapping, at poll.Place) error {
	q, err := open(ctx, m, at, 0)
	if err == nil {
		q.end()
	}
	return err
}

// open connects. The session ends so many seconds after the connection.
func open(ctx context.Context, m *event.Mapping, at poll.Place, expiry uint32) (*queue, error) {
	a, err := access.Of(m, at, access.Want{Port: "1883", Secure: []string{"mqtts"}})
	if err != nil {
		return nil, err
	}
	topic := access.Name(m, at, "topic")
	if topic == "" {
		return nil, errors.New("neither the mapping nor the URL names a topic: mqtt://host:1883?topic=NAME")
	}
	inflight := defaultInflight
	if text := access.Parameter(at.URL, "inflight"); text != "" {
		if inflight, err = strconv.Atoi(text); err != nil || inflight < 1 || inflight > math.MaxUint16 {
			return nil, fmt.Errorf("inflight=%s of the URL is not a number from 1 to %d", text, math.MaxUint16)
		}
	}
	id := access.Parameter(at.URL, "client")
	if id == "" {
		id = "hearth-" + m.ID
	}
	q := &queue{filter: topic, client: id, form: message.Of(m, "mqtt"), in: make(chan *paho.Publish, inflight),
		lost: make(chan struct{}), began: time.Now().UnixMilli()}
	if err := q.connect(ctx, a, uint16(inflight), expiry); err != nil {
		return nil, fmt.Errorf("MQTT: %w", err)
	}
	return q, nil
}

func dial(ctx context.Context, a *access.Access) (conn net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	for _, addr := range a.Addrs {
		var dialer interface {
			DialContext(context.Context, string, string) (net.Conn, error)
		} = &net.Dialer{}
		if a.TLS != nil {
			dialer = &tls.Dialer{Config: a.TLS}
		}
		if conn, err = dialer.DialContext(ctx, "tcp", addr); err == nil {
			return packets.NewThreadSafeConn(conn), nil
		}
	}
	return nil, err
}

func (q *queue) connect(ctx context.Context, a *access.Access, inflight uint16, expiry uint32) error {
	conn, err := dial(ctx, a)
	if err != nil {
		return err
	}
	q.conn = paho.NewClient(paho.ClientConfig{
		Conn: conn, PacketTimeout: connectTime, EnableManualAcknowledgment: true, SendAcksInterval: ackEvery,
		OnPublishReceived:  []func(paho.PublishReceived) (bool, error){q.receive},
		OnClientError:      q.broken,
		OnServerDisconnect: func(d *paho.Disconnect) { q.broken(disconnected(d)) },
	})
	connect := &paho.Connect{
		ClientID: q.client, KeepAlive: keepAlive, CleanStart: false,
		Properties: &paho.ConnectProperties{
			SessionExpiryInterval: new(expiry),
			ReceiveMaximum:        new(inflight), MaximumPacketSize: new(uint32(maxPacket)), RequestProblemInfo: true,
		},
		Username: a.User, UsernameFlag: a.User != "", Password: []byte(a.Password), PasswordFlag: a.Password != "",
	}
	answer, err := q.conn.Connect(ctx, connect)
	if err != nil {
		conn.Close() // the client may have done so
		if answer != nil {
			return refused(answer.ReasonCode, err)
		}
		return err
	}
	return nil
}

// refused says why a broker let nobody in.
func refused(code byte, err error) error {
	switch code {
	case packets.ConnackBadUsernameOrPassword, packets.ConnackNotAuthorized:
		return fmt.Errorf("the broker refuses the user or the password (code %#x)", code)
	case packets.ConnackUnsupportedProtocolVersion:
		return errors.New("the broker does not speak MQTT 5")
	}
	return fmt.Errorf("code %#x: %w", code, err)
}

func disconnected(d *paho.Disconnect) error {
	if d.ReasonCode == packets.DisconnectSessionTakenOver {
		return errors.New("another client has the same ID and has taken over the session: give each a &client= of its own")
	}
	return fmt.Errorf("the broker ended the connection (code %#x)", d.ReasonCode)
}

// subscribe subscribes. To do it again in a session that has the subscription
// changes nothing. Retained messages come once, when the subscription is new,
// if reading begins at the beginning.
func (q *queue) subscribe(ctx context.Context, m *event.Mapping) error {
	handling := byte(keepRetained)
	if m.From == "TRIM_HORIZON" {
		handling = retainedIfNew
	}
	return q.ask(ctx, handling)
}

// How retained messages are handled, as MQTT numbers it.
const (
	retainedIfNew = 1
	keepRetained  = 2
)

func (q *queue) ask(ctx context.Context, handling byte) error {
	answer, err := q.conn.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{
		{Topic: q.filter, QoS: 1, RetainHandling: handling, RetainAsPublished: true},
	}})
	if err != nil {
		if answer != nil && len(answer.Reasons) > 0 {
			return fmt.Errorf("the broker refuses it (code %#x): %w", answer.Reasons[0], err)
		}
		return err
	}
	if answer.Reasons[0] < 1 {
		return errors.New("the broker would deliver it at most once (QoS 0)")
	}
	return nil
}
