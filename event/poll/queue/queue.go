// Package queue reads SQS queues for event source mappings: Hearth's own, and
// those of other servers of the protocol.
package queue

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/message"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/sqs"
)

// Queues are what a queue is taken from; see sqs.Service, which says what each
// does. Errors are looked at all together.
type Queues interface {
	Receive(ctx context.Context, arn string, o sqs.ReceiveOptions) ([]sqs.Message, error)
	Delete(ctx context.Context, arn string, handles ...string) []error
	ChangeVisibility(ctx context.Context, arn string, changes ...sqs.Visibility) []error
	Release(ctx context.Context, arn string, handles ...string) []error
	Attributes(ctx context.Context, account hearth.Account, name string, names []string) (map[string]string, error)
}

// Opener opens the queues that mappings name.
func Opener(q Queues) poll.Opener {
	return poll.OpenerFunc(func(ctx context.Context, m *event.Mapping, _ poll.Place) (poll.Source, error) {
		return Open(ctx, q, m.Source)
	})
}

// leastHold is how long taken messages are kept from others at least, so that
// they can be kept for longer before that ends.
const leastHold = 5 * time.Second

// Open opens the queue with the ARN. An error says that there is none.
func Open(ctx context.Context, q Queues, arn string) (*Queue, error) {
	if _, _, ok := sqs.ParseARN(arn); !ok {
		return nil, fmt.Errorf("%s is no queue's ARN", arn)
	}
	return open(ctx, q, arn, "")
}

// open is Open of a queue whose events are said to be of a region, or else of
// the ARN's. The ARN need be no queue's if q does not heed it: events have the
// one that the queue says.
func open(ctx context.Context, q Queues, arn, region string) (*Queue, error) {
	account, name, _ := sqs.ParseARN(arn)
	attributes, err := q.Attributes(ctx, account, name, []string{"VisibilityTimeout", "QueueArn"})
	if err != nil {
		return nil, fmt.Errorf("the queue %s cannot be read: %w", arn, err)
	}
	seconds, err := strconv.Atoi(attributes["VisibilityTimeout"])
	if err != nil {
		return nil, fmt.Errorf("the visibility timeout of %s: %w", arn, err)
	}
	if own := attributes["QueueArn"]; own != "" {
		arn = own
	}
	if parts := strings.SplitN(arn, ":", 5); region == "" && len(parts) == 5 {
		region = parts[3]
	}
	return &Queue{queues: q, arn: arn, region: region, hold: max(time.Duration(seconds)*time.Second, leastHold), atOnce: 1, close: func() {}}, nil
}

// Queue is a poll.Queue. Its messages' receives are counted by the queue, whose
// redrive policy says what becomes of those that fail.
type Queue struct {
	queues      Queues
	arn, region string
	hold        time.Duration
	atOnce      int // requests for messages in one Take; more than one only of a server some way off
	close       func()
}

var _ poll.Queue = (*Queue)(nil)

// Traits implements poll.Queue.
func (q *Queue) Traits() poll.Traits {
	return poll.Traits{Redelivers: true, Hold: q.hold, Parallel: q.atOnce > 1}
}

// Take implements poll.Queue. As long as the answers are full it asks for the
// rest with twice as many requests as before.
func (q *Queue) Take(ctx context.Context, most int, wait time.Duration) (records []*poll.Record, err error) {
	size := 0
	for width := 1; len(records) < most && size < poll.MaxEvent; width = min(2*width, q.atOnce) {
		rest := most - len(records)
		if size > 0 { // no more than will fit, if it is like what came
			rest = min(rest, (poll.MaxEvent-size)*len(records)/size+1)
		}
		messages, full, err := q.receive(ctx, min(rest, width*sqs.MaxReceive), wait)
		for i := range messages {
			r := q.record(&messages[i])
			size += len(r.Body)
			records = append(records, r)
		}
		if err != nil && len(records) == 0 && ctx.Err() == nil {
			return nil, err
		}
		if !full {
			break // what is wrong, if it lasts, is told when nothing comes
		}
		wait = 0
	}
	return records, nil
}

// receive asks for so many messages, with as many requests at once as that
// takes. full is that all of them came. An error is that of one request.
func (q *Queue) receive(ctx context.Context, most int, wait time.Duration) (messages []sqs.Message, full bool, err error) {
	answers := make([][]sqs.Message, (most+sqs.MaxReceive-1)/sqs.MaxReceive)
	errs := make([]error, len(answers))
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			answers[i], errs[i] = q.queues.Receive(ctx, q.arn, sqs.ReceiveOptions{
				Max: min(most-i*sqs.MaxReceive, sqs.MaxReceive), Wait: wait, Visibility: &q.hold,
			})
		})
	}
	all.Wait()
	for _, e := range errs {
		err = cmp.Or(err, e)
	}
	messages = slices.Concat(answers...)
	return messages, len(messages) >= most, err
}

