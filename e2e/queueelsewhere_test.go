package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// elsewhereCode prints what it got, in order, and reports the poison as failed.
const elsewhereCode = `
def handler(event, context):
    failed = []
    for r in event["Records"]:
        print("GOT<%s> of %s" % (r["body"], r["eventSourceARN"]))
        if r["body"] == "poison": failed.append({"itemIdentifier": r["messageId"]})
    return {"batchItemFailures": failed}
`

var gotLine = regexp.MustCompile(`GOT<line(\d+)>`)

// elsewhere maps a queue of another server to a function of s.
func (s *server) elsewhere(there *server, name, url string) {
	s.t.Helper()
	s.deploy(function{name: strings.TrimSuffix(name, ".fifo"), runtime: "python3.11", files: map[string]string{"index.py": elsewhereCode}})
	secret := filepath.Join(s.t.TempDir(), "secret")
	keys, err := there.config().Credentials.Retrieve(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{"accessKeyId": keys.AccessKeyID, "secretAccessKey": keys.SecretAccessKey})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(secret, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	arn := strings.TrimSpace(s.must("source", "add", name, "sqs+"+url, "--secret-file", secret))
	s.mapping(&lambda.CreateEventSourceMappingInput{
		FunctionName: aws.String(strings.TrimSuffix(name, ".fifo")), EventSourceArn: &arn, BatchSize: aws.Int32(10),
		FunctionResponseTypes: []types.FunctionResponseType{types.FunctionResponseTypeReportBatchItemFailures},
	})
}

// A queue that another server holds feeds a function: signed requests over HTTP,
// partial failures that its redrive policy parks, a FIFO queue's order; and
// through the kill of that server, and of this one.
func TestAQueueOfAnotherServerFeedsAFunctionThroughKillsOfBoth(t *testing.T) {
	t.Parallel()
	there, here := start(t), start(t)
	dead := there.queue("dead", nil)
	redrive, err := json.Marshal(map[string]any{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:dead", "maxReceiveCount": 2})
	if err != nil {
		t.Fatal(err)
	}
	url := there.queue("orders", map[string]string{"VisibilityTimeout": "5", "RedrivePolicy": string(redrive)})
	fifo := there.queue("lines.fifo", map[string]string{"FifoQueue": "true", "ContentBasedDeduplication": "true", "VisibilityTimeout": "5"})
	here.elsewhere(there, "orders", url)
	here.elsewhere(there, "lines.fifo", fifo)

	want, lines := map[string]int{}, 0
	send := func(prefix string) {
		t.Helper()
		for i := range 30 {
			body := fmt.Sprintf("%s%d", prefix, i)
			if _, err := there.queues().SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body}); err != nil {
				t.Fatal(err)
			}
			want["GOT<"+body+"> of arn:aws:sqs:us-east-1:000000000000:orders"] = 1
			line := fmt.Sprintf("line%03d", lines)
			if _, err := there.queues().SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &fifo, MessageBody: &line, MessageGroupId: aws.String("g")}); err != nil {
				t.Fatal(err)
			}
			lines++
		}
	}
	arrived := func() {
		t.Helper()
		here.eventually("all messages arrive", func() bool {
			log, err := here.hearth("logs", "orders")
			for line := range want {
				if err != nil || !strings.Contains(log, line) {
					return false
				}
			}
			log, err = here.hearth("logs", "lines")
			return err == nil && strings.Contains(log, fmt.Sprintf("GOT<line%03d>", lines-1))
		})
	}
	send("first")
	if _, err := there.queues().SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("poison")}); err != nil {
		t.Fatal(err)
	}
	arrived()
	there.kill9()
	there = startIn(t, there.dir, "--listen", strings.TrimPrefix(there.endpoint, "http://"))
	send("after")
	arrived()
	here.kill9()
	send("meanwhile")
	here = startIn(t, here.dir)
	arrived()

	// Nothing came out of its order, though some may have come again.
	log, err := here.hearth("logs", "lines")
	if err != nil {
		t.Fatal(err)
	}
	next := 0
	for _, m := range gotLine.FindAllStringSubmatch(log, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		if n > next {
			t.Fatalf("line %d came when line %d had not been", n, next)
		}
		next = max(next, n+1)
	}
	if next != lines {
		t.Errorf("%d lines of %d", next, lines)
	}
	parked := ""
	here.eventually("the poison is in the other server's dead-letter queue", func() bool {
		out, err := there.queues().ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &dead, WaitTimeSeconds: 5})
		if err != nil || len(out.Messages) == 0 {
			return false
		}
		parked = *out.Messages[0].Body
		return true
	})
	if parked != "poison" {
		t.Errorf("parked is %q", parked)
	}
}
