package sqs

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/store"
)

// Config is what a Service works with. Fields without a default are required.
type Config struct {
	Store  store.Store
	Clock  hearth.Clock
	Region string
	// CacheBytes bounds how much of what was sent is kept in memory for who
	// receives it soon; 0 is 32 MiB.
	CacheBytes int
	// Judge says what callers may do beside what queues' policies say; nil is
	// that everybody of a queue's account may all that its policy does not deny.
	Judge *access.Judge
	Log   *slog.Logger // nil is slog.Default
}

// Service holds the queues of all accounts. Safe for concurrent use.
type Service struct {
	cfg     Config
	journal *journal
	bodies  *bodyCache
	counts  counts

	mu     sync.RWMutex
	queues map[string]*queue // by account and name
	closed bool

	changing sync.Mutex // one change of a queue's record at a time
	tasks    tasks

	sequence struct {
		sync.Mutex
		last, reserved uint64
	}

	held   chan struct{} // closed when nobody waits for messages any more
	hold   func()
	ctx    context.Context // of what runs by itself
	cancel context.CancelFunc
	atWork sync.WaitGroup
}

type counts struct {
	sent, received, deleted, expired, moved atomic.Uint64
}

// queueRecord is a queue's record in the store.
type queueRecord struct {
	ID         string            `json:"id"`
	Account    hearth.Account    `json:"account"`
	Name       string            `json:"name"`
	Created    int64             `json:"created"`  // seconds since 1970
	Modified   int64             `json:"modified"` // seconds since 1970
	Purged     uint64            `json:"purged,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"` // those that were set
	Tags       map[string]string `json:"tags,omitempty"`
}

func queueKey(account hearth.Account, name string) string { return string(account) + "/" + name }

// sequenceStep is how many sequence numbers one write reserves.
const sequenceStep = 1 << 16

const sequenceKey = "sequence"

// Open reads the queues and the index of their messages. Bodies stay on disk.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = 32 << 20
	}
	s := &Service{cfg: cfg, queues: map[string]*queue{}, bodies: newBodyCache(cfg.CacheBytes)}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.held = make(chan struct{})
	s.hold = sync.OnceFunc(func() { close(s.held) })
	l := loader{s: s, byID: map[string]*queue{}, sources: map[string]*string{}}
	if err := cfg.Store.View(ctx, l.load); err != nil {
		return nil, fmt.Errorf("queues: %w", err)
	}
	s.journal = newJournal(cfg.Store)
	for _, e := range l.orphans {
		s.journal.add(e, s.logged("what a deleted queue left behind could not be removed"))
	}
	for _, q := range s.queues {
		q.lock()
		for _, m := range q.messages {
			q.exhausted(m)
		}
		q.unlock()
	}
	s.resumeTasks()
	return s, nil
}

// loader reads everything at the start.
type loader struct {
	s       *Service
	byID    map[string]*queue
	sources map[string]*string // each ARN once in memory
	orphans [][]write
}

func (l *loader) load(r store.Reader) error {
	now := l.s.now()
	if b, ok, err := r.Get(metaBucket, sequenceKey); err != nil {
		return err
	} else if ok {
		n, err := parseKey(string(b))
		if err != nil {
			return err
		}
		l.s.sequence.last, l.s.sequence.reserved = n, n
	}
	for rec, err := range r.Scan(queuesBucket, "", "") {
		if err != nil {
			return err
		}
		q, purged, err := l.queue(rec)
		if err != nil {
			return err
		}
		q.purged = purged
		l.s.queues[rec.Key], l.byID[q.id] = q, q
	}
	for rec, err := range r.Scan(indexBucket, "", "") {
		if err != nil {
			return err
		}
		if err := l.message(rec, now); err != nil {
			return fmt.Errorf("message %s: %w", rec.Key, err)
		}
	}
	for rec, err := range r.Scan(dedupBucket, "", "") {
		if err != nil {
			return err
		}
		if err := l.dedup(rec); err != nil {
			return err
		}
	}
	for _, q := range l.byID {
		slices.SortFunc(q.fading, func(a, b *dedupEntry) int { return cmp.Compare(a.expires, b.expires) })
	}
	return l.s.tasks.load(r)
}

func (l *loader) queue(rec store.Record) (*queue, uint64, error) {
	var r queueRecord
	if err := json.Unmarshal(rec.Value, &r); err != nil {
		return nil, 0, fmt.Errorf("the record of the queue %s is damaged: %w", rec.Key, err)
	}
	set, err := parseSettings(&r)
	if err != nil {
		return nil, 0, fmt.Errorf("the record of the queue %s: %w", rec.Key, err)
	}
	return l.s.newQueue(&r, set), r.Purged, nil
}

