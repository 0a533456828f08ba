package access

import (
	"fmt"
	"strings"

	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/policy"
)

// evaluation is one request while it is decided about.
type evaluation struct {
	judge       *Judge
	request     *Request
	asked       policy.Request
	permissions *iam.Permissions
	known       bool // the caller is a user or role whose policies count
	own         bool // the resource is the caller's account's
}

func (e *evaluation) verdict() Verdict {
	limits, err := e.judge.session(e.request.Caller.Policy)
	if err != nil {
		return Verdict{Explicit: true, By: session, deniedBy: session, Why: "the session's policy can't be read: " + err.Error()}
	}
	// A deny of whatever policy wins.
	resource, resourceStatement := e.request.Policy.Evaluate(&e.asked)
	if resource == policy.ExplicitDeny {
		return denied(ByResource, resourceBased, resourceStatement)
	}
	identity, allowing := policy.ImplicitDeny, Verdict{}
	if e.permissions != nil {
		for _, g := range e.permissions.Policies {
			switch o, s := g.Document.Evaluate(&e.asked); {
			case o == policy.ExplicitDeny:
				return denied(g.Name, identityBased, s)
			case o == policy.Allowed && identity != policy.Allowed:
				identity, allowing = o, allowed(g.Name, s)
			}
		}
	}
	bounded, v := e.within(boundary, e.boundary())
	if v.Explicit {
		return v
	}
	limited, w := e.within(session, limits)
	if w.Explicit {
		return w
	}
	switch {
	case e.request.Caller.Account == "": // a service, or nobody known
		return e.byResource(resource, resourceStatement)
	case !e.known:
		if !limited {
			return w
		}
		return e.wholeAccount(resource, resourceStatement)
	}
	callers := identity == policy.Allowed && bounded && limited
	switch {
	case callers && (e.own || e.request.Open):
		return allowing
	case callers && resource == policy.Allowed:
		return allowing
	case callers:
		return none("the caller's policies allow it, but the resource is another account's, and no policy of its does", resourceBased)
	case e.own && resource == policy.Allowed && e.direct() && bounded && limited:
		return allowed(ByResource, resourceStatement)
	case identity != policy.Allowed:
		return none("none of the caller's policies allows it"+e.almost(), identityBased)
	case !bounded:
		return v
	}
	return w
}

// almost tells which of the caller's policies would allow the request but for a
// condition; "" if none would.
func (e *evaluation) almost() string {
	if e.permissions == nil {
		return ""
	}
	for _, g := range e.permissions.Policies {
		if but := Almost(g.Name, g.Document, &e.asked); but != "" {
			return but
		}
	}
	return ""
}

// Almost tells, as the end of a sentence, for which condition a policy of a name
// does not allow a request; "" if it does not for another reason.
func Almost(name string, doc *policy.Document, r *policy.Request) string {
	_, c := doc.Almost(r)
	if c == nil {
		return ""
	}
	is := "is not known of the request"
	if values := r.Context[strings.ToLower(c.Key)]; len(values) > 0 {
		is = "is " + strings.Join(values, ", ")
	}
	return fmt.Sprintf("; %s would, were it not for its condition %s of %s, which %s", name, c.Operator, c.Key, is)
}

// boundary is what bounds the caller; nil is nothing.
func (e *evaluation) boundary() *policy.Document {
	if e.permissions == nil || e.permissions.Boundary == nil {
		return nil
	}
	return e.permissions.Boundary.Document
}

// within tells whether what bounds the caller allows the request, and the
// verdict if it does not.
func (e *evaluation) within(what string, doc *policy.Document) (bool, Verdict) {
	if doc == nil {
		return true, Verdict{}
	}
	name := "the session's policy"
	if what == boundary {
		name = "the permissions boundary " + e.permissions.Boundary.Name
	}
	switch o, s := doc.Evaluate(&e.asked); o {
	case policy.Allowed:
		return true, Verdict{}
	case policy.ExplicitDeny:
		return false, denied(name, what, s)
	}
	return false, none(name+" does not allow it"+Almost("it", doc, &e.asked), what)
}

// wholeAccount is what root may do, and the sessions of roles that nobody
// keeps: everything in their account but, for the latter, Hearth's own API, and
// elsewhere what they are allowed there.
func (e *evaluation) wholeAccount(resource policy.Outcome, s *policy.Statement) Verdict {
	who := "its role is not kept here, so that it may do all that its account may but use Hearth's own API"
	root := IsRoot(e.request.Caller)
	if root {
		who = "the root of an account may do everything in it"
	}
	switch {
	case !root && strings.HasPrefix(e.asked.Action, "hearth:"):
		// A function's credentials are taken for the API of the functions
		// only, unless its role says more.
		return none("its role is not kept here, and Hearth's own API is only for whom a policy allows it", identityBased)
	case e.own, e.request.Open:
		return Verdict{Allowed: true, By: "the account", Why: who}
	case resource == policy.Allowed:
		return allowed(ByResource, s)
	}
	return none("the resource is another account's, and no policy of its allows it", resourceBased)
}

func (e *evaluation) byResource(resource policy.Outcome, s *policy.Statement) Verdict {
	if resource == policy.Allowed {
		return allowed(ByResource, s)
	}
	return none("no policy of the resource allows it", resourceBased)
}

// direct tells whether the resource's policy allows it to the caller himself,
// or to everybody: what it allows to his account, it is for the account to pass
// on.
func (e *evaluation) direct() bool {
	asked := e.asked
	asked.Principal.Account = ""
	o, _ := e.request.Policy.Evaluate(&asked)
	return o == policy.Allowed
}

func allowed(by string, s *policy.Statement) Verdict {
	return Verdict{Allowed: true, By: by, Statement: s, Why: fmt.Sprintf("%s allows it", by)}
}

func denied(by, sort string, s *policy.Statement) Verdict {
	return Verdict{Explicit: true, By: by, Statement: s, deniedBy: sort, Why: fmt.Sprintf("%s denies it", by)}
}

func none(why, sort string) Verdict { return Verdict{Why: why, deniedBy: sort} }

// maxSessions bounds how many session policies are kept parsed.
const maxSessions = 1024

// session is a session's policy; nil is none.
func (j *Judge) session(text string) (*policy.Document, error) {
	if text == "" {
		return nil, nil
	}
	j.mu.RLock()
	doc := j.sessions[text]
	j.mu.RUnlock()
	if doc != nil {
		return doc, nil
	}
	doc, err := policy.Parse([]byte(text))
	if err != nil {
		return nil, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.sessions == nil || len(j.sessions) >= maxSessions {
		j.sessions = map[string]*policy.Document{}
	}
	j.sessions[text] = doc
	return doc, nil
}
