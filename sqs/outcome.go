package sqs

import (
	"context"
	"time"

	"github.com/hearth-faas/hearth"
)

// maxVisibility bounds how long a message can be in flight, from its receipt.
const maxVisibility = 12 * time.Hour

// Delete removes messages that were received, and returns when they are gone
// from the disk: for each nil, or why not. That a message is not there any
// more is no error, nor is it that it was received again since: then it stays.
// Errors: NoQueue, InvalidReceipt, of a FIFO queue InvalidParameter for a
// receipt whose timeout is over, and Service.
func (s *Service) Delete(ctx context.Context, arn string, handles ...string) []error {
	q, err := s.byARN(arn)
	if err != nil {
		return all(err, len(handles))
	}
	return q.remove(ctx, handles)
}

// all is the same error for all of a batch.
func all(err error, n int) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

func (q *queue) remove(ctx context.Context, handles []string) []error {
	if err := ctx.Err(); err != nil {
		return all(stored("Delete", err), len(handles))
	}
	errs := make([]error, len(handles))
	var writes []write
	var dropped []*message
	q.lock()
	if q.deleted {
		q.unlock()
		return all(noQueue(), len(handles))
	}
	for i, h := range handles {
		seq, count, err := q.parseHandle(h)
		if err != nil {
			errs[i] = err
			continue
		}
		m := q.messages[seq]
		if m == nil || m.state == moving {
			continue
		}
		if m.count != count || q.fifo && m.state != inFlight {
			if q.fifo {
				errs[i] = invalidParameter("ReceiptHandle", h, "The receipt handle has expired.")
			}
			continue
		}
		writes = append(writes, q.erased(m)...)
		q.drop(m)
		dropped = append(dropped, m)
	}
	if len(dropped) == 0 {
		q.unlock()
		return errs
	}
	done := make(chan error, 1)
	q.s.journal.add(writes, func(err error) {
		if err != nil {
			q.restore(dropped)
		}
		done <- err
	})
	q.unlock()
	if err := stored("Delete", <-done); err != nil {
		for i := range errs {
			if errs[i] == nil {
				errs[i] = err
			}
		}
		return errs
	}
	q.s.counts.deleted.Add(uint64(len(dropped)))
	return errs
}

// restore puts messages back whose deletion could not be written.
func (q *queue) restore(dropped []*message) {
	q.lock()
	defer q.unlock()
	if q.deleted {
		return
	}
	for _, m := range dropped {
		group := ""
		if m.group != nil {
			group = m.group.name
		}
		m.state, m.group = visible, nil
		q.join(m, group)
	}
}

// Visibility is a change of when a message is visible again.
type Visibility struct {
	Handle  string
	Timeout time.Duration // from now; 0 makes it visible
}

// ChangeVisibility changes when messages in flight are visible again: for each
// nil, or why not. Errors: NoQueue, InvalidReceipt, NotInFlight,
// InvalidParameter for a message that is not there or a timeout beyond twelve
// hours from the receipt, and Service.
func (s *Service) ChangeVisibility(ctx context.Context, arn string, changes ...Visibility) []error {
	q, err := s.byARN(arn)
	if err != nil {
		return all(err, len(changes))
	}
	return q.change(ctx, changes)
}

func (q *queue) change(ctx context.Context, changes []Visibility) []error {
	if err := ctx.Err(); err != nil {
		return all(stored("ChangeVisibility", err), len(changes))
	}
	now := q.lock()
	if q.deleted {
		q.unlock()
		return all(noQueue(), len(changes))
	}
	errs := make([]error, len(changes))
	var writes []write
	for i, c := range changes {
		m, err := q.held(c.Handle)
		switch {
		case err != nil:
			errs[i] = err
		case c.Timeout < 0 || c.Timeout > maxVisibility:
			errs[i] = invalidParameter("VisibilityTimeout", c.Timeout.Seconds(), "Must be between 0 and 43200.")
		default:
			m.due = now + c.Timeout.Milliseconds()
			q.turn(m, inFlight)
			writes = append(writes, q.kept(m))
		}
	}
	return q.written("ChangeVisibility", now, writes, errs)
}

// Release gives back messages that were received and not processed: they are
// visible at once, and the receipt does not count. Errors: as those of
// ChangeVisibility.
func (s *Service) Release(ctx context.Context, arn string, handles ...string) []error {
	q, err := s.byARN(arn)
	if err != nil {
		return all(err, len(handles))
	}
	if err := ctx.Err(); err != nil {
		return all(stored("Release", err), len(handles))
	}
	now := q.lock()
	if q.deleted {
		q.unlock()
		return all(noQueue(), len(handles))
	}
	errs := make([]error, len(handles))
	var writes []write
	for i, h := range handles {
		m, err := q.held(h)
		if errs[i] = err; err == nil {
			m.count--
			m.due = now
			q.turn(m, visible)
			writes = append(writes, q.kept(m))
		}
	}
	return q.written("Release", now, writes, errs)
}

// held is the message in flight that a handle holds.
func (q *queue) held(handle string) (*message, error) {
	seq, count, err := q.parseHandle(handle)
	if err != nil {
		return nil, err
	}
	switch m := q.messages[seq]; {
	case m == nil || m.state == moving:
		return nil, invalidParameter("ReceiptHandle", handle, "Message does not exist or is not available for visibility timeout change.")
	case m.state != inFlight || m.count != count:
		return nil, hearth.Errorf(NotInFlight, "The message referred to isn't in flight.")
	default:
		return m, nil
	}
}

// written unlocks, waits until the writes are on disk, and adds to errs what
// became of them.
func (q *queue) written(op string, now int64, writes []write, errs []error) []error {
	if len(writes) == 0 {
		q.unlock()
		return errs
	}
	done := make(chan error, 1)
	q.s.journal.add(writes, func(err error) { done <- err })
	q.settle(now)
	q.unlock()
	if err := stored(op, <-done); err != nil {
		for i := range errs {
			if errs[i] == nil {
				errs[i] = err
			}
		}
	}
	return errs
}