func (l *loader) message(rec store.Record, now int64) error {
	if len(rec.Key) != 32 {
		return errDamaged
	}
	seq, err := parseKey(rec.Key[16:])
	if err != nil {
		return err
	}
	e, err := decodeEntry(rec.Value)
	if err != nil {
		return err
	}
	q := l.byID[rec.Key[:16]]
	if q == nil || seq <= q.purged {
		l.orphans = append(l.orphans, []write{{indexBucket, rec.Key, nil}, {bodyBucket, key(e.body), nil}})
		return nil
	}
	m := &message{seq: seq, body: e.body, sent: e.sent, due: e.due, first: e.first, count: e.count, size: e.size}
	if e.source != "" {
		if l.sources[e.source] == nil {
			l.sources[e.source] = &e.source
		}
		m.source = l.sources[e.source]
	}
	switch {
	case e.due <= now:
		m.state = visible
	case e.count > 0:
		m.state = inFlight
	default:
		m.state = delayed
	}
	q.join(m, e.group)
	return nil
}

func (l *loader) dedup(rec store.Record) error {
	d, err := decodeDedup(rec.Value)
	if err != nil || len(rec.Key) <= 16 {
		return fmt.Errorf("deduplication %s: %w", rec.Key, errDamaged)
	}
	q := l.byID[rec.Key[:16]]
	if q == nil {
		l.orphans = append(l.orphans, []write{{dedupBucket, rec.Key, nil}})
		return nil
	}
	q.remember(&dedupEntry{dedup: d, key: rec.Key[16:], stored: closedChannel})
	return nil
}

// Hold ends all waiting for messages, now and later: who waits gets none. All
// else goes on.
func (s *Service) Hold() { s.hold() }

// Close commits what was begun and stops. Who waits for a message gets none.
func (s *Service) Close() error {
	s.mu.Lock()
	s.closed = true
	queues := make([]*queue, 0, len(s.queues))
	for _, q := range s.queues {
		queues = append(queues, q)
	}
	s.mu.Unlock()
	s.hold()
	s.cancel()
	for _, q := range queues {
		q.mu.Lock()
		if q.timer != nil {
			q.timer.Stop()
		}
		q.mu.Unlock()
	}
	s.atWork.Wait()
	s.journal.close()
	return nil
}

// ARN is how a queue is named.
func (s *Service) ARN(account hearth.Account, name string) string {
	return "arn:aws:sqs:" + s.cfg.Region + ":" + string(account) + ":" + name
}

// ParseARN tells the account and the name of a queue. It reports false for
// what is not the ARN of a queue.
func ParseARN(arn string) (account hearth.Account, name string, ok bool) {
	parts := strings.Split(arn, ":")
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "sqs" || parts[4] == "" || parts[5] == "" {
		return "", "", false
	}
	return hearth.Account(parts[4]), parts[5], true
}

// now is the time in milliseconds since 1970.
func (s *Service) now() int64 { return s.cfg.Clock.Now().UnixMilli() }

// find returns a queue. Errors: NoQueue.
func (s *Service) find(account hearth.Account, name string) (*queue, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	q := s.queues[queueKey(account, name)]
	if q == nil {
		return nil, noQueue()
	}
	return q, nil
}

// byARN returns the queue that an ARN names. Errors: NoQueue.
func (s *Service) byARN(arn string) (*queue, error) {
	account, name, ok := ParseARN(arn)
	if !ok || s.ARN(account, name) != arn {
		return nil, noQueue()
	}
	return s.find(account, name)
}

// number gives n sequence numbers, which no message had before, and returns
// the first. What reserves them is in the journal before what uses them.
func (s *Service) number(n uint64) uint64 {
	s.sequence.Lock()
	defer s.sequence.Unlock()
	first := s.sequence.last + 1
	s.sequence.last += n
	if s.sequence.last > s.sequence.reserved {
		s.sequence.reserved = s.sequence.last + sequenceStep
		s.journal.add([]write{{metaBucket, sequenceKey, []byte(key(s.sequence.reserved))}}, s.logged("sequence numbers could not be reserved"))
	}
	return first
}

// logged is a change's end that nobody waits for.
func (s *Service) logged(what string) func(error) {
	return func(err error) {
		if err != nil {
			s.cfg.Log.Warn(what, "error", err)
		}
	}
}
