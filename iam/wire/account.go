package wire

import (
	"context"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/query"
)

type getUserInput struct{ UserName string }

type user struct {
	Path       string `xml:",omitempty"`
	UserName   string
	UserId     string
	Arn        string
	CreateDate query.Time
}

type getUserOutput struct{ User user }

// getUser tells of root, the only user.
func (s *service) getUser(_ context.Context, c *query.Call, in *getUserInput) (*getUserOutput, error) {
	switch {
	case in.UserName != "":
		return nil, hearth.Errorf(hearth.NoSuchEntity, "The user with name %s cannot be found.", in.UserName)
	case !strings.HasSuffix(c.Caller.ARN, ":root"):
		return nil, hearth.Errorf(hearth.Validation, "Must specify userName when calling with non-User credentials")
	}
	account := string(c.Caller.Account)
	return &getUserOutput{user{UserName: account, UserId: account, Arn: c.Caller.ARN, CreateDate: query.Time(s.since)}}, nil
}

type listAccountAliasesOutput struct {
	AccountAliases query.List[string]
	paged
}

// listAccountAliases tells that the account goes by its number alone.
func (s *service) listAccountAliases(context.Context, *query.Call, *paging) (*listAccountAliasesOutput, error) {
	return &listAccountAliasesOutput{}, nil
}
