package backfill

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// Config is what Jobs work with. Fields without a default are required.
type Config struct {
	Store  store.Store
	Folder string // for the results caches
	Clock  hearth.Clock
	// Call invokes a function of an account and returns its answer. An error of
	// the function itself is an error too; TooManyRequests slows the job down
	// and counts as no attempt.
	Call func(ctx context.Context, account hearth.Account, function string, payload []byte) ([]byte, error)
	// Open opens the source of an account's job; nil is OpenSource, without
	// objects.
	Open     func(account hearth.Account, spec Spec) (Source, error)
	Recorder hearth.Recorder // nil is none
	Log      *slog.Logger    // nil is slog.Default
}

// Jobs are the backfills of all accounts. Safe for concurrent use.
type Jobs struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelFunc

	recentMost int                              // fields for tests
	retryAfter func(attempts int) time.Duration // of attempts that failed

	mu     sync.Mutex
	at     map[string]*job    // that run
	rest   map[string]*record // that do not
	closed bool
}

// Open reads the jobs. Nothing runs before Run.
func Open(ctx context.Context, cfg Config) (*Jobs, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Open == nil {
		cfg.Open = func(_ hearth.Account, s Spec) (Source, error) { return OpenSource(s, nil) }
	}
	js := &Jobs{cfg: cfg, recentMost: recentMost, retryAfter: retryAfter, at: map[string]*job{}, rest: map[string]*record{}}
	js.ctx, js.cancel = context.WithCancel(context.WithoutCancel(ctx))
	err := cfg.Store.View(ctx, func(r store.Reader) error {
		for rec, err := range r.Scan(jobsBucket, "", "") {
			if err != nil {
				return err
			}
			v := new(record)
			if err := json.Unmarshal(rec.Value, v); err != nil {
				return fmt.Errorf("the record of the backfill %s is damaged: %w", rec.Key, err)
			}
			v.Status.Account = v.Account
			js.rest[rec.Key] = v
		}
		return nil
	})
	return js, err
}

// Run goes on with the jobs that were running.
func (js *Jobs) Run() {
	js.mu.Lock()
	defer js.mu.Unlock()
	for id, rec := range js.rest {
		if rec.Status.Status != Running {
			continue
		}
		if err := js.begin(rec); err != nil {
			js.cfg.Log.Warn("a backfill can't go on: resume it once that is mended", "backfill", id, "error", err)
			rec.Status.Status, rec.Why = Failed, err.Error()
		}
	}
}

// Hold begins no further call and lets those end that run; what Close finds
// still running it gives up. The next start goes on.
func (js *Jobs) Hold() {
	js.mu.Lock()
	defer js.mu.Unlock()
	js.closed = true
	for _, j := range js.at {
		j.mu.Lock()
		j.stopped = true
		j.cond.Broadcast()
		j.mu.Unlock()
	}
}

// Close stops the jobs where they are; the next start goes on with them.
func (js *Jobs) Close() error {
	js.mu.Lock()
	js.closed = true
	running := make([]*job, 0, len(js.at))
	for _, j := range js.at {
		running = append(running, j)
	}
	js.mu.Unlock()
	for _, j := range running {
		j.stop()
	}
	for _, j := range running {
		j.atWork.Wait()
	}
	js.cancel()
	return nil
}

func (j *job) stop() {
	j.mu.Lock()
	j.stopped = true
	j.cond.Broadcast()
	j.mu.Unlock()
	j.cancel()
}

