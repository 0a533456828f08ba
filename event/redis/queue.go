package redis

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/hearth-faas/hearth/event/message"
	"github.com/hearth-faas/hearth/event/poll"
)

// queue is a consumer group as a poll.Queue. An entry that was taken is in the
// group's list of pending ones until it is acknowledged; one that has been
// there for hold without a sign of life is claimed by whoever comes first.
type queue struct {
	client          *redis.Client
	stream, group   string
	consumer        string
	form            message.Form
	closeOnce       sync.Once
	closed          error
	own             string // after which of this consumer's pending entries to go on; "" is that all were taken again
	claimAt         time.Time
	mu              sync.Mutex
	releasedEntries bool // something was given back, so that it can be claimed at once
}

// hold is how long an entry is this server's without a sign of life.
const hold = time.Minute

// claimEvery is how often entries are looked for whose server is gone.
const claimEvery = hold / 4

// longest is how long Redis is asked to wait for an entry at a time: a taking
// that is to end, ends within it.
const longest = time.Second

func (q *queue) Traits() poll.Traits { return poll.Traits{Hold: hold} }

// Take takes first what this consumer had taken before it was interrupted, then
// what others left behind, then what is new.
func (q *queue) Take(ctx context.Context, most int, wait time.Duration) ([]*poll.Record, error) {
	for q.own != "" {
		taken, err := q.again(ctx, most)
		if err != nil || len(taken) > 0 {
			return taken, err
		}
	}
	until := time.Now().Add(wait)
	for {
		if taken, err := q.claim(ctx, most); err != nil || len(taken) > 0 {
			return taken, err
		}
		block := min(time.Until(until), longest)
		if block < time.Millisecond {
			block = -1 // no waiting; 0 would be for ever
		}
		streams, err := q.client.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: q.group, Consumer: q.consumer, Streams: []string{q.stream, ">"}, Count: int64(most), Block: block,
		}).Result()
		switch {
		case errors.Is(err, redis.Nil):
			if ctx.Err() != nil || block < 0 {
				return nil, ctx.Err()
			}
		case err != nil:
			return nil, q.failed(err)
		default:
			return q.records(streams[0].Messages)
		}
	}
}

// again takes what was this consumer's already: nobody works at it, since the
// server has just begun to read.
func (q *queue) again(ctx context.Context, most int) ([]*poll.Record, error) {
	streams, err := q.client.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: q.group, Consumer: q.consumer, Streams: []string{q.stream, q.own}, Count: int64(most), Block: -1,
	}).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, q.failed(err)
	}
	if len(streams) == 0 || len(streams[0].Messages) == 0 {
		q.own = ""
		return nil, nil
	}
	messages := streams[0].Messages
	q.own = messages[len(messages)-1].ID
	return q.records(messages)
}

// claim takes over what has been held too long, or was given back.
func (q *queue) claim(ctx context.Context, most int) ([]*poll.Record, error) {
	q.mu.Lock()
	released := q.releasedEntries
	q.releasedEntries = false
	q.mu.Unlock()
	if !released && time.Now().Before(q.claimAt) {
		return nil, nil
	}
	messages, next, err := q.client.XAutoClaim(ctx, &redis.XAutoClaimArgs{
		Stream: q.stream, Group: q.group, Consumer: q.consumer, MinIdle: hold, Start: "0", Count: int64(most),
	}).Result()
	if err != nil {
		return nil, q.failed(err)
	}
	if next == "0-0" && len(messages) < most {
		q.claimAt = time.Now().Add(claimEvery)
	}
	return q.records(messages)
}

// failed says what can be said better than Redis does. What was cut off may
// have been taken: it is looked for among the pending entries.
func (q *queue) failed(err error) error {
	switch {
	case strings.HasPrefix(err.Error(), "NOGROUP"):
		return fmt.Errorf("the stream %s or its consumer group %s is gone; it is made anew: %w", q.stream, q.group, err)
	case strings.HasPrefix(err.Error(), "WRONGTYPE"):
		return fmt.Errorf("%s is no stream: %w", q.stream, err)
	}
	return fmt.Errorf("redis: %w", err)
}

