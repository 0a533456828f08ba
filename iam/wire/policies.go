package wire

import (
	"context"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/query"
)

// policy is a managed policy in an output.
type policy struct {
	PolicyName                    string
	PolicyId                      string
	Arn                           string
	Path                          string
	DefaultVersionId              string
	AttachmentCount               int
	PermissionsBoundaryUsageCount int
	IsAttachable                  bool
	Description                   string `xml:",omitempty"`
	CreateDate                    query.Time
	UpdateDate                    query.Time
	Tags                          *query.List[tag] `xml:",omitempty"`
}

// listedPolicy is a policy as lists have it: without description and tags.
func (s *service) listedPolicy(account hearth.Account, p *iam.Policy) policy {
	uses := s.dir.Uses(account, p.ARN())
	return policy{
		PolicyName: p.Name, PolicyId: p.ID, Arn: p.ARN(), Path: p.Path, DefaultVersionId: p.Default,
		AttachmentCount: uses.Attached(), PermissionsBoundaryUsageCount: uses.Bounded(), IsAttachable: true,
		CreateDate: query.Time(p.Created), UpdateDate: query.Time(p.Updated),
	}
}

func (s *service) wholePolicy(account hearth.Account, p *iam.Policy) policy {
	out := s.listedPolicy(account, p)
	out.Description = p.Description
	tags := tagList(p.Tags)
	out.Tags = &tags
	return out
}

type createPolicyInput struct {
	PolicyName     string `query:"required"`
	Path           string
	PolicyDocument string `query:"required"`
	Description    string
	Tags           []tag
}

type policyOutput struct{ Policy policy }

func (s *service) createPolicy(ctx context.Context, c *query.Call, in *createPolicyInput) (*policyOutput, error) {
	p, err := s.dir.CreatePolicy(ctx, c.Caller.Account, iam.NewPolicy{
		Name: in.PolicyName, Path: in.Path, Description: in.Description, Document: in.PolicyDocument, Tags: tagsOf(in.Tags),
	})
	if err != nil {
		return nil, err
	}
	return &policyOutput{s.wholePolicy(c.Caller.Account, p)}, nil
}

type policyInput struct {
	PolicyArn string `query:"required"`
}

func (s *service) getPolicy(_ context.Context, c *query.Call, in *policyInput) (*policyOutput, error) {
	p, err := s.dir.Policy(c.Caller.Account, in.PolicyArn)
	if err != nil {
		return nil, err
	}
	return &policyOutput{s.wholePolicy(c.Caller.Account, p)}, nil
}

func (s *service) deletePolicy(ctx context.Context, c *query.Call, in *policyInput) (*query.Nothing, error) {
	return nil, s.dir.DeletePolicy(ctx, c.Caller.Account, in.PolicyArn)
}

type listPoliciesInput struct {
	Scope             string
	OnlyAttached      bool
	PathPrefix        string
	PolicyUsageFilter string
	paging
}

type listPoliciesOutput struct {
	Policies query.List[policy]
	paged
}

func (s *service) listPolicies(_ context.Context, c *query.Call, in *listPoliciesInput) (*listPoliciesOutput, error) {
	var all []policy
	for _, p := range s.dir.List(c.Caller.Account, in.Scope != "AWS", in.Scope != "Local", in.PathPrefix) {
		out := s.listedPolicy(c.Caller.Account, p)
		switch {
		case in.OnlyAttached && out.AttachmentCount+out.PermissionsBoundaryUsageCount == 0,
			in.PolicyUsageFilter == "PermissionsPolicy" && out.AttachmentCount == 0,
			in.PolicyUsageFilter == "PermissionsBoundary" && out.PermissionsBoundaryUsageCount == 0:
			continue
		}
		all = append(all, out)
	}
	some, marker, err := iam.Slice(all, in.page(""), func(p policy) string { return p.Arn })
	if err != nil {
		return nil, err
	}
	return &listPoliciesOutput{some, next(marker)}, nil
}

type listEntitiesInput struct {
	PolicyArn         string `query:"required"`
	EntityFilter      string
	PathPrefix        string
	PolicyUsageFilter string
	paging
}

type policyRole struct {
	RoleName string
	RoleId   string
}

type policyUser struct {
	UserName string
	UserId   string
}

type policyGroup struct {
	GroupName string
	GroupId   string
}

type listEntitiesOutput struct {
	PolicyGroups query.List[policyGroup]
	PolicyUsers  query.List[policyUser]
	PolicyRoles  query.List[policyRole]
	paged
}

// entity is one that uses a policy.
type entity struct {
	sort, name, id string
}

