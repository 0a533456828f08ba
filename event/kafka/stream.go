package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
)

// stream is a member of a group as a poll.Stream. Its shards are the partitions
// that it was assigned. Each is paused until it is opened, and whenever enough
// of it waits to be read.
type stream struct {
	client  *kgo.Client
	made    chan struct{} // closed when client is set: its group begins before
	group   string
	source  string // the ARN; "" is of brokers without one
	kind    event.Kind
	brokers string
	from    string
	fromAt  *time.Time

	cancel context.CancelFunc // ends fetching
	ended  chan struct{}      // closed when it has

	mu        sync.Mutex
	joined    bool // was told once what it is assigned
	parts     map[string]*part
	err       error                    // why nothing is read any more
	change    chan struct{}            // closed when any of the above changes
	resharded chan struct{}            // of one: parts are others
	starts    map[topicPartition]int64 // at which those begin of which the group has no position
	committed map[topicPartition]bool  // of which the group has one
}

type topicPartition struct {
	topic     string
	partition int32
}

func (tp topicPartition) id() string { return fmt.Sprintf("%s-%d", tp.topic, tp.partition) }

func (tp topicPartition) set() map[string][]int32 {
	return map[string][]int32{tp.topic: {tp.partition}}
}

// part is a partition that is assigned.
type part struct {
	topicPartition
	placed  bool // where it begins is known
	waiting []*kgo.Record
	bytes   int
	reader  *reader // that has it fetched; nil if it was not opened yet
	closed  bool    // its reader has let go of it, with what it had not read
	full    bool    // is paused since enough waits
	lag     int64
}

// How much of a partition waits at most to be read before it is paused.
const (
	mostWaiting = 1000
	mostBytes   = 8 << 20
)

func newStream(m *event.Mapping, group string, brokers []string) *stream {
	return &stream{group: group, source: m.Source, kind: m.Kind(), brokers: strings.Join(brokers, ","), from: m.From, fromAt: m.FromAt,
		made: make(chan struct{}), ended: make(chan struct{}), parts: map[string]*part{}, change: make(chan struct{}), resharded: make(chan struct{}, 1),
		starts: map[topicPartition]int64{}, committed: map[topicPartition]bool{}}
}

func (s *stream) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() {
		defer close(s.ended)
		s.fetch(ctx)
	}()
}

// changed wakes who waits. s.mu is held.
func (s *stream) changed() {
	close(s.change)
	s.change = make(chan struct{})
}

// assigned hears which partitions are this member's now.
func (s *stream) assigned(_ context.Context, client *kgo.Client, more map[string][]int32) {
	client.PauseFetchPartitions(more)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joined = true
	for topic, partitions := range more {
		for _, n := range partitions {
			tp := topicPartition{topic, n}
			s.parts[tp.id()] = &part{topicPartition: tp}
		}
	}
	s.reshard()
}

// lost hears which are not any more. What of them is at work is processed, and
// perhaps by their new owner as well.
func (s *stream) lost(_ context.Context, client *kgo.Client, gone map[string][]int32) {
	s.mu.Lock()
	for topic, partitions := range gone {
		for _, n := range partitions {
			tp := topicPartition{topic, n}
			delete(s.parts, tp.id())
			delete(s.starts, tp)
			delete(s.committed, tp)
		}
	}
	s.reshard()
	s.mu.Unlock()
	client.ResumeFetchPartitions(gone) // a pause would outlive the assignment
}

// reshard tells that the shards are others. s.mu is held.
func (s *stream) reshard() {
	select {
	case s.resharded <- struct{}{}:
	default:
	}
	s.changed()
}

// Resharded implements poll.Resharder.
func (s *stream) Resharded() <-chan struct{} { return s.resharded }

