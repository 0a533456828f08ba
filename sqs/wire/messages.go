package wire

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sqs"
)

// outgoing reads a message to be sent.
func (m *message) outgoing(c *call) (sqs.Outgoing, error) {
	o := sqs.Outgoing{Body: m.MessageBody, Group: m.MessageGroupId, Deduplication: m.MessageDeduplicationId, SenderID: c.Caller.UserID}
	if m.DelaySeconds != nil {
		o.Delay = new(time.Duration(*m.DelaySeconds) * time.Second)
	}
	var err error
	if o.Attributes, err = attributesOf(m.MessageAttributes); err != nil {
		return o, err
	}
	system, err := attributesOf(m.MessageSystemAttributes)
	if err != nil {
		return o, err
	}
	for name, a := range system {
		if name != "AWSTraceHeader" || a.Type != "String" {
			return o, hearth.Errorf(sqs.InvalidParameter, "Message system attribute name '%s' is invalid: only AWSTraceHeader of the type String can be sent.", name)
		}
		o.TraceHeader = string(a.Value)
	}
	return o, nil
}

func attributesOf(in map[string]attributeValue) (map[string]sqs.Attribute, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make(map[string]sqs.Attribute, len(in))
	for name, v := range in {
		a := sqs.Attribute{Type: v.DataType}
		switch {
		case len(v.StringListValues)+len(v.BinaryListValues) > 0:
			return nil, hearth.Errorf(sqs.UnsupportedOperation, "Message attribute list values in SendMessage operation are not supported.")
		case a.Binary() && v.StringValue == nil:
			a.Value = v.BinaryValue
		case !a.Binary() && v.BinaryValue == nil && v.StringValue != nil:
			a.Value = []byte(*v.StringValue)
		case v.StringValue != nil || v.BinaryValue != nil:
			return nil, hearth.Errorf(sqs.InvalidParameter, "The message attribute '%s' with type '%s' must use field '%s'.", name, v.DataType, fieldOf(a))
		}
		out[name] = a
	}
	return out, nil
}

func fieldOf(a sqs.Attribute) string {
	if a.Binary() {
		return "Binary"
	}
	return "String"
}

// sentOf is the answer to a message that is on disk.
func (m *message) sentOf(s sqs.Sent, o *sqs.Outgoing) sent {
	out := sent{
		MessageId: s.ID, SequenceNumber: s.Sequence,
		MD5OfMessageBody: sqs.BodyMD5(o.Body), MD5OfMessageAttributes: sqs.AttributesMD5(o.Attributes),
	}
	if o.TraceHeader != "" {
		out.MD5OfMessageSystemAttributes = sqs.AttributesMD5(map[string]sqs.Attribute{"AWSTraceHeader": {Type: "String", Value: []byte(o.TraceHeader)}})
	}
	return out
}

func (a *api) send(c *call, in *sendInput) (*sent, error) {
	t, err := a.queue(c, in.QueueUrl, "SendMessage")
	if err != nil {
		return nil, err
	}
	o, err := in.outgoing(c)
	if err != nil {
		return nil, err
	}
	got, errs := a.queues.SendBatch(c, a.arn(t), []sqs.Outgoing{o})
	if errs[0] != nil {
		return nil, errs[0]
	}
	return new(in.sentOf(got[0], &o)), nil
}

// maxBatch is how many entries a batch has at most.
const maxBatch = 10

var entryID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// checkBatch tells whether a batch's entries can be told apart.
func checkBatch(n int, id func(int) string) error {
	switch {
	case n == 0:
		return hearth.Errorf(sqs.EmptyBatch, "There should be at least one entry in the request.")
	case n > maxBatch:
		return hearth.Errorf(sqs.TooManyEntries, "Maximum number of entries per request are %d. You have sent %d.", maxBatch, n)
	}
	seen := map[string]bool{}
	for i := range n {
		switch {
		case !entryID.MatchString(id(i)):
			return hearth.Errorf(sqs.InvalidEntryID, "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.")
		case seen[id(i)]:
			return hearth.Errorf(sqs.EntryIDsNotDistinct, "Id %s repeated.", id(i))
		}
		seen[id(i)] = true
	}
	return nil
}

// failed is a batch's entry that failed.
func (a *api) failed(id string, err error) failedEntry {
	e, code := a.json.Describe(err)
	return failedEntry{Id: id, SenderFault: code.Status < 500, Code: code.Query, Message: e.Message}
}

