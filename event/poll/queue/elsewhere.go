package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	client "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/access"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/internal/sdkhttp"
	"github.com/hearth-faas/hearth/sqs"
)

// Elsewhere opens the queues of other servers of the protocol: AWS, ElasticMQ,
// LocalStack, another Hearth. The place's URL is the queue's with sqs+ before
// it, as in sqs+https://sqs.eu-west-1.amazonaws.com/123456789012/orders;
// &region=NAME is the region that requests are signed for, if the host does not
// say it. The secret is {"accessKeyId", "secretAccessKey", "sessionToken", "ca"},
// or ID:SECRET; without one requests are not signed.
var Elsewhere = poll.OpenerFunc(openElsewhere)

// elsewhere is Queues of one queue, whatever ARN they are asked for.
type elsewhere struct {
	client *client.Client
	url    string
}

// ioTimeout is how long the server may take to answer, beyond what it was asked
// to wait.
const ioTimeout = 20 * time.Second

// What a request may ask for: how many messages it is about, and how long it
// waits.
const (
	mostEntries = 10
	mostWait    = 20 * time.Second
)

// How many requests there are at once: for one batch, whose messages are asked
// for or deleted, and for all. A request takes a connection.
const (
	atOnce    = 8
	mostConns = 64
)

// lastAnswer is how long the answer to a request for messages is waited for that
// nobody wants any more: they would be hidden until their timeout ends if they
// were not given back.
const lastAnswer = 5 * time.Second

func openElsewhere(ctx context.Context, m *event.Mapping, at poll.Place) (poll.Source, error) {
	if at.URL == nil || strings.Trim(at.URL.Path, "/") == "" {
		return nil, errors.New("the URL names no queue: it is that of the queue with sqs+ before it, as in sqs+https://sqs.eu-west-1.amazonaws.com/123456789012/orders")
	}
	a, err := access.Of(m, at, access.Want{Port: "443", Secure: []string{"sqs+https"}})
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = a.TLS
	transport.MaxConnsPerHost, transport.MaxIdleConnsPerHost = mostConns, mostConns
	base := url.URL{Scheme: strings.TrimPrefix(at.URL.Scheme, "sqs+"), Host: at.URL.Host}
	region := regionOf(m, at.URL)
	q := &elsewhere{
		url: base.String() + at.URL.EscapedPath(),
		client: client.New(client.Options{
			Region: region, BaseEndpoint: aws.String(base.String()), Credentials: keys(a, at.Secret),
			Retryer: aws.NopRetryer{}, // what fails is tried again by the framework
			HTTPClient: sdkhttp.Client{C: &http.Client{
				Transport:     transport,
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			}},
		}),
	}
	opened, err := open(ctx, q, m.Source, region)
	if err != nil {
		transport.CloseIdleConnections()
		return nil, err
	}
	opened.atOnce, opened.close = atOnce, transport.CloseIdleConnections
	return opened, nil
}

// keys are the access keys of a secret, whose names may begin with a capital, as
// aws configure export-credentials has them.
func keys(a *access.Access, secret []byte) aws.CredentialsProvider {
	var s struct{ AccessKeyID, SecretAccessKey, SessionToken string }
	if json.Unmarshal(secret, &s) != nil || s.AccessKeyID == "" {
		s.AccessKeyID, s.SecretAccessKey = a.User, a.Password
	}
	if s.AccessKeyID == "" {
		return aws.AnonymousCredentials{}
	}
	return credentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretAccessKey, s.SessionToken)
}

// A queue's host names its region: sqs.REGION.amazonaws.com, the older
// REGION.queue.amazonaws.com, LocalStack's sqs.REGION.localhost.localstack.cloud.
var hostRegion = regexp.MustCompile(`^(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.(?:amazonaws\.com|localhost\.localstack\.cloud)`)

func regionOf(m *event.Mapping, u *url.URL) string {
	if name := access.Parameter(u, "region"); name != "" {
		return name
	}
	if found := hostRegion.FindStringSubmatch(u.Hostname()); found != nil {
		return found[1] + found[2]
	}
	return m.Region
}

// failed says of an error of the SDK what the server said.
func (e *elsewhere) failed(err error) error {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return fmt.Errorf("the server of %s says %s: %s", e.url, api.ErrorCode(), api.ErrorMessage())
	}
	return fmt.Errorf("asking the server of %s: %w", e.url, err)
}

// Attributes implements Queues.
func (e *elsewhere) Attributes(ctx context.Context, _ hearth.Account, _ string, names []string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	in := &client.GetQueueAttributesInput{QueueUrl: &e.url}
	for _, name := range names {
		in.AttributeNames = append(in.AttributeNames, types.QueueAttributeName(name))
	}
	out, err := e.client.GetQueueAttributes(ctx, in)
	if err != nil {
		return nil, e.failed(err)
	}
	return out.Attributes, nil
}

