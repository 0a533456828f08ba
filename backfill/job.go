package backfill

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// The statuses of jobs.
const (
	Running   = "running"
	Cancelled = "cancelled"
	Failed    = "failed" // its source could not be listed, or a store is broken
	Finished  = "finished"
)

// Spec is what a job is to do.
type Spec struct {
	Source   string  `json:"source"`          // see OpenSource
	Query    string  `json:"query,omitempty"` // of a database
	Key      string  `json:"key,omitempty"`   // the query's column that is an item's id; "" is the first
	Function string  `json:"function"`        // a name, with a qualifier or without
	Batch    int     `json:"batch"`           // items a call at most; 0 is 1
	Parallel int     `json:"parallel"`        // calls at a time at most; 0 is 10
	Rate     float64 `json:"rate,omitempty"`  // items a second at most; 0 is any
	Attempts int     `json:"attempts"`        // calls that may fail before an item is reported; 0 is 3
	// Within has the source followed while it grows: what was modified since the
	// job began is done within so many seconds, before the rest. 0 is not.
	// Modified is the query's column that says when.
	Within   float64 `json:"within,omitempty"`
	Modified string  `json:"modified,omitempty"`
	Order    *Order  `json:"order,omitempty"` // which items wait for others; nil is none
}

// Status is a job and how far it is.
type Status struct {
	ID        string         `json:"id"`
	Account   hearth.Account `json:"-"`
	Spec      Spec           `json:"spec"`
	Status    string         `json:"status"`
	Why       string         `json:"why,omitempty"` // it failed
	Started   time.Time      `json:"started"`
	Ended     time.Time      `json:"ended,omitzero"`
	Found     int            `json:"found"`     // different items
	Repeated  int            `json:"repeated"`  // items that were listed again
	Succeeded int            `json:"succeeded"` // items
	Failed    int            `json:"failed"`    // items that were given up
	Retried   int            `json:"retried"`   // calls that were made again
	Throttled int            `json:"throttled"` // calls that were refused for now
	InProcess int            `json:"inProcess"`
	Pass      int            `json:"pass"` // of the listing; the first is 1
	Listed    bool           `json:"listed"`
	// PerSecond is how many items are done a second of late, Left how many
	// seconds those that were found take at that; both are absent if nothing
	// is known.
	PerSecond float64 `json:"perSecond,omitempty"`
	Left      float64 `json:"left,omitempty"`
	New       *New    `json:"new,omitempty"`     // of a job with Within
	Ordered   *Plan   `json:"ordered,omitempty"` // of a job with Order, once all is found
}

// record is a job on disk. What counts items is written with them.
type record struct {
	Account  hearth.Account `json:"account"`
	Position string         `json:"position"`
	Fresh    int            `json:"fresh"` // that this pass has found
	Status
}

// stored is an item of the in-process cache on disk.
type stored struct {
	ID       string          `json:"id"`
	Value    json.RawMessage `json:"value"`
	Attempts int             `json:"attempts,omitempty"`
	Modified int64           `json:"modified,omitempty"` // in milliseconds since 1970; 0 is not said
}

// item is an item in process.
type item struct {
	stored
	hash hash
	new  bool // not of the backlog; see New
}

// Failure is an item that was given up.
type Failure struct {
	ID       string          `json:"id"`
	Value    json.RawMessage `json:"value"`
	Attempts int             `json:"attempts"`
	Error    string          `json:"error"`
}

// job runs. Its lock is not held over the store, the source or a call.
type job struct {
	jobs   *Jobs
	source Source

	mu       sync.Mutex
	cond     *sync.Cond // something below has changed
	rec      record
	inside   map[hash]*item // in process, and read
	ready    []*item        // of the backlog
	fresh    []*item        // the new ones that are ready
	news     int            // of inside
	turn     int            // counts calls, so that neither has all
	follow   *follow        // nil without Within
	order    *order         // nil without Order
	running  int            // calls
	recent   map[hash]bool  // done, and not in a file yet
	results  *results
	stopped  bool
	why      error
	backoff  time.Duration // while calls are throttled
	until    time.Time     // no call begins before
	done     []sample
	limit    *rate.Limiter
	ctx      context.Context
	cancel   context.CancelFunc
	atWork   sync.WaitGroup
	flushing sync.RWMutex // results: reading and adding
	finding  sync.Mutex   // one page at a time is taken in
}