// begin has a job run. js.mu is held.
func (js *Jobs) begin(rec *record) error {
	source, watched, err := js.open(rec)
	if err != nil {
		return err
	}
	closeAll := source.Close
	if watched != nil {
		closeAll = func() error { return errors.Join(source.Close(), watched.source.Close()) }
	}
	res, err := openResults(filepath.Join(js.cfg.Folder, rec.ID))
	if err != nil {
		return errors.Join(err, closeAll())
	}
	var ordered *order
	if rec.Spec.Order != nil {
		if ordered, err = openOrder(rec.Spec.Order); err != nil {
			return errors.Join(err, closeAll(), res.close())
		}
	}
	limit := rate.Inf
	if rec.Spec.Rate > 0 {
		limit = rate.Limit(rec.Spec.Rate)
	}
	j := &job{
		jobs: js, source: source, results: res, rec: *rec, inside: map[hash]*item{}, recent: map[hash]bool{},
		limit: rate.NewLimiter(limit, max(rec.Spec.Batch, 1)), follow: watched, order: ordered,
	}
	if watched != nil { // whoever was told of it before keeps what was true then
		n := New{Since: rec.Started}
		if rec.New != nil {
			n = *rec.New
		}
		j.rec.New = &n
	}
	j.cond = sync.NewCond(&j.mu)
	j.ctx, j.cancel = context.WithCancel(js.ctx)
	if err := js.cfg.Store.View(js.ctx, j.load); err != nil {
		j.cancel()
		return errors.Join(err, closeAll(), res.close())
	}
	delete(js.rest, rec.ID)
	js.at[rec.ID] = j
	j.atWork.Add(1)
	go func() {
		defer j.atWork.Done() // the last: who waits finds it at rest
		j.run()
		js.mu.Lock()
		defer js.mu.Unlock()
		delete(js.at, rec.ID)
		j.mu.Lock()
		defer j.mu.Unlock()
		over := j.rec
		js.rest[rec.ID] = &over
	}()
	return nil
}

// open opens a job's source, and another time for what is new in it.
func (js *Jobs) open(rec *record) (Source, *follow, error) {
	source, err := js.cfg.Open(rec.Account, rec.Spec)
	if err != nil || rec.Spec.Within == 0 {
		return source, nil, err
	}
	if _, ok := source.(Dated); !ok {
		return nil, nil, errors.Join(source.Close(), hearth.Errorf(hearth.InvalidParameter, "The items of %s do not say when they were modified, so none can be done within a time of that.", rec.Spec.Source))
	}
	again, err := js.cfg.Open(rec.Account, rec.Spec)
	if err != nil {
		return nil, nil, errors.Join(err, source.Close())
	}
	return source, &follow{source: again.(Dated)}, nil
}

// check completes a spec. Errors: InvalidParameter.
func (s *Spec) check() error {
	for _, n := range []struct {
		name                 string
		value                *int
		initial, least, most int
	}{{"batch", &s.Batch, 1, 1, 1000}, {"parallel", &s.Parallel, 10, 1, 1000}, {"attempts", &s.Attempts, 3, 1, 100}} {
		if *n.value == 0 {
			*n.value = n.initial
		}
		if *n.value < n.least || *n.value > n.most {
			return hearth.Errorf(hearth.InvalidParameter, "%s is %d; it must be from %d to %d.", n.name, *n.value, n.least, n.most)
		}
	}
	switch {
	case s.Rate < 0:
		return hearth.Errorf(hearth.InvalidParameter, "rate is %g; it must be a number of items a second, or 0 for any.", s.Rate)
	case s.Function == "":
		return hearth.Errorf(hearth.InvalidParameter, "Which function? Name one.")
	case s.Within < 0 || s.Within > maxWithin:
		return hearth.Errorf(hearth.InvalidParameter, "within is %g; it must be a number of seconds up to %d, or 0 for a source that does not grow.", s.Within, maxWithin)
	case s.Within > 0 && s.Order != nil:
		return hearth.Errorf(hearth.InvalidParameter, "Items that wait for others are put in order once all are found, which those of a growing source never are: leave out either within or the order.")
	case s.Within > 0 && s.Query != "" && s.Modified == "":
		return hearth.Errorf(hearth.InvalidParameter, "Which column says when a row was modified? Without that, none can be done within a time of it.")
	}
	if s.Order != nil {
		if _, err := openOrder(s.Order); err != nil {
			return err
		}
	}
	return nil
}

