package sqs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
)

// Outgoing is a message to be sent.
type Outgoing struct {
	Body          string
	Attributes    map[string]Attribute
	Delay         *time.Duration // nil is the queue's; whole seconds up to 900
	Group         string         // MessageGroupId; a FIFO queue needs one
	Deduplication string         // of a FIFO queue
	TraceHeader   string         // the system attribute AWSTraceHeader
	SenderID      string
}

// Sent tells of a message that is on disk.
type Sent struct {
	ID       string
	Sequence string // of a FIFO queue
}

// Send delivers one message to the queue that an ARN names, and returns when
// it is on disk. It is the way for Hearth's own parts: the attributes are sent
// as text. Errors: NoQueue, those of a message that the queue does not take,
// and Service.
//
// To a FIFO queue the message goes with the group and the deduplication id
// that stand in attributes as MessageGroupId and MessageDeduplicationId, which
// are not sent as attributes; without a group all are of one group, and
// without an id each is its own unless the queue goes by content.
func (s *Service) Send(ctx context.Context, arn string, body []byte, attributes map[string]string) error {
	q, err := s.byARN(arn)
	if err != nil {
		return fmt.Errorf("%s: %w", arn, err)
	}
	o := Outgoing{Body: string(body)}
	for name, value := range attributes {
		switch {
		case name == "MessageGroupId":
			o.Group = value
		case name == "MessageDeduplicationId" && q.fifo:
			o.Deduplication = value
		case value != "":
			if o.Attributes == nil {
				o.Attributes = map[string]Attribute{}
			}
			o.Attributes[name] = Attribute{Type: "String", Value: []byte(value)}
		}
	}
	if q.fifo {
		if o.Group == "" {
			o.Group = "hearth"
		}
		if o.Deduplication == "" && !q.set.Load().byContent {
			o.Deduplication = uuid.NewString()
		}
	}
	_, errs := q.send(ctx, []Outgoing{o})
	return errs[0]
}

// Size is what counts of a message against limits, in bytes.
func (o *Outgoing) Size() int { return sizeOf(o.Body, o.Attributes) }

// SendBatch delivers messages to the queue that an ARN names, and returns when
// they are on disk: for each what it became, or why it was refused. Errors:
// NoQueue, those of messages that the queue does not take, and Service.
func (s *Service) SendBatch(ctx context.Context, arn string, batch []Outgoing) ([]Sent, []error) {
	q, err := s.byARN(arn)
	if err != nil {
		return make([]Sent, len(batch)), all(err, len(batch))
	}
	return q.send(ctx, batch)
}

// sending is a message between its check and the disk.
type sending struct {
	m     *message
	group string
	dedup *dedupEntry // nil has none
}

// send delivers messages, all that are in order in one write, and returns when
// they are on disk: for each what it became or why it was refused. Once begun
// it is not given up when ctx ends, since it is on its way.
func (q *queue) send(ctx context.Context, out []Outgoing) ([]Sent, []error) {
	sent, errs := make([]Sent, len(out)), make([]error, len(out))
	if err := ctx.Err(); err != nil {
		for i := range errs {
			errs[i] = stored("Send", err)
		}
		return sent, errs
	}
	set := q.set.Load()
	for i := range out {
		errs[i] = out[i].check(set)
	}
	now := q.lock()
	if q.deleted {
		q.unlock()
		for i := range errs {
			errs[i] = noQueue()
		}
		return sent, errs
	}
	var writes []write
	var batch []sending
	var twins []int
	for i := range out {
		if errs[i] != nil {
			continue
		}
		e, twin := q.twin(&out[i], now)
		if twin {
			sent[i] = Sent{e.id, sequence(e.seq)}
			twins = append(twins, i)
			continue
		}
		b, id := q.prepare(&out[i], set, now, e, &writes)
		batch = append(batch, b)
		if sent[i].ID = id; q.fifo {
			sent[i].Sequence = sequence(b.m.seq)
		}
	}
	waits := make([]*dedupEntry, len(twins))
	for n, i := range twins {
		waits[n], _ = q.twin(&out[i], now)
	}
	done := make(chan error, 1)
	if len(batch) > 0 {
		q.s.journal.add(writes, func(err error) {
			q.arrived(batch, err)
			done <- err
		})
	} else {
		done <- nil
	}
	q.unlock()
	if err := <-done; err != nil {
		err = stored("Send", err)
		for i := range errs {
			if errs[i] == nil {
				errs[i] = err
			}
		}
		return sent, errs
	}
	for n, i := range twins {
		<-waits[n].stored
		errs[i] = stored("Send", waits[n].err)
	}
	return sent, errs
}

