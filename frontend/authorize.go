package frontend

import (
	"context"
	"maps"
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/policy"
)

// Policies tells functions' resource-based policies, from memory. Safe for
// concurrent use.
type Policies interface {
	// Policy is the policy under a qualifier of a function: "" or Latest is
	// the function's own. nil is none.
	Policy(account hearth.Account, name, qualifier string) *policy.Document
	// Denies tells whether any policy takes something away. While none does,
	// callers of a function's own account are not looked up.
	Denies() bool
}

// authorize tells whether inv's caller may invoke what it names. An account's
// own principals may invoke its functions unless a policy denies it to them;
// everybody else needs a statement that allows it. fn is what was resolved,
// nil if nothing was: that is not for everybody to know. An event or execution
// that was authorized is not judged again at each attempt: its caller need not
// be allowed any more, and what a service said of its source is not kept.
func (f *Frontend) authorize(ctx context.Context, inv *hearth.Invocation, fn *hearth.Function) error {
	own := inv.Caller.Account == inv.Account
	root := f.judge == nil || access.IsRoot(inv.Caller)
	if inv.Authorized || own && root && (f.policies == nil || !f.policies.Denies()) {
		return nil
	}
	var doc *policy.Document
	if f.policies != nil {
		doc = f.policies.Policy(inv.Account, inv.Name, inv.Qualifier)
	}
	r := policy.Request{Principal: policy.PrincipalOf(inv.Caller), Resource: invokedARN(inv, fn), Context: about(inv)}
	if f.judge != nil {
		return f.judged(ctx, inv, doc, &r)
	}
	maps.Copy(r.Context, access.ContextOf(ctx, inv.Caller, f.clock.Now(), regionOf(r.Resource)))
	for _, r.Action = range actionsOf(inv) {
		switch o, _ := doc.Evaluate(&r); {
		case o == policy.Allowed, own && o == policy.ImplicitDeny:
		default:
			e := policy.Denial(&r, o)
			e.Op, e.Subject = "frontend.Invoke", r.Resource
			return e
		}
	}
	return nil
}

// judged is authorize by the policies of the caller, too.
func (f *Frontend) judged(ctx context.Context, inv *hearth.Invocation, doc *policy.Document, r *policy.Request) error {
	asked := access.Request{Caller: inv.Caller, Resource: r.Resource, Account: inv.Account, Context: r.Context, Policy: doc}
	for _, asked.Action = range actionsOf(inv) {
		if v := f.judge.Judge(ctx, &asked); !v.Allowed {
			e := v.Refusal(&asked)
			e.Op = "frontend.Invoke"
			inv.Placement.Why = "the caller may not: " + v.Why
			return e
		}
	}
	return nil
}

// regionOf is the region of an ARN; "" of what is none.
func regionOf(arn string) string {
	if parts := strings.SplitN(arn, ":", 5); len(parts) == 5 {
		return parts[3]
	}
	return ""
}

// invokedARN is the ARN that the caller named.
func invokedARN(inv *hearth.Invocation, fn *hearth.Function) string {
	switch {
	case inv.InvokedARN != "":
		return inv.InvokedARN
	case fn == nil:
		return inv.Name
	case inv.Qualifier == "":
		return fn.ARN()
	}
	return fn.ARN() + ":" + inv.Qualifier
}

// actionsOf are the actions that must all be allowed. Since October 2025 a
// call of a function URL needs both.
func actionsOf(inv *hearth.Invocation) []string {
	if inv.Source != nil && inv.Source.URLAuthType != "" {
		return []string{"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}
	}
	return []string{"lambda:InvokeFunction"}
}

// about is what conditions may ask about beside who calls, when, and how the
// request came.
func about(inv *hearth.Invocation) map[string][]string {
	c := map[string][]string{}
	s := inv.Source
	if s == nil {
		return c
	}
	for key, value := range map[string]string{
		"aws:sourcearn": s.ARN, "aws:sourceaccount": string(s.Account), "aws:principalorgid": s.OrganizationID,
		"lambda:eventsourcetoken": s.EventSourceToken, "lambda:functionurlauthtype": s.URLAuthType,
		"lambda:invokedviafunctionurl": strconv.FormatBool(s.URLAuthType != ""),
	} {
		if value != "" {
			c[key] = []string{value}
		}
	}
	return c
}
