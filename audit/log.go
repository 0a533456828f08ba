package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/internal/segment"
)

// Sealer keeps the chain's key from those who can read the data folder's
// files; identity.Key is one.
type Sealer interface {
	Seal(plain, associated []byte) ([]byte, error)
	Open(sealed, associated []byte) ([]byte, error)
}

// Config is what a Log is made of. Dir, Clock and Key are needed.
type Config struct {
	Dir   string
	Clock hearth.Clock
	Key   Sealer
	Log   *slog.Logger // nil is slog.Default
	// MaxBytes bounds the log on disk; 0 is 256 MiB. Retention is how long
	// records are kept at least as long as that suffices, and at most but for
	// the rest of their segment; 0 is 90 days.
	MaxBytes  int64
	Retention time.Duration
}

const (
	prefix, suffix = "audit-", ".log"

	defaultMax       = 256 << 20
	defaultRetention = 90 * 24 * time.Hour
	// perLog is how many segments share the bound.
	perLog = 32
	minLog = 1 << 20
	// ahead is how much room on the disk is taken at a time before it is
	// needed, so that what was admitted can be written.
	ahead = 256 << 10
	// syncEvery is how long a record that nobody waits for may be unsynced.
	syncEvery = time.Second
	// maxPending bounds what is kept in memory while the disk takes nothing.
	maxPending = 4096
)

// Log is the audit log. Safe for concurrent use.
type Log struct {
	cfg   Config
	chain chain
	files *segment.Files
	seg   int64

	mu      sync.Mutex
	pending []*entry // in their order
	places  int      // admitted, not yet recorded
	room    int64    // on disk beyond what is written, taken for what comes
	failed  error    // of the last write; nil is that it went well
	tried   time.Time
	stats   Stats
	folds   folds
	closed  bool

	wake    chan struct{}
	stopped sync.WaitGroup

	// The writer's own.
	file   file
	size   int64 // of the current segment
	began  time.Time
	last   mark
	head   *os.File
	turn   int // the head's place that is written next
	dirty  bool
	synced time.Time
	buf    []byte
	open   func(path string) (file, error)
}

// entry is a record on its way to the disk.
type entry struct {
	event Event
	done  chan error // of a place; nil: nobody waits
}

// Stats tells how the log does.
type Stats struct {
	Records uint64 // written since the start
	Syncs   uint64
	Refused uint64 // changes that were refused because they could not be recorded
	Lost    uint64 // reads and refusals that could not be recorded
	Folded  uint64 // reads and refusals recorded together with others
	Bytes   int64  // on disk
	Damage  string // what Open found; "" is nothing
	Failing string // why nothing can be written; "" is that it can
	LastSeq uint64
}

// file is a segment while it is written. allocate takes room for n bytes from
// the offset on, without changing the file's size.
type file interface {
	Write(b []byte) (int, error)
	Truncate(size int64) error
	Sync() error
	Close() error
	allocate(offset, n int64) error
}

// Open opens the log, and cuts off what a crash left of a record that nobody
// was told of. Other damage it leaves where it is, and records.
func Open(cfg Config) (*Log, error) {
	if cfg.Clock == nil || cfg.Key == nil || cfg.Dir == "" {
		return nil, errors.New("audit: Config needs a Dir, a Clock and a Key")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMax
	}
	if cfg.Retention == 0 {
		cfg.Retention = defaultRetention
	}
	cfg.MaxBytes = max(cfg.MaxBytes, minLog)
	l := &Log{cfg: cfg, seg: cfg.MaxBytes / perLog, wake: make(chan struct{}, 1), open: openFile}
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("the audit log in %s: %w", cfg.Dir, err)
	}
	l.stopped.Go(l.write)
	return l, nil
}

