// Package objects takes in the notifications that S3 servers send when objects
// are made and deleted. They come by a webhook, are put into a queue of the
// source before they are acknowledged, and are read from there: what was
// answered with 200 is not lost.
package objects

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/poll/queue"
	"github.com/hearth-faas/hearth/sqs"
)

// Queues are what a source's queue is kept in; see sqs.Service.
type Queues interface {
	queue.Queues
	Create(ctx context.Context, account hearth.Account, name string, attributes, tags map[string]string) error
	Exists(account hearth.Account, name string) error
	Send(ctx context.Context, arn string, body []byte, attributes map[string]string) error
	ARN(account hearth.Account, name string) string
}

// QueueOf is the name of the queue of the source with the name. It can be looked
// at as any other.
func QueueOf(name string) string {
	const longest = 80
	queue := "hearth-source-" + strings.ReplaceAll(name, ".", "_")
	return queue[:min(len(queue), longest)]
}

// Accept takes in a notification for the source with the name, and returns when
// its records are on disk. Notifications without records, such as the test that
// a server sends when it is told where to send them, are taken as nothing.
// Errors: InvalidParameterValue if it is none.
func Accept(ctx context.Context, q Queues, account hearth.Account, name string, body []byte) error {
	records, err := Parse(body)
	if err != nil {
		return hearth.Errorf(hearth.InvalidParameter, "The body is no S3 event notification: %v.", err)
	}
	if len(records) == 0 {
		return nil
	}
	if err := ensure(ctx, q, account, name); err != nil {
		return err
	}
	for _, record := range records {
		if err := q.Send(ctx, q.ARN(account, QueueOf(name)), record, nil); err != nil {
			return err
		}
	}
	return nil
}

// ensure makes the source's queue if there is none. What stays in it is kept for
// as long as a queue can.
func ensure(ctx context.Context, q Queues, account hearth.Account, name string) error {
	if q.Exists(account, QueueOf(name)) == nil {
		return nil
	}
	err := q.Create(ctx, account, QueueOf(name), map[string]string{"MessageRetentionPeriod": "1209600"}, nil)
	if err != nil && q.Exists(account, QueueOf(name)) != nil {
		return err
	}
	return nil
}

// Opener opens the notifications of registered sources.
func Opener(q Queues) poll.Opener {
	return poll.OpenerFunc(func(ctx context.Context, m *event.Mapping, _ poll.Place) (poll.Source, error) {
		account, name, ok := event.ParseSourceARN(m.Source)
		if !ok {
			return nil, fmt.Errorf("%s names no source", m.Source)
		}
		if err := ensure(ctx, q, account, name); err != nil {
			return nil, err
		}
		in, err := queue.Open(ctx, q, q.ARN(account, QueueOf(name)))
		if err != nil {
			return nil, err
		}
		return &Objects{in}, nil
	})
}

// Objects is a poll.Queue of the notifications' records. What fails is tried
// again by the framework.
type Objects struct{ *queue.Queue }

var _ poll.Queue = (*Objects)(nil)

// Traits implements poll.Queue.
func (o *Objects) Traits() poll.Traits {
	t := o.Queue.Traits()
	t.Redelivers = false
	return t
}

// Event implements poll.Source.
func (o *Objects) Event(records []*poll.Record) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(`{"Records":[`)
	for i, r := range records {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(o.View(r))
	}
	out.WriteString("]}")
	return out.Bytes(), nil
}

// View implements poll.Source: the body of the queue's message.
func (o *Objects) View(r *poll.Record) []byte {
	var m struct {
		Body string `json:"body"`
	}
	if json.Unmarshal(r.Body, &m) != nil {
		return r.Body
	}
	return []byte(m.Body)
}

var _ Queues = (*sqs.Service)(nil)
