package backfill

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// call is what the function is given.
type callEvent struct {
	Backfill string     `json:"backfill"`
	Items    []callItem `json:"items"`
}

type callItem struct {
	ID      string          `json:"id"`
	Value   json.RawMessage `json:"value"`
	Attempt int             `json:"attempt"` // the first is 1
}

// callAnswer is what it may answer, if some of a batch failed; see SQS's
// partial batch responses.
type callAnswer struct {
	Failures []struct {
		ID string `json:"itemIdentifier"`
	} `json:"batchItemFailures"`
}

// work makes calls, one at a time.
func (j *job) work() {
	for {
		batch := j.next()
		if batch == nil {
			return
		}
		err := j.limit.WaitN(j.ctx, len(batch))
		j.mu.Lock()
		stopped := j.stopped
		j.mu.Unlock()
		if err != nil || stopped {
			j.putBack(batch)
			return
		}
		failed, err := j.call(batch)
		j.mu.Lock()
		j.running--
		j.mu.Unlock()
		if err := j.settle(batch, failed, err); err != nil {
			j.mu.Lock()
			j.why = errors.Join(j.why, err)
			j.cond.Broadcast()
			j.mu.Unlock()
			return
		}
	}
}

// next takes items for one call; nil is that there will be none.
func (j *job) next() []*item {
	j.mu.Lock()
	defer j.mu.Unlock()
	for {
		if j.stopped || j.why != nil {
			return nil
		}
		now := j.jobs.cfg.Clock.Now()
		if wait := j.until.Sub(now); wait > 0 {
			j.jobs.cfg.Clock.AfterFunc(wait, j.wake)
		} else if from := j.which(); from != nil {
			n := min(j.rec.Spec.Batch, len(*from))
			batch := (*from)[:n:n]
			*from = (*from)[n:]
			j.running++
			return batch
		}
		j.cond.Wait()
	}
}

// backlogShare is which part of the calls are the backlog's, if new items come
// so fast that they could have all.
const backlogShare = 8

// which is the queue that the next call is made of; nil is none. j.mu is held.
func (j *job) which() *[]*item {
	if j.turn++; len(j.fresh) > 0 && (j.turn%backlogShare != 0 || len(j.ready) == 0) {
		return &j.fresh
	}
	if len(j.ready) > 0 {
		return &j.ready
	}
	return nil
}

func (j *job) putBack(batch []*item) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.running--
	j.push(batch...)
}

// call calls the function; failed are the items that it names, if it answers.
func (j *job) call(batch []*item) (failed map[string]bool, err error) {
	ev := callEvent{Backfill: j.rec.ID}
	for _, it := range batch {
		ev.Items = append(ev.Items, callItem{it.ID, it.Value, it.Attempts + 1})
	}
	payload, err := json.Marshal(ev)
	if err != nil {
		return nil, err
	}
	answer, err := j.jobs.cfg.Call(j.ctx, j.rec.Account, j.rec.Spec.Function, payload)
	if err != nil {
		return nil, err
	}
	var a callAnswer
	if json.Unmarshal(answer, &a) != nil {
		return nil, nil // some other answer
	}
	failed = map[string]bool{}
	for _, f := range a.Failures {
		failed[f.ID] = true
	}
	return failed, nil
}

// throttledFor is how long no call begins after one was throttled: at first,
// and at most.
const (
	throttledFor  = 100 * time.Millisecond
	throttledMost = 5 * time.Second
)

// retryAfter is how long a failed item waits before its nth attempt.
func retryAfter(attempts int) time.Duration {
	return min(time.Second<<min(attempts, 6), time.Minute)
}

