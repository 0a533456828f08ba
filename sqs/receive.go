package sqs

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// MaxReceive is how many messages one Receive gives at most.
const MaxReceive = 10

// MaxInFlight is how many messages of a queue can be in flight.
const MaxInFlight = 120_000

// ReceiveOptions are how to receive.
type ReceiveOptions struct {
	Max        int            // 1 to MaxReceive; 0 is 1
	Wait       time.Duration  // for the first message; 0 does not wait
	Visibility *time.Duration // how long they are kept from others; nil is the queue's
	Attempt    string         // of a FIFO queue: the same again gives the same messages
}

// Receive takes messages of the queue that an ARN names, as soon as there are
// any: who waits is woken by the message, and nothing is asked again and
// again. If there are none within Wait it returns none and no error. When ctx
// ends while it waits it returns its error, and nothing was taken. What is
// returned is kept from others until its visibility timeout ends.
// Errors: NoQueue, OverLimit, Service.
func (s *Service) Receive(ctx context.Context, arn string, o ReceiveOptions) ([]Message, error) {
	q, err := s.byARN(arn)
	if err != nil {
		return nil, err
	}
	return q.receive(ctx, o)
}

// DefaultWait is how long a queue has receivers wait that do not say; 0 if
// there is no such queue.
func (s *Service) DefaultWait(account hearth.Account, name string) time.Duration {
	q, err := s.find(account, name)
	if err != nil {
		return 0
	}
	return time.Duration(q.set.Load().wait) * time.Second
}

// taken is a message as it was received.
type taken struct {
	m     *message
	count uint32
	entry entry
}

// attempt is what a ReceiveRequestAttemptId got.
type attempt struct {
	expires int64
	taken   []taken
}

func (q *queue) receive(ctx context.Context, o ReceiveOptions) ([]Message, error) {
	o.Max = min(max(o.Max, 1), MaxReceive)
	got, written, err := q.await(ctx, o)
	if len(got) == 0 || err != nil {
		return nil, err
	}
	messages, err := q.contents(got)
	if werr := <-written; err == nil {
		err = werr
	}
	if err == nil {
		err = ctx.Err() // nobody is there to take them
	}
	if err != nil {
		q.giveBack(got)
		return nil, stored("Receive", err)
	}
	q.s.counts.received.Add(uint64(len(messages)))
	return messages, nil
}

// await takes messages as soon as there are any.
func (q *queue) await(ctx context.Context, o ReceiveOptions) (got []taken, written chan error, err error) {
	var over chan struct{}
	if o.Wait > 0 {
		over = make(chan struct{})
		t := q.s.cfg.Clock.AfterFunc(o.Wait, func() { close(over) })
		defer t.Stop()
	}
	for woken := false; ; woken = true {
		if err := ctx.Err(); err != nil {
			if woken { // whoever is next takes what this one was woken for
				q.mu.Lock()
				q.wake(1)
				q.unlock()
			}
			return nil, nil, stored("Receive", err)
		}
		now := q.lock()
		if q.deleted {
			q.unlock()
			return nil, nil, noQueue()
		}
		if got, written, err = q.take(o, now); len(got) > 0 || err != nil || over == nil {
			q.unlock()
			return got, written, err
		}
		c := q.wait()
		q.unlock()
		stop := false
		select {
		case <-c:
			continue
		case <-over:
			stop = true
		case <-q.s.held:
			stop = true
		case <-ctx.Done():
			err, stop = stored("Receive", ctx.Err()), true
		}
		if stop {
			q.mu.Lock()
			q.unwait(c)
			q.unlock()
			return nil, nil, err
		}
	}
}

// take takes what there is, and has that written. q is locked.
func (q *queue) take(o ReceiveOptions, now int64) (got []taken, written chan error, err error) {
	set := q.set.Load()
	visibility := set.visibility
	if o.Visibility != nil {
		visibility = o.Visibility.Milliseconds()
	}
	var picked []*message
	again := q.again(o.Attempt, now)
	switch {
	case again != nil:
		picked = again
	case q.counts[inFlight] >= MaxInFlight && q.fifo:
		return nil, nil, nil
	case q.counts[inFlight] >= MaxInFlight && q.ready.head != nil:
		return nil, nil, hearth.Errorf(OverLimit, "The queue has %d messages in flight, which is the most: delete those that were processed.", MaxInFlight)
	case q.fifo:
		picked = q.pickGroups(o.Max)
	default:
		for m := q.ready.head; m != nil && len(picked) < o.Max; m = q.ready.head {
			if q.exhausted(m) {
				continue
			}
			q.turn(m, moving) // for the moment: out of the line
			picked = append(picked, m)
		}
	}
	if len(picked) == 0 {
		return nil, nil, nil
	}
	var writes []write
	for _, m := range picked {
		if again == nil {
			m.count++
		}
		if m.first == 0 {
			m.first = now
		}
		m.due = now + visibility
		q.turn(m, inFlight)
		writes = append(writes, q.kept(m))
		got = append(got, taken{m: m, count: m.count, entry: *m.entry()})
	}
	if o.Attempt != "" && q.fifo {
		q.attempts[o.Attempt] = &attempt{now + dedupFor, got}
	}
	written = make(chan error, 1)
	q.s.journal.add(writes, func(err error) { written <- err })
	q.settle(now) // a timeout of 0 is over
	return got, written, nil
}

