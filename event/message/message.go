// Package message is the form in which the messages of brokers that Lambda does
// not know stand in an event: that of SQS, so that a function written for a
// queue takes them unchanged, and beside it what is the broker's own.
package message

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
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
	Kind   string // such as "redis", a plain word: the eventSource is hearth:redis
	Source string // the ARN
	Region string
}

// Of is the Form of a mapping's messages.
func Of(m *event.Mapping, kind string) Form { return Form{kind, m.Source, m.Region} }

type attribute struct {
	Value string `json:"stringValue"`
	Type  string `json:"dataType"`
}

// delivered is what messages of all brokers have in an event.
type delivered struct {
	ID         string               `json:"messageId"`
	Body       string               `json:"body"`
	Attributes attributes           `json:"attributes"`
	Headers    map[string]attribute `json:"messageAttributes"`
	Source     string               `json:"eventSource"`
	ARN        string               `json:"eventSourceARN"`
	Region     string               `json:"awsRegion"`
	Encoded    bool                 `json:"isBase64Encoded,omitempty"`
}

type attributes struct {
	Sent     string `json:"SentTimestamp,omitempty"`
	Receives string `json:"ApproximateReceiveCount,omitempty"`
}

// Record is the message as a record. Its Position, Group and Handle are not
// set.
func (f Form) Record(m Message) (*poll.Record, error) {
	doc := delivered{
		ID: m.ID, Headers: make(map[string]attribute, len(m.Headers)),
		Source: "hearth:" + f.Kind, ARN: f.Source, Region: f.Region, Encoded: !utf8.Valid(m.Body),
	}
	if doc.Encoded {
		doc.Body = base64.StdEncoding.EncodeToString(m.Body)
	} else {
		doc.Body = string(m.Body)
	}
	if !m.Sent.IsZero() {
		doc.Attributes.Sent = strconv.FormatInt(m.Sent.UnixMilli(), 10)
	}
	if m.Receives > 0 {
		doc.Attributes.Receives = strconv.Itoa(m.Receives)
	}
	for name, value := range m.Headers {
		if utf8.ValidString(value) {
			doc.Headers[name] = attribute{value, "String"}
		}
	}
	data, err := json.Marshal(&doc)
	if err != nil {
		return nil, fmt.Errorf("the message %s: %w", m.ID, err)
	}
	own, err := json.Marshal(m.Own)
	if err != nil {
		return nil, fmt.Errorf("the message %s: %w", m.ID, err)
	}
	data = slices.Concat(data[:len(data)-1], []byte(`,"`+f.Kind+`":`), own, []byte{'}'})
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
