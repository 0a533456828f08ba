package access

import (
	"context"
	"maps"
	"strings"

	"github.com/hearth-faas/hearth/iam"
)

// about is what conditions may ask about a request, but for how it came.
func (j *Judge) about(r *Request, p *iam.Permissions) map[string][]string {
	c := iam.ContextOf(r.Caller, p, j.clock.Now())
	if r.Account != "" {
		c["aws:resourceaccount"] = []string{string(r.Account)}
	} else if r.Caller.Account != "" {
		c["aws:resourceaccount"] = []string{string(r.Caller.Account)}
	}
	return c
}

// simulated is what conditions may ask about a request that did not come: not
// how it did, nor about the resource's tags.
func (j *Judge) simulated(r *Request, p *iam.Permissions) map[string][]string {
	c := j.about(r, p)
	maps.Copy(c, r.Context)
	return c
}

// context is what conditions may ask about a request that came.
func (j *Judge) context(ctx context.Context, r *Request, p *iam.Permissions) map[string][]string {
	c := j.about(r, p)
	maps.Copy(c, cameFor(ctx, r.Caller))
	c[requestedRegion] = []string{j.region}
	// What tags another account's resources have, policies can't find out.
	if j.tags != nil && (r.Account == "" || r.Caller.Account == "" || r.Account == r.Caller.Account) {
		for key, value := range j.tags(r.Resource) {
			c["aws:resourcetag/"+strings.ToLower(key)] = []string{value}
		}
	}
	maps.Copy(c, r.Context)
	return c
}
