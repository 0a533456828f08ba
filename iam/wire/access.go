package wire

import (
	"context"
	"strings"

	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/query"
)

// asked is a call to be judged.
func asked(c *query.Call, action, resource string) *access.Request {
	return &access.Request{Caller: c.Caller, Action: action, Resource: resource, Context: map[string][]string{}}
}

// authorize tells whether a caller may do an operation of IAM: root may all,
// and what others may their policies say.
func (s *service) authorize(ctx context.Context, c *query.Call, action string) error {
	if s.judge == nil || access.IsRoot(c.Caller) {
		return nil
	}
	r := asked(c, "iam:"+action, s.resource(c, action))
	for parameter, key := range map[string]string{"PolicyArn": "iam:policyarn", "PermissionsBoundary": "iam:permissionsboundary"} {
		if v := c.Form.Get(parameter); v != "" {
			r.Context[key] = []string{v}
		}
	}
	return s.judge.Check(ctx, r)
}

// resource is the ARN of what an operation is about.
func (s *service) resource(c *query.Call, action string) string {
	form, account := c.Form, c.Caller.Account
	base := "arn:aws:iam::" + string(account) + ":"
	path := form.Get("Path")
	if path == "" {
		path = "/"
	}
	user, role, group, arn := form.Get("UserName"), form.Get("RoleName"), form.Get("GroupName"), form.Get("PolicyArn")
	switch {
	case group != "":
		if g, err := s.dir.Group(account, group); err == nil {
			return g.ARN()
		}
		return base + "group" + path + group
	case user != "":
		if u, err := s.dir.User(account, user); err == nil {
			return u.ARN()
		}
		return base + "user" + path + user
	case role != "":
		if r, err := s.dir.Role(account, role); err == nil {
			return r.ARN()
		}
		return base + "role" + path + role
	case arn != "":
		return arn
	case form.Get("PolicySourceArn") != "":
		return form.Get("PolicySourceArn")
	case form.Get("PolicyName") != "":
		return base + "policy" + path + form.Get("PolicyName")
	case strings.Contains(c.Caller.ARN, ":user/") && (strings.Contains(action, "AccessKey") || action == "GetUser"):
		return c.Caller.ARN // himself
	}
	return "*"
}

// authorize tells whether a caller may do an operation of STS. Who he is and a
// session of his own anybody may have.
func (s *tokens) authorize(ctx context.Context, c *query.Call, action string) error {
	if s.judge == nil || access.IsRoot(c.Caller) || action != "GetAccessKeyInfo" {
		return nil
	}
	return s.judge.Check(ctx, asked(c, "sts:"+action, "*"))
}
