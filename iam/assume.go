package iam

import (
	"maps"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
)

// Assumption is a wish to take a role on.
type Assumption struct {
	Caller     hearth.Identity
	Role       string // ARN
	Session    string // the session's name
	ExternalID string // "" is none
	Source     string // the source identity, "" is none
	Tags       []Tag  // of the session
	// About is what conditions can ask about how the request came, by the key
	// in lower case.
	About map[string][]string
	// May tells whether the caller's own policies let him do an action with the
	// role, in a context. It is asked unless the role, of the caller's account,
	// trusts just him: what it trusts his account with, the account must pass on
	// to him. nil is that they do.
	May func(action string, context map[string][]string) error
}

// Assume is the role that may be taken on: its trust policy allows the caller
// to. Errors: AccessDenied, which does not tell whether there is such a role.
func (d *Directory) Assume(a Assumption) (*Role, error) {
	r := d.RoleOf(a.Role)
	if r == nil {
		return nil, denied(a.Caller, "sts:AssumeRole", a.Role, policy.ImplicitDeny)
	}
	actions := []string{"sts:AssumeRole"}
	if len(a.Tags) > 0 {
		actions = append(actions, "sts:TagSession")
	}
	if a.Source != "" {
		actions = append(actions, "sts:SetSourceIdentity")
	}
	context := d.context(a.Caller, a.About)
	context["sts:rolesessionname"] = []string{a.Session}
	if a.ExternalID != "" {
		context["sts:externalid"] = []string{a.ExternalID}
	}
	if a.Source != "" {
		context["sts:sourceidentity"] = []string{a.Source}
	}
	for _, t := range a.Tags {
		context["aws:requesttag/"+strings.ToLower(t.Key)] = []string{t.Value}
		context["aws:tagkeys"] = append(context["aws:tagkeys"], t.Key)
	}
	who := policy.Principal{Account: string(a.Caller.Account), ARN: a.Caller.ARN}
	for _, action := range actions {
		if outcome := r.trusts(who, action, context); outcome != policy.Allowed {
			return nil, denied(a.Caller, action, a.Role, outcome)
		}
		himself := policy.Principal{ARN: a.Caller.ARN}
		if a.May == nil || r.Account == a.Caller.Account && r.trusts(himself, action, context) == policy.Allowed {
			continue
		}
		if err := a.May(action, context); err != nil {
			return nil, err
		}
	}
	d.uses.note(d, r)
	return r, nil
}

// Trust is what a role's trust policy says of a caller.
type Trust struct {
	Outcome   policy.Outcome
	Statement *policy.Statement // that decided; nil is none
	Himself   bool              // it names just him, or everybody
	// Policy and Asked are what was asked of what; nil of a role that there is not.
	Policy *policy.Document
	Asked  *policy.Request
}

// Trusts tells what a role's trust policy says of a caller who wants to do an
// action with it, such as sts:AssumeRole; about is what conditions can ask beside
// who asks and when. Of a role that there is not it is an implicit deny.
func (d *Directory) Trusts(caller hearth.Identity, role, action string, about map[string][]string) Trust {
	r := d.RoleOf(role)
	if r == nil {
		return Trust{}
	}
	document, err := policy.Parse([]byte(r.Trust))
	if err != nil {
		return Trust{Outcome: policy.ExplicitDeny} // it was in order when it came in
	}
	asked := &policy.Request{Principal: policy.Principal{Account: string(caller.Account), ARN: caller.ARN}, Action: action, Resource: r.ARN(), Context: d.context(caller, about)}
	t := Trust{Policy: document, Asked: asked}
	t.Outcome, t.Statement = document.Evaluate(asked)
	if r.Account == caller.Account {
		himself := *asked
		himself.Principal = policy.Principal{ARN: caller.ARN}
		outcome, _ := document.Evaluate(&himself)
		t.Himself = outcome == policy.Allowed
	}
	return t
}

func denied(caller hearth.Identity, action, role string, outcome policy.Outcome) error {
	why := ""
	if outcome == policy.ExplicitDeny {
		why = " with an explicit deny in a resource-based policy"
	}
	return hearth.Errorf(hearth.AccessDenied, "User: %s is not authorized to perform: %s on resource: %s%s", caller.ARN, action, role, why)
}

// context is what conditions can ask about who asks and when, and about.
func (d *Directory) context(caller hearth.Identity, about map[string][]string) map[string][]string {
	p, _ := d.PermissionsOf(caller)
	c := ContextOf(caller, p, d.cfg.Clock.Now())
	maps.Copy(c, about)
	return c
}

// trusts tells what the role's trust policy says.
func (r *Role) trusts(who policy.Principal, action string, context map[string][]string) policy.Outcome {
	document, err := policy.Parse([]byte(r.Trust))
	if err != nil {
		return policy.ExplicitDeny // it was in order when it came in
	}
	outcome, _ := document.Evaluate(&policy.Request{Principal: who, Action: action, Resource: r.ARN(), Context: maps.Clone(context)})
	return outcome
}

// lambdaService is who takes a function's role on.
const lambdaService = "lambda.amazonaws.com"

// PassToFunction tells whether a function, which functionARN names, may be
// given a role: one that the Directory has must let the Lambda service take it
// on. One that it does not have is somebody else's to keep, and passes unless
// the Directory is strict. Errors: InvalidParameter.
func (d *Directory) PassToFunction(account hearth.Account, roleARN, functionARN string) error {
	if !d.mayPass(account, roleARN, lambdaService, functionARN) {
		return hearth.Errorf(hearth.InvalidParameter, "The role defined for the function cannot be assumed by Lambda.")
	}
	return nil
}

// Use notes that a function takes a role on, and tells the role's unique id;
// "" of a role that the Directory does not have. It writes nothing before it
// returns.
func (d *Directory) Use(roleARN string) (id string) {
	r := d.RoleOf(roleARN)
	if r == nil {
		return ""
	}
	d.uses.note(d, r)
	return r.ID
}
