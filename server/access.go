package server

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/policy"
)

// authorize is what services of Hearth's own ask before they do something for
// somebody: with what is his account's.
func (s *Server) authorize(_ context.Context, id hearth.Identity, action, resource string) error {
	return s.judge.Check(&access.Request{Caller: id, Action: action, Resource: resource})
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
	// A function may be named by its name.
	if strings.HasPrefix(action, "lambda:") && resource != "*" && !strings.HasPrefix(resource, "arn:") {
		resource = "arn:aws:lambda:" + v.s.cfg.Region + ":" + string(a.ID) + ":function:" + resource
	}
	r := &access.Request{Caller: id, Action: action, Resource: resource, Context: about}
	if parts := strings.SplitN(resource, ":", 8); len(parts) >= 6 && parts[4] != "" {
		r.Account = hearth.Account(parts[4])
		if parts[2] == "lambda" && parts[5] == "function" && len(parts) >= 7 {
			qualifier := ""
			if len(parts) == 8 {
				qualifier = parts[7]
			}
			r.Policy = v.s.registry.Policy(r.Account, parts[6], qualifier)
		}
	}
	verdict := v.s.judge.Judge(r)
	out := control.Can{Who: id.ARN, Action: action, Resource: resource, Allowed: verdict.Allowed, Explicit: verdict.Explicit, Why: verdict.Why, By: verdict.By}
	// The other account's policy is not for this one to read.
	foreign := r.Policy != nil && r.Account != a.ID
	if st := verdict.Statement; st != nil && !foreign {
		out.SID = st.SID
		if out.Statement, err = json.Marshal(st); err != nil {
			return control.Can{}, err
		}
	}
	return out, nil
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