// listEntitiesForPolicy lists who uses a policy: all sorts in one list, of which
// a page has some.
func (s *service) listEntitiesForPolicy(_ context.Context, c *query.Call, in *listEntitiesInput) (*listEntitiesOutput, error) {
	if _, err := s.dir.Policy(c.Caller.Account, in.PolicyArn); err != nil {
		return nil, err
	}
	uses := s.dir.Uses(c.Caller.Account, in.PolicyArn)
	if in.PolicyUsageFilter == "PermissionsBoundary" {
		uses.Roles, uses.Users, uses.Groups = uses.BoundedRoles, uses.BoundedUsers, nil
	}
	var all []entity
	add := func(sort, path, name, id string) {
		if (in.EntityFilter == "" || in.EntityFilter == sort) && strings.HasPrefix(path, in.PathPrefix) {
			all = append(all, entity{sort, name, id})
		}
	}
	for _, g := range uses.Groups {
		add("Group", g.Path, g.Name, g.ID)
	}
	for _, r := range uses.Roles {
		add("Role", r.Path, r.Name, r.ID)
	}
	for _, u := range uses.Users {
		add("User", u.Path, u.Name, u.ID)
	}
	some, marker, err := iam.Slice(all, in.page(""), func(e entity) string { return e.sort + "/" + e.name })
	if err != nil {
		return nil, err
	}
	out := &listEntitiesOutput{paged: next(marker)}
	for _, e := range some {
		switch e.sort {
		case "Group":
			out.PolicyGroups = append(out.PolicyGroups, policyGroup{e.name, e.id})
		case "Role":
			out.PolicyRoles = append(out.PolicyRoles, policyRole{e.name, e.id})
		default:
			out.PolicyUsers = append(out.PolicyUsers, policyUser{e.name, e.id})
		}
	}
	return out, nil
}

// version is a version of a managed policy in an output.
type version struct {
	Document         string `xml:",omitempty"`
	VersionId        string
	IsDefaultVersion bool
	CreateDate       query.Time
}

func versionOf(p *iam.Policy, v *iam.Version) version {
	return version{VersionId: v.ID, IsDefaultVersion: p.Default == v.ID, CreateDate: query.Time(v.Created)}
}

type createPolicyVersionInput struct {
	PolicyArn      string `query:"required"`
	PolicyDocument string `query:"required"`
	SetAsDefault   bool
}

type versionOutput struct{ PolicyVersion version }

func (s *service) createPolicyVersion(ctx context.Context, c *query.Call, in *createPolicyVersionInput) (*versionOutput, error) {
	p, v, err := s.dir.CreateVersion(ctx, c.Caller.Account, in.PolicyArn, in.PolicyDocument, in.SetAsDefault)
	if err != nil {
		return nil, err
	}
	return &versionOutput{versionOf(p, v)}, nil
}

type versionInput struct {
	PolicyArn string `query:"required"`
	VersionId string `query:"required"`
}

func (s *service) getPolicyVersion(_ context.Context, c *query.Call, in *versionInput) (*versionOutput, error) {
	p, v, err := s.dir.Version(c.Caller.Account, in.PolicyArn, in.VersionId)
	if err != nil {
		return nil, err
	}
	out := versionOf(p, v)
	out.Document = encoded(v.Document)
	return &versionOutput{out}, nil
}

type policyListInput struct {
	PolicyArn string `query:"required"`
	paging
}

type listVersionsOutput struct {
	Versions query.List[version]
	paged
}

func (s *service) listPolicyVersions(_ context.Context, c *query.Call, in *policyListInput) (*listVersionsOutput, error) {
	p, err := s.dir.Policy(c.Caller.Account, in.PolicyArn)
	if err != nil {
		return nil, err
	}
	// The newest comes first. There are so few that their order is by place.
	var all []version
	for i := range p.Versions {
		all = append(all, versionOf(p, &p.Versions[len(p.Versions)-1-i]))
	}
	some, marker, err := iam.Slice(all, in.page(""), func(v version) string {
		for i := range all {
			if all[i].VersionId == v.VersionId {
				return string(rune('a' + i))
			}
		}
		return ""
	})
	if err != nil {
		return nil, err
	}
	return &listVersionsOutput{some, next(marker)}, nil
}

func (s *service) setDefaultPolicyVersion(ctx context.Context, c *query.Call, in *versionInput) (*query.Nothing, error) {
	return nil, s.dir.SetDefault(ctx, c.Caller.Account, in.PolicyArn, in.VersionId)
}

func (s *service) deletePolicyVersion(ctx context.Context, c *query.Call, in *versionInput) (*query.Nothing, error) {
	return nil, s.dir.DeleteVersion(ctx, c.Caller.Account, in.PolicyArn, in.VersionId)
}

type tagPolicyInput struct {
	PolicyArn string `query:"required"`
	Tags      []tag  `query:"required"`
}

func (s *service) tagPolicy(ctx context.Context, c *query.Call, in *tagPolicyInput) (*query.Nothing, error) {
	return nil, s.dir.TagPolicy(ctx, c.Caller.Account, in.PolicyArn, tagsOf(in.Tags))
}

type untagPolicyInput struct {
	PolicyArn string   `query:"required"`
	TagKeys   []string `query:"required"`
}

func (s *service) untagPolicy(ctx context.Context, c *query.Call, in *untagPolicyInput) (*query.Nothing, error) {
	return nil, s.dir.UntagPolicy(ctx, c.Caller.Account, in.PolicyArn, in.TagKeys)
}

func (s *service) listPolicyTags(_ context.Context, c *query.Call, in *policyListInput) (*tagsOutput, error) {
	p, err := s.dir.Policy(c.Caller.Account, in.PolicyArn)
	if err != nil {
		return nil, err
	}
	return pageOfTags(p.Tags, in.paging)
}
