package delivery

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// Target brings deliveries to targets of one service.
type Target interface {
	// Deliver brings d to its target. Where that is kept in the same store, it
	// calls settle in the transaction that accepts d there, and returns true;
	// an error of settle must undo the transaction. An error says that d may
	// not have arrived.
	Deliver(ctx context.Context, d *Delivery, settle func(store.Tx) error) (settled bool, err error)
}

// Config is what a Queue works with. Store, Clock and Targets are required.
type Config struct {
	Store store.Store
	Clock hearth.Clock
	// Targets are by the service that stands in their ARN, such as lambda.
	Targets map[string]Target
	// Shared tells that other servers use the store too. Else what a killed
	// predecessor had claimed is taken up at once.
	Shared bool
	// Stopped tells of accounts of whose deliveries none is made for now; Resume
	// lets them go on. nil is that there are none.
	Stopped func(account hearth.Account) bool
	Places  int // how many are delivered at a time; 0 is 32
	// Lease is how long a server has for an attempt, of which the attempt may
	// take half; 0 is 20 s.
	Lease time.Duration
	// Pause is before the first retry; each further one waits twice as long, up
	// to five minutes. 0 is a second.
	Pause time.Duration
	// ParkFor is how long a parked delivery is kept; 0 is 14 days.
	ParkFor  time.Duration
	Recorder hearth.Recorder // nil: decisions are not recorded
	Log      *slog.Logger    // nil is slog.Default
}

// Queue delivers. Safe for concurrent use.
type Queue struct {
	cfg    Config
	wake   chan struct{}
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	running int
	by      map[string]int       // at work, by target
	turns   map[string]time.Time // the last that were given, by target
	counts  Counts
	held    bool
	work    sync.WaitGroup // Add is called under mu and not once held
	loop    sync.WaitGroup
	rounds  uint64 // the loop's own
}

// Counts tell what has become of deliveries since the start.
type Counts struct {
	Delivered, Retried, Dead, Parked uint64
	Running                          int // now
}

// poll is how often a shared store is looked at for what other servers left.
const poll = time.Second

// rest bounds how long a Queue sleeps, since the clocks on walls may be moved.
const rest = time.Minute

// longestPause bounds how long a delivery waits for a retry.
const longestPause = 5 * time.Minute

// New makes a Queue. Nothing is delivered before Start.
func New(cfg Config) *Queue {
	cfg.Places = cmp.Or(cfg.Places, 32)
	cfg.Lease = cmp.Or(cfg.Lease, 20*time.Second)
	cfg.Pause = cmp.Or(cfg.Pause, time.Second)
	cfg.ParkFor = cmp.Or(cfg.ParkFor, 14*24*time.Hour)
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	q := &Queue{cfg: cfg, wake: make(chan struct{}, 1), by: map[string]int{}, turns: map[string]time.Time{}}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	return q
}

// Start begins to deliver.
func (q *Queue) Start() {
	q.loop.Go(func() {
		if !q.cfg.Shared {
			q.reclaim()
		}
		q.resumeAll()
		var swept time.Time
		for q.ctx.Err() == nil {
			if now := q.cfg.Clock.Now(); now.Sub(swept) >= time.Hour {
				swept = now
				q.sweep(now)
			}
			q.sleep(q.round())
		}
	})
}

// Wake has the Queue look for what is due.
func (q *Queue) Wake() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Hold begins no further delivery.
func (q *Queue) Hold() {
	q.mu.Lock()
	q.held = true
	q.mu.Unlock()
}

// Stop holds and returns when what is under way has ended, or, when ctx ends,
// after having given it up: it is delivered by the next start.
func (q *Queue) Stop(ctx context.Context) {
	q.Hold()
	ended := make(chan struct{})
	go func() {
		q.work.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	q.cancel()
	q.work.Wait()
	q.loop.Wait()
}

// Counts returns what became of deliveries.
func (q *Queue) Counts() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.counts
	c.Running = q.running
	return c
}

func (q *Queue) sleep(d time.Duration) {
	if q.cfg.Shared {
		d = min(d, poll)
	}
	t := q.cfg.Clock.AfterFunc(min(max(d, 0), rest), q.Wake)
	defer t.Stop()
	select {
	case <-q.wake:
	case <-q.ctx.Done():
	}
}

// look is how many due deliveries of a line a round looks at, to find some
// whose target is not busy.
const look = 1024