// sample is how many items were done at a time.
type sample struct {
	at   time.Time
	done int
}

// The buckets. The keys of all but the first begin with the job.
const (
	jobsBucket   = "backfill.jobs"
	itemsBucket  = "backfill.items"
	recentBucket = "backfill.done"
	failedBucket = "backfill.failed"
)

// recentMost is how many hashes are kept in memory and in the store before
// they go into a file.
const recentMost = 1 << 16

func (j *job) key(h hash) string { return fmt.Sprintf("%s/%x", j.rec.ID, h[:]) }

// window is how many items are in process at most.
func (s *Spec) window() int { return max(4*s.Batch*s.Parallel, 256) }

// run works until everything is done or the job is stopped.
func (j *job) run() {
	var workers, watcher sync.WaitGroup
	for range j.rec.Spec.Parallel {
		workers.Go(j.work)
	}
	if j.follow != nil {
		watcher.Go(j.watch)
	}
	err := j.retrieve()
	if err == nil && j.order != nil {
		err = j.feed()
	}
	j.mu.Lock()
	for err == nil && j.why == nil && !j.stopped && !j.over() {
		if j.follow != nil { // the demarcation moved: there is more to list
			j.mu.Unlock()
			err = j.retrieve()
			j.mu.Lock()
			continue
		}
		j.cond.Wait()
	}
	err = errors.Join(err, j.why)
	interrupted := j.ctx.Err() != nil || j.stopped
	j.stopped = true
	j.cond.Broadcast()
	j.mu.Unlock()
	workers.Wait()
	j.cancel()
	watcher.Wait()
	j.mu.Lock()
	switch {
	case interrupted: // the next start goes on, unless it was cancelled
	case err != nil:
		j.rec.Status.Status, j.rec.Why = Failed, err.Error()
		j.rec.Ended = j.jobs.cfg.Clock.Now().UTC()
	default:
		j.rec.Status.Status = Finished
		j.rec.Ended = j.jobs.cfg.Clock.Now().UTC()
	}
	j.mu.Unlock()
	if err := j.write(nil, nil); err != nil {
		j.jobs.cfg.Log.Warn("a backfill's state could not be stored", "backfill", j.rec.ID, "error", err)
	}
	err = errors.Join(j.source.Close(), j.results.close())
	if j.follow != nil {
		err = errors.Join(err, j.follow.source.Close())
	}
	if err != nil {
		j.jobs.cfg.Log.Warn("closing a backfill", "backfill", j.rec.ID, "error", err)
	}
}

// over tells that there is nothing left to do. j.mu is held.
func (j *job) over() bool {
	return len(j.inside) == 0 && (j.follow == nil || j.rec.Listed && j.follow.quiet)
}

// write has the record, and what else is to be, on disk in one transaction.
// change is of the record in that transaction alone: what another transaction
// must not have before this one is on disk, as it would be the truth without the
// rest. It is called with j.mu held, and may be called again.
func (j *job) write(change func(*record), more func(tx store.Tx) error) error {
	return j.jobs.cfg.Store.Update(context.Background(), func(tx store.Tx) error {
		if more != nil {
			if err := more(tx); err != nil {
				return err
			}
		}
		j.mu.Lock()
		rec := j.rec
		if change != nil {
			change(&rec)
		}
		b, err := json.Marshal(rec)
		j.mu.Unlock()
		if err != nil {
			return err
		}
		return tx.Put(jobsBucket, j.rec.ID, b)
	})
}

// page is how many items are listed at a time.
const page = 1000

// triesOfListing is how often a page is asked for before the job fails.
const triesOfListing = 6

