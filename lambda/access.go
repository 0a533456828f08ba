package lambda

import (
	"maps"
	"reflect"
	"strconv"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/policy"
)

// judge decides whether the caller may do something with a resource, whose
// policy is doc. Without a Judge whoever is of the account may.
func (h *Handler) judge(c *call, action, resource string, account hearth.Account, doc *policy.Document, about map[string][]string) error {
	r := h.asked(c, action, resource, account)
	r.Policy = doc
	for k, v := range about {
		r.Context[k] = v
	}
	return h.Judge.Check(c.ctx, r)
}

// asked is a request to be judged.
func (h *Handler) asked(c *call, action, resource string, account hearth.Account) *access.Request {
	context := map[string][]string{}
	maps.Copy(context, c.tags)
	return &access.Request{Caller: c.claim.Identity, Action: action, Resource: resource, Account: account, Context: context}
}

// requestTags is what conditions ask about the tags in an operation's input.
func requestTags(in any) map[string][]string {
	v := reflect.ValueOf(in).Elem()
	set, _ := memberOf(v, "Tags").(map[string]string)
	removed, _ := memberOf(v, "TagKeys").([]string)
	return access.RequestTags(set, removed)
}

// memberOf is a member of an input; nil if it has none of the name.
func memberOf(v reflect.Value, name string) any {
	if f := v.FieldByName(name); f.IsValid() {
		return f.Interface()
	}
	return nil
}

// free reports whether nothing is to be judged: there is no Judge, or root asks.
func (h *Handler) free(c *call) bool { return h.Judge == nil || access.IsRoot(c.claim.Identity) }

// actions are those that are not called as their operation.
var actions = map[string]string{"GetLayerVersionByArn": "GetLayerVersion"}

// may tells whether the caller may do an operation that is about no function:
// those are judged where the function is found (authorize).
func (h *Handler) may(c *call, op *operation, in any) error {
	if h.free(c) {
		return nil
	}
	c.tags = requestTags(in)
	resource, judgedLater := h.resourceOf(c, in)
	if judgedLater {
		return nil
	}
	action := op.name
	if other := actions[action]; other != "" {
		action = other
	}
	r := h.asked(c, "lambda:"+action, resource, accountOf(resource))
	// What is another account's has a policy of its own, which is looked at
	// where the thing is found: here the caller's side counts.
	r.Open = true
	return h.Judge.Check(c.ctx, r)
}

// accountOf is whose an ARN's resource is; "" is of none.
func accountOf(arn string) hearth.Account {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 && parts[0] == "arn" {
		return hearth.Account(parts[4])
	}
	return ""
}

// resourceOf is the ARN of what an operation is about, by the members of its
// input; * is of the account as a whole.
func (h *Handler) resourceOf(c *call, in any) (resource string, function bool) {
	v := reflect.ValueOf(in).Elem()
	text := func(name string) string {
		f := v.FieldByName(name)
		if f.IsValid() && f.Kind() == reflect.Pointer && !f.IsNil() && f.Elem().Kind() == reflect.String {
			return f.Elem().String()
		}
		return ""
	}
	of := func(kind, name string) string {
		if strings.HasPrefix(name, "arn:") {
			return name
		}
		return "arn:aws:lambda:" + h.region + ":" + string(c.account()) + ":" + kind + ":" + name
	}
	if text("FunctionName") != "" {
		return "", true
	}
	for _, member := range []string{"Resource", "ResourceArn"} {
		if arn := text(member); arn != "" {
			t, ok := parseName(arn)
			return arn, ok && t.account != ""
		}
	}
	for _, m := range []struct{ member, kind string }{
		{"UUID", "event-source-mapping"}, {"LayerName", "layer"}, {"Arn", "layer"}, {"CodeSigningConfigArn", "code-signing-config"},
		{"CapacityProviderName", "capacity-provider"}, {"DurableExecutionArn", "function"},
	} {
		if name := text(m.member); name != "" {
			arn := of(m.kind, name)
			if f := v.FieldByName("VersionNumber"); m.member == "LayerName" && f.IsValid() && f.Kind() == reflect.Pointer && !f.IsNil() {
				arn += ":" + strconv.FormatInt(f.Elem().Int(), 10)
			}
			return arn, false
		}
	}
	return "*", false
}

// mayPass tells whether the caller may give a role to a service.
func (h *Handler) mayPass(c *call, role, service, to string) error {
	if h.free(c) {
		return nil
	}
	r := h.asked(c, "iam:PassRole", role, accountOf(role))
	r.Context["iam:passedtoservice"] = []string{service}
	r.Context["iam:associatedresourcearn"] = []string{to}
	return h.Judge.Check(c.ctx, r)
}
