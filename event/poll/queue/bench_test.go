package queue_test

import (
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	client "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/poll/queue"
	"github.com/hearth-faas/hearth/event/sourcetest"
	"github.com/hearth-faas/hearth/internal/sdkhttp"
)

// A queue of another server, which is in this process and reached over HTTP.
func BenchmarkElsewhere(b *testing.B) {
	r := newRemote(b)
	url := func(m *event.Mapping) *string {
		return aws.String("http://" + r.addr + "/" + string(account) + "/" + m.ID)
	}
	bare := client.New(client.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String("http://" + r.addr), HTTPClient: sdkhttp.Client{},
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "key", ""),
	})
	sourcetest.Bench(b, sourcetest.Measured{
		Opener: queue.Elsewhere,
		New:    func() (*event.Mapping, poll.Place) { return r.make("", nil) },
		Publish: func(m *event.Mapping, n int) error {
			for n > 0 {
				in := &client.SendMessageBatchInput{QueueUrl: url(m)}
				for range min(n, 10) {
					in.Entries = append(in.Entries, types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(n)), MessageBody: aws.String(string(sourcetest.BenchBody(n)))})
					n--
				}
				if _, err := bare.SendMessageBatch(b.Context(), in); err != nil {
					return err
				}
			}
			return nil
		},
		Bare: func(m *event.Mapping, n int, heard func()) error {
			for n > 0 {
				got, err := bare.ReceiveMessage(b.Context(), &client.ReceiveMessageInput{QueueUrl: url(m), MaxNumberOfMessages: 10, WaitTimeSeconds: 20})
				if err != nil {
					return err
				}
				in := &client.DeleteMessageBatchInput{QueueUrl: url(m)}
				for i, m := range got.Messages {
					heard()
					in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
				}
				if len(in.Entries) == 0 {
					continue
				}
				if _, err := bare.DeleteMessageBatch(b.Context(), in); err != nil {
					return err
				}
				n -= len(in.Entries)
			}
			return nil
		},
	})
}
