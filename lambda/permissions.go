package lambda

import (
	"net"
	"net/http"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/policy"
	"github.com/hearth-faas/hearth/registry"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"
	"github.com/google/uuid"
)

// permissionOperations are those of resource-based policies.
var permissionOperations = operationTable{
	"AddPermission":        serve((*Handler).addPermission),
	"DeleteResourcePolicy": serve((*Handler).deleteResourcePolicy),
	"GetPolicy":            serve((*Handler).getPolicy),
	"GetResourcePolicy":    serve((*Handler).getResourcePolicy),
	"PutResourcePolicy":    serve((*Handler).putResourcePolicy),
	"RemovePermission":     serve((*Handler).removePermission),
}

// maxPolicy bounds a policy's canonical JSON, in bytes.
const maxPolicy = 20 << 10

// authorize tells whether the caller may do something other than invoke with
// a function: its own account may unless its policy denies it, others if its
// policy allows it. A function that does not exist has no policy, so that
// others learn nothing of it.
func (h *Handler) authorize(c *call, t target, action string) error {
	id := c.claim.Identity
	own := t.account == id.Account
	if h.Judge != nil && !(own && access.IsRoot(id)) {
		doc := h.Registry.Policy(t.account, t.name, t.qualifier)
		if own && OnPolicies(action) {
			doc = nil // who may change it can't be shut out by it
		}
		return h.judge(c, "lambda:"+action, t.arn(h.region), t.account, doc, nil)
	}
	if own && (!h.Registry.Denies() || OnPolicies(action)) {
		return nil
	}
	r := policy.Request{
		Principal: policy.PrincipalOf(id), Action: "lambda:" + action, Resource: t.arn(h.region),
		Context: access.ContextOf(c.ctx, id, h.Clock.Now(), h.region),
	}
	if o, _ := h.Registry.Policy(t.account, t.name, t.qualifier).Evaluate(&r); o != policy.Allowed && (!own || o == policy.ExplicitDeny) {
		return policy.Denial(&r, o)
	}
	return nil
}

// OnPolicies tells the actions, without lambda:, that a function's own account always may: one
// that had shut itself out of a policy could not open it again.
func OnPolicies(action string) bool {
	switch action {
	case "AddPermission", "RemovePermission", "GetPolicy", "PutResourcePolicy", "GetResourcePolicy", "DeleteResourcePolicy":
		return true
	}
	return false
}

// callerIP is the address that a request came from.
func callerIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// policyTarget reads what a policy is attached to.
func (h *Handler) policyTarget(c *call, name, qualifier *string, action string) (target, error) {
	t, err := h.target(c, name, qualifier, action)
	if err == nil && t.qualifier == hearth.Latest {
		err = hearth.Errorf(hearth.InvalidParameter, "We currently do not support adding policies for $LATEST.")
	}
	return t, err
}

// exists tells whether there is what t names.
func (h *Handler) exists(c *call, t target) error {
	_, err := h.Registry.Settings(c.ctx, t.account, t.name, "")
	if err == nil && t.qualifier != "" && !isNumber(t.qualifier) && !strings.Contains(t.qualifier, "$") {
		_, err = h.Registry.Alias(c.ctx, t.account, t.name, t.qualifier)
		return err
	}
	if err == nil && t.qualifier != "" {
		_, err = h.Registry.Get(c.ctx, t.account, t.name, t.qualifier)
	}
	return err
}

func isNumber(s string) bool { return strings.Trim(s, "0123456789") == "" }

func noPolicy() error {
	return hearth.Errorf(hearth.NotFound, "No policy is associated with the given resource.")
}

func noResource() error {
	return hearth.Errorf(hearth.NotFound, "The resource you requested does not exist.")
}

// revised tells whether a change was asked for of the policy as it is.
func revised(p *registry.Policy, asked *string, api string) error {
	if asked == nil || p != nil && p.RevisionID == *asked {
		return nil
	}
	return hearth.Errorf(hearth.PreconditionFailed, "The Revision Id provided does not match the latest Revision Id. Call the %s API to retrieve the latest Revision Id", api)
}

// withStatement is a policy with one statement more.
func withStatement(p *registry.Policy, s policy.Statement) (*registry.Policy, error) {
	d := policy.Document{Version: "2012-10-17", ID: "default"}
	if p != nil {
		d = *p.Document
		for i := range d.Statements {
			if d.Statements[i].SID == s.SID {
				return nil, hearth.Errorf(hearth.Conflict, "The statement id (%s) provided already exists. Please provide a new statement id, or remove the existing statement.", s.SID)
			}
		}
	}
	d.Statements = append(d.Statements[:len(d.Statements):len(d.Statements)], s)
	return newPolicy(&d)
}

// withoutStatement is a policy without the statement; nil if that was the
// last.
func withoutStatement(p *registry.Policy, sid string) (*registry.Policy, error) {
	d := *p.Document
	d.Statements = nil
	for _, s := range p.Document.Statements {
		if s.SID != sid {
			d.Statements = append(d.Statements, s)
		}
	}
	switch len(d.Statements) {
	case len(p.Document.Statements):
		return nil, hearth.Errorf(hearth.NotFound, "Statement %s is not found in resource policy.", sid)
	case 0:
		return nil, nil
	}
	return newPolicy(&d)
}

func newPolicy(d *policy.Document) (*registry.Policy, error) {
	if size := len(d.String()); size > maxPolicy {
		return nil, hearth.Errorf(hearth.PolicyTooLong, "The final policy size (%d) is bigger than the limit (%d).", size, maxPolicy)
	}
	return &registry.Policy{Document: d, RevisionID: uuid.NewString()}, nil
}