// Receive implements Queues. It waits for whole seconds, rounded up, and for no
// longer than a request may. If ctx ends while a request is answered that does
// not wait, it returns what is in the answer.
func (e *elsewhere) Receive(ctx context.Context, _ string, o sqs.ReceiveOptions) ([]sqs.Message, error) {
	wait := min(o.Wait, mostWait)
	if wait == 0 {
		var end context.CancelFunc
		ctx, end = later(ctx, lastAnswer)
		defer end()
	}
	ctx, cancel := context.WithTimeout(ctx, wait+ioTimeout)
	defer cancel()
	out, err := e.client.ReceiveMessage(ctx, &client.ReceiveMessageInput{
		QueueUrl: &e.url, MaxNumberOfMessages: int32(min(o.Max, mostEntries)),
		WaitTimeSeconds: seconds(wait + time.Second - 1), VisibilityTimeout: seconds(*o.Visibility),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"}, MessageAttributeNames: []string{"All"},
	})
	if err != nil {
		return nil, e.failed(err)
	}
	messages := make([]sqs.Message, len(out.Messages))
	for i, m := range out.Messages {
		messages[i] = received(&m)
	}
	return messages, nil
}

// later is a context that ends so much later than another.
func later(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(by, cancel) })
	return late, func() { stop(); cancel() }
}

func seconds(d time.Duration) int32 { return int32(d / time.Second) }

func received(m *types.Message) sqs.Message {
	of := func(name types.MessageSystemAttributeName) string { return m.Attributes[string(name)] }
	number := func(name types.MessageSystemAttributeName) int64 {
		n, err := strconv.ParseInt(of(name), 10, 64)
		if err != nil {
			return 0 // is not known
		}
		return n
	}
	moment := func(name types.MessageSystemAttributeName) (t time.Time) {
		if ms := number(name); ms > 0 {
			t = time.UnixMilli(ms)
		}
		return t
	}
	r := sqs.Message{
		ID: aws.ToString(m.MessageId), Handle: aws.ToString(m.ReceiptHandle), Body: aws.ToString(m.Body),
		SenderID: of("SenderId"), Sent: moment("SentTimestamp"), FirstReceived: moment("ApproximateFirstReceiveTimestamp"),
		Receives: int(number("ApproximateReceiveCount")),
		Group:    of("MessageGroupId"), Deduplication: of("MessageDeduplicationId"), Sequence: of("SequenceNumber"),
		TraceHeader: of("AWSTraceHeader"), DeadLetterOf: of("DeadLetterQueueSourceArn"),
		Attributes: make(map[string]sqs.Attribute, len(m.MessageAttributes)),
	}
	for name, a := range m.MessageAttributes {
		value := a.BinaryValue
		if a.StringValue != nil {
			value = []byte(*a.StringValue)
		}
		r.Attributes[name] = sqs.Attribute{Type: aws.ToString(a.DataType), Value: value}
	}
	return r
}

// Delete implements Queues, ten messages a request.
func (e *elsewhere) Delete(ctx context.Context, _ string, handles ...string) []error {
	return e.each(ctx, handles, func(ctx context.Context, handles []string) ([]types.BatchResultErrorEntry, error) {
		in := &client.DeleteMessageBatchInput{QueueUrl: &e.url}
		for i, handle := range handles {
			in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &handle})
		}
		out, err := e.client.DeleteMessageBatch(ctx, in)
		if err != nil {
			return nil, err
		}
		return out.Failed, nil
	})
}

// ChangeVisibility implements Queues, ten messages a request. All of them have
// the same timeout.
func (e *elsewhere) ChangeVisibility(ctx context.Context, _ string, changes ...sqs.Visibility) []error {
	handles := make([]string, len(changes))
	for i, c := range changes {
		handles[i] = c.Handle
	}
	return e.visible(ctx, handles, changes[0].Timeout)
}

// Release implements Queues. The server counts the receipt all the same.
func (e *elsewhere) Release(ctx context.Context, _ string, handles ...string) []error {
	return e.visible(ctx, handles, 0)
}

func (e *elsewhere) visible(ctx context.Context, handles []string, timeout time.Duration) []error {
	return e.each(ctx, handles, func(ctx context.Context, handles []string) ([]types.BatchResultErrorEntry, error) {
		in := &client.ChangeMessageVisibilityBatchInput{QueueUrl: &e.url}
		for i, handle := range handles {
			in.Entries = append(in.Entries, types.ChangeMessageVisibilityBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &handle, VisibilityTimeout: seconds(timeout)})
		}
		out, err := e.client.ChangeMessageVisibilityBatch(ctx, in)
		if err != nil {
			return nil, err
		}
		return out.Failed, nil
	})
}

// each has do work on the handles, ten with a request and some requests at once.
// It returns what failed.
func (e *elsewhere) each(ctx context.Context, handles []string, do func(context.Context, []string) ([]types.BatchResultErrorEntry, error)) (errs []error) {
	var mu sync.Mutex // over errs
	var all sync.WaitGroup
	free := make(chan struct{}, atOnce)
	for some := range slices.Chunk(handles, mostEntries) {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			ctx, cancel := context.WithTimeout(ctx, ioTimeout)
			defer cancel()
			failed, err := do(ctx, some)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, e.failed(err))
			}
			for _, f := range failed {
				errs = append(errs, fmt.Errorf("the server of %s says %s: %s", e.url, aws.ToString(f.Code), aws.ToString(f.Message)))
			}
		})
	}
	all.Wait()
	return errs
}