// Ack implements poll.Queue.
func (q *Queue) Ack(ctx context.Context, records []*poll.Record) error {
	return errors.Join(q.queues.Delete(ctx, q.arn, handles(records)...)...)
}

// Release implements poll.Queue. A message that failed comes again when its
// visibility timeout ends, as the service has it.
func (q *Queue) Release(ctx context.Context, records []*poll.Record, why poll.Reason) error {
	if why == poll.Failed {
		return nil
	}
	return errors.Join(q.queues.Release(ctx, q.arn, handles(records)...)...)
}

// Extend implements poll.Queue.
func (q *Queue) Extend(ctx context.Context, records []*poll.Record) error {
	changes := make([]sqs.Visibility, len(records))
	for i, r := range records {
		changes[i] = sqs.Visibility{Handle: r.Handle.(string), Timeout: q.hold}
	}
	return errors.Join(q.queues.ChangeVisibility(ctx, q.arn, changes...)...)
}

// Close implements poll.Source: what is in flight comes again by itself.
func (q *Queue) Close() error {
	q.close()
	return nil
}

func handles(records []*poll.Record) []string {
	all := make([]string, len(records))
	for i, r := range records {
		all[i] = r.Handle.(string)
	}
	return all
}

// Event implements poll.Source.
func (q *Queue) Event(records []*poll.Record) ([]byte, error) { return poll.Records(records) }

// View implements poll.Source: the record, whose body stands there as JSON if
// it is JSON.
func (q *Queue) View(r *poll.Record) []byte { return message.View(r) }

// delivered is a record of an SQS event.
type delivered struct {
	ID            string               `json:"messageId"`
	Handle        string               `json:"receiptHandle"`
	Body          string               `json:"body"`
	Attributes    map[string]string    `json:"attributes"`
	Own           map[string]attribute `json:"messageAttributes"`
	AttributesMD5 string               `json:"md5OfMessageAttributes,omitempty"`
	BodyMD5       string               `json:"md5OfBody"`
	Source        string               `json:"eventSource"`
	ARN           string               `json:"eventSourceARN"`
	Region        string               `json:"awsRegion"`
}

type attribute struct {
	String   *string  `json:"stringValue,omitempty"`
	Binary   *string  `json:"binaryValue,omitempty"`
	Strings  []string `json:"stringListValues"`
	Binaries []string `json:"binaryListValues"`
	Type     string   `json:"dataType"`
}

func (q *Queue) record(m *sqs.Message) *poll.Record {
	out := delivered{
		ID: m.ID, Handle: m.Handle, Body: m.Body, BodyMD5: sqs.BodyMD5(m.Body), AttributesMD5: sqs.AttributesMD5(m.Attributes),
		Source: "aws:sqs", ARN: q.arn, Region: q.region, Own: map[string]attribute{},
		Attributes: map[string]string{
			"ApproximateReceiveCount": strconv.Itoa(m.Receives),
			"SenderId":                m.SenderID,
		},
	}
	for name, value := range map[string]string{
		"SentTimestamp": millis(m.Sent), "ApproximateFirstReceiveTimestamp": millis(m.FirstReceived),
		"MessageGroupId": m.Group, "MessageDeduplicationId": m.Deduplication, "SequenceNumber": m.Sequence,
		"AWSTraceHeader": m.TraceHeader, "DeadLetterQueueSourceArn": m.DeadLetterOf,
	} {
		if value != "" {
			out.Attributes[name] = value
		}
	}
	for name, a := range m.Attributes {
		shown := attribute{Strings: []string{}, Binaries: []string{}, Type: a.Type}
		if a.Binary() {
			shown.Binary = new(base64.StdEncoding.EncodeToString(a.Value))
		} else {
			shown.String = new(string(a.Value))
		}
		out.Own[name] = shown
	}
	body, err := json.Marshal(out)
	if err != nil {
		panic(err) // of plain types
	}
	return &poll.Record{ID: m.ID, Body: body, Group: m.Group, Sent: m.Sent, Receives: m.Receives, Handle: m.Handle}
}

// millis is a time as SQS writes it; "" is not known.
func millis(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}