// principalsOf reads the Principal of AddPermission: an account, an ARN, a
// service or everybody.
func principalsOf(principal string) (*policy.Principals, error) {
	p := &policy.Principals{}
	switch {
	case principal == "*":
		p.Any = true
	case isAccount(principal):
		p.AWS = []string{policy.AccountARN(principal)}
	case strings.HasPrefix(principal, "arn:"):
		p.AWS = []string{principal}
	case strings.HasSuffix(principal, ".amazonaws.com"), strings.HasSuffix(principal, ".amazonaws.com.cn"), strings.HasSuffix(principal, ".amazon.com"):
		p.Service = []string{principal}
	default:
		return nil, badPrincipal()
	}
	if p.Check() != nil {
		return nil, badPrincipal()
	}
	return p, nil
}

func badPrincipal() error {
	return hearth.Errorf(hearth.InvalidParameter, "The provided principal was invalid. Please check the principal and try again.")
}

func (h *Handler) addPermission(c *call, in *sdk.AddPermissionInput) (smithy.Serializable, error) {
	t, err := h.policyTarget(c, in.FunctionName, in.Qualifier, "AddPermission")
	if err != nil {
		return nil, err
	}
	if err := h.exists(c, t); err != nil {
		return nil, err
	}
	s, err := statementOf(in, t.arn(h.region))
	if err != nil {
		return nil, err
	}
	_, err = h.Registry.Configure(c.ctx, t.account, t.name, t.qualifier, func(set *registry.Settings) (err error) {
		if err = revised(set.Policy, in.RevisionId, "GetPolicy"); err == nil {
			set.Policy, err = withStatement(set.Policy, s)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &sdk.AddPermissionOutput{Statement: new(s.String())}, nil
}

// statementOf is the statement that AddPermission asks for. Each of its fields
// becomes the condition that the service makes of it.
func statementOf(in *sdk.AddPermissionInput, resource string) (policy.Statement, error) {
	s := policy.Statement{SID: str(in.StatementId), Effect: policy.Allow, Action: []string{str(in.Action)}, Resource: []string{resource}}
	var err error
	if s.Principal, err = principalsOf(str(in.Principal)); err != nil {
		return s, err
	}
	switch {
	case in.FunctionUrlAuthType != "" && s.Action[0] != "lambda:InvokeFunctionUrl":
		return s, hearth.Errorf(hearth.InvalidParameter, "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")
	case in.InvokedViaFunctionUrl != nil && s.Action[0] != "lambda:InvokeFunction":
		return s, hearth.Errorf(hearth.InvalidParameter, "InvokedViaFunctionUrl is only supported for lambda:InvokeFunction action")
	}
	where := func(operator, key string, value *string) {
		if str(value) != "" {
			s.Conditions = append(s.Conditions, policy.Condition{Operator: operator, Key: key, Values: []string{*value}})
		}
	}
	where("ArnLike", "AWS:SourceArn", in.SourceArn)
	if in.InvokedViaFunctionUrl != nil {
		value := "false"
		if *in.InvokedViaFunctionUrl {
			value = "true"
		}
		where("Bool", "lambda:InvokedViaFunctionUrl", &value)
	}
	where("StringEquals", "AWS:SourceAccount", in.SourceAccount)
	where("StringEquals", "aws:PrincipalOrgID", in.PrincipalOrgID)
	where("StringEquals", "lambda:EventSourceToken", in.EventSourceToken)
	where("StringEquals", "lambda:FunctionUrlAuthType", optional(string(in.FunctionUrlAuthType)))
	return s, nil
}

func (h *Handler) getPolicy(c *call, in *sdk.GetPolicyInput) (smithy.Serializable, error) {
	t, err := h.target(c, in.FunctionName, in.Qualifier, "GetPolicy")
	if err != nil {
		return nil, err
	}
	p, err := h.policyOf(c, t)
	if err != nil {
		return nil, err
	}
	return &sdk.GetPolicyOutput{Policy: new(p.Document.String()), RevisionId: new(p.RevisionID)}, nil
}

// policyOf is the policy of what t names, or why there is none.
func (h *Handler) policyOf(c *call, t target) (*registry.Policy, error) {
	if err := h.exists(c, t); err != nil {
		return nil, err
	}
	set, err := h.Registry.Settings(c.ctx, t.account, t.name, t.qualifier)
	if err != nil {
		return nil, err
	}
	if set.Policy == nil {
		return nil, noResource()
	}
	return set.Policy, nil
}

func (h *Handler) removePermission(c *call, in *sdk.RemovePermissionInput) (smithy.Serializable, error) {
	t, err := h.target(c, in.FunctionName, in.Qualifier, "RemovePermission")
	if err != nil {
		return nil, err
	}
	if err := h.exists(c, t); err != nil {
		if _, missing := h.Registry.Get(c.ctx, t.account, t.name, ""); missing != nil {
			t.qualifier = ""
			return nil, hearth.Errorf(hearth.NotFound, "No policy found for: %s", t.arn(h.region))
		}
		return nil, err
	}
	_, err = h.Registry.Configure(c.ctx, t.account, t.name, t.qualifier, func(set *registry.Settings) (err error) {
		if set.Policy == nil {
			return noPolicy()
		}
		p, err := withoutStatement(set.Policy, str(in.StatementId))
		if err == nil {
			err = revised(set.Policy, in.RevisionId, "GetPolicy")
		}
		if err == nil {
			set.Policy = p
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &sdk.RemovePermissionOutput{}, nil
}
