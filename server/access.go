package server

import (
	"context"
	"encoding/json"
	"maps"
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/lambda"
	"github.com/hearth-faas/hearth/policy"
	"github.com/hearth-faas/hearth/sqs"
)

// authorize is what services of Hearth's own ask before they do something for
// somebody: with what is his account's.
func (s *Server) authorize(ctx context.Context, id hearth.Identity, action, resource string) error {
	return s.judge.Check(ctx, &access.Request{Caller: id, Action: action, Resource: resource})
}

// verdicts tell the control API who may do what.
type verdicts struct{ s *Server }

// Can implements control.Access.
func (v verdicts) Can(ctx context.Context, account hearth.Account, who, action, resource string, about map[string][]string) (control.Can, error) {
	a, err := v.s.accounts.Find(string(account))
	if err != nil {
		return control.Can{}, err
	}
	id, err := v.who(a.ID, who)
	if err != nil {
		return control.Can{}, err
	}
	if !strings.Contains(action, ":") || strings.ContainsAny(action, "*?") {
		return control.Can{}, hearth.Errorf(hearth.InvalidParameter, "%.80q is no action, such as lambda:InvokeFunction.", action)
	}
	if resource == "" {
		resource = "*"
	}
	// A function may be named by its name, and a queue, and a role.
	if resource != "*" && !strings.HasPrefix(resource, "arn:") {
		switch service, _, _ := strings.Cut(action, ":"); service {
		case "lambda":
			resource = "arn:aws:lambda:" + v.s.cfg.Region + ":" + string(a.ID) + ":function:" + resource
		case "sqs":
			resource = v.s.queues.ARN(a.ID, resource)
		case "sts":
			role, err := v.s.roles.Role(a.ID, strings.TrimPrefix(resource, "role/"))
			if err != nil {
				return control.Can{}, err
			}
			resource = role.ARN()
		default:
			return control.Can{}, hearth.Errorf(hearth.InvalidParameter, "%.200q is no ARN: by their names are known functions (lambda:), queues (sqs:) and roles (sts:).", resource)
		}
	}
	r := &access.Request{Caller: id, Action: action, Resource: resource, Context: about}
	r.Account, r.Policy = v.s.policyOf(a.ID, action, resource)
	// Not how this request came is asked about, but what about says.
	ctx = access.Arrived(ctx, access.Origin{})
	verdict := v.s.judge.Judge(ctx, r)
	if strings.HasPrefix(action, "sts:") && strings.Contains(resource, ":role/") {
		verdict = v.assume(ctx, r)
	}
	out := control.Can{Who: id.ARN, Action: action, Resource: resource, Allowed: verdict.Allowed, Explicit: verdict.Explicit, Why: verdict.Why, By: verdict.By}
	// The other account's policy is not for this one to read.
	foreign := r.Account != "" && r.Account != a.ID && (verdict.By == access.ByResource || verdict.By == byTrust)
	if st := verdict.Statement; st != nil && !foreign {
		out.SID = st.SID
		if out.Statement, err = json.Marshal(st); err != nil {
			return control.Can{}, err
		}
	}
	return out, nil
}

// byTrust is which policy decides about taking a role on.
const byTrust = "the role's trust policy"

// assume is the verdict about taking a role on: its trust policy must allow it,
// and the caller's policies too, unless it trusts just him.
func (v verdicts) assume(ctx context.Context, r *access.Request) access.Verdict {
	about := access.Came(ctx)
	maps.Copy(about, r.Context)
	trust := v.s.roles.Trusts(r.Caller, r.Resource, r.Action, about)
	own := r.Account == "" || r.Account == r.Caller.Account
	switch {
	case trust.Outcome == policy.ExplicitDeny:
		return access.Verdict{Explicit: true, By: byTrust, Statement: trust.Statement, Why: byTrust + " denies it"}
	case trust.Outcome != policy.Allowed && !own: // whether there is such a role is not to be found out
		return access.Verdict{Why: byTrust + " does not allow it, or there is no such role"}
	case trust.Policy == nil:
		return access.Verdict{Why: "there is no role " + r.Resource}
	case trust.Outcome != policy.Allowed:
		return access.Verdict{Why: byTrust + " does not allow it" + access.Almost("it", trust.Policy, trust.Asked)}
	case trust.Himself:
		return access.Verdict{Allowed: true, By: byTrust, Statement: trust.Statement, Why: byTrust + " names the caller himself"}
	}
	open := *r
	open.Open = true // of the role's side its trust policy has decided
	return v.s.judge.Judge(ctx, &open)
}

