package rabbitmq

import (
	"encoding/json"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hearth-faas/hearth/event/poll"
)

// message is a message as Lambda has it.
type message struct {
	Properties  properties `json:"basicProperties"`
	Redelivered bool       `json:"redelivered"`
	Data        []byte     `json:"data"` // in base64
}

type properties struct {
	ContentType     *string        `json:"contentType"`
	ContentEncoding *string        `json:"contentEncoding"`
	Headers         map[string]any `json:"headers"`
	DeliveryMode    uint8          `json:"deliveryMode"`
	Priority        uint8          `json:"priority"`
	CorrelationID   *string        `json:"correlationId"`
	ReplyTo         *string        `json:"replyTo"`
	Expiration      *string        `json:"expiration"`
	MessageID       *string        `json:"messageId"`
	Timestamp       *string        `json:"timestamp"`
	Type            *string        `json:"type"`
	UserID          *string        `json:"userId"`
	AppID           *string        `json:"appId"`
	ClusterID       *string        `json:"clusterId"` // AMQP 0.9.1 has it no more
	BodySize        int            `json:"bodySize"`
}

// timeForm is how Lambda writes a time here, which is Java's way.
const timeForm = "Jan 2, 2006, 3:04:05 PM"

func messageOf(d amqp.Delivery) message {
	m := message{Redelivered: d.Redelivered, Data: d.Body, Properties: properties{
		ContentType: text(d.ContentType), ContentEncoding: text(d.ContentEncoding), Headers: map[string]any{},
		DeliveryMode: d.DeliveryMode, Priority: d.Priority, CorrelationID: text(d.CorrelationId), ReplyTo: text(d.ReplyTo),
		Expiration: text(d.Expiration), MessageID: text(d.MessageId), Type: text(d.Type), UserID: text(d.UserId), AppID: text(d.AppId),
		BodySize: len(d.Body),
	}}
	if !d.Timestamp.IsZero() {
		m.Properties.Timestamp = text(d.Timestamp.UTC().Format(timeForm))
	}
	for name, value := range d.Headers {
		m.Properties.Headers[name] = header(value)
	}
	return m
}

// text is nil for what was not set.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// header is a header's value as Lambda has it: text as its bytes, numbers as
// they are.
func header(value any) any {
	switch v := value.(type) {
	case string:
		return map[string]any{"bytes": signed([]byte(v))}
	case []byte:
		return map[string]any{"bytes": signed(v)}
	case time.Time:
		return v.UTC().Format(timeForm)
	case amqp.Decimal:
		return map[string]any{"scale": v.Scale, "value": v.Value}
	case amqp.Table:
		m := make(map[string]any, len(v))
		for name, value := range v {
			m[name] = header(value)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, value := range v {
			list[i] = header(value)
		}
		return list
	}
	return value // a number, a bool or nil
}

// signed are bytes as Java has them.
func signed(b []byte) []int8 {
	list := make([]int8, len(b))
	for i, c := range b {
		list[i] = int8(c)
	}
	return list
}

// Event is Lambda's event for RabbitMQ.
func (q *queue) Event(records []*poll.Record) ([]byte, error) {
	head, err := json.Marshal(map[string]any{"eventSource": "aws:rmq", "eventSourceArn": q.source})
	if err != nil {
		return nil, err
	}
	name, err := json.Marshal(q.name + "::" + q.vhost)
	if err != nil {
		return nil, err
	}
	event := append(head[:len(head)-1], `,"rmqMessagesByQueue":{`...)
	event = append(append(event, name...), ':')
	return append(poll.AppendBodies(event, records), "}}"...), nil
}

// View has data decoded, and as JSON if it is JSON.
func (q *queue) View(r *poll.Record) []byte {
	var doc map[string]json.RawMessage
	var data []byte
	if json.Unmarshal(r.Body, &doc) != nil || json.Unmarshal(doc["data"], &data) != nil {
		return r.Body
	}
	doc["data"] = poll.TextOrJSON(data)
	view, err := json.Marshal(doc)
	if err != nil {
		return r.Body // it was JSON a line ago
	}
	return view
}
