package kafka

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hearth-faas/hearth/event/poll"
)

// reader reads a partition for as long as it is assigned. Between two
// assignments it has nothing, and then goes on where the group had got to.
type reader struct {
	s  *stream
	id string
}

// Open begins to fetch the partition: from where the group has got to, or after
// the position, or where the mapping says.
func (s *stream) Open(ctx context.Context, shard, after string) (poll.Reader, error) {
	r := &reader{s, shard}
	s.mu.Lock()
	p := s.parts[shard]
	taken := p != nil && (p.closed || p.reader != nil)
	s.mu.Unlock()
	if taken {
		// What its reader had fetched is gone: the group is joined anew, and
		// says where to go on.
		return nil, poll.ErrGone
	}
	if err := r.resume(ctx, after); err != nil {
		return nil, err
	}
	return r, nil
}

// resume has the partition fetched for the reader if it is assigned and has
// none: since it is opened, or was assigned anew.
func (r *reader) resume(ctx context.Context, after string) error {
	s := r.s
	s.mu.Lock()
	p := s.parts[r.id]
	if p == nil || p.reader != nil || p.closed || !p.placed {
		s.mu.Unlock()
		return nil
	}
	p.reader = r
	tp := p.topicPartition
	start, begins := s.starts[tp]
	committed := s.committed[tp]
	s.mu.Unlock()
	if after != "" && !committed {
		// The group has lost its position, as it does when nobody reads for a
		// week; it is known here.
		n, err := strconv.ParseInt(after, 10, 64)
		if err != nil {
			return fmt.Errorf("the position %q of %s is no offset", after, r.id)
		}
		start, begins = n+1, true
		s.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{tp.topic: {tp.partition: {Epoch: -1, Offset: start}}})
	}
	if begins {
		// A mapping that begins with what is new has begun now, also if it is
		// interrupted before anything is new.
		if err := s.commit(ctx, tp, start); err != nil {
			return err
		}
	}
	s.client.ResumeFetchPartitions(tp.set())
	return nil
}

// Read returns what was fetched.
func (r *reader) Read(ctx context.Context, most int, wait time.Duration) ([]*poll.Record, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for ctx.Err() == nil {
		records, change, err := r.take(most)
		if len(records) > 0 || err != nil {
			return records, err
		}
		if err := r.resume(ctx, ""); err != nil {
			return nil, err
		}
		select {
		case <-change:
		case <-timer.C:
			return nil, nil
		case <-ctx.Done():
		}
	}
	return nil, nil
}

func (r *reader) take(most int) (records []*poll.Record, change <-chan struct{}, err error) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, nil, s.err
	}
	p := s.parts[r.id]
	if p == nil || p.reader != r {
		return nil, s.change, nil
	}
	n := min(most, len(p.waiting))
	for _, rec := range p.waiting[:n] {
		record, err := recordOf(rec)
		if err != nil {
			return nil, nil, err
		}
		records = append(records, record)
		p.bytes -= len(rec.Key) + len(rec.Value)
	}
	p.waiting = append(p.waiting[:0:0], p.waiting[n:]...) // what was read is let go
	if p.full && len(p.waiting) < mostWaiting/2 && p.bytes < mostBytes/2 {
		p.full = false
		s.client.ResumeFetchPartitions(p.set())
	}
	return records, s.change, nil
}

// commitTime bounds a commit.
const commitTime = 10 * time.Second

// Commit tells the group, unless the partition is another member's now.
func (r *reader) Commit(ctx context.Context, position string) error {
	n, err := strconv.ParseInt(position, 10, 64)
	if err != nil {
		return fmt.Errorf("the position %q of %s is no offset", position, r.id)
	}
	r.s.mu.Lock()
	p := r.s.parts[r.id]
	r.s.mu.Unlock()
	if p == nil {
		return nil
	}
	return r.s.commit(ctx, p.topicPartition, n+1)
}

// commit tells the group at which offset the partition goes on.
func (s *stream) commit(ctx context.Context, tp topicPartition, next int64) error {
	ctx, cancel := context.WithTimeout(ctx, commitTime)
	defer cancel()
	var failed error
	s.client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{tp.topic: {tp.partition: {Epoch: -1, Offset: next}}}, commitDone(&failed))
	if failed == nil {
		s.mu.Lock()
		s.committed[tp] = true
		s.mu.Unlock()
	}
	return failed
}

// Close stops the fetching.
func (r *reader) Close() error {
	s := r.s
	s.mu.Lock()
	p := s.parts[r.id]
	mine := p != nil && p.reader == r
	if mine {
		p.closed, p.reader, p.waiting, p.bytes = true, nil, nil, 0
	}
	s.mu.Unlock()
	if mine {
		s.client.PauseFetchPartitions(p.set())
	}
	return nil
}
