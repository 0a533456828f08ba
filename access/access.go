// Package access decides who may do what: it evaluates the policies that a
// caller has (inline, attached, of groups), those that bound him (a permissions
// boundary, a session's policy), and those of the resource, as IAM does.
//
//   - An explicit deny of any of them wins.
//   - Within an account either the caller's policies or the resource's allow it;
//     across accounts both sides must.
//   - A boundary and a session's policy must allow what the caller's policies do.
//   - An account's root may do everything in its account.
//
// A role that nobody keeps here is, as long as roles are not strict, all of its
// account's: what it allows nobody knows. The package reads no store: what it
// goes by is in memory.
package access

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/policy"
)

// Principals tells what users and roles may do; *iam.Directory does. Safe for
// concurrent use.
type Principals interface {
	// PermissionsOf tells what who makes a request may do, nil being nothing;
	// known is false of root, and of sessions of roles that nobody keeps.
	PermissionsOf(id hearth.Identity) (p *iam.Permissions, known bool)
}

// Request is what is decided about.
type Request struct {
	Caller   hearth.Identity
	Action   string         // such as lambda:InvokeFunction
	Resource string         // an ARN, or * where there is none
	Account  hearth.Account // whose the resource is; "" is the caller's
	// Context is what conditions may ask about beside who asks, when, and how
	// the request came (Origin), by the key in lower case; it goes before those.
	Context map[string][]string
	Policy  *policy.Document // of the resource; nil is none
	// Open is that the resource's policy alone decides about other accounts'
	// callers, and is looked at elsewhere: here only the caller's side counts.
	Open bool
}

// Verdict is what was decided, and why.
type Verdict struct {
	Allowed  bool
	Explicit bool // a statement denies it
	// By is which policy decided, and Statement which statement of it; nil
	// where none did.
	By        string
	Statement *policy.Statement
	Why       string // a sentence without the final period
	// deniedBy is the sort of policy, as the service's refusals call it.
	deniedBy string
}

// Judge decides. Safe for concurrent use.
type Judge struct {
	principals Principals
	clock      hearth.Clock
	region     string

	// tags are those of what a request is about; nil before Tags was called.
	tags func(resource string) map[string]string

	mu       sync.RWMutex
	sessions map[string]*policy.Document // session policies, parsed
}

// New makes a Judge of requests that are made in a region.
func New(principals Principals, clock hearth.Clock, region string) *Judge {
	return &Judge{principals: principals, clock: clock, region: region}
}

// Tags says who tells the tags of a resource by its ARN, from memory: conditions
// ask about them as aws:ResourceTag. It is called before anything is judged.
func (j *Judge) Tags(of func(resource string) map[string]string) { j.tags = of }

// RequestTags are what conditions ask about the tags that a request sets, and
// those that it takes away, by key: aws:RequestTag and aws:TagKeys.
func RequestTags(set map[string]string, removed []string) map[string][]string {
	c := map[string][]string{}
	for _, key := range slices.Sorted(maps.Keys(set)) {
		c["aws:requesttag/"+strings.ToLower(key)] = []string{set[key]}
		c["aws:tagkeys"] = append(c["aws:tagkeys"], key)
	}
	if len(removed) > 0 {
		c["aws:tagkeys"] = append(c["aws:tagkeys"], removed...)
	}
	return c
}

// IsRoot reports whether an identity is an account's root, without limits.
func IsRoot(id hearth.Identity) bool {
	return id.Policy == "" && id.Service == "" && strings.HasSuffix(id.ARN, ":root")
}

// Judge decides about a request, which ctx serves.
func (j *Judge) Judge(ctx context.Context, r *Request) Verdict {
	account := r.Account
	if account == "" {
		account = r.Caller.Account
	}
	own := account == r.Caller.Account && r.Caller.Service == ""
	if own && r.Policy == nil && IsRoot(r.Caller) {
		return Verdict{Allowed: true, By: "root", Why: "the root of an account may do everything in it"}
	}
	e := evaluation{judge: j, request: r, own: own}
	e.permissions, e.known = j.principals.PermissionsOf(r.Caller)
	e.asked = policy.Request{Principal: policy.PrincipalOf(r.Caller), Action: r.Action, Resource: r.Resource, Context: j.context(ctx, r, e.permissions)}
	return e.verdict()
}

// Check is nil if the request is allowed, or AccessDenied in the service's
// words.
func (j *Judge) Check(ctx context.Context, r *Request) error {
	v := j.Judge(ctx, r)
	if v.Allowed {
		return nil
	}
	return v.Refusal(r)
}

// Refusal is what a caller who is refused is told.
func (v Verdict) Refusal(r *Request) *hearth.Error {
	who := r.Caller.ARN
	switch {
	case who == "" && r.Caller.Service != "":
		who = r.Caller.Service
	case who == "":
		who = "anonymous"
	}
	on := ""
	if r.Resource != "" && r.Resource != "*" {
		on = " on resource: " + r.Resource
	}
	why := " because no " + v.deniedBy + " allows the " + r.Action + " action"
	if v.Explicit {
		why = " with an explicit deny in " + article(v.deniedBy)
	}
	return &hearth.Error{Kind: hearth.AccessDenied, Subject: r.Resource, Message: "User: " + who + " is not authorized to perform: " + r.Action + on + why}
}

func article(of string) string {
	if strings.ContainsRune("aeiou", rune(of[0])) {
		return "an " + of
	}
	return "a " + of
}

// ByResource is what a Verdict calls the policy of a resource.
const ByResource = "the resource's policy"

// The sorts of policies, as refusals call them.
const (
	identityBased = "identity-based policy"
	resourceBased = "resource-based policy"
	boundary      = "permissions boundary"
	session       = "session policy"
)
