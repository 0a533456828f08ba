package server

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth/async"
)

// senders deliver what destinations are told, by the service in their ARN.
// Functions need none.
func (s *Server) senders() map[string]async.Sender {
	return map[string]async.Sender{"s3": bucketSender{s}, "sqs": s.queues, "events": s.buses}
}

// bucketSender puts invocation records into buckets of the S3 that the server
// is configured with, under the service's names.
type bucketSender struct{ s *Server }

// Send implements async.Sender.
func (b bucketSender) Send(ctx context.Context, arn string, body []byte, _ map[string]string) error {
	bucket, ok := strings.CutPrefix(arn, "arn:aws:s3:::")
	if !ok || bucket == "" || strings.Contains(bucket, "/") {
		return fmt.Errorf("it is no bucket, such as arn:aws:s3:::NAME")
	}
	var record struct {
		RequestContext struct {
			FunctionARN string `json:"functionArn"`
		} `json:"requestContext"`
	}
	if err := json.Unmarshal(body, &record); err != nil {
		return err
	}
	parts := strings.Split(record.RequestContext.FunctionARN, ":")
	if len(parts) < 7 {
		return fmt.Errorf("the record names no function, but %q", record.RequestContext.FunctionARN)
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return err
	}
	now := b.s.clock.Now().UTC()
	key := fmt.Sprintf("aws/lambda/async/%s/%s-%s", parts[6], now.Format("2006/01/02/2006-01-02T15.04.05"), id)
	return b.s.objects.Put(ctx, bucket, key, "application/json", body)
}