// pickGroups takes messages of groups in turn, and of each as many as there
// are, in order, before it goes to the next.
func (q *queue) pickGroups(most int) (picked []*message) {
	for g := q.open.head; g != nil && len(picked) < most; g = q.open.head {
		var mine []*message
		for m := g.line.head; m != nil && m.state == visible && len(picked)+len(mine) < most; m = m.next {
			mine = append(mine, m)
		}
		for i, m := range mine {
			if q.exhausted(m) {
				// It leaves first: what follows it waits for that.
				mine = mine[:i]
				break
			}
			q.turn(m, moving)
		}
		picked = append(picked, mine...)
	}
	return picked
}

// again is what an attempt got before, if all of it is still as it was.
func (q *queue) again(id string, now int64) (picked []*message) {
	if now-q.swept > dedupFor {
		for id, a := range q.attempts {
			if a.expires <= now {
				delete(q.attempts, id)
			}
		}
		q.swept = now
	}
	a := q.attempts[id]
	if id == "" || a == nil || a.expires <= now {
		return nil
	}
	for _, t := range a.taken {
		if t.m.state != inFlight || t.m.count != t.count {
			return nil
		}
		picked = append(picked, t.m)
	}
	return picked
}

// contents reads what was sent: from memory if it was sent lately.
func (q *queue) contents(got []taken) ([]Message, error) {
	encoded := make([][]byte, len(got))
	var cold []int
	for i, t := range got {
		b, ok := q.s.bodies.get(t.m.body)
		if encoded[i] = b; !ok {
			cold = append(cold, i)
		}
	}
	if len(cold) > 0 {
		err := q.s.cfg.Store.View(q.s.ctx, func(r store.Reader) (err error) {
			for _, i := range cold {
				if encoded[i], _, err = r.Get(bodyBucket, key(got[i].m.body)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	messages := make([]Message, 0, len(got))
	for i, t := range got {
		if encoded[i] == nil {
			continue // deleted since
		}
		c, err := decodeContent(encoded[i])
		if err != nil {
			return nil, err
		}
		m := Message{
			ID: c.id, Handle: q.handle(t), Body: c.body, Attributes: c.attributes, SenderID: c.sender, TraceHeader: c.trace, Deduplication: c.dedup,
			Sent: time.UnixMilli(t.entry.sent), FirstReceived: time.UnixMilli(t.entry.first), Receives: int(t.count),
			Group: t.entry.group, DeadLetterOf: t.entry.source,
		}
		if q.fifo {
			m.Sequence = sequence(t.m.seq)
		}
		messages = append(messages, m)
	}
	return messages, nil
}

// giveBack makes what was taken as if it had not been.
func (q *queue) giveBack(got []taken) {
	now := q.lock()
	defer q.unlock()
	var writes []write
	for _, t := range got {
		if m := t.m; m.state == inFlight && m.count == t.count {
			m.count--
			m.due = now
			q.turn(m, visible)
			writes = append(writes, q.kept(m))
		}
	}
	q.s.journal.add(writes, q.s.logged("messages that nobody took could not be noted as visible, and become so when their timeout ends"))
}

// A handle is the queue, the message, and which receipt of it it was.
const handleBytes = 8 + 8 + 4

func (q *queue) handle(t taken) string {
	b := make([]byte, 0, handleBytes)
	id, _ := parseKey(q.id) // made by key
	b = binary.BigEndian.AppendUint64(b, id)
	b = binary.BigEndian.AppendUint64(b, t.m.seq)
	b = binary.BigEndian.AppendUint32(b, t.count)
	return base64.RawURLEncoding.EncodeToString(b)
}

// parseHandle reads a handle of this queue. Errors: InvalidReceipt.
func (q *queue) parseHandle(handle string) (seq uint64, count uint32, err error) {
	b, err := base64.RawURLEncoding.DecodeString(handle)
	if err != nil || len(b) != handleBytes || key(binary.BigEndian.Uint64(b)) != q.id {
		return 0, 0, hearth.Errorf(InvalidReceipt, "The input receipt handle %q is not a valid receipt handle of this queue.", handle)
	}
	return binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint32(b[16:]), nil
}
