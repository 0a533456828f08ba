// Package message is the form in which the messages of brokers that Lambda does
// not know stand in an event: that of SQS, so that a function written for a
// queue takes them unchanged, and beside it what is the broker's own.
package message

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
)

// Message is one message.
type Message struct {
	ID       string
	Body     []byte
	Sent     time.Time // zero is not known
	Receives int       // 0 is not known
	// Headers are what the message has beside its body. Those that are text
	// become the messageAttributes, of type String.
	Headers map[string]string
	// Own is what only this broker has, under the name of its kind.
	Own any
}

// Form is what the messages of one mapping have in common.
type Form struct {
	Kind   string // such as "redis": the eventSource is hearth:redis
	Source string // the ARN
	Region string
}

// Of is the Form of a mapping's messages.
func Of(m *event.Mapping, kind string) Form { return Form{kind, m.Source, m.Region} }

type attribute struct {
	Value string `json:"stringValue"`
	Type  string `json:"dataType"`
}

// Record is the message as a record. Its Position, Group and Handle are not
// set.
func (f Form) Record(m Message) (*poll.Record, error) {
	body, encoded := string(m.Body), false
	if !utf8.Valid(m.Body) {
		body, encoded = base64.StdEncoding.EncodeToString(m.Body), true
	}
	attributes := map[string]string{}
	if !m.Sent.IsZero() {
		attributes["SentTimestamp"] = strconv.FormatInt(m.Sent.UnixMilli(), 10)
	}
	if m.Receives > 0 {
		attributes["ApproximateReceiveCount"] = strconv.Itoa(m.Receives)
	}
	headers := make(map[string]attribute, len(m.Headers))
	for name, value := range m.Headers {
		if utf8.ValidString(value) {
			headers[name] = attribute{value, "String"}
		}
	}
	doc := map[string]any{
		"messageId": m.ID, "body": body, "attributes": attributes, "messageAttributes": headers,
		"eventSource": "hearth:" + f.Kind, "eventSourceARN": f.Source, "awsRegion": f.Region, f.Kind: m.Own,
	}
	if encoded {
		doc["isBase64Encoded"] = true
	}
	data, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("the message %s: %w", m.ID, err)
	}
	return &poll.Record{ID: m.ID, Body: data, Sent: m.Sent, Receives: m.Receives}, nil
}

// View is what filters see of a record: its body as JSON if it is JSON.
func View(r *poll.Record) []byte {
	var doc map[string]json.RawMessage
	var text string
	if json.Unmarshal(r.Body, &doc) != nil || json.Unmarshal(doc["body"], &text) != nil {
		return r.Body
	}
	doc["body"] = poll.TextOrJSON([]byte(text))
	view, err := json.Marshal(doc)
	if err != nil {
		return r.Body // it was JSON a line ago
	}
	return view
}
