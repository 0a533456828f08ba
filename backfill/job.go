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
	Function string  `json:"function"`        // a name, with a qualifier or without
	Batch    int     `json:"batch"`           // items a call at most; 0 is 1
	Parallel int     `json:"parallel"`        // calls at a time at most; 0 is 10
	Rate     float64 `json:"rate,omitempty"`  // items a second at most; 0 is any
	Attempts int     `json:"attempts"`        // calls that may fail before an item is reported; 0 is 3
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
}

// record is a job on disk. What counts items is written with them.
type record struct {
	Account  hearth.Account `json:"account"`
	Position string         `json:"position"`
	New      int            `json:"new"` // that this pass has found
	Status
}

// stored is an item of the in-process cache on disk.
type stored struct {
	ID       string          `json:"id"`
	Value    json.RawMessage `json:"value"`
	Attempts int             `json:"attempts,omitempty"`
}

// item is an item in process.
type item struct {
	stored
	hash hash
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
	inside   map[hash]*item // in process
	ready    []*item
	running  int           // calls
	recent   map[hash]bool // done, and not in a file yet
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
	var workers sync.WaitGroup
	for range j.rec.Spec.Parallel {
		workers.Go(j.work)
	}
	err := j.retrieve()
	j.mu.Lock()
	for err == nil && j.why == nil && !j.stopped && len(j.inside) > 0 {
		j.cond.Wait()
	}
	err = errors.Join(err, j.why)
	interrupted := j.ctx.Err() != nil || j.stopped
	j.stopped = true
	j.cond.Broadcast()
	j.mu.Unlock()
	workers.Wait()
	j.cancel()
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
	if err := j.write(nil); err != nil {
		j.jobs.cfg.Log.Warn("a backfill's state could not be stored", "backfill", j.rec.ID, "error", err)
	}
	if err := errors.Join(j.source.Close(), j.results.close()); err != nil {
		j.jobs.cfg.Log.Warn("closing a backfill", "backfill", j.rec.ID, "error", err)
	}
}

// write has the record, and what else is to be, on disk in one transaction.
func (j *job) write(more func(tx store.Tx) error) error {
	return j.jobs.cfg.Store.Update(context.Background(), func(tx store.Tx) error {
		if more != nil {
			if err := more(tx); err != nil {
				return err
			}
		}
		j.mu.Lock()
		b, err := json.Marshal(j.rec)
		j.mu.Unlock()
		if err != nil {
			return err
		}
		return tx.Put(jobsBucket, j.rec.ID, b)
	})
}

// page is how many items are listed at a time.
const page = 256

// retrieve lists the source whenever few items are in process, until a whole
// pass has found nothing new.
func (j *job) retrieve() error {
	for {
		j.mu.Lock()
		for !j.stopped && j.why == nil && len(j.inside) > j.rec.Spec.window()/2 {
			j.cond.Wait()
		}
		position, over := j.rec.Position, j.rec.Listed || j.stopped || j.why != nil
		j.mu.Unlock()
		if over {
			return nil
		}
		items, next, err := j.source.Page(j.ctx, position, page)
		if err != nil {
			if j.ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("listing %s: %w", j.rec.Spec.Source, err)
		}
		if err := j.found(items, next); err != nil {
			return err
		}
	}
}

// found takes in a page: what is in neither cache comes into the first, with
// the position after it.
func (j *job) found(items []Item, next string) error {
	var fresh []*item
	seen := map[hash]bool{}
	repeated := 0
	for _, it := range items {
		h := hashOf(it.ID)
		known, err := j.known(h)
		if err != nil {
			return err
		}
		if known || seen[h] {
			repeated++
			continue
		}
		seen[h] = true
		fresh = append(fresh, &item{stored{ID: it.ID, Value: it.Value}, h})
	}
	j.mu.Lock()
	j.rec.Found += len(fresh)
	j.rec.Repeated += repeated
	j.rec.New += len(fresh)
	j.rec.Position = next
	if next == "" {
		if j.rec.Listed = j.source.Steady() || j.rec.New == 0; !j.rec.Listed {
			j.rec.Pass++
			j.rec.New = 0
		}
	}
	// In process before it is on disk: known is asked by this goroutine alone.
	for _, it := range fresh {
		j.inside[it.hash] = it
	}
	j.mu.Unlock()
	err := j.write(func(tx store.Tx) error {
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
		return err
	}
	j.mu.Lock()
	j.ready = append(j.ready, fresh...)
	j.cond.Broadcast()
	j.mu.Unlock()
	return nil
}

// known tells whether an item is in one of the caches.
func (j *job) known(h hash) (bool, error) {
	j.mu.Lock()
	known := j.inside[h] != nil || j.recent[h]
	j.mu.Unlock()
	if known {
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
		j.inside[h] = it
		j.ready = append(j.ready, it)
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
	j.rec.Found = j.rec.Succeeded + failed + len(j.inside)
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
	s.InProcess = len(j.inside)
	now := j.jobs.cfg.Clock.Now()
	if n := len(j.done); n > 0 && s.Status == Running {
		if d := now.Sub(j.done[0].at); d > 0 {
			s.PerSecond = float64(s.Succeeded+s.Failed-j.done[0].done) / d.Seconds()
		}
		if s.PerSecond > 0 && s.Listed {
			s.Left = float64(len(j.inside)) / s.PerSecond
		}
	}
	return s
}