// adjust says where partitions begin of which the group has no position. A
// topic that the group has read before has got a new partition, which is read
// from its beginning.
func (s *stream) adjust(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	defer s.place(offsets)
	select {
	case <-s.made:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	admin := kadm.NewClient(s.client)
	for topic, partitions := range offsets {
		var fresh []int32
		for n, o := range partitions {
			if o.EpochOffset().Offset >= 0 {
				s.mu.Lock()
				s.committed[topicPartition{topic, n}] = true
				s.mu.Unlock()
			} else {
				fresh = append(fresh, n)
			}
		}
		if len(fresh) == 0 || s.from != "LATEST" && s.from != "AT_TIMESTAMP" {
			continue
		}
		kept, err := admin.FetchOffsets(ctx, s.group)
		if err != nil {
			return nil, err
		}
		if len(kept[topic]) > 0 {
			continue
		}
		listed, err := s.list(ctx, admin, topic)
		if err != nil {
			return nil, err
		}
		for _, n := range fresh {
			l, ok := listed.Lookup(topic, n)
			if !ok {
				return nil, fmt.Errorf("the topic %s has no partition %d any more", topic, n)
			}
			if l.Err != nil {
				return nil, fmt.Errorf("where partition %d of the topic %s begins is not known: %w", n, topic, l.Err)
			}
			partitions[n] = kgo.NewOffset().At(l.Offset)
			s.mu.Lock()
			s.starts[topicPartition{topic, n}] = l.Offset
			s.mu.Unlock()
		}
	}
	return offsets, nil
}

// place tells that the partitions may be opened: where they begin is known, or
// the group ends for the reason that it is not.
func (s *stream) place(offsets map[string]map[int32]kgo.Offset) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for topic, partitions := range offsets {
		for n := range partitions {
			if p := s.parts[topicPartition{topic, n}.id()]; p != nil {
				p.placed = true
			}
		}
	}
	s.reshard()
}

func (s *stream) list(ctx context.Context, admin *kadm.Client, topic string) (kadm.ListedOffsets, error) {
	if s.from == "AT_TIMESTAMP" && s.fromAt != nil {
		return admin.ListOffsetsAfterMilli(ctx, s.fromAt.UnixMilli(), topic)
	}
	return admin.ListEndOffsets(ctx, topic)
}

// fetch has what comes waiting for readers, until ctx ends or Kafka says that
// something is wrong that waiting does not mend.
func (s *stream) fetch(ctx context.Context) {
	for {
		fetches := s.client.PollRecords(ctx, mostWaiting)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		var failed error
		fetches.EachError(func(topic string, partition int32, err error) {
			if !errors.Is(err, context.Canceled) && failed == nil {
				failed = err
				if topic != "" {
					failed = fmt.Errorf("topic %s: %w", topic, err)
				}
			}
		})
		var full []topicPartition
		s.mu.Lock()
		fetches.EachPartition(func(f kgo.FetchTopicPartition) {
			p := s.parts[topicPartition{f.Topic, f.Partition}.id()]
			if p == nil {
				return // lost since
			}
			p.waiting = append(p.waiting, f.Records...)
			for _, r := range f.Records {
				p.bytes += len(r.Key) + len(r.Value)
			}
			if n := len(f.Records); n > 0 {
				p.lag = max(f.HighWatermark-f.Records[n-1].Offset-1, 0)
			}
			if !p.full && (len(p.waiting) >= mostWaiting || p.bytes >= mostBytes) {
				p.full = true
				full = append(full, p.topicPartition)
			}
		})
		// Before anybody can read so much that it goes on.
		for _, tp := range full {
			s.client.PauseFetchPartitions(tp.set())
		}
		if failed != nil {
			s.err = sentence(failed)
		}
		s.changed()
		s.mu.Unlock()
		s.client.AllowRebalance()
		if failed != nil {
			return
		}
	}
}

// Shards waits until the group has told what this member is assigned, and from
// where on.
func (s *stream) Shards(ctx context.Context) ([]poll.Shard, error) {
	for {
		s.mu.Lock()
		joined, err, change := s.joined, s.err, s.change
		var shards []poll.Shard
		for id, p := range s.parts {
			joined = joined && p.placed
			shards = append(shards, poll.Shard{ID: id})
		}
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if joined {
			slices.SortFunc(shards, func(a, b poll.Shard) int { return strings.Compare(a.ID, b.ID) })
			return shards, nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Lag is how many records of the assigned partitions were not taken yet, as far
// as the last fetches told.
func (s *stream) Lag(context.Context) (n int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		n += p.lag + int64(len(p.waiting))
	}
	return n, nil
}

// Close leaves the group, if the group does not know this server by its name,
// and ends the connections.
func (s *stream) Close() error {
	s.cancel()
	<-s.ended
	s.client.CloseAllowingRebalance()
	return nil
}