// list asks a source for a page, again if it can't answer for now.
func (j *job) list(s Source, position string) (items []Item, next string, err error) {
	for n := range triesOfListing {
		items, next, err = s.Page(j.ctx, position, page)
		if err == nil || j.ctx.Err() != nil || isOf[*recordError](err) {
			break
		}
		if k := hearth.KindOf(err); k == hearth.InvalidParameter || k == hearth.AccessDenied || k == hearth.NotFound {
			break
		}
		if n == triesOfListing-1 {
			break
		}
		j.jobs.cfg.Log.Warn("a backfill's source can't be listed for now", "backfill", j.rec.ID, "error", err)
		j.rest(j.jobs.retryAfter(n))
	}
	if err != nil && j.ctx.Err() == nil {
		return nil, "", fmt.Errorf("listing %s: %w", j.rec.Spec.Source, err)
	}
	return items, next, err
}

// rest waits, or until the job is stopped.
func (j *job) rest(d time.Duration) {
	over := make(chan struct{})
	stop := j.jobs.cfg.Clock.AfterFunc(d, func() { close(over) })
	select {
	case <-over:
	case <-j.ctx.Done():
		stop.Stop()
	}
}

// retrieve lists the source whenever few items are in process, until a whole
// pass has found nothing new. Items that wait for others are not in memory, and
// all of them are found before any is done.
func (j *job) retrieve() error {
	for {
		j.mu.Lock()
		for !j.stopped && j.why == nil && (j.enough() || j.follow != nil && j.rec.Listed && !j.over()) {
			j.cond.Wait()
		}
		position, over := j.rec.Position, j.rec.Listed || j.stopped || j.why != nil
		j.mu.Unlock()
		if over {
			return nil
		}
		items, next, err := j.list(j.source, position)
		if err != nil {
			if j.ctx.Err() != nil {
				return nil
			}
			return err
		}
		if _, err := j.found(items, &next, 0); err != nil {
			return err
		}
	}
}

// enough tells that more need not be in process yet. j.mu is held.
func (j *job) enough() bool {
	w := j.rec.Spec.window()
	return j.order == nil && (len(j.inside)-j.news > w/2 || j.news > w)
}

// wake has those look again who wait for something of the job.
func (j *job) wake() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.cond.Broadcast()
}

