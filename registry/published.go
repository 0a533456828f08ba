package registry

import (
	"context"

	"github.com/hearth-faas/hearth"
)

// published is $LATEST.PUBLISHED, which functions on capacity providers have
// instead of, or beside, numbered versions: a copy of $LATEST as it was when
// it was published last. It never changes.
type published struct {
	newest *hearth.Function // as Get answers it
	// active is as Resolve answers it: newest, or what was active before it;
	// nil if it never was Active.
	active *hearth.Function
	// description is $LATEST's at the time.
	description string
}

// publishedNumber is where $LATEST.PUBLISHED stands among the numbers of
// versions: after them all.
const publishedNumber = maxNumber - 1

// get is newest, nil if nothing was published.
func (p *published) get() *hearth.Function {
	if p == nil {
		return nil
	}
	return p.newest
}

// running is active, nil if nothing was published.
func (p *published) running() *hearth.Function {
	if p == nil {
		return nil
	}
	return p.active
}

// resolve is what an invocation of $LATEST.PUBLISHED runs, in whatever state
// it is; nil if nothing was published.
func (p *published) resolve() *hearth.Function {
	if f := p.running(); f != nil {
		return f
	}
	return p.get()
}

// version returns the published version that a qualifier names by its number
// or as LatestPublished, in whatever state it is; nil if there is none.
func (v *view) version(qualifier string) *hearth.Function {
	if qualifier == hearth.LatestPublished {
		return v.published.get()
	}
	if ver := v.find(number(qualifier)); ver != nil {
		return ver.f
	}
	return nil
}

// publishedVersions yields all published versions as Get answers them: by
// number, then $LATEST.PUBLISHED.
func (v *view) publishedVersions(yield func(*hearth.Function) bool) {
	for i := range v.versions {
		if !yield(v.versions[i].f) {
			return
		}
	}
	if v.published != nil {
		yield(v.published.newest)
	}
}

// checkPublishTo tells whether f can be published as LatestPublished.
func checkPublishTo(f *hearth.Function) error {
	if f.CapacityProvider == nil {
		return invalid("PublishTo %s is supported only for functions that are configured with a capacity provider: %s has none.", "LATEST_PUBLISHED", f.ARN())
	}
	return nil
}

// publishLatest makes v.newest $LATEST.PUBLISHED, unless it is that already,
// and returns that. It is a Conflict while another is about to take over.
func (r *Registry) publishLatest(ctx context.Context, v *view, description *string) (*hearth.Function, error) {
	if err := checkPublishTo(v.newest); err != nil {
		return nil, err
	}
	if last := v.published; last != nil && last.newest.State != hearth.Failed && sameContent(v.newest, last.newest, last.description) {
		return last.newest, nil
	}
	if last := v.published; last.running() != nil && last.newest.State == hearth.Pending {
		// It takes over from what is active, and must come to be that.
		return nil, inProgress(last.newest)
	}
	f, err := r.copyOf(ctx, v.newest, hearth.LatestPublished, description)
	if err != nil {
		return nil, err
	}
	v.published = &published{newest: f, active: v.published.running(), description: v.newest.Description}
	return f, nil
}

// settledAs is p with the outcome of preparing its newest.
func (p *published) settledAs(done *hearth.Function) *published {
	after := &published{newest: done, active: p.active, description: p.description}
	if done.State == hearth.Active {
		after.active = done
	}
	return after
}

// mark is where f stands in lists.
func mark(f *hearth.Function) int {
	if f.Version == hearth.LatestPublished {
		return publishedNumber
	}
	return number(f.Version)
}

// noPublished is the answer to an unqualified invocation of a function on a
// capacity provider, which runs $LATEST.PUBLISHED.
func noPublished(f *hearth.Function) error {
	return hearth.Errorf(hearth.NoPublishedVersion,
		"The function %s has no $LATEST.PUBLISHED version, which is what an invocation without a qualifier runs on a capacity provider. Publish one with PublishTo LATEST_PUBLISHED, or invoke a version by its number.", f.ARN())
}