// round claims what is due and there is place for, has it delivered, and
// returns how long it is until more is due.
func (q *Queue) round() time.Duration {
	q.mu.Lock()
	free := q.cfg.Places - q.running
	busy := maps.Clone(q.by)
	held := q.held
	q.mu.Unlock()
	if free == 0 || held {
		return rest // whatever ends wakes
	}
	// No target takes all places, so that one which is slow leaves room.
	most := max(q.cfg.Places/4, 1)
	// Neither line keeps the other waiting: they come first by turns, and then
	// get no more than half of the places.
	lines := [2]string{later, ready}
	if q.rounds++; q.rounds%2 == 1 {
		lines = [2]string{ready, later}
	}
	now := q.cfg.Clock.Now()
	var found, stopped []*Delivery
	wait := rest
	err := q.cfg.Store.View(q.ctx, func(r store.Reader) error {
		found, stopped, wait = nil, nil, rest
		// take takes at most max of a line's whose targets are not busy, until
		// one of them is not due.
		take := func(line string, max int) error {
			seen := 0
			for rec, err := range r.Scan(bucket, line, "") {
				if err != nil {
					return err
				}
				if due, ok := dueOf(rec.Key); ok && line == later && due.After(now) {
					wait = due.Sub(now)
					return nil
				}
				if len(stopped) == aside {
					wait = 0
					return nil
				}
				d, err := decode(rec.Key, rec.Value)
				if err != nil { // the others can still be delivered
					q.cfg.Log.Error("a delivery can't be read", "error", err)
					continue
				}
				if q.cfg.Stopped != nil && q.cfg.Stopped(d.Account) {
					stopped = append(stopped, d)
					continue
				}
				if busy[d.Target] < most {
					busy[d.Target]++
					found = append(found, d)
				}
				if seen++; len(found) >= max || seen == look {
					return nil
				}
			}
			return nil
		}
		if err := take(lines[0], (free+1)/2); err != nil {
			return err
		}
		return take(lines[1], free)
	})
	if err == nil && len(stopped) > 0 {
		err = q.putAside(stopped)
	}
	if err == nil && len(found) > 0 {
		found, err = q.claim(found, now)
	}
	if err != nil {
		if q.ctx.Err() == nil {
			q.cfg.Log.Error("deliveries could not be read; it will be tried again", "error", err)
		}
		return time.Second
	}
	for _, d := range found {
		q.begin(d)
	}
	return wait
}

// claim moves deliveries to keys that are this server's, and returns those
// that nobody else had.
func (q *Queue) claim(ds []*Delivery, now time.Time) (mine []*Delivery, err error) {
	until := now.Add(q.cfg.Lease)
	err = q.cfg.Store.Update(q.ctx, func(tx store.Tx) error {
		mine = nil
		for _, d := range ds {
			if _, ok, err := tx.Get(bucket, d.key); err != nil || !ok {
				if err != nil {
					return err
				}
				continue
			}
			c := *d
			c.Claimed = true
			c.key = keyOf(later, until, d.ID)
			if err := replace(tx, d.key, &c); err != nil {
				return err
			}
			mine = append(mine, &c)
		}
		return nil
	})
	return mine, err
}

// replace puts d where its key says instead of at old.
func replace(tx store.Tx, old string, d *Delivery) error {
	data, err := d.encode()
	if err != nil {
		return err
	}
	if err := tx.Delete(bucket, old); err != nil {
		return err
	}
	return tx.Put(bucket, d.key, data)
}