// maxWithin bounds the time within which new items are done, in seconds.
const maxWithin = 24 * 60 * 60

// Start begins a job. Errors: InvalidParameter.
func (js *Jobs) Start(_ context.Context, account hearth.Account, spec Spec) (Status, error) {
	if err := spec.check(); err != nil {
		return Status{}, err
	}
	id, err := uuid.NewV7() // in the order of time
	if err != nil {
		return Status{}, err
	}
	rec := &record{Account: account, Status: Status{
		ID: id.String(), Account: account, Spec: spec, Status: Running, Started: js.cfg.Clock.Now().UTC(), Pass: 1,
	}}
	js.mu.Lock()
	defer js.mu.Unlock()
	if js.closed {
		return Status{}, hearth.Errorf(hearth.Service, "The server is stopping.")
	}
	// Its source is opened first, so that what can't be listed is told at once.
	source, watched, err := js.open(rec)
	if err != nil {
		return Status{}, err
	}
	if watched != nil {
		err = watched.source.Close()
	}
	if err := errors.Join(err, source.Close()); err != nil {
		return Status{}, err
	}
	if err := js.put(rec); err != nil {
		return Status{}, err
	}
	if err := js.begin(rec); err != nil {
		return Status{}, err
	}
	return rec.Status, nil
}

func (js *Jobs) put(rec *record) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return js.cfg.Store.Update(js.ctx, func(tx store.Tx) error { return tx.Put(jobsBucket, rec.ID, b) })
}

func noJob(id string) error {
	return hearth.Errorf(hearth.NotFound, "There is no backfill %q.", id)
}

// Status tells how far a job is. Errors: ResourceNotFound.
func (js *Jobs) Status(account hearth.Account, id string) (Status, error) {
	js.mu.Lock()
	defer js.mu.Unlock()
	if j := js.at[id]; j != nil && j.rec.Account == account {
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.status(), nil
	}
	if rec := js.rest[id]; rec != nil && rec.Account == account {
		return rec.Status, nil
	}
	return Status{}, noJob(id)
}

// List tells of an account's jobs, the newest first.
func (js *Jobs) List(account hearth.Account) []Status {
	list := []Status{}
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, j := range js.at {
		if j.rec.Account == account {
			j.mu.Lock()
			list = append(list, j.status())
			j.mu.Unlock()
		}
	}
	for _, rec := range js.rest {
		if rec.Account == account {
			list = append(list, rec.Status)
		}
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(b.ID, a.ID) })
	return list
}

// Cancel stops a job; Resume goes on with it. Calls that run are given up.
// Errors: ResourceNotFound, ResourceConflict for one that does not run.
func (js *Jobs) Cancel(_ context.Context, account hearth.Account, id string) error {
	js.mu.Lock()
	j := js.at[id]
	if j == nil || j.rec.Account != account {
		rec := js.rest[id]
		js.mu.Unlock()
		if rec == nil || rec.Account != account {
			return noJob(id)
		}
		return hearth.Errorf(hearth.Conflict, "The backfill %s does not run: it is %s.", id, rec.Status.Status)
	}
	js.mu.Unlock()
	j.mu.Lock()
	j.rec.Status.Status = Cancelled
	j.rec.Ended = js.cfg.Clock.Now().UTC()
	j.mu.Unlock()
	j.stop()
	j.atWork.Wait()
	return nil
}

// rested waits for a job that is over, and is only being put away.
func (js *Jobs) rested(id string) {
	js.mu.Lock()
	j := js.at[id]
	js.mu.Unlock()
	if j == nil {
		return
	}
	j.mu.Lock()
	over := j.rec.Status.Status != Running
	j.mu.Unlock()
	if over {
		j.atWork.Wait()
	}
}