// sequence is how a sequence number is told.
func sequence(n uint64) string { return fmt.Sprintf("%020d", n) }

// twin finds the message that o repeats. If there is none it returns the entry
// that o is remembered by from now on, or nil if it need not be.
func (q *queue) twin(o *Outgoing, now int64) (e *dedupEntry, there bool) {
	if !q.fifo {
		return nil, false
	}
	group := ""
	if q.set.Load().perGroup {
		group = o.Group
	}
	k := dedupKey(group, o.Deduplication)
	if e := q.dedups[k]; e != nil {
		return e, true
	}
	return &dedupEntry{key: k, dedup: dedup{expires: now + dedupFor}, stored: make(chan struct{})}, false
}

// prepare makes a message of what was sent, and adds what has to be written.
func (q *queue) prepare(o *Outgoing, set *settings, now int64, e *dedupEntry, writes *[]write) (sending, string) {
	seq, id := q.s.number(1), uuid.NewString()
	m := &message{seq: seq, body: seq, sent: now, due: now + set.delay, size: uint32(sizeOf(o.Body, o.Attributes))}
	if o.Delay != nil {
		m.due = now + o.Delay.Milliseconds()
	}
	c := content{id: id, sender: o.SenderID, trace: o.TraceHeader, body: o.Body, attributes: o.Attributes}
	if q.fifo {
		c.dedup = o.Deduplication
	}
	b := c.encode()
	q.s.bodies.put(seq, b)
	en := m.entry()
	en.group = o.Group
	*writes = append(*writes, write{bodyBucket, key(seq), b}, write{indexBucket, q.id + key(seq), en.encode()})
	if e != nil {
		e.seq, e.id = seq, id
		q.remember(e)
		*writes = append(*writes, write{dedupBucket, q.id + e.key, e.encode()})
	}
	return sending{m, o.Group, e}, id
}

// arrived puts messages that are on disk where they can be received.
func (q *queue) arrived(batch []sending, err error) {
	now := q.lock()
	defer q.unlock()
	for _, b := range batch {
		if b.dedup != nil {
			if b.dedup.err = err; err != nil && q.dedups[b.dedup.key] == b.dedup {
				delete(q.dedups, b.dedup.key)
			}
			close(b.dedup.stored)
		}
		switch {
		case err != nil:
			q.s.bodies.remove(b.m.body)
		case q.deleted || b.m.seq <= q.purged:
			q.s.journal.add(q.erased(b.m), q.s.logged("a message of a queue that was emptied could not be removed"))
		default:
			if b.m.due > now {
				b.m.state = delayed
			}
			q.join(b.m, b.group)
			q.s.counts.sent.Add(1)
		}
	}
}

// contentID is the deduplication id of a body.
func contentID(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// check tells whether the queue takes o, and completes it.
func (o *Outgoing) check(set *settings) error {
	size := sizeOf(o.Body, o.Attributes)
	switch {
	case o.Body == "":
		return missing("MessageBody")
	case size > set.maxMessage:
		return hearth.Errorf(InvalidParameter, "One or more parameters are invalid. Reason: Message must be shorter than %d bytes.", set.maxMessage)
	case !printable(o.Body):
		return hearth.Errorf(InvalidContents, "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF")
	case o.Delay != nil && (*o.Delay < 0 || *o.Delay > 900*time.Second):
		return invalidParameter("DelaySeconds", o.Delay.Seconds(), "DelaySeconds must be >= 0 and <= 900.")
	case o.Group != "" && !isToken(o.Group):
		return invalidParameter("MessageGroupId", o.Group, "MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length.")
	case o.Deduplication != "" && !isToken(o.Deduplication):
		return invalidParameter("MessageDeduplicationId", o.Deduplication, "MessageDeduplicationId can only include alphanumeric and punctuation characters. 1 to 128 in length.")
	}
	if err := checkAttributes(o.Attributes); err != nil {
		return err
	}
	const wrongType = "The request include parameter that is not valid for this queue type."
	if !set.fifo {
		if o.Deduplication != "" {
			return invalidParameter("MessageDeduplicationId", o.Deduplication, wrongType)
		}
		return nil
	}
	switch {
	case o.Group == "":
		return missing("MessageGroupId")
	case o.Delay != nil && *o.Delay != 0:
		return invalidParameter("DelaySeconds", o.Delay.Seconds(), wrongType)
	case o.Delay != nil:
		o.Delay = nil // some clients always send one
	}
	if o.Deduplication == "" {
		if !set.byContent {
			return hearth.Errorf(InvalidParameter, "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly")
		}
		o.Deduplication = contentID(o.Body)
	}
	return nil
}