// settle makes of a call's end what it means for its items, on disk first.
func (j *job) settle(batch []*item, failed map[string]bool, callErr error) error {
	now := j.jobs.cfg.Clock.Now()
	if j.ctx.Err() != nil && callErr != nil {
		return nil // cut off: it is in process, and comes again
	}
	if hearth.KindOf(callErr) == hearth.TooManyRequests {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.rec.Throttled++
		if j.until.Before(now) {
			j.backoff = min(max(2*j.backoff, throttledFor), throttledMost)
			j.until = now.Add(j.backoff)
		}
		j.push(batch...)
		return nil
	}
	if k := hearth.KindOf(callErr); k == hearth.NotFound || k == hearth.AccessDenied {
		// Not the items' fault: they stay in process for when that is mended.
		return fmt.Errorf("the function %s can't be called: %w", j.rec.Spec.Function, callErr)
	}
	why := "the function named it in batchItemFailures"
	if callErr != nil {
		why = callErr.Error()
	}
	var done, given, again []*item
	for _, it := range batch {
		switch {
		case callErr == nil && !failed[it.ID]:
			done = append(done, it)
		case it.Attempts+1 >= j.rec.Spec.Attempts:
			it.Attempts++
			given = append(given, it)
		default:
			it.Attempts++
			again = append(again, it)
		}
	}
	var blocked []hash // that wait for what was given up
	if j.order != nil {
		blocked = j.order.dependants(given)
	}
	j.mu.Lock()
	j.rec.Succeeded += len(done)
	j.rec.Failed += len(given) + len(blocked)
	for _, it := range append(done, given...) {
		j.countNew(it, now)
	}
	if len(blocked) > 0 {
		p := *j.rec.Ordered
		p.Blocked += len(blocked)
		j.rec.Ordered = &p
	}
	if len(again) > 0 {
		j.rec.Retried++
	}
	j.backoff = 0
	j.mu.Unlock()
	err := j.write(nil, func(tx store.Tx) error {
		for _, it := range append(done, given...) {
			if err := tx.Delete(itemsBucket, j.key(it.hash)); err != nil {
				return err
			}
			if err := tx.Put(recentBucket, j.key(it.hash), []byte{1}); err != nil {
				return err
			}
		}
		for _, it := range given {
			b, err := json.Marshal(Failure{it.ID, it.Value, it.Attempts, why})
			if err != nil {
				return err
			}
			if err := tx.Put(failedBucket, j.key(it.hash), b); err != nil {
				return err
			}
		}
		if err := j.block(tx, blocked); err != nil {
			return err
		}
		for _, it := range again {
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
		return fmt.Errorf("what became of items could not be stored: %w", err)
	}
	j.mu.Lock()
	for _, it := range append(done, given...) {
		j.recent[it.hash] = true
		delete(j.inside, it.hash)
		if it.new {
			j.news--
		}
	}
	for _, h := range blocked {
		j.recent[h] = true
	}
	if j.order != nil {
		j.order.settled(done, given, blocked)
	}
	if n := len(j.done); n == 0 || now.Sub(j.done[n-1].at) >= time.Second {
		j.done = append(j.done, sample{now, j.rec.Succeeded + j.rec.Failed})
		if len(j.done) > 60 {
			j.done = j.done[1:]
		}
	}
	for _, it := range again {
		j.jobs.cfg.Clock.AfterFunc(j.jobs.retryAfter(it.Attempts-1), func() {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.push(it)
		})
	}
	full := len(j.recent) >= j.jobs.recentMost
	j.cond.Broadcast()
	j.mu.Unlock()
	if full {
		return j.flush()
	}
	return nil
}

// flush moves what was done of late into a file. A kill in between leaves it
// in both, which does no harm.
func (j *job) flush() error {
	j.flushing.Lock()
	defer j.flushing.Unlock()
	j.mu.Lock()
	if len(j.recent) < j.jobs.recentMost {
		j.mu.Unlock()
		return nil // another did it
	}
	hs := make([]hash, 0, len(j.recent))
	for h := range j.recent {
		hs = append(hs, h)
	}
	j.mu.Unlock()
	var fresh []hash // that is not of an item that was done again
	for _, h := range hs {
		if ok, err := j.results.has(h); err != nil {
			return fmt.Errorf("the results cache: %w", err)
		} else if !ok {
			fresh = append(fresh, h)
		}
	}
	if err := j.results.add(fresh); err != nil {
		return fmt.Errorf("the results cache: %w", err)
	}
	j.mu.Lock()
	for _, h := range hs {
		delete(j.recent, h)
	}
	j.mu.Unlock()
	for len(hs) > 0 {
		n := min(len(hs), 1024)
		err := j.jobs.cfg.Store.Update(j.jobs.ctx, func(tx store.Tx) error {
			for _, h := range hs[:n] {
				if err := tx.Delete(recentBucket, j.key(h)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		hs = hs[n:]
	}
	return nil
}
