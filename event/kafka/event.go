package kafka

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
)

// record is a record as Lambda has it.
type record struct {
	Topic         string              `json:"topic"`
	Partition     int32               `json:"partition"`
	Offset        int64               `json:"offset"`
	Timestamp     int64               `json:"timestamp"` // ms
	TimestampType string              `json:"timestampType"`
	Key           *string             `json:"key,omitempty"`   // in base64
	Value         *string             `json:"value,omitempty"` // in base64
	Headers       []map[string][]int8 `json:"headers"`
}

var timestampTypes = map[int8]string{-1: "NO_TIMESTAMP_TYPE", 0: "CREATE_TIME", 1: "LOG_APPEND_TIME"}

func recordOf(r *kgo.Record) (*poll.Record, error) {
	out := record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(),
		TimestampType: timestampTypes[r.Attrs.TimestampType()], Key: encoded(r.Key), Value: encoded(r.Value), Headers: []map[string][]int8{}}
	if r.Timestamp.UnixMilli() <= 0 {
		out.Timestamp = -1 // brokers before 0.10 have none
	}
	for _, h := range r.Headers {
		value := make([]int8, len(h.Value))
		for i, c := range h.Value {
			value[i] = int8(c) // as Java has bytes
		}
		out.Headers = append(out.Headers, map[string][]int8{h.Key: value})
	}
	body, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("kafka: offset %d of %s: %w", r.Offset, topicPartition{r.Topic, r.Partition}.id(), err)
	}
	tp := topicPartition{r.Topic, r.Partition}
	rec := &poll.Record{ID: id(tp.id(), r.Offset), Body: body, Group: string(r.Key), Position: strconv.FormatInt(r.Offset, 10), Handle: tp}
	if out.Timestamp >= 0 {
		rec.Sent = r.Timestamp
	}
	return rec, nil
}

func encoded(b []byte) *string {
	if b == nil {
		return nil
	}
	text := base64.StdEncoding.EncodeToString(b)
	return &text
}

func id(partition string, offset int64) string {
	return partition + "@" + strconv.FormatInt(offset, 10)
}

// Identify implements poll.Identifier: Lambda's functions name a record by
// {"partition": "orders-0", "offset": 7}.
func (s *stream) Identify(item json.RawMessage) string {
	var named struct {
		Partition string `json:"partition"`
		Offset    *int64 `json:"offset"`
	}
	if json.Unmarshal(item, &named) != nil || named.Partition == "" || named.Offset == nil {
		return ""
	}
	return id(named.Partition, *named.Offset)
}

// Event is Lambda's event for Kafka.
func (s *stream) Event(records []*poll.Record) ([]byte, error) {
	head := map[string]string{"eventSource": "SelfManagedKafka", "bootstrapServers": s.brokers}
	if s.kind == event.MSK {
		head["eventSource"] = "aws:kafka"
	}
	if s.source != "" {
		head["eventSourceArn"] = s.source
	}
	out, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	out = append(out[:len(out)-1], `,"records":{`...)
	// A batch is of one partition, as shards are read; but that is not for the
	// source to say.
	var order []string
	by := map[string][]*poll.Record{}
	for _, r := range records {
		name := r.Handle.(topicPartition).id()
		if by[name] == nil {
			order = append(order, name)
		}
		by[name] = append(by[name], r)
	}
	for i, name := range order {
		if i > 0 {
			out = append(out, ',')
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		out = poll.AppendBodies(append(append(out, quoted...), ':'), by[name])
	}
	return append(out, "}}"...), nil
}

// View has key and value decoded, and as JSON if they are JSON.
func (s *stream) View(r *poll.Record) []byte {
	var doc map[string]json.RawMessage
	if json.Unmarshal(r.Body, &doc) != nil {
		return r.Body
	}
	for _, name := range []string{"key", "value"} {
		var data []byte
		if doc[name] != nil && json.Unmarshal(doc[name], &data) == nil {
			doc[name] = poll.TextOrJSON(data)
		}
	}
	view, err := json.Marshal(doc)
	if err != nil {
		return r.Body // it was JSON a line ago
	}
	return view
}

// Describe implements poll.Describer, in Lambda's form.
func (s *stream) Describe(shard string, records []*poll.Record) (string, any) {
	size := 0
	for _, r := range records {
		size += len(r.Body)
	}
	first, last := records[0], records[len(records)-1]
	info := map[string]any{"firstRecordOffset": first.Position, "lastRecordOffset": last.Position}
	if !first.Sent.IsZero() {
		info["firstRecordTimestamp"] = first.Sent.UTC().Format("2006-01-02T15:04:05.000Z")
		info["lastRecordTimestamp"] = last.Sent.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	return "KafkaBatchInfo", map[string]any{"batchSize": len(records), "eventSourceArn": s.source, "bootstrapServers": s.brokers,
		"payloadSize": size, "recordsInfo": map[string]any{shard: info}}
}

// commitDone keeps what went wrong with a commit.
func commitDone(failed *error) func(*kgo.Client, *kmsg.OffsetCommitRequest, *kmsg.OffsetCommitResponse, error) {
	return func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
		if *failed = err; err != nil {
			return
		}
		for _, t := range answer.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					*failed = err
				}
			}
		}
	}
}