func (a *api) sendBatch(c *call, in *sendBatchInput) (*sendBatchOutput, error) {
	t, err := a.queue(c, in.QueueUrl, "SendMessage")
	if err != nil {
		return nil, err
	}
	if err := checkBatch(len(in.Entries), func(i int) string { return in.Entries[i].Id }); err != nil {
		return nil, err
	}
	out := &sendBatchOutput{Successful: []sentEntry{}}
	var batch []sqs.Outgoing
	var from []int
	size := 0
	for i := range in.Entries {
		o, err := in.Entries[i].outgoing(c)
		if err != nil {
			out.Failed = append(out.Failed, a.failed(in.Entries[i].Id, err))
			continue
		}
		size += o.Size()
		batch, from = append(batch, o), append(from, i)
	}
	if size > sqs.MaxMessage {
		return nil, hearth.Errorf(sqs.BatchTooLong, "Batch requests cannot be longer than %d bytes. You have sent %d bytes.", sqs.MaxMessage, size)
	}
	got, errs := a.queues.SendBatch(c, a.arn(t), batch)
	for n, i := range from {
		e := &in.Entries[i]
		if errs[n] != nil {
			if hearth.KindOf(errs[n]) == sqs.NoQueue {
				return nil, errs[n]
			}
			out.Failed = append(out.Failed, a.failed(e.Id, errs[n]))
			continue
		}
		out.Successful = append(out.Successful, sentEntry{e.Id, e.sentOf(got[n], &batch[n])})
	}
	return out, nil
}

func (a *api) receive(c *call, in *receiveInput) (*receiveOutput, error) {
	t, err := a.queue(c, in.QueueUrl, "ReceiveMessage")
	if err != nil {
		return nil, err
	}
	o := sqs.ReceiveOptions{Max: 1, Attempt: in.ReceiveRequestAttemptId}
	for _, n := range []struct {
		name        string
		value       *int
		least, most int
		set         func(int)
	}{
		{"MaxNumberOfMessages", in.MaxNumberOfMessages, 1, sqs.MaxReceive, func(n int) { o.Max = n }},
		{"VisibilityTimeout", in.VisibilityTimeout, 0, 43200, func(n int) { o.Visibility = new(time.Duration(n) * time.Second) }},
		{"WaitTimeSeconds", in.WaitTimeSeconds, 0, 20, func(n int) { o.Wait = time.Duration(n) * time.Second }},
	} {
		if n.value == nil {
			continue
		}
		if *n.value < n.least || *n.value > n.most {
			return nil, hearth.Errorf(sqs.InvalidParameter, "Value %d for parameter %s is invalid. Reason: Must be between %d and %d, if provided.", *n.value, n.name, n.least, n.most)
		}
		n.set(*n.value)
	}
	if in.WaitTimeSeconds == nil {
		o.Wait = a.queues.DefaultWait(t.account, t.name)
	}
	got, err := a.queues.Receive(c, a.arn(t), o)
	if err != nil {
		return nil, err
	}
	out := &receiveOutput{}
	for i := range got {
		out.Messages = append(out.Messages, receivedOf(&got[i], in))
	}
	return out, nil
}

// receivedOf is a message with what was asked for of it.
func receivedOf(m *sqs.Message, in *receiveInput) received {
	r := received{MessageId: m.ID, ReceiptHandle: m.Handle, MD5OfBody: sqs.BodyMD5(m.Body), Body: m.Body}
	for _, names := range [][]string{in.AttributeNames, in.MessageSystemAttributeNames} {
		for _, name := range names {
			for known, value := range systemAttributes(m) {
				if value != "" && (name == "All" || name == known) {
					if r.Attributes == nil {
						r.Attributes = map[string]string{}
					}
					r.Attributes[known] = value
				}
			}
		}
	}
	asked := map[string]sqs.Attribute{}
	for name, a := range m.Attributes {
		for _, pattern := range in.MessageAttributeNames {
			prefix, wild := strings.CutSuffix(pattern, ".*")
			if pattern == "All" || pattern == ".*" || pattern == name || wild && strings.HasPrefix(name, prefix+".") {
				asked[name] = a
			}
		}
	}
	for name, a := range asked {
		v := attributeValue{DataType: a.Type}
		if a.Binary() {
			v.BinaryValue = a.Value
		} else {
			v.StringValue = new(string(a.Value))
		}
		if r.MessageAttributes == nil {
			r.MessageAttributes = map[string]attributeValue{}
		}
		r.MessageAttributes[name] = v
	}
	r.MD5OfMessageAttributes = sqs.AttributesMD5(asked)
	return r
}