func (q *queue) records(messages []redis.XMessage) ([]*poll.Record, error) {
	var records []*poll.Record
	for _, m := range messages {
		if m.Values == nil {
			// It was deleted from the stream while it was pending: there is
			// nothing to process any more.
			if err := q.client.XAck(context.Background(), q.stream, q.group, m.ID).Err(); err != nil {
				return records, q.failed(err)
			}
			continue
		}
		r, err := q.record(m)
		if err != nil {
			return records, err
		}
		records = append(records, r)
	}
	return records, nil
}

// own is what only Redis's messages have.
type own struct {
	Stream string            `json:"stream"`
	Group  string            `json:"group"`
	Fields map[string]string `json:"fields"`
	// Base64 names the fields whose values are not UTF-8 and so are encoded.
	Base64 []string `json:"base64Fields,omitempty"`
}

func (q *queue) record(m redis.XMessage) (*poll.Record, error) {
	o := own{Stream: q.stream, Group: q.group, Fields: make(map[string]string, len(m.Values))}
	for name, value := range m.Values {
		text, _ := value.(string) // RESP 2 has only strings
		if !utf8.ValidString(text) {
			o.Base64 = append(o.Base64, name)
			text = base64.StdEncoding.EncodeToString([]byte(text))
		}
		o.Fields[name] = text
	}
	// The field "body" is the body; without one all fields are, as JSON.
	var body []byte
	if text, ok := m.Values["body"].(string); ok {
		body = []byte(text)
	} else {
		var err error
		if body, err = json.Marshal(o.Fields); err != nil {
			return nil, err
		}
	}
	sent := time.Time{}
	if ms, _, ok := strings.Cut(m.ID, "-"); ok {
		if n, err := strconv.ParseInt(ms, 10, 64); err == nil {
			sent = time.UnixMilli(n)
		}
	}
	return q.form.Record(message.Message{ID: m.ID, Body: body, Sent: sent, Headers: o.Fields, Own: o})
}

func ids(records []*poll.Record) []string {
	list := make([]string, len(records))
	for i, r := range records {
		list[i] = r.ID
	}
	return list
}

// Ack acknowledges the entries, which stay in the stream.
func (q *queue) Ack(ctx context.Context, records []*poll.Record) error {
	return q.client.XAck(ctx, q.stream, q.group, ids(records)...).Err()
}

// Release lets anyone claim the entries.
func (q *queue) Release(ctx context.Context, records []*poll.Record, _ poll.Reason) error {
	err := q.pending(ctx, records, 10*hold)
	q.mu.Lock()
	q.releasedEntries = true
	q.mu.Unlock()
	return err
}

// Extend gives a sign of life.
func (q *queue) Extend(ctx context.Context, records []*poll.Record) error {
	return q.pending(ctx, records, 0)
}

// pending says for how long the entries have been without a sign of life.
// JUSTID: this is no delivery.
func (q *queue) pending(ctx context.Context, records []*poll.Record, idle time.Duration) error {
	args := []any{"xclaim", q.stream, q.group, q.consumer, "0"}
	for _, id := range ids(records) {
		args = append(args, id)
	}
	return q.client.Do(ctx, append(args, "idle", idle.Milliseconds(), "justid")...).Err()
}

// Event is {"Records": [...]}.
func (q *queue) Event(records []*poll.Record) ([]byte, error) { return poll.Records(records) }

// View has a body that is JSON as JSON.
func (q *queue) View(r *poll.Record) []byte { return message.View(r) }

// Lag is how many entries no consumer of the group has taken yet, and how many
// have been and are not acknowledged.
func (q *queue) Lag(ctx context.Context) (int64, error) {
	groups, err := q.client.XInfoGroups(ctx, q.stream).Result()
	if err != nil {
		return 0, q.failed(err)
	}
	for _, g := range groups {
		if g.Name == q.group {
			return g.Lag + g.Pending, nil
		}
	}
	return 0, nil
}

// Close ends the connections. What is held stays pending.
func (q *queue) Close() error {
	q.closeOnce.Do(func() { q.closed = q.client.Close() })
	return q.closed
}
