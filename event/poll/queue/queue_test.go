package queue_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/pattern"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/poll/objects"
	"github.com/hearth-faas/hearth/event/poll/queue"
	"github.com/hearth-faas/hearth/sqs"
	"github.com/hearth-faas/hearth/store/sqlite"
)

const account = hearth.Account("000000000000")

func service(t *testing.T) *sqs.Service {
	t.Helper()
	st, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := sqs.Open(t.Context(), sqs.Config{Store: st, Clock: clock.System(), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range []interface{ Close() error }{s, st} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// take takes n records.
func take(t *testing.T, q poll.Queue, n int) (all []*poll.Record) {
	t.Helper()
	for len(all) < n {
		got, err := q.Take(t.Context(), n-len(all), 2*time.Minute)
		must(t, err)
		if len(got) == 0 {
			t.Fatalf("%d of %d came", len(all), n)
		}
		all = append(all, got...)
	}
	return all
}

func TestMessagesHaveTheServicesForm(t *testing.T) {
	s, ctx := service(t), t.Context()
	must(t, s.Create(ctx, account, "q.fifo", map[string]string{"FifoQueue": "true", "VisibilityTimeout": "30"}, nil))
	arn := s.ARN(account, "q.fifo")
	for i := range 25 {
		must(t, s.Send(ctx, arn, []byte(`{"n":`+strconv.Itoa(i)+`}`), map[string]string{"MessageGroupId": "g", "MessageDeduplicationId": strconv.Itoa(i), "k": "v"}))
	}
	q, err := queue.Open(ctx, s, arn)
	must(t, err)
	got := take(t, q, 10)
	payload, err := q.Event(got)
	must(t, err)
	var e events.SQSEvent
	must(t, json.Unmarshal(payload, &e))
	m := e.Records[0]
	if len(e.Records) != len(got) || m.MessageId != got[0].ID || m.Body != `{"n":0}` || m.EventSource != "aws:sqs" || m.EventSourceARN != arn || m.AWSRegion != "us-east-1" ||
		m.Md5OfBody != sqs.BodyMD5(m.Body) || m.Attributes["MessageGroupId"] != "g" || m.Attributes["ApproximateReceiveCount"] != "1" || len(m.Attributes["SequenceNumber"]) != 20 ||
		*m.MessageAttributes["k"].StringValue != "v" || m.MessageAttributes["k"].DataType != "String" {
		t.Errorf("the first is %+v", m)
	}
	if got[0].Group != "g" || got[0].Receives != 1 {
		t.Errorf("%+v", got[0])
	}
	// Filters see the body as JSON.
	p, err := pattern.Compile(`{"body":{"n":[{"numeric":["<",1]}]}}`)
	must(t, err)
	for i, r := range got[:2] {
		if ok, err := p.Match(q.View(r)); err != nil || ok != (i == 0) {
			t.Errorf("message %d matches: %v %v", i, ok, err)
		}
	}
	// In order, and no more of the group while it is held.
	if more, err := q.Take(ctx, 10, 0); err != nil || len(more) != 0 {
		t.Errorf("%d of a group that is held, %v", len(more), err)
	}
	must(t, q.Extend(ctx, got))
	must(t, q.Ack(ctx, got[:1]))
	must(t, q.Release(ctx, got[1:], poll.Unused))
	if again := take(t, q, 1); again[0].ID != got[1].ID || again[0].Receives != 1 {
		t.Errorf("given back %s (1), got %s (%d)", got[1].ID, again[0].ID, again[0].Receives)
	}
	if _, err := queue.Open(ctx, s, s.ARN(account, "none")); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("a queue that is not there: %v", err)
	}
}

// What MinIO sends.
const minio = `{"EventName":"s3:ObjectCreated:Put","Key":"b/a+b.csv","Records":[{"eventVersion":"2.0","eventSource":"minio:s3","awsRegion":"",
"eventTime":"2026-01-02T03:04:05.678Z","eventName":"s3:ObjectCreated:Put","userIdentity":{"principalId":"u"},"requestParameters":{"sourceIPAddress":"127.0.0.1"},
"responseElements":{"x-amz-request-id":"1"},"s3":{"s3SchemaVersion":"1.0","configurationId":"Config","bucket":{"name":"b","ownerIdentity":{"principalId":"u"},"arn":"arn:aws:s3:::b"},
"object":{"key":"a+b.csv","size":5,"eTag":"e","sequencer":"16"}}},{"eventName":"ObjectRemoved:Delete","s3":{"bucket":{"name":"b"},"object":{"key":"c"}}}]}`

func TestNotificationsAreOnDiskWhenTheyAreAcknowledgedAndHaveTheServicesForm(t *testing.T) {
	s, ctx := service(t), t.Context()
	must(t, objects.Accept(ctx, s, account, "uploads", []byte(minio)))
	must(t, objects.Accept(ctx, s, account, "uploads", []byte(`{"Service":"S3","Event":"s3:TestEvent"}`)))
	m := &event.Mapping{Source: event.SourceARN("us-east-1", account, "uploads")}
	src, err := objects.Opener(s).Open(ctx, m, poll.Place{})
	must(t, err)
	q := src.(poll.Queue)
	got := take(t, q, 2)
	payload, err := q.Event(got)
	must(t, err)
	var e events.S3Event
	must(t, json.Unmarshal(payload, &e))
	r := e.Records[0]
	if len(e.Records) != 2 || r.EventSource != "aws:s3" || r.EventName != "ObjectCreated:Put" || r.S3.Bucket.Name != "b" || r.S3.Object.URLDecodedKey != "a b.csv" || r.S3.Object.Size != 5 {
		t.Errorf("%+v", e.Records)
	}
	p, err := pattern.Compile(`{"s3":{"object":{"key":[{"suffix":".csv"}]}}}`)
	must(t, err)
	if ok, err := p.Match(q.View(got[0])); !ok || err != nil {
		t.Errorf("a filter of keys: %v %v", ok, err)
	}
	for _, bad := range []string{"", "[]", `{"Records":[{}]}`, `{"Records":[{"eventName":"x","s3":{"bucket":{}}}]}`, `{"Records":[{"s3":{"bucket":{"name":"b"}}}]}`} {
		if err := objects.Accept(ctx, s, account, "uploads", []byte(bad)); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func FuzzNotification(f *testing.F) {
	f.Add([]byte(minio))
	f.Add([]byte(`{"Records":[{"eventName":"x","s3":{"bucket":{"name":"b"}}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if records, err := objects.Parse(body); err == nil {
			for _, r := range records {
				if !json.Valid(r) {
					t.Errorf("%s gives %s", body, r)
				}
			}
		}
	})
}