// Resume goes on with a job that was cancelled or failed. One that has
// finished tries the items again that it gave up, and lists its source again.
// Errors: ResourceNotFound, ResourceConflict for one that runs.
func (js *Jobs) Resume(_ context.Context, account hearth.Account, id string) error {
	js.rested(id)
	js.mu.Lock()
	defer js.mu.Unlock()
	if j := js.at[id]; j != nil && j.rec.Account == account {
		return hearth.Errorf(hearth.Conflict, "The backfill %s runs.", id)
	}
	if js.closed {
		return hearth.Errorf(hearth.Service, "The server is stopping.")
	}
	old := js.rest[id]
	if old == nil || old.Account != account {
		return noJob(id)
	}
	rec := *old
	if rec.Status.Status == Finished {
		rec.Listed, rec.Fresh, rec.Position = false, 0, ""
		rec.Pass++
	}
	rec.Status.Status, rec.Why, rec.Ended = Running, "", time.Time{}
	return js.again(&rec)
}

// again puts the items that were given up in process, and has the job run. A
// kill in between leaves some of them in process, for the next Resume.
func (js *Jobs) again(rec *record) error {
	prefix := rec.ID + "/"
	for more := true; more; {
		err := js.cfg.Store.Update(js.ctx, func(tx store.Tx) error {
			n := 0
			for f, err := range tx.Scan(failedBucket, prefix, "") {
				if err != nil {
					return err
				}
				var fail Failure
				if err := json.Unmarshal(f.Value, &fail); err != nil {
					return err
				}
				b, err := json.Marshal(stored{ID: fail.ID, Value: fail.Value})
				if err != nil {
					return err
				}
				if err := errors.Join(tx.Put(itemsBucket, f.Key, b), tx.Delete(failedBucket, f.Key)); err != nil {
					return err
				}
				if n++; n == 1024 {
					break
				}
			}
			more = n == 1024
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := js.put(rec); err != nil {
		return err
	}
	return js.begin(rec)
}

// Report yields the items that a job gave up. Errors: ResourceNotFound.
func (js *Jobs) Report(ctx context.Context, account hearth.Account, id string, take func(Failure) bool) error {
	if _, err := js.Status(account, id); err != nil {
		return err
	}
	return js.cfg.Store.View(ctx, func(r store.Reader) error {
		for rec, err := range r.Scan(failedBucket, id+"/", "") {
			if err != nil {
				return err
			}
			var f Failure
			if err := json.Unmarshal(rec.Value, &f); err != nil {
				return fmt.Errorf("the failure %s is damaged: %w", rec.Key, err)
			}
			if !take(f) {
				return nil
			}
		}
		return nil
	})
}

// Remove forgets a job that does not run, with its caches and its report.
// Errors: ResourceNotFound, ResourceConflict.
func (js *Jobs) Remove(ctx context.Context, account hearth.Account, id string) error {
	js.rested(id)
	js.mu.Lock()
	defer js.mu.Unlock()
	if j := js.at[id]; j != nil && j.rec.Account == account {
		return hearth.Errorf(hearth.Conflict, "The backfill %s runs: cancel it first.", id)
	}
	if rec := js.rest[id]; rec == nil || rec.Account != account {
		return noJob(id)
	}
	for _, bucket := range []string{itemsBucket, recentBucket, failedBucket} {
		for more := true; more; {
			err := js.cfg.Store.Update(ctx, func(tx store.Tx) error {
				var keys []string
				for rec, err := range tx.Scan(bucket, id+"/", "") {
					if err != nil {
						return err
					}
					if keys = append(keys, rec.Key); len(keys) == 1024 {
						break
					}
				}
				for _, k := range keys {
					if err := tx.Delete(bucket, k); err != nil {
						return err
					}
				}
				more = len(keys) == 1024
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	if err := os.RemoveAll(filepath.Join(js.cfg.Folder, id)); err != nil {
		return err
	}
	if err := js.cfg.Store.Update(ctx, func(tx store.Tx) error { return tx.Delete(jobsBucket, id) }); err != nil {
		return err
	}
	delete(js.rest, id)
	return nil
}