// found takes in a page: what is in neither cache comes into the first, with
// the position after it. Without a position it is a page of the new items, of
// which at most room are taken in; left are how many would have been.
func (j *job) found(items []Item, next *string, room int) (left int, err error) {
	j.finding.Lock()
	defer j.finding.Unlock()
	var fresh []*item
	seen := map[hash]bool{}
	repeated := 0
	for _, it := range items {
		h := hashOf(it.ID)
		known, err := j.known(h)
		if err != nil {
			return 0, err
		}
		switch {
		case known || seen[h]:
			repeated++
			continue
		case next == nil && len(fresh) == room:
			left++
			continue
		}
		seen[h] = true
		one := &item{stored: stored{ID: it.ID, Value: it.Value}, hash: h}
		if !it.Modified.IsZero() {
			one.Modified = it.Modified.UnixMilli()
		}
		fresh = append(fresh, one)
	}
	if next == nil && len(fresh) == 0 {
		return left, nil // there is nothing to write down
	}
	if j.order != nil {
		if err := j.order.add(fresh); err != nil {
			return 0, err
		}
	}
	j.mu.Lock()
	news := 0
	if j.follow != nil {
		for _, it := range fresh {
			if it.new = it.Modified >= j.rec.New.Since.UnixMilli(); it.new {
				news++
			}
		}
		j.news += news
		j.rec.New.Found += news
	}
	j.rec.Found += len(fresh)
	if next != nil {
		j.rec.Repeated += repeated
	}
	if j.order == nil {
		// In process before it is on disk: known is asked by one at a time.
		for _, it := range fresh {
			j.inside[it.hash] = it
		}
	}
	j.mu.Unlock()
	// The position is never on disk before what was listed up to it: not either
	// by the transaction of a call that ends meanwhile.
	advance := func(rec *record) {
		if next == nil {
			return
		}
		rec.Fresh += len(fresh) - news
		if rec.Position = *next; *next == "" {
			if rec.Listed = j.source.Steady() || rec.Fresh == 0; !rec.Listed {
				rec.Pass++
				rec.Fresh = 0
			}
		}
	}
	err = j.write(advance, func(tx store.Tx) error {
		for _, it := range fresh {
			b, err := json.Marshal(it.stored)
			if err != nil {
				return err
			}
			if err := tx.Put(itemsBucket, j.key(it.hash), b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	advance(&j.rec)
	if j.order == nil {
		j.push(fresh...)
	}
	return left, nil
}

// push has items taken by the next calls. j.mu is held.
func (j *job) push(items ...*item) {
	for _, it := range items {
		if it.new {
			j.fresh = append(j.fresh, it)
		} else {
			j.ready = append(j.ready, it)
		}
	}
	j.cond.Broadcast()
}

// known tells whether an item is in one of the caches.
func (j *job) known(h hash) (bool, error) {
	j.mu.Lock()
	known := j.inside[h] != nil || j.order != nil && j.order.has(h)
	j.mu.Unlock()
	if known {
		return true, nil
	}
	return j.settledBefore(h)
}

// settledBefore tells whether an item is done, or was given up.
func (j *job) settledBefore(h hash) (bool, error) {
	j.mu.Lock()
	recent := j.recent[h]
	j.mu.Unlock()
	if recent {
		return true, nil
	}
	j.flushing.RLock()
	defer j.flushing.RUnlock()
	if ok, err := j.results.has(h); ok || err != nil {
		return ok, err
	}
	// It may have gone from memory to a file in between.
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.recent[h], nil
}

// load reads what is in process and what was done of late.
func (j *job) load(r store.Reader) error {
	for rec, err := range r.Scan(recentBucket, j.rec.ID+"/", "") {
		if err != nil {
			return err
		}
		h, err := parseHash(rec.Key[len(j.rec.ID)+1:])
		if err != nil {
			return err
		}
		if ok, err := j.results.has(h); err != nil {
			return err
		} else if !ok { // else a kill came while it went into a file
			j.recent[h] = true
		}
	}
	again := 0 // items that are done and tried again
	waiting := 0
	for rec, err := range r.Scan(itemsBucket, j.rec.ID+"/", "") {
		if err != nil {
			return err
		}
		h, err := parseHash(rec.Key[len(j.rec.ID)+1:])
		if err != nil {
			return err
		}
		it := &item{hash: h}
		if err := json.Unmarshal(rec.Value, &it.stored); err != nil {
			return fmt.Errorf("the item %s is damaged: %w", rec.Key, err)
		}
		if done, err := j.results.has(h); err != nil {
			return err
		} else if done || j.recent[h] {
			again++
		}
		waiting++
		if j.order != nil {
			if err := j.order.add([]*item{it}); err != nil {
				return err
			}
			continue
		}
		if j.follow != nil && it.Modified >= j.rec.New.Since.UnixMilli() {
			it.new = true
			j.news++
		}
		j.inside[h] = it
		j.push(it)
	}
	failed := 0
	for _, err := range r.Scan(failedBucket, j.rec.ID+"/", "") {
		if err != nil {
			return err
		}
		failed++
	}
	// Counted anew: what was counted when a kill came may not have been stored.
	j.rec.Failed = failed
	j.rec.Succeeded = j.results.count() + len(j.recent) - failed - again
	j.rec.Found = j.rec.Succeeded + failed + waiting
	return nil
}

func parseHash(text string) (h hash, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != hashSize {
		return h, fmt.Errorf("%q is no hash", text)
	}
	return hash(b), nil
}

// status is the job as it is now. j.mu is held.
func (j *job) status() Status {
	s := j.rec.Status
	s.InProcess = s.Found - s.Succeeded - s.Failed
	if s.PerSecond = j.pace(); s.PerSecond > 0 && s.Listed {
		s.Left = float64(s.InProcess) / s.PerSecond
	}
	if s.New != nil {
		n := *s.New
		n.InProcess = j.news
		s.New = &n
	}
	return s
}

// pace is how many items are done a second of late; 0 is not known. j.mu is
// held.
func (j *job) pace() float64 {
	if len(j.done) == 0 || j.rec.Status.Status != Running {
		return 0
	}
	d := j.jobs.cfg.Clock.Now().Sub(j.done[0].at)
	if d <= 0 {
		return 0
	}
	return float64(j.rec.Succeeded+j.rec.Failed-j.done[0].done) / d.Seconds()
}
