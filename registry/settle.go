package registry

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
)

// What is Pending or InProgress is settled by a job of its own: Prepare, and
// then the commit of the outcome. A job knows its target by its generation,
// so that one whose function was deleted, or made anew, does nothing.

// jobs counts what runs in the background.
type jobs struct {
	slots chan struct{} // bounds preparations

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// start runs f in the background, unless jobs are closed.
func (j *jobs) start(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.closed {
		j.wg.Go(f)
	}
}

func (j *jobs) close() {
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	j.wg.Wait()
}

// unsettled are the functions in v that wait for a job.
func (v *view) unsettled() (fs []*hearth.Function) {
	if v == nil {
		return nil
	}
	if f := v.newest; f.State == hearth.Pending || f.UpdateStatus == hearth.UpdateInProgress {
		fs = append(fs, f)
	}
	for f := range v.publishedVersions {
		if f.State == hearth.Pending {
			fs = append(fs, f)
		}
	}
	return fs
}

// settleAll starts jobs for what is unsettled in new and was not in old.
func (r *Registry) settleAll(k key, old, new *view) {
	r.updates.moved(k, old, new)
	before := old.unsettled()
	for _, f := range new.unsettled() {
		same := func(g *hearth.Function) bool { return g.Key() == f.Key() }
		if !slices.ContainsFunc(before, same) {
			r.jobs.start(func() { r.settle(k, f) })
		}
	}
}

// settle prepares f and commits what came of it.
func (r *Registry) settle(k key, f *hearth.Function) {
	select {
	case r.jobs.slots <- struct{}{}:
	case <-r.ctx.Done():
		return
	}
	var err error
	if r.holds(k, f) {
		defer r.packages.pin(f.Package.SHA256)()
		for _, l := range f.Layers {
			defer r.packages.pin(l.Package.SHA256)()
		}
		err = r.cfg.Prepare(r.ctx, f)
	}
	<-r.jobs.slots
	if r.ctx.Err() != nil {
		return // the next Open prepares it again, whatever this gave
	}
	if err != nil {
		r.cfg.Log.Warn("a function could not be prepared", "function", f.QualifiedARN(), "error", err)
	}
	if err == nil {
		r.overtake(k, f)
		if r.ctx.Err() != nil {
			return
		}
	}
	r.conclude(k, f, err, time.Second)
}

// holds tells whether f still waits for its job.
func (r *Registry) holds(k key, f *hearth.Function) bool {
	return slices.ContainsFunc(r.view(k).unsettled(), func(g *hearth.Function) bool { return g.Key() == f.Key() })
}

// conclude commits the outcome of a preparation. While that fails, which is
// the disk's fault, it is tried again, and the function stays as it is.
func (r *Registry) conclude(k key, f *hearth.Function, outcome error, again time.Duration) {
	defer r.locks.lock(k)()
	if !r.holds(k, f) {
		return
	}
	old := r.view(k)
	new, err := r.concluded(old, f, outcome)
	if err == nil {
		err = r.commit(r.ctx, k, old, new)
	}
	if err == nil || r.ctx.Err() != nil {
		return
	}
	r.cfg.Log.Error("a function's state could not be stored; it will be tried again", "function", f.QualifiedARN(), "in", again, "error", err)
	r.cfg.Clock.AfterFunc(again, func() {
		r.jobs.start(func() { r.conclude(k, f, outcome, min(2*again, time.Minute)) })
	})
}

// concluded is old with f's outcome.
func (r *Registry) concluded(old *view, f *hearth.Function, outcome error) (*view, error) {
	revision, err := r.revision()
	if err != nil {
		return nil, err
	}
	new := *old
	if f.Version != hearth.Latest {
		done := settled(f, outcome, revision)
		if f.Version == hearth.LatestPublished {
			new.published = old.published.settledAs(done)
			return &new, nil
		}
		new.versions = slices.Clone(old.versions)
		for i := range new.versions {
			if new.versions[i].f.Version == f.Version {
				new.versions[i].f = done
			}
		}
		return &new, nil
	}
	switch done := settled(old.newest, outcome, revision); {
	case outcome == nil:
		new.newest, new.active = done, done
	case old.active == nil:
		new.newest = done
	default:
		// Back to what runs, with the news that the change failed.
		back := *old.active
		back.RevisionID = revision
		back.UpdateStatus, back.UpdateReason, back.UpdateReasonCode = done.UpdateStatus, done.UpdateReason, done.UpdateReasonCode
		new.newest, new.active = &back, &back
	}
	return &new, nil
}

// settled is f in its final state.
func settled(f *hearth.Function, outcome error, revision string) *hearth.Function {
	done := *f
	done.RevisionID = revision
	if outcome == nil {
		done.State, done.StateReason, done.StateReasonCode = hearth.Active, "", ""
		done.UpdateStatus, done.UpdateReason, done.UpdateReasonCode = hearth.UpdateSuccessful, "", ""
		return &done
	}
	reason, code := explain(outcome)
	done.State, done.StateReason, done.StateReasonCode = hearth.Failed, reason, code
	done.UpdateStatus, done.UpdateReason, done.UpdateReasonCode = hearth.UpdateFailed, reason, code
	return &done
}

// explain gives the service's code for a failed preparation, and the reason
// as its caller is told: an Error's Message, since its cause is for the log.
func explain(err error) (reason, code string) {
	reason, code = "The function could not be prepared.", "InternalError"
	if e, ok := errors.AsType[*hearth.Error](err); ok {
		reason = e.Message
	}
	switch hearth.KindOf(err) {
	case hearth.InvalidZip, hearth.InvalidParameter, hearth.EntityTooLarge:
		code = "InvalidZipFileException"
	case hearth.InvalidRuntime:
		code = "InvalidRuntime"
	case hearth.ImageDeleted, hearth.ImageAccessDenied, hearth.InvalidImage:
		code = string(hearth.KindOf(err))
	}
	return strings.ToValidUTF8(reason, "?"), code
}
