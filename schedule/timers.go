package schedule

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

const timersBucket = "timers"

// Fire does what is due. In one transaction it checks that it still is, writes
// what follows from it, and removes the timer or sets it anew: so whichever of
// several servers comes first fires, and no other does. An error means that
// nothing happened; it is tried again a second later.
type Fire func(ctx context.Context, name string, due time.Time) error

// TimersConfig is what Timers work with. Store and Clock are required.
type TimersConfig struct {
	Store  store.Store
	Clock  hearth.Clock
	Shared bool // other servers use the store too
	// Stopped tells whether what has a name that begins with the account is not
	// to fire for now. What is due of it then stays due, as if no server ran.
	// nil is never.
	Stopped func(account hearth.Account) bool
	Log     *slog.Logger // nil is slog.Default
}

// Timers are what is due when, in a store: an index of names by time. Safe for
// concurrent use.
type Timers struct {
	cfg    TimersConfig
	kinds  map[string]Fire
	wake   chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	loop   sync.WaitGroup
}

// NewTimers makes Timers.
func NewTimers(cfg TimersConfig) *Timers {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	t := &Timers{cfg: cfg, kinds: map[string]Fire{}, wake: make(chan struct{}, 1)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// Handle has what is due of a kind done by fire. It is called before Start.
func (t *Timers) Handle(kind string, fire Fire) { t.kinds[kind] = fire }

func timerKey(kind, name string, due time.Time) string {
	return fmt.Sprintf("%015d/%s/%s", due.UnixMilli(), kind, name)
}

// Set has something fire at due, as part of a transaction, and not at the time
// it had before; a zero time is never.
func (t *Timers) Set(tx store.Tx, kind, name string, was, due time.Time) error {
	if !was.IsZero() {
		if err := tx.Delete(timersBucket, timerKey(kind, name, was)); err != nil {
			return err
		}
	}
	if due.IsZero() {
		return nil
	}
	return tx.Put(timersBucket, timerKey(kind, name, due), []byte("1"))
}

// Wake has the Timers look at what is due next. It is called after a
// transaction with Set.
func (t *Timers) Wake() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// rest bounds how long the Timers sleep, since the clocks on walls are moved
// now and then; poll is how often a shared store is looked at for what other
// servers set.
const (
	rest = 30 * time.Second
	poll = time.Second
)

// Start begins to fire.
func (t *Timers) Start() {
	t.loop.Go(func() {
		for t.ctx.Err() == nil {
			wait := t.round()
			if t.cfg.Shared {
				wait = min(wait, poll)
			}
			timer := t.cfg.Clock.AfterFunc(min(max(wait, 0), rest), t.Wake)
			select {
			case <-t.wake:
			case <-t.ctx.Done():
			}
			timer.Stop()
		}
	})
}

// Stop ends it, and returns when nothing fires any more.
func (t *Timers) Stop() {
	t.cancel()
	t.loop.Wait()
}

type timer struct {
	key, kind, name string
	due             time.Time
}

func timerOf(key string) (tm timer, ok bool) {
	parts := strings.SplitN(key, "/", 3)
	if len(parts) != 3 {
		return tm, false
	}
	ms, err := strconv.ParseInt(parts[0], 10, 64)
	return timer{key, parts[1], parts[2], time.UnixMilli(ms).UTC()}, err == nil
}

// atOnce is how many timers fire at a time. Their transactions then share the
// disk's flush.
const atOnce = 16

// round fires what is due, and returns how long it is until more is.
func (t *Timers) round() time.Duration {
	now := t.cfg.Clock.Now()
	var due []timer
	wait := rest
	err := t.cfg.Store.View(t.ctx, func(r store.Reader) error {
		due, wait = nil, rest
		for rec, err := range r.Scan(timersBucket, "", "") {
			if err != nil {
				return err
			}
			tm, ok := timerOf(rec.Key)
			if !ok {
				t.cfg.Log.Error("a timer can't be read", "key", rec.Key)
				continue
			}
			if tm.due.After(now) {
				wait = tm.due.Sub(now)
				return nil
			}
			if account, _, _ := strings.Cut(tm.name, "/"); t.cfg.Stopped != nil && t.cfg.Stopped(hearth.Account(account)) {
				continue
			}
			if due = append(due, tm); len(due) == atOnce*16 {
				wait = 0
				return nil
			}
		}
		return nil
	})
	if err != nil {
		t.complain("timers could not be read; it will be tried again", err)
		return time.Second
	}
	var failed atomic.Bool
	var wg sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for _, tm := range due {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if err := t.fire(tm); err != nil {
				t.complain("what was due could not be done; it will be tried again", err, "kind", tm.kind, "name", tm.name)
				failed.Store(true)
			}
		})
	}
	wg.Wait()
	if failed.Load() {
		return time.Second
	}
	return wait
}

func (t *Timers) fire(tm timer) error {
	fire := t.kinds[tm.kind]
	if fire == nil { // of a newer version: it may come back
		return fmt.Errorf("nothing here fires a %s", tm.kind)
	}
	return fire(t.ctx, tm.name, tm.due)
}

func (t *Timers) complain(what string, err error, args ...any) {
	if t.ctx.Err() == nil {
		t.cfg.Log.Error(what, append([]any{"error", err}, args...)...)
	}
}

// CatchUp is what becomes of times at which no server ran.
type CatchUp string

// What becomes of missed times: none is made up for, the last is, or all are,
// but for the oldest beyond MaxMissed.
const (
	Skip CatchUp = "skip"
	Last CatchUp = "last"
	All  CatchUp = "all"
)

// MaxMissed bounds how many missed times of one schedule are made up for.
const MaxMissed = 100

// late is how much after its time something still counts as fired in time.
const late = time.Minute

// Due returns the times, the oldest first, that are to be fired at now of an
// expression that was due first, and when it is due next; next is zero if it is
// not. Times after end are not; a zero end is never. What was due within the
// last minute is in time, and no matter for the CatchUp.
func (e *Expression) Due(first, now, base, end time.Time, c CatchUp) (fire []time.Time, next time.Time) {
	last := now
	if !end.IsZero() && end.Before(last) {
		last = end
	}
	if c == All {
		fire = e.latest(first, last, base, MaxMissed)
	} else {
		from, ok := first, true
		if cut := now.Add(-late); first.Before(cut) {
			from, ok = e.Next(cut.Add(-1), base)
		}
		for ; ok && !from.After(last); from, ok = e.Next(from, base) {
			fire = append(fire, from)
		}
		if len(fire) == 0 && c == Last {
			fire = e.latest(first, last, base, 1)
		}
	}
	if t, ok := e.Next(now, base); ok && (end.IsZero() || !t.After(end)) {
		next = t.UTC()
	}
	return fire, next
}

// latest returns the last n times from first, which is one, to last. It looks
// back a little first, so that years of minutes are not walked through.
func (e *Expression) latest(first, last, base time.Time, n int) []time.Time {
	if first.After(last) {
		return nil
	}
	for _, back := range []time.Duration{time.Hour, 24 * time.Hour, 31 * 24 * time.Hour, 366 * 24 * time.Hour, 1 << 62} {
		from := first
		if since := last.Add(-back); since.After(first) && back < 1<<62 {
			from = since
		}
		var times []time.Time
		for t, ok := from, true; ok && !t.After(last); t, ok = e.Next(t, base) {
			if t.Equal(from) && !from.Equal(first) {
				continue // from itself may be none
			}
			if times = append(times, t); len(times) > n {
				times = times[1:]
			}
		}
		if len(times) == n || from.Equal(first) {
			return times
		}
	}
	return nil
}
