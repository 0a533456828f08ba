package backfill

import (
	"context"
	"errors"
	"time"

	"github.com/hearth-faas/hearth/sqs"
)

// Queues are where a queue's messages are taken from.
type Queues interface {
	Receive(ctx context.Context, arn string, o sqs.ReceiveOptions) ([]sqs.Message, error)
	Delete(ctx context.Context, arn string, handles ...string) []error
}

// OpenQueue is what is in a queue, until it is empty, as a source. Messages are
// deleted once the page after theirs is asked for, when they are in the
// in-process cache; a kill before that brings them again, and they are known.
func OpenQueue(queues Queues, arn string) Source { return &queue{queues: queues, arn: arn} }

type queue struct {
	queues  Queues
	arn     string
	handles []string // of the last page
}

// holdFor is how long a page's messages are kept from others.
const holdFor = 5 * time.Minute

func (q *queue) Steady() bool { return true }

// Close leaves the last page's messages: whether they are in the cache is not
// known here.
func (q *queue) Close() error { return nil }

// acknowledge deletes what is in the in-process cache.
func (q *queue) acknowledge(ctx context.Context, handles []string) error {
	q.handles = nil
	if len(handles) == 0 {
		return nil
	}
	return errors.Join(q.queues.Delete(ctx, q.arn, handles...)...)
}

func (q *queue) Page(ctx context.Context, _ string, most int) (items []Item, next string, err error) {
	if err := q.acknowledge(ctx, q.handles); err != nil {
		return nil, "", err
	}
	for len(items) < most {
		ms, err := q.queues.Receive(ctx, q.arn, sqs.ReceiveOptions{Max: min(most-len(items), sqs.MaxReceive), Visibility: new(holdFor)})
		if err != nil {
			return nil, "", err
		}
		if len(ms) == 0 {
			break
		}
		for _, m := range ms {
			items = append(items, Item{ID: m.ID, Value: jsonOf(m.Body)})
			q.handles = append(q.handles, m.Handle)
		}
	}
	if len(items) == 0 {
		return nil, "", nil
	}
	return items, "more", nil
}
