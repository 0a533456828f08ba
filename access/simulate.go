package access

import (
	"slices"

	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/policy"
)

// Simulated is what would come of a request, and how each side decides.
type Simulated struct {
	Outcome  policy.Outcome
	Identity policy.Outcome // of the caller's policies alone
	Resource policy.Outcome // of the resource's policy alone
	Bounded  bool           // there is a boundary, and it does not allow the request
	// Matched are the statements that determine the outcome: those that deny,
	// or else those that allow; none where no policy says anything.
	Matched []Match
	// Missing are the keys that policies ask about and nothing is known of, as
	// they write them, each once, in order.
	Missing []string
}

// Match is a statement of a policy: Of is nil for the resource's.
type Match struct {
	Of        *iam.Granted
	Statement int // its place in the document
}

// Simulate tells what Judge would say if the caller had these permissions, and
// none else. Conditions can ask who the caller is, when, and what the request's
// Context says; of the resource nothing is known, since who asks may not be who
// can see it. Safe for concurrent use.
func (j *Judge) Simulate(r *Request, p *iam.Permissions) Simulated {
	e := evaluation{judge: j, request: r, own: r.Account == "" || r.Account == r.Caller.Account, permissions: p, known: true}
	e.asked = policy.Request{Principal: policy.PrincipalOf(r.Caller), Action: r.Action, Resource: r.Resource, Context: j.simulated(r, p)}
	out := Simulated{}
	v := e.verdict()
	effect := policy.Allow
	switch {
	case v.Explicit:
		out.Outcome, effect = policy.ExplicitDeny, policy.Deny
	case v.Allowed:
		out.Outcome = policy.Allowed
	}
	out.Resource, _ = r.Policy.Evaluate(&e.asked)
	if p.Boundary != nil {
		o, _ := p.Boundary.Document.Evaluate(&e.asked)
		out.Bounded = o != policy.Allowed
	}
	collect := func(of *iam.Granted, doc *policy.Document) {
		out.Missing = append(out.Missing, doc.Missing(&e.asked)...)
		if out.Outcome == policy.ImplicitDeny {
			return
		}
		for _, i := range doc.Matching(&e.asked, effect) {
			out.Matched = append(out.Matched, Match{of, i})
		}
	}
	for i := range p.Policies {
		g := &p.Policies[i]
		o, _ := g.Document.Evaluate(&e.asked)
		if out.Identity != policy.ExplicitDeny && o != policy.ImplicitDeny {
			out.Identity = o
		}
		collect(g, g.Document)
	}
	if p.Boundary != nil && effect == policy.Deny {
		collect(p.Boundary, p.Boundary.Document)
	} else if p.Boundary != nil {
		out.Missing = append(out.Missing, p.Boundary.Document.Missing(&e.asked)...)
	}
	collect(nil, r.Policy)
	slices.Sort(out.Missing)
	out.Missing = slices.Compact(out.Missing)
	return out
}
