package wire

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/awsjson"
	"github.com/hearth-faas/hearth/sqs"
)

// codes are the names and the statuses of errors; Query is the name that
// clients of the query protocol know.
var codes = map[hearth.Kind]awsjson.Code{
	sqs.NoQueue:              {Name: "QueueDoesNotExist", Query: "AWS.SimpleQueueService.NonExistentQueue"},
	sqs.QueueExists:          {Name: "QueueNameExists", Query: "QueueAlreadyExists"},
	sqs.PurgeInProgress:      {Name: "PurgeQueueInProgress", Query: "AWS.SimpleQueueService.PurgeQueueInProgress", Status: 403},
	sqs.InvalidReceipt:       {Name: "ReceiptHandleIsInvalid", Status: 404},
	sqs.NotInFlight:          {Name: "MessageNotInflight", Query: "AWS.SimpleQueueService.MessageNotInflight"},
	sqs.OverLimit:            {Name: "OverLimit", Status: 403},
	sqs.EmptyBatch:           {Name: "EmptyBatchRequest", Query: "AWS.SimpleQueueService.EmptyBatchRequest"},
	sqs.TooManyEntries:       {Name: "TooManyEntriesInBatchRequest", Query: "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"},
	sqs.BatchTooLong:         {Name: "BatchRequestTooLong", Query: "AWS.SimpleQueueService.BatchRequestTooLong"},
	sqs.EntryIDsNotDistinct:  {Name: "BatchEntryIdsNotDistinct", Query: "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"},
	sqs.InvalidEntryID:       {Name: "InvalidBatchEntryId", Query: "AWS.SimpleQueueService.InvalidBatchEntryId"},
	sqs.UnsupportedOperation: {Name: "UnsupportedOperation", Query: "AWS.SimpleQueueService.UnsupportedOperation"},
	sqs.NoResource:           {Name: "ResourceNotFoundException", Status: 404},
	hearth.AccessDenied:      {Name: "AccessDeniedException", Query: "AccessDenied", Status: 403},
	awsjson.Malformed:        {Name: "SerializationException", Query: "MalformedInput"},
	hearth.UnknownOperation:  {Name: "UnknownOperationException", Query: "InvalidAction"},
	hearth.Service:           {Name: "InternalFailure", Status: http.StatusInternalServerError},
}

// api serves the operations.
type api struct {
	queues *sqs.Service
	json   *awsjson.Service
}

// New serves SQS over queues. It reads both protocols.
func New(queues *sqs.Service) awsjson.Handler {
	a := &api{queues: queues}
	a.json = &awsjson.Service{
		Name: "Amazon SQS", Target: "AmazonSQS", Version: "1.0", Namespace: "com.amazonaws.sqs",
		Operations: map[string]awsjson.Operation{}, Codes: codes, Query: true,
	}
	for name, op := range operations {
		a.json.Operations[name] = func(ctx context.Context, r *awsjson.Request) (any, error) {
			return op(a, &call{ctx, r, func(in any) error {
				if len(r.Body) == 0 {
					return nil
				}
				if err := json.Unmarshal(r.Body, in); err != nil {
					return hearth.Errorf(awsjson.Malformed, "The request's body can't be read: %s", err)
				}
				return nil
			}})
		}
	}
	return a
}

// call is one request in either protocol.
type call struct {
	context.Context
	*awsjson.Request
	read func(in any) error
}

// operation reads its input and returns its output; nil is none.
type operation func(a *api, c *call) (any, error)

func op[I, O any](f func(a *api, c *call, in *I) (*O, error)) operation {
	return func(a *api, c *call) (any, error) {
		in := new(I)
		if err := c.read(in); err != nil {
			return nil, err
		}
		out, err := f(a, c, in)
		if err != nil || out == nil {
			return nil, err
		}
		return out, nil
	}
}

type nothing struct{}

var operations = map[string]operation{
	"AddPermission":                op((*api).addPermission),
	"CancelMessageMoveTask":        op((*api).cancelTask),
	"ChangeMessageVisibility":      op((*api).changeVisibility),
	"ChangeMessageVisibilityBatch": op((*api).changeVisibilityBatch),
	"CreateQueue":                  op((*api).createQueue),
	"DeleteMessage":                op((*api).deleteMessage),
	"DeleteMessageBatch":           op((*api).deleteBatch),
	"DeleteQueue":                  op((*api).deleteQueue),
	"GetQueueAttributes":           op((*api).getAttributes),
	"GetQueueUrl":                  op((*api).getQueueURL),
	"ListDeadLetterSourceQueues":   op((*api).listSources),
	"ListMessageMoveTasks":         op((*api).listTasks),
	"ListQueueTags":                op((*api).listTags),
	"ListQueues":                   op((*api).listQueues),
	"PurgeQueue":                   op((*api).purge),
	"ReceiveMessage":               op((*api).receive),
	"RemovePermission":             op((*api).removePermission),
	"SendMessage":                  op((*api).send),
	"SendMessageBatch":             op((*api).sendBatch),
	"SetQueueAttributes":           op((*api).setAttributes),
	"StartMessageMoveTask":         op((*api).startTask),
	"TagQueue":                     op((*api).tag),
	"UntagQueue":                   op((*api).untag),
}

// Serve implements awsjson.Handler.
func (a *api) Serve(w http.ResponseWriter, r *awsjson.Request) error {
	if r.HTTP.Header.Get("X-Amz-Target") != "" {
		return a.json.Serve(w, r)
	}
	return a.serveQuery(w, r)
}

// target is a queue that a request is about.
type target struct {
	account hearth.Account
	name    string
}

// queueOf reads a QueueUrl, of which only the path counts: a queue has a URL by
// each address under which the server is reached.
func queueOf(text string) (target, error) {
	if text == "" {
		return target{}, hearth.Errorf(sqs.MissingParameter, "The request must contain the parameter QueueUrl.")
	}
	u, err := url.Parse(text)
	if err == nil {
		parts := strings.Split(strings.TrimSuffix(u.Path, "/"), "/")
		if n := len(parts); n >= 2 && len(parts[n-2]) == 12 {
			return target{hearth.Account(parts[n-2]), parts[n-1]}, nil
		}
	}
	return target{}, hearth.Errorf(sqs.NoQueue, "The specified queue does not exist: %q is not the URL of a queue (http://HOST/ACCOUNT/NAME).", text)
}

// urlOf is a queue's URL for whoever asks, under the address where it asked:
// a function reaches the server under another than its deployer.
func urlOf(c *call, account hearth.Account, name string) string {
	scheme := "http"
	if c.HTTP.TLS != nil || strings.EqualFold(c.HTTP.Header.Get("X-Forwarded-Proto"), "https") {
		scheme = "https"
	}
	return scheme + "://" + c.HTTP.Host + "/" + string(account) + "/" + name
}

// queue reads which queue a request is about, and whether the caller may.
func (a *api) queue(c *call, text, action string) (target, error) {
	t, err := queueOf(text)
	if err != nil {
		return t, err
	}
	return t, a.allowed(c, t, action)
}

func (a *api) allowed(c *call, t target, action string) error {
	return a.queues.Allowed(c, c.Caller, action, t.account, t.name, nil)
}

func (a *api) arn(t target) string { return a.queues.ARN(t.account, t.name) }
