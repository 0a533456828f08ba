package backfill

import (
	"fmt"
	"time"

	"github.com/hearth-faas/hearth"
)

// New is the part of a growing data set that is done before the rest. What was
// modified since the demarcation is new, the rest is backlog. The demarcation is
// the job's start, until more comes than can be done within the time that was
// set: then it moves on, to where what is new fits.
type New struct {
	Since     time.Time `json:"since"` // the demarcation
	Found     int       `json:"found"`
	Done      int       `json:"done"`     // or given up, while they were new
	Late      int       `json:"late"`     // of Done: not within the time
	Worst     float64   `json:"worst"`    // seconds that one of Done took since it was modified
	Deferred  int       `json:"deferred"` // that the demarcation has passed: they are backlog
	InProcess int       `json:"inProcess"`
}

// follow is what a job knows of its source's growth. j.mu guards it.
type follow struct {
	source     Dated // a listing of its own
	quiet      bool  // nothing new has come for as long as it may take to be done
	quietSince time.Time
}

// rateSpan is over which time the rate of modifications is taken.
const rateSpan = time.Minute

func (s *Spec) within() time.Duration { return time.Duration(s.Within * float64(time.Second)) }

// watch looks for what is new, again and again, until the job is over.
func (j *job) watch() {
	// Eight times in the period: most of it is for the calls.
	every := max(j.rec.Spec.within()/8, 100*time.Millisecond)
	for {
		began := j.jobs.cfg.Clock.Now()
		if err := j.look(began); err != nil {
			j.mu.Lock()
			if j.ctx.Err() == nil {
				j.why = err
			}
			j.cond.Broadcast()
			j.mu.Unlock()
			return
		}
		j.mu.Lock()
		for {
			wait := every - j.jobs.cfg.Clock.Now().Sub(began)
			if j.stopped || j.why != nil || wait <= 0 {
				break
			}
			timer := j.jobs.cfg.Clock.AfterFunc(wait, j.wake)
			j.cond.Wait()
			timer.Stop()
		}
		over := j.stopped || j.why != nil
		j.mu.Unlock()
		if over {
			return
		}
	}
}

// look goes through the source once, and takes in what is new.
func (j *job) look(began time.Time) error {
	j.mu.Lock()
	since, before := j.rec.New.Since, j.rec.New.Found
	j.mu.Unlock()
	from := since // of the items that the rate is taken of
	if t := began.Add(-rateSpan); t.After(from) {
		from = t
	}
	j.follow.source.Since(since)
	recent, left := 0, 0
	for position := ""; ; {
		items, next, err := j.list(j.follow.source, position)
		if err != nil {
			return err
		}
		n := 0
		for _, it := range items {
			if it.Modified.IsZero() || it.Modified.Before(since) {
				continue
			}
			if !it.Modified.Before(from) {
				recent++
			}
			items[n] = it
			n++
		}
		j.mu.Lock()
		room, over := max(j.rec.Spec.window()-j.news, 0), j.stopped || j.why != nil
		j.mu.Unlock()
		if over {
			return nil
		}
		more, err := j.found(items[:n], nil, room)
		if err != nil {
			return err
		}
		left += more
		if position = next; next == "" {
			break
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if left > 0 || j.news > 0 || j.rec.New.Found > before {
		j.follow.quietSince, j.follow.quiet = time.Time{}, false
	} else if j.follow.quietSince.IsZero() {
		j.follow.quietSince = began
	}
	if q := j.follow.quietSince; !q.IsZero() && began.Sub(q) >= j.rec.Spec.within() {
		j.follow.quiet = true
	}
	j.demarcate(began, from, recent, left)
	j.cond.Broadcast()
	return nil
}

// knownAfter is how long calls are counted before their rate is believed.
const knownAfter = 3 * time.Second

// demarcate moves the demarcation on, if what is new can't be done in time:
// items come at the rate of modifications, and are done at that of processing,
// so what was modified in the last period × processing ÷ modifications is what
// can be. j.mu is held.
func (j *job) demarcate(now, from time.Time, recent, left int) {
	within := j.rec.Spec.within()
	done := j.pace() * (backlogShare - 1) / backlogShare
	span := now.Sub(from)
	if done <= 0 || now.Sub(j.done[0].at) < knownAfter || span <= 0 || recent == 0 {
		return
	}
	unfinished := j.news + left
	if float64(unfinished) <= done*within.Seconds() {
		return
	}
	come := float64(recent) / span.Seconds()
	since := now.Add(-time.Duration(within.Seconds() * done / come * float64(time.Second)))
	if !since.After(j.rec.New.Since) {
		return
	}
	j.rec.New.Since = since.UTC()
	deferred := 0
	for _, it := range j.inside {
		if it.new && it.Modified < since.UnixMilli() {
			it.new = false
			deferred++
		}
	}
	j.news -= deferred
	j.rec.New.Deferred += deferred
	waiting := j.fresh
	j.fresh = nil
	j.push(waiting...)
	// What was not taken in is found by another pass, as backlog.
	if j.rec.Listed {
		j.rec.Listed, j.rec.Fresh = false, 0
		j.rec.Pass++
	}
	j.rec.Fresh++ // and one more after that
	j.decide("demarcate", fmt.Sprintf("%d new items wait, of %.1f a second; at %.1f done a second what was modified since %s can be within %v",
		unfinished, come, done, since.UTC().Format(stamp), within))
}

// countNew counts an item that is done. j.mu is held.
func (j *job) countNew(it *item, now time.Time) {
	if !it.new {
		return
	}
	n := j.rec.New
	n.Done++
	took := now.Sub(time.UnixMilli(it.Modified))
	n.Worst = max(n.Worst, took.Seconds())
	if took > j.rec.Spec.within() {
		n.Late++
	}
}

// decide records what was chosen.
func (j *job) decide(chosen, why string) {
	if r := j.jobs.cfg.Recorder; r != nil {
		r.Record(&hearth.Decision{Kind: hearth.DecisionBackfill, Account: j.rec.Account, Function: j.rec.Spec.Function, Chosen: chosen, Why: j.rec.ID + ": " + why})
	}
}