// reclaim makes due what a predecessor had claimed.
func (q *Queue) reclaim() {
	now := q.cfg.Clock.Now()
	var left []*Delivery
	err := q.cfg.Store.View(q.ctx, func(r store.Reader) error {
		left = nil
		for rec, err := range r.Scan(bucket, later, keyOf(later, now, "")) {
			if err != nil {
				return err
			}
			d, err := decode(rec.Key, rec.Value)
			if err != nil {
				return err
			}
			if d.Claimed { // no more than a predecessor had places
				left = append(left, d)
			}
		}
		return nil
	})
	if err == nil && len(left) > 0 {
		err = q.cfg.Store.Update(q.ctx, func(tx store.Tx) error {
			for _, d := range left {
				c := *d
				c.Claimed, c.key = false, keyOf(later, now, d.ID)
				if err := replace(tx, d.key, &c); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil && q.ctx.Err() == nil {
		q.cfg.Log.Warn("what was being delivered when the server stopped is delivered when its lease ends", "error", err)
	}
}

// begin delivers d in a goroutine of its own.
func (q *Queue) begin(d *Delivery) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held {
		return // its lease ends, or the next start takes it up
	}
	q.running++
	q.by[d.Target]++
	q.work.Go(func() {
		c := q.attempt(d)
		q.mu.Lock()
		defer q.mu.Unlock()
		q.running--
		if q.by[d.Target]--; q.by[d.Target] == 0 {
			delete(q.by, d.Target)
		}
		q.counts.Delivered += c.Delivered
		q.counts.Retried += c.Retried
		q.counts.Dead += c.Dead
		q.counts.Parked += c.Parked
		q.Wake()
	})
}

// attempt delivers d once and writes down what came of it.
func (q *Queue) attempt(d *Delivery) (c Counts) {
	settle := func(tx store.Tx) error {
		_, ok, err := tx.Get(bucket, d.key)
		if err == nil && !ok {
			err = ErrLost
		}
		if err != nil {
			return err
		}
		return tx.Delete(bucket, d.key)
	}
	ctx, cancel := context.WithTimeout(q.ctx, q.cfg.Lease/2)
	defer cancel()
	settled, err := q.deliver(ctx, d, settle)
	switch {
	case errors.Is(err, ErrLost), q.ctx.Err() != nil:
		return c
	case err != nil:
		return q.failed(d, err, settle)
	case !settled:
		err = q.cfg.Store.Update(ctx, settle)
	}
	if err != nil {
		if !errors.Is(err, ErrLost) {
			q.cfg.Log.Error("a delivery arrived and could not be removed: it will arrive again", "origin", d.Origin, "target", d.Target, "error", err)
		}
		return c
	}
	c.Delivered++
	return c
}

func (q *Queue) deliver(ctx context.Context, d *Delivery, settle func(store.Tx) error) (bool, error) {
	service := ""
	if parts := strings.SplitN(d.Target, ":", 4); len(parts) == 4 {
		service = parts[2]
	}
	t := q.cfg.Targets[service]
	if t == nil {
		return false, hearth.Errorf(hearth.InvalidParameter, "nothing here delivers to %s", d.Target)
	}
	return t.Deliver(ctx, d, settle)
}

// failed writes down that an attempt failed, and what follows from it.
func (q *Queue) failed(d *Delivery, cause error, settle func(store.Tx) error) (c Counts) {
	now := q.cfg.Clock.Now().UTC().Round(0)
	next := *d
	next.Claimed = false
	next.Attempts++
	pause := min(q.cfg.Pause<<min(next.Attempts-1, 20), longestPause)
	pause = pause/2 + rand.N(pause/2+1)
	condition := ""
	switch {
	case final(cause):
		condition = "Final"
	case next.Attempts > d.Policy.MaxRetries:
		condition = "MaximumRetryAttempts"
	case now.Add(pause).Sub(d.Due) > d.Policy.MaxAge:
		condition = "MaximumEventAgeInSeconds"
	}
	chosen := "retry"
	switch {
	case condition == "":
		c.Retried++
	case !d.Dead && d.Policy.DeadLetter != "":
		chosen = "dead letter"
		c.Dead++
		next = *d
		next.Claimed, next.Dead, next.Attempts, next.Due = false, true, 0, now
		next.Letter = letter(d, cause, condition)
		next.Target, next.Policy = d.Policy.DeadLetter, DefaultPolicy
		pause = 0
	default:
		chosen = "park"
		c.Parked++
		next.Parked, next.Why = now, cause.Error()
	}
	next.key = keyOf(later, now.Add(pause), d.ID)
	err := q.cfg.Store.Update(q.ctx, func(tx store.Tx) error {
		if err := settle(tx); err != nil {
			return err
		}
		data, err := next.encode()
		if err != nil {
			return err
		}
		if chosen == "park" {
			return tx.Put(parkedBucket, d.ID, data)
		}
		return tx.Put(bucket, next.key, data)
	})
	if err != nil {
		if !errors.Is(err, ErrLost) && q.ctx.Err() == nil {
			q.cfg.Log.Error("the outcome of a delivery could not be stored: it will be tried again", "origin", d.Origin, "target", d.Target, "error", err)
		}
		return Counts{}
	}
	if chosen != "retry" {
		q.cfg.Log.Warn("a delivery was given up", "origin", d.Origin, "target", d.Target, "attempts", next.Attempts, "now", chosen, "error", cause)
	}
	if q.cfg.Recorder != nil {
		q.cfg.Recorder.Record(&hearth.Decision{
			Kind: hearth.DecisionEvent, RequestID: d.ID, Account: d.Account, Chosen: chosen, Outcome: string(hearth.KindOf(cause)),
			Why: "what " + d.Origin + " has for " + d.Target + " could not be delivered: " + cause.Error(),
		})
	}
	return c
}

// final tells errors that no further attempt can mend.
func final(err error) bool {
	e, ok := errors.AsType[*hearth.Error](err)
	if !ok {
		return false
	}
	switch e.Kind {
	case hearth.TooManyRequests, hearth.Conflict, hearth.NotReady, hearth.Canceled:
		return false
	}
	return e.Kind.Status() < 500
}

// longestError bounds what a dead letter tells of an error, in bytes: it counts
// in the message's size.
const longestError = 1024

// letter is what a dead letter tells, as the service has it.
func letter(d *Delivery, cause error, condition string) map[string]string {
	m := map[string]string{
		"TARGET_ARN": d.Target, "ERROR_CODE": string(hearth.KindOf(cause)), "ERROR_MESSAGE": cause.Error(),
		"RETRY_ATTEMPTS": "0",
	}
	if e, ok := errors.AsType[*hearth.Error](cause); ok && e.Message != "" {
		m["ERROR_MESSAGE"] = e.Message
	}
	if text := m["ERROR_MESSAGE"]; len(text) > longestError {
		m["ERROR_MESSAGE"] = strings.ToValidUTF8(text[:longestError], "") + "…"
	}
	if condition != "Final" {
		m["EXHAUSTED_RETRY_CONDITION"] = condition
	}
	if d.Attempts > 0 {
		m["RETRY_ATTEMPTS"] = strconv.Itoa(d.Attempts)
	}
	maps.Copy(m, d.Letter)
	return m
}

// Settle delivers what is due now, in place of a Start, and returns when it is
// done: for tests.
func (q *Queue) Settle() {
	q.round()
	q.work.Wait()
}
