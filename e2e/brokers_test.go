package e2e

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/eclipse/paho.golang/paho"
	"github.com/jackc/pgx/v5"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	amqp "github.com/rabbitmq/amqp091-go"
	goredis "github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/hearth-faas/hearth/event/postgres"
	"github.com/hearth-faas/hearth/internal/brokers"
	"github.com/hearth-faas/hearth/internal/pgtest"
)

// brokerCase is a broker with something to read in it.
type brokerCase struct {
	name    string
	url     string
	secret  string
	from    types.EventSourcePosition
	topics  []string
	queues  []string
	publish func(t *testing.T, body string)
}

// printing prints each message that it is given, whatever the source.
const printing = `
import base64, json
def handler(event, context):
    for records in event.get("records", {}).values():
        for r in records: print("GOT<%s>" % base64.b64decode(r["value"]).decode())
    for messages in event.get("rmqMessagesByQueue", {}).values():
        for m in messages: print("GOT<%s>" % base64.b64decode(m["data"]).decode())
    for r in event.get("Records", []):
        print("GOT<%s>" % (r["body"] if "body" in r else r["postgres"]["new"]["body"]))
`

// What is published at a broker reaches the function, before and after the
// server was killed, and what was published while there was none.
func TestMessagesOfRealBrokersReachTheirFunctions(t *testing.T) {
	t.Parallel()
	cases := []brokerCase{redisCase(t), natsCase(t), mqttCase(t), rabbitmqCase(t), kafkaCase(t)}
	cases = append(cases, postgresCases(t)...)
	s := start(t)
	for _, c := range cases {
		s.deploy(function{name: c.name, runtime: "python3.11", files: map[string]string{"index.py": printing}})
		c.publish(t, "first")
		args := []string{"source", "add", c.name, c.url}
		if c.secret != "" {
			file := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(file, []byte(c.secret), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--secret-file", file)
		}
		if out, err := s.hearth(args...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		_, err := s.client().CreateEventSourceMapping(t.Context(), &lambda.CreateEventSourceMappingInput{
			FunctionName: &c.name, EventSourceArn: new("arn:aws:hearth:us-east-1:000000000000:source/" + c.name),
			StartingPosition: c.from, Topics: c.topics, Queues: c.queues, BatchSize: new(int32(10)),
		})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
	for _, c := range cases {
		s.loggedTimes(c.name, map[string]int{"GOT<first>": 1})
	}
	s.kill9()
	for _, c := range cases {
		c.publish(t, "second")
	}
	again := startIn(t, s.dir)
	for _, c := range cases {
		again.loggedTimes(c.name, map[string]int{"GOT<second>": 1})
	}
}

func redisCase(t *testing.T) brokerCase {
	b := brokers.Start(t, brokers.Redis, brokers.Options{Password: "lovelace"})
	client := goredis.NewClient(&goredis.Options{Addr: b.Addr, Password: "lovelace"})
	t.Cleanup(func() { client.Close() })
	return brokerCase{name: "redis", url: "redis://" + b.Addr + "?stream=orders", secret: "lovelace", from: types.EventSourcePositionTrimHorizon,
		publish: func(t *testing.T, body string) {
			if err := client.XAdd(t.Context(), &goredis.XAddArgs{Stream: "orders", Values: map[string]any{"body": body}}).Err(); err != nil {
				t.Fatal(err)
			}
		}}
}

func natsCase(t *testing.T) brokerCase {
	b := brokers.Start(t, brokers.NATS, brokers.Options{})
	conn, err := natsgo.Connect("nats://" + b.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err == nil {
		_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return brokerCase{name: "nats", url: "nats://" + b.Addr + "?stream=ORDERS", from: types.EventSourcePositionTrimHorizon,
		publish: func(t *testing.T, body string) {
			if _, err := js.Publish(t.Context(), "orders.new", []byte(body)); err != nil {
				t.Fatal(err)
			}
		}}
}

func mqttCase(t *testing.T) brokerCase {
	b := brokers.Start(t, brokers.Mosquitto, brokers.Options{})
	connect := func(id string) *paho.Client {
		conn, err := net.Dial("tcp", b.Addr)
		if err != nil {
			t.Fatal(err)
		}
		c := paho.NewClient(paho.ClientConfig{Conn: conn})
		_, err = c.Connect(t.Context(), &paho.Connect{ClientID: id, Properties: &paho.ConnectProperties{SessionExpiryInterval: new(uint32(math.MaxUint32))}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	// The session that Hearth will have keeps what comes before it is there.
	c := connect("hearth-e2e")
	if _, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "orders/#", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	return brokerCase{name: "mqtt", url: "mqtt://" + b.Addr + "?client=hearth-e2e&topic=" + url.QueryEscape("orders/#"),
		publish: func(t *testing.T, body string) {
			c := connect("publisher")
			if _, err := c.Publish(t.Context(), &paho.Publish{Topic: "orders/new", QoS: 1, Payload: []byte(body)}); err != nil {
				t.Fatal(err)
			}
			if err := c.Disconnect(&paho.Disconnect{}); err != nil {
				t.Fatal(err)
			}
		}}
}

func rabbitmqCase(t *testing.T) brokerCase {
	b := brokers.Start(t, brokers.RabbitMQ, brokers.Options{})
	conn, err := amqp.Dial("amqp://" + b.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err == nil {
		_, err = ch.QueueDeclare("orders", true, false, false, false, nil)
	}
	if err == nil {
		err = ch.Confirm(false)
	}
	if err != nil {
		t.Fatal(err)
	}
	return brokerCase{name: "rabbitmq", url: "amqp://" + b.Addr, queues: []string{"orders"},
		publish: func(t *testing.T, body string) {
			c, err := ch.PublishWithDeferredConfirm("", "orders", true, false, amqp.Publishing{Body: []byte(body)})
			if err != nil {
				t.Fatal(err)
			}
			if ok, err := c.WaitContext(t.Context()); err != nil || !ok {
				t.Fatal(ok, err)
			}
		}}
}

func kafkaCase(t *testing.T) brokerCase {
	b := brokers.Start(t, brokers.Kafka, brokers.Options{})
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.MaxVersions(kversion.V0_9_0()), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return brokerCase{name: "kafka", url: "kafka://" + b.Addr + "?version=0.9.0", from: types.EventSourcePositionTrimHorizon, topics: []string{"orders"},
		publish: func(t *testing.T, body string) {
			if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Value: []byte(body)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}}
}

// postgresCases are an outbox and a change feed.
func postgresCases(t *testing.T) []brokerCase {
	raw := pgtest.New(t)
	conn, err := pgx.Connect(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(t.Context()) })
	exec := func(t *testing.T, statement string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), statement, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(t, fmt.Sprintf(postgres.Schema, "outgoing"))
	exec(t, "CREATE TABLE orders (id serial PRIMARY KEY, body text)")
	exec(t, "CREATE PUBLICATION orders FOR TABLE orders")
	exec(t, "SELECT pg_create_logical_replication_slot('e2e', 'pgoutput')")
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	u.User = url.User(u.User.Username())
	place := func(parameters string) string { return u.String() + "&" + parameters }
	insert := func(table string) func(*testing.T, string) {
		return func(t *testing.T, body string) { exec(t, "INSERT INTO "+table+" (body) VALUES ($1)", body) }
	}
	return []brokerCase{
		{name: "outbox", url: place("outbox=outgoing"), secret: password, publish: insert("outgoing")},
		{name: "feed", url: place("publication=orders&slot=e2e"), secret: password, publish: insert("orders")},
	}
}