// systemAttributes are what the service tells of a message; "" has none.
func systemAttributes(m *sqs.Message) map[string]string {
	return map[string]string{
		"ApproximateFirstReceiveTimestamp": strconv.FormatInt(m.FirstReceived.UnixMilli(), 10),
		"ApproximateReceiveCount":          strconv.Itoa(m.Receives),
		"AWSTraceHeader":                   m.TraceHeader,
		"DeadLetterQueueSourceArn":         m.DeadLetterOf,
		"MessageDeduplicationId":           m.Deduplication,
		"MessageGroupId":                   m.Group,
		"SenderId":                         m.SenderID,
		"SentTimestamp":                    strconv.FormatInt(m.Sent.UnixMilli(), 10),
		"SequenceNumber":                   m.Sequence,
	}
}

func (a *api) deleteMessage(c *call, in *deleteInput) (*nothing, error) {
	t, err := a.queue(c, in.QueueUrl, "DeleteMessage")
	if err != nil {
		return nil, err
	}
	return nil, a.queues.Delete(c, a.arn(t), in.ReceiptHandle)[0]
}

func (a *api) deleteBatch(c *call, in *deleteBatchInput) (*deleteBatchOutput, error) {
	t, err := a.queue(c, in.QueueUrl, "DeleteMessage")
	if err != nil {
		return nil, err
	}
	id := func(i int) string { return in.Entries[i].Id }
	if err := checkBatch(len(in.Entries), id); err != nil {
		return nil, err
	}
	var handles []string
	for _, e := range in.Entries {
		handles = append(handles, e.ReceiptHandle)
	}
	out := &deleteBatchOutput{}
	out.Successful, out.Failed, err = a.entries(id, a.queues.Delete(c, a.arn(t), handles...))
	return out, err
}

// entries tells of a batch's entries.
func (a *api) entries(id func(int) string, errs []error) (ok []okEntry, failed []failedEntry, err error) {
	ok = []okEntry{}
	for i, e := range errs {
		switch {
		case e == nil:
			ok = append(ok, okEntry{id(i)})
		case hearth.KindOf(e) == sqs.NoQueue:
			return nil, nil, e
		default:
			failed = append(failed, a.failed(id(i), e))
		}
	}
	return ok, failed, nil
}

func (a *api) changeVisibility(c *call, in *visibilityInput) (*nothing, error) {
	t, err := a.queue(c, in.QueueUrl, "ChangeMessageVisibility")
	if err != nil {
		return nil, err
	}
	v, err := visibilityOf(in.ReceiptHandle, in.VisibilityTimeout)
	if err != nil {
		return nil, err
	}
	return nil, a.queues.ChangeVisibility(c, a.arn(t), v)[0]
}

func visibilityOf(handle string, timeout *int) (sqs.Visibility, error) {
	switch {
	case timeout == nil:
		return sqs.Visibility{}, hearth.Errorf(sqs.MissingParameter, "The request must contain the parameter VisibilityTimeout.")
	case *timeout < 0 || *timeout > 43200:
		return sqs.Visibility{}, hearth.Errorf(sqs.InvalidParameter, "Value %d for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200, if provided.", *timeout)
	}
	return sqs.Visibility{Handle: handle, Timeout: time.Duration(*timeout) * time.Second}, nil
}

func (a *api) changeVisibilityBatch(c *call, in *visibilityBatchInput) (*visibilityBatchOutput, error) {
	t, err := a.queue(c, in.QueueUrl, "ChangeMessageVisibility")
	if err != nil {
		return nil, err
	}
	id := func(i int) string { return in.Entries[i].Id }
	if err := checkBatch(len(in.Entries), id); err != nil {
		return nil, err
	}
	out := &visibilityBatchOutput{}
	var changes []sqs.Visibility
	var ids []string
	for _, e := range in.Entries {
		v, err := visibilityOf(e.ReceiptHandle, e.VisibilityTimeout)
		if err != nil {
			out.Failed = append(out.Failed, a.failed(e.Id, err))
			continue
		}
		changes, ids = append(changes, v), append(ids, e.Id)
	}
	ok, failed, err := a.entries(func(i int) string { return ids[i] }, a.queues.ChangeVisibility(c, a.arn(t), changes...))
	out.Successful, out.Failed = ok, append(out.Failed, failed...)
	return out, err
}
