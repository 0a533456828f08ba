package wire

import (
	"context"

	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/query"
)

// group is a group in an output.
type group struct {
	Path       string
	GroupName  string
	GroupId    string
	Arn        string
	CreateDate query.Time
}

func groupOf(g *iam.Group) group {
	return group{g.Path, g.Name, g.ID, g.ARN(), query.Time(g.Created)}
}

type createGroupInput struct {
	Path      string
	GroupName string `query:"required"`
}

type createGroupOutput struct{ Group group }

func (s *service) createGroup(ctx context.Context, c *query.Call, in *createGroupInput) (*createGroupOutput, error) {
	g, err := s.dir.CreateGroup(ctx, c.Caller.Account, in.GroupName, in.Path)
	if err != nil {
		return nil, err
	}
	return &createGroupOutput{groupOf(g)}, nil
}

type groupListInput struct {
	GroupName string `query:"required"`
	paging
}

type getGroupOutput struct {
	Group group
	Users query.List[user]
	paged
}

func (s *service) getGroup(_ context.Context, c *query.Call, in *groupListInput) (*getGroupOutput, error) {
	g, err := s.dir.Group(c.Caller.Account, in.GroupName)
	if err != nil {
		return nil, err
	}
	some, marker, err := iam.Slice(s.dir.Members(g), in.page(""), func(u *iam.User) string { return u.Name })
	if err != nil {
		return nil, err
	}
	out := &getGroupOutput{Group: groupOf(g), paged: next(marker)}
	for _, u := range some {
		out.Users = append(out.Users, listedUser(u))
	}
	return out, nil
}

type listGroupsOutput struct {
	Groups query.List[group]
	paged
}

func pageOfGroups(all []*iam.Group, p paging) (*listGroupsOutput, error) {
	some, marker, err := iam.Slice(all, p.page(""), func(g *iam.Group) string { return g.Name })
	if err != nil {
		return nil, err
	}
	out := &listGroupsOutput{paged: next(marker)}
	for _, g := range some {
		out.Groups = append(out.Groups, groupOf(g))
	}
	return out, nil
}

func (s *service) listGroups(_ context.Context, c *query.Call, in *listUsersInput) (*listGroupsOutput, error) {
	return pageOfGroups(s.dir.Groups(c.Caller.Account, in.PathPrefix), in.paging)
}

func (s *service) listGroupsForUser(_ context.Context, c *query.Call, in *userListInput) (*listGroupsOutput, error) {
	u, err := s.dir.User(c.Caller.Account, in.UserName)
	if err != nil {
		return nil, err
	}
	return pageOfGroups(s.dir.GroupsOf(u), in.paging)
}

type updateGroupInput struct {
	GroupName    string `query:"required"`
	NewGroupName string
	NewPath      string
}

func (s *service) updateGroup(ctx context.Context, c *query.Call, in *updateGroupInput) (*query.Nothing, error) {
	return nil, s.dir.UpdateGroup(ctx, c.Caller.Account, in.GroupName, in.NewGroupName, in.NewPath)
}

type groupInput struct {
	GroupName string `query:"required"`
}

func (s *service) deleteGroup(ctx context.Context, c *query.Call, in *groupInput) (*query.Nothing, error) {
	return nil, s.dir.DeleteGroup(ctx, c.Caller.Account, in.GroupName)
}

type memberInput struct {
	GroupName string `query:"required"`
	UserName  string `query:"required"`
}

func (s *service) addUserToGroup(ctx context.Context, c *query.Call, in *memberInput) (*query.Nothing, error) {
	return nil, s.dir.Join(ctx, c.Caller.Account, in.GroupName, in.UserName)
}

func (s *service) removeUserFromGroup(ctx context.Context, c *query.Call, in *memberInput) (*query.Nothing, error) {
	return nil, s.dir.Leave(ctx, c.Caller.Account, in.GroupName, in.UserName)
}

type putGroupPolicyInput struct {
	GroupName      string `query:"required"`
	PolicyName     string `query:"required"`
	PolicyDocument string `query:"required"`
}

func (s *service) putGroupPolicy(ctx context.Context, c *query.Call, in *putGroupPolicyInput) (*query.Nothing, error) {
	return nil, s.dir.PutGroupPolicy(ctx, c.Caller.Account, in.GroupName, iam.Inline{Name: in.PolicyName, Document: in.PolicyDocument})
}

type groupPolicyInput struct {
	GroupName  string `query:"required"`
	PolicyName string `query:"required"`
}

type getGroupPolicyOutput struct {
	GroupName      string
	PolicyName     string
	PolicyDocument string
}

func (s *service) getGroupPolicy(_ context.Context, c *query.Call, in *groupPolicyInput) (*getGroupPolicyOutput, error) {
	g, err := s.dir.Group(c.Caller.Account, in.GroupName)
	if err != nil {
		return nil, err
	}
	p, err := g.Named("group", in.PolicyName)
	if err != nil {
		return nil, err
	}
	return &getGroupPolicyOutput{in.GroupName, p.Name, encoded(p.Document)}, nil
}

func (s *service) deleteGroupPolicy(ctx context.Context, c *query.Call, in *groupPolicyInput) (*query.Nothing, error) {
	return nil, s.dir.DeleteGroupPolicy(ctx, c.Caller.Account, in.GroupName, in.PolicyName)
}

func (s *service) listGroupPolicies(_ context.Context, c *query.Call, in *groupListInput) (*listRolePoliciesOutput, error) {
	g, err := s.dir.Group(c.Caller.Account, in.GroupName)
	if err != nil {
		return nil, err
	}
	return inlineNames(g.Inline, in.paging)
}

type attachGroupInput struct {
	GroupName string `query:"required"`
	PolicyArn string `query:"required"`
}

func (s *service) attachGroupPolicy(ctx context.Context, c *query.Call, in *attachGroupInput) (*query.Nothing, error) {
	return nil, s.dir.AttachToGroup(ctx, c.Caller.Account, in.GroupName, in.PolicyArn)
}

func (s *service) detachGroupPolicy(ctx context.Context, c *query.Call, in *attachGroupInput) (*query.Nothing, error) {
	return nil, s.dir.DetachFromGroup(ctx, c.Caller.Account, in.GroupName, in.PolicyArn)
}

type listAttachedGroupInput struct {
	GroupName  string `query:"required"`
	PathPrefix string
	paging
}

func (s *service) listAttachedGroupPolicies(_ context.Context, c *query.Call, in *listAttachedGroupInput) (*listAttachedOutput, error) {
	g, err := s.dir.Group(c.Caller.Account, in.GroupName)
	if err != nil {
		return nil, err
	}
	return s.attachedPage(c, g.Attached, in.PathPrefix, in.paging)
}
