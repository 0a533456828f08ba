package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// queueEvents: messages of a queue, ten at once: how many a second a function is
// run with, against a bare consumer that takes and deletes them and does nothing
// else; then a message at a time, from its taking to the function's start.
func queueEvents(b *bench) ([]row, error) {
	files, err := b.goFiles()
	if err != nil {
		return nil, err
	}
	if err := b.deploy("events", "provided.al2023", "bootstrap", wholeCPU, files); err != nil {
		return nil, err
	}
	q, err := b.queue("bench")
	if err != nil {
		return nil, err
	}
	mapping, err := b.client.CreateEventSourceMapping(context.Background(), &lambda.CreateEventSourceMappingInput{
		FunctionName: aws.String("events"), EventSourceArn: aws.String("arn:aws:sqs:us-east-1:000000000000:bench"), Enabled: aws.Bool(false),
	})
	if err != nil {
		return nil, err
	}
	enable := func(on bool) error {
		_, err := b.client.UpdateEventSourceMapping(context.Background(), &lambda.UpdateEventSourceMappingInput{UUID: mapping.UUID, Enabled: &on})
		for err == nil {
			got, gerr := b.client.GetEventSourceMapping(context.Background(), &lambda.GetEventSourceMappingInput{UUID: mapping.UUID})
			if err = gerr; err == nil && *got.State == map[bool]string{true: "Enabled", false: "Disabled"}[on] {
				return nil
			}
			time.Sleep(time.Millisecond)
		}
		return err
	}
	// A mapping that was just made is in use until it has come to rest.
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if err = enable(true); err == nil || time.Now().After(until) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	const messages = 3000
	var floors, hearths []float64
	for range max(b.rounds/3, 1) {
		if err := enable(false); err != nil {
			return nil, err
		}
		if err := q.send(messages); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := q.consume(messages); err != nil {
			return nil, err
		}
		floors = append(floors, messages/time.Since(began).Seconds())
		if err := q.send(messages); err != nil {
			return nil, err
		}
		began = time.Now()
		if err := enable(true); err != nil {
			return nil, err
		}
		if err := q.empty(); err != nil {
			return nil, err
		}
		hearths = append(hearths, messages/time.Since(began).Seconds())
	}
	before, err := b.started()
	if err != nil {
		return nil, err
	}
	for range 300 {
		if err := q.send(1); err != nil {
			return nil, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := q.empty(); err != nil {
		return nil, err
	}
	after, err := b.started()
	if err != nil {
		return nil, err
	}
	p50, p99 := after.since(before).at(0.5), after.since(before).at(0.99)
	f, h := medianOf(floors), medianOf(hearths)
	return []row{
		{Name: "queue messages a second, ten at once, to a Go function", Floor: fmt.Sprintf("%.0f/s", f), Hearth: fmt.Sprintf("%.0f/s", h), Value: h / f, Unit: "×", Aim: 0.5},
		{Name: "queue message, from taking to a warm function's start, p99", Hearth: fmt.Sprintf("≤ %.1f / %.1f ms", 1000*p50, 1000*p99), Value: 1000 * p99, Unit: "ms", Aim: 100, AtMost: true},
	}, nil
}

// queue is a queue of the server.
type queue struct {
	client *sqs.Client
	url    string
}

func (b *bench) queue(name string) (*queue, error) {
	c := sqs.New(sqs.Options{
		BaseEndpoint: aws.String(b.env["AWS_ENDPOINT_URL"]), Region: b.env["AWS_REGION"], RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(b.env["AWS_ACCESS_KEY_ID"], b.env["AWS_SECRET_ACCESS_KEY"], ""),
	})
	made, err := c.CreateQueue(context.Background(), &sqs.CreateQueueInput{QueueName: &name})
	if err != nil {
		return nil, err
	}
	return &queue{c, *made.QueueUrl}, nil
}

// send sends messages of 100 bytes, ten at once.
func (q *queue) send(n int) error {
	body := `{"text":"` + strings.Repeat("x", 89) + `"}`
	for n > 0 {
		in := &sqs.SendMessageBatchInput{QueueUrl: &q.url}
		for i := range min(n, 10) {
			in.Entries = append(in.Entries, types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: &body})
		}
		out, err := q.client.SendMessageBatch(context.Background(), in)
		if err == nil && len(out.Failed) > 0 {
			err = errors.New(*out.Failed[0].Message)
		}
		if err != nil {
			return err
		}
		n -= len(in.Entries)
	}
	return nil
}

// consume takes and deletes n messages, ten at once, by eight consumers.
func (q *queue) consume(n int64) error {
	var left atomic.Int64
	left.Store(n)
	errs := make(chan error, 8)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for left.Load() > 0 {
				got, err := q.client.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{QueueUrl: &q.url, MaxNumberOfMessages: 10})
				if err != nil {
					errs <- err
					return
				}
				if len(got.Messages) == 0 {
					continue
				}
				in := &sqs.DeleteMessageBatchInput{QueueUrl: &q.url}
				for i, m := range got.Messages {
					in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
				}
				if _, err := q.client.DeleteMessageBatch(context.Background(), in); err != nil {
					errs <- err
					return
				}
				left.Add(-int64(len(got.Messages)))
			}
		})
	}
	all.Wait()
	close(errs)
	return <-errs
}

// empty waits until nothing is in the queue and in nobody's hands.
func (q *queue) empty() error {
	for until := time.Now().Add(2 * time.Minute); time.Now().Before(until); time.Sleep(2 * time.Millisecond) {
		out, err := q.client.GetQueueAttributes(context.Background(), &sqs.GetQueueAttributesInput{QueueUrl: &q.url, AttributeNames: []types.QueueAttributeName{"All"}})
		if err != nil {
			return err
		}
		if out.Attributes["ApproximateNumberOfMessages"] == "0" && out.Attributes["ApproximateNumberOfMessagesNotVisible"] == "0" {
			return nil
		}
	}
	return errors.New("the queue is not empty after two minutes")
}

// starts is a histogram of times from taking to start: how many were no longer
// than each bound, in seconds.
type starts map[float64]float64

var startForm = regexp.MustCompile(`^hearth_source_start_seconds_bucket\{.*le="([^"]+)".*\} (\S+)`)

// started reads the server's histogram of warm starts.
func (b *bench) started() (starts, error) {
	r, err := http.Get(b.env["AWS_ENDPOINT_URL"] + "/metrics")
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	s := starts{}
	sc := bufio.NewScanner(r.Body)
	for sc.Scan() {
		m := startForm.FindStringSubmatch(sc.Text())
		if m == nil || !strings.Contains(sc.Text(), `path="reuse"`) {
			continue
		}
		bound, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return nil, err
		}
		s[bound] += n
	}
	return s, sc.Err()
}

// since is what was counted since before.
func (s starts) since(before starts) starts {
	d := starts{}
	for bound, n := range s {
		d[bound] = n - before[bound]
	}
	return d
}

// at is the bound below which the part q of all starts is, in seconds.
func (s starts) at(q float64) float64 {
	var bounds []float64
	total := 0.0
	for bound, n := range s {
		bounds, total = append(bounds, bound), max(total, n)
	}
	slices.Sort(bounds)
	for _, bound := range bounds {
		if s[bound] >= q*total {
			return bound
		}
	}
	return 0
}