// policyOf is whose a resource is, "" if its ARN does not say, and the policy of
// its own by which an action of somebody of the account is judged.
func (s *Server) policyOf(caller hearth.Account, action, resource string) (hearth.Account, *policy.Document) {
	parts := strings.SplitN(resource, ":", 8)
	if len(parts) < 6 || parts[4] == "" {
		return "", nil
	}
	account := hearth.Account(parts[4])
	own := account == caller
	_, name, _ := strings.Cut(action, ":")
	switch {
	case parts[2] == "sqs" && !(own && sqs.OnPolicy(name)):
		return account, s.queues.Policy(account, parts[5])
	case parts[2] != "lambda" || len(parts) < 7:
	case parts[5] == "function" && !(own && lambda.OnPolicies(name)):
		qualifier := ""
		if len(parts) == 8 {
			qualifier = parts[7]
		}
		return account, s.registry.Policy(account, parts[6], qualifier)
	case parts[5] == "layer" && len(parts) == 8 && !own: // of its own account a layer's policy takes nothing
		number, err := strconv.Atoi(parts[7])
		if err != nil {
			break
		}
		if l := s.registry.LayerVersion(account, parts[6], number); l != nil && l.Policy != nil {
			return account, l.Policy.Document
		}
	}
	return account, nil
}

// tagsOf are the tags of a resource, for conditions; none of one that there is
// not. A function's are those of its versions and aliases too.
func (s *Server) tagsOf(resource string) map[string]string {
	parts := strings.SplitN(resource, ":", 8)
	if len(parts) < 6 {
		return nil
	}
	account := hearth.Account(parts[4])
	if parts[2] == "sqs" {
		tags, err := s.queues.Tags(account, parts[5])
		if err != nil {
			return nil
		}
		return tags
	}
	if parts[2] != "lambda" || len(parts) < 7 {
		return nil
	}
	var of lambda.TagStore
	switch parts[5] {
	case "function":
		of = s.registry
	case "event-source-mapping":
		of = s.mappings
	case "capacity-provider":
		of = s.capacity
	case "code-signing-config":
		of = s.signing
	default:
		return nil
	}
	tags, err := of.Tags(context.Background(), account, parts[6])
	if err != nil {
		return nil
	}
	return tags
}

// who is the identity that a name or ARN means: root, a user, a role or a
// session of one.
func (v verdicts) who(account hearth.Account, who string) (hearth.Identity, error) {
	root := hearth.Identity{Account: account, ARN: policy.AccountARN(string(account)), UserID: string(account)}
	if who == "root" || who == root.ARN {
		return root, nil
	}
	if !strings.HasPrefix(who, "arn:") {
		kind, name, given := strings.Cut(who, "/")
		if !given {
			kind, name = "", who
		}
		if u, err := v.s.roles.User(account, name); err == nil && (kind == "" || kind == "user") {
			return hearth.Identity{Account: account, ARN: u.ARN(), UserID: u.ID}, nil
		}
		if r, err := v.s.roles.Role(account, name); err == nil && (kind == "" || kind == "role") {
			return hearth.Identity{Account: account, ARN: r.ARN(), UserID: r.ID}, nil
		}
		return root, hearth.Errorf(hearth.NotFound, "The account %s has no user and no role %q.", account, who)
	}
	parts := strings.SplitN(who, ":", 6)
	if len(parts) != 6 || parts[4] != string(account) {
		return root, hearth.Errorf(hearth.InvalidParameter, "%.200q is nobody of account %s.", who, account)
	}
	id := hearth.Identity{Account: account, ARN: who}
	if _, session := policy.RoleOf(who); !session {
		if p, known := v.s.roles.PermissionsOf(id); p == nil || !known {
			return root, hearth.Errorf(hearth.NotFound, "There is no %s.", who)
		}
	}
	return id, nil
}
