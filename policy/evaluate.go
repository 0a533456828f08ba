package policy

import "strings"

// Request is what a policy decides about.
type Request struct {
	Principal Principal
	Action    string // such as lambda:InvokeFunction
	Resource  string // an ARN
	// Context is what conditions ask about, by the key in lower case.
	Context map[string][]string
}

// Principal is who makes a request. The zero Principal is somebody unknown,
// whom only a policy that allows everybody lets in.
type Principal struct {
	Account   string // twelve digits
	ARN       string // arn:aws:iam::ACCOUNT:user/NAME, arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION, …
	Service   string // such as s3.amazonaws.com, for a service in place of an account
	Federated string // an identity provider, in place of an account
}

// Outcome is what a policy says of a request.
type Outcome uint8

// The outcomes.
const (
	ImplicitDeny Outcome = iota // no statement applies
	ExplicitDeny                // a statement denies it, whatever others allow
	Allowed
)

// Evaluate decides about a request, and tells the statement that did: nil for
// ImplicitDeny. A nil Document has no statements.
func (d *Document) Evaluate(r *Request) (Outcome, *Statement) {
	if d == nil {
		return ImplicitDeny, nil
	}
	outcome, decided := ImplicitDeny, (*Statement)(nil)
	for i := range d.Statements {
		s := &d.Statements[i]
		if outcome == Allowed && s.Effect != Deny || !s.applies(r, d.Version == variables) {
			continue
		}
		if s.Effect == Deny {
			return ExplicitDeny, s
		}
		if s.Effect == Allow {
			outcome, decided = Allowed, s
		}
	}
	return outcome, decided
}

// Almost is the first statement that would allow a request but for a condition
// of its own, and that condition; nil if there is none.
func (d *Document) Almost(r *Request) (*Statement, *Condition) {
	if d == nil {
		return nil, nil
	}
	for i := range d.Statements {
		s := &d.Statements[i]
		if s.Effect != Allow || !s.about(r, d.Version == variables) {
			continue
		}
		if c := s.unmet(r, d.Version == variables); c != nil {
			return s, c
		}
	}
	return nil, nil
}

func (s *Statement) applies(r *Request, withVariables bool) bool {
	return s.about(r, withVariables) && s.unmet(r, withVariables) == nil
}

// about tells whether the statement applies where its conditions hold.
func (s *Statement) about(r *Request, withVariables bool) bool {
	switch {
	case s.Principal != nil && !s.Principal.include(&r.Principal),
		s.NotPrincipal != nil && s.NotPrincipal.include(&r.Principal),
		s.Action != nil && !fitsAny(s.Action, r.Action, r.Context, false, true),
		s.NotAction != nil && fitsAny(s.NotAction, r.Action, r.Context, false, true),
		s.Resource != nil && !fitsAny(s.Resource, r.Resource, r.Context, withVariables, false),
		s.NotResource != nil && fitsAny(s.NotResource, r.Resource, r.Context, withVariables, false):
		return false
	}
	return true
}

// unmet is the first condition that does not hold; nil is that all do.
func (s *Statement) unmet(r *Request, withVariables bool) *Condition {
	for i := range s.Conditions {
		if c := &s.Conditions[i]; !c.holds(r, withVariables) {
			return c
		}
	}
	return nil
}

func fitsAny(patterns []string, s string, context map[string][]string, withVariables, fold bool) bool {
	for _, text := range patterns {
		if text == "*" || text == s {
			return true
		}
		if p, ok := compile(text, context, withVariables); ok && p.match(s, fold) {
			return true
		}
	}
	return false
}

// include tells whether who is one of the principals.
func (p *Principals) include(who *Principal) bool {
	if p.Any {
		return true
	}
	for _, s := range p.AWS {
		if s == "*" || names(s, who) {
			return true
		}
	}
	for _, s := range p.Service {
		if who.Service != "" && strings.EqualFold(s, who.Service) {
			return true
		}
	}
	for _, s := range p.Federated {
		if who.Federated != "" && s == who.Federated {
			return true
		}
	}
	return false
}

// names tells whether an ARN of a policy names who: it is theirs, or that of
// their account, or that of the role whose session they are.
func names(arn string, who *Principal) bool {
	if who.ARN == "" && who.Account == "" {
		return false
	}
	if arn == who.ARN || who.Account != "" && arn == AccountARN(who.Account) {
		return true
	}
	role, ok := RoleOf(who.ARN)
	if !ok {
		return false
	}
	// A session's ARN does not tell the path of its role.
	got := strings.SplitN(arn, ":", 6)
	want := strings.SplitN(role, ":", 6)
	if len(got) != 6 || got[2] != "iam" || got[4] != want[4] || !strings.HasPrefix(got[5], "role/") {
		return false
	}
	return got[5][strings.LastIndexByte(got[5], '/')+1:] == strings.TrimPrefix(want[5], "role/")
}

// RoleOf tells the role of a session: arn:aws:iam::ACCOUNT:role/NAME for
// arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION. It reports false for the ARN
// of something else.
func RoleOf(session string) (string, bool) {
	parts := strings.SplitN(session, ":", 6)
	if len(parts) != 6 || parts[2] != "sts" {
		return "", false
	}
	rest, ok := strings.CutPrefix(parts[5], "assumed-role/")
	name, _, named := strings.Cut(rest, "/")
	if !ok || !named {
		return "", false
	}
	return "arn:" + parts[1] + ":iam::" + parts[4] + ":role/" + name, true
}