func (l *Log) load() (err error) {
	if l.files, err = segment.Open(l.cfg.Dir, prefix, suffix); err != nil {
		return err
	}
	if l.chain.key, err = loadKey(l.cfg.Dir, l.cfg.Key, len(l.files.List()) == 0); err != nil {
		return err
	}
	anchor, err := l.chain.readAnchor(l.cfg.Dir)
	if err != nil {
		return err
	}
	// A crash may have kept what was to be removed.
	err = l.files.MakeRoom(0, func(oldest segment.Segment) (bool, error) {
		end, err := endOf(l.files.Path(oldest.First))
		return err == nil && end.Seq <= anchor.Seq, nil
	})
	if err != nil {
		return err
	}
	head, newer, err := l.chain.readHead(l.cfg.Dir)
	if err != nil {
		return err
	}
	l.turn = 1 - newer
	if l.head, err = os.OpenFile(filepath.Join(l.cfg.Dir, headFile), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	damage, err := l.takeUp(anchor, head)
	if err != nil {
		return errors.Join(err, l.head.Close())
	}
	if damage != "" {
		l.stats.Damage = damage
		l.cfg.Log.Error("the audit log is damaged: run hearth audit --verify", "dir", l.cfg.Dir, "damage", damage)
		l.pending = append(l.pending, &entry{event: Event{
			Time: l.cfg.Clock.Now(), Service: "hearth", Action: "hearth:AuditLogDamaged", Principal: "hearth", Resource: damage,
		}})
	}
	return nil
}

// takeUp finds where the chain goes on. Damage is what was there and is not.
func (l *Log) takeUp(anchor, head mark) (damage string, err error) {
	for {
		list := l.files.List()
		if len(list) == 0 {
			l.last = anchor
			break
		}
		newest := list[len(list)-1]
		path := l.files.Path(newest.First)
		prev := anchor
		if len(list) > 1 {
			if prev, err = endOf(l.files.Path(list[len(list)-2].First)); err != nil {
				return "", fmt.Errorf("%s: %w", l.files.Path(list[len(list)-2].First), err)
			}
		}
		prev.Seq = newest.First - 1 // what is missing before it was told of when it was begun
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		var found *finding
		last, size, err := l.chain.walk(f, prev, nil, func(w finding) bool { found = &w; return false })
		err = errors.Join(err, f.Close())
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		l.last = last
		switch {
		case found == nil:
		case size == 0 && last.Seq >= head.Seq:
			// Not even its header was written.
			if err := os.Remove(path); err != nil {
				return "", err
			}
			if l.files, err = segment.Look(l.cfg.Dir, prefix, suffix); err != nil {
				return "", err
			}
			continue
		case last.Seq >= head.Seq:
			// What follows was never acknowledged: a crash left it.
			if err := os.Truncate(path, size); err != nil {
				return "", err
			}
			l.files.Grew(size - newest.Size)
		default:
			damage = fmt.Sprintf("%s, line %d: %v", filepath.Base(path), found.line, found.err)
			// A new segment goes on behind what is there and what is gone.
			if end, err := endOf(path); err == nil {
				l.last = end
			}
			l.last.Seq = max(l.last.Seq, head.Seq)
			return damage, nil
		}
		if last.Seq >= head.Seq {
			if l.file, err = l.open(path); err != nil {
				return "", err
			}
			l.size = size
			info, err := os.Stat(path)
			if err != nil {
				return "", err
			}
			l.began = info.ModTime()
		}
		break
	}
	if l.last.Seq < head.Seq {
		damage = fmt.Sprintf("it ends with record %d, and there were %d: its end was cut off", l.last.Seq, head.Seq)
		l.last.Seq = head.Seq
	}
	return damage, nil
}

// loadKey reads the chain's key, or makes it where there is no log yet.
func loadKey(dir string, sealer Sealer, may bool) ([]byte, error) {
	path := filepath.Join(dir, keyFile)
	sealed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && may {
		key := make([]byte, 32)
		rand.Read(key) // never fails
		if sealed, err = sealer.Seal(key, sealedTo); err != nil {
			return nil, err
		}
		return key, replace(path, sealed)
	}
	if err != nil {
		return nil, err
	}
	key, err := sealer.Open(sealed, sealedTo)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// sealedTo is what the chain's key is sealed for.
var sealedTo = []byte("audit chain")

// Reseal gives visit the chain's key as it is sealed, and puts what that returns
// in its place, unless it is nil.
func (l *Log) Reseal(_ context.Context, visit func(sealed, associated []byte) ([]byte, error), _ func(context.Context) error) error {
	path := filepath.Join(l.cfg.Dir, keyFile)
	sealed, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	again, err := visit(sealed, sealedTo)
	if again == nil || err != nil {
		return err
	}
	return replace(path, again)
}

// Place is room in the log for a change that was let in. It is recorded once.
type Place struct{ l *Log }

// Admit takes room for the record of a change that is about to be made. An
// error, which is a sentence for the caller of the API, says that the change
// could not be recorded, and so must not be made.
func (l *Log) Admit() (*Place, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.failed
	if err != nil && l.cfg.Clock.Now().Sub(l.tried) >= syncEvery {
		l.poke()
	}
	if err == nil && int64(l.places+len(l.pending)+1)*maxRecord > l.room {
		err = l.reserve()
	}
	if l.closed {
		err = errors.New("the server is stopping")
	}
	if err != nil {
		l.stats.Refused++
		return nil, hearth.Errorf(hearth.Service, "Nothing can be changed now, since it could not be recorded in the audit log: %w", err)
	}
	l.places++
	return &Place{l}, nil
}

// Leave gives the place back, of a call that had nothing to record.
func (p *Place) Leave() {
	p.l.mu.Lock()
	p.l.places--
	p.l.mu.Unlock()
}

// Record writes what became of the change, and returns when that is on disk.
// One that was refused changes nothing, and is not waited for.
func (p *Place) Record(e *Event) error {
	if e.ErrorCode != "" && hearth.Kind(e.ErrorCode).Status() < 500 {
		p.Leave()
		p.l.Note(e)
		return nil
	}
	done := make(chan error, 1)
	p.l.mu.Lock()
	p.l.places--
	if p.l.closed {
		p.l.mu.Unlock()
		return errors.New("audit: the log is closed")
	}
	p.l.pending = append(p.l.pending, &entry{*e, done})
	p.l.poke()
	p.l.mu.Unlock()
	return <-done
}

// Note records a call that changed nothing. It waits for nothing. Beyond a
// rate, calls of the same kind are recorded together.
func (l *Log) Note(e *Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		l.stats.Lost++
		return
	}
	if l.folds.take(e, l.cfg.Clock.Now()) {
		l.stats.Folded++
		return
	}
	l.keep(e)
}

// keep is Note of what is recorded for itself. Called with mu held.
func (l *Log) keep(e *Event) {
	if len(l.pending) >= maxPending {
		l.stats.Lost++
		return
	}
	l.pending = append(l.pending, &entry{event: *e})
	l.poke()
}

func (l *Log) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Stats tells how the log does.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Bytes = l.files.Size()
	if l.failed != nil {
		s.Failing = l.failed.Error()
	}
	return s
}

// Close writes what is left and closes the log.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	for _, e := range l.folds.all() {
		l.keep(&e)
	}
	l.closed = true
	l.poke()
	l.mu.Unlock()
	l.stopped.Wait()
	var err error
	if l.file != nil {
		err = l.file.Close()
	}
	return errors.Join(err, l.head.Close())
}

// newID makes an event's id.
func newID() string { return uuid.NewString() }
