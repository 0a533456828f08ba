package wire

import (
	"context"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/query"
)

type roleBoundary struct {
	PermissionsBoundaryType string
	PermissionsBoundaryArn  string
}

type roleLastUsed struct {
	LastUsedDate *query.Time `xml:",omitempty"`
	Region       string      `xml:",omitempty"`
}

// role is a role in an output.
type role struct {
	Path                     string
	RoleName                 string
	RoleId                   string
	Arn                      string
	CreateDate               query.Time
	AssumeRolePolicyDocument string
	Description              string           `xml:",omitempty"`
	MaxSessionDuration       int              `xml:",omitempty"`
	PermissionsBoundary      *roleBoundary    `xml:",omitempty"`
	Tags                     *query.List[tag] `xml:",omitempty"`
	RoleLastUsed             *roleLastUsed    `xml:",omitempty"`
}

// listed is a role as lists have it: without its tags, its boundary and its
// last use.
func listed(r *iam.Role) role {
	return role{
		Path: r.Path, RoleName: r.Name, RoleId: r.ID, Arn: r.ARN(), CreateDate: query.Time(r.Created),
		AssumeRolePolicyDocument: encoded(r.Trust), Description: r.Description, MaxSessionDuration: r.MaxSession,
	}
}

// whole is a role with everything.
func (s *service) whole(r *iam.Role) role {
	out := listed(r)
	if r.Boundary != "" {
		out.PermissionsBoundary = &roleBoundary{"Policy", r.Boundary}
	}
	if len(r.Tags) > 0 {
		tags := tagList(r.Tags)
		out.Tags = &tags
	}
	out.RoleLastUsed = &roleLastUsed{}
	if !r.Used.IsZero() {
		used := query.Time(r.Used)
		out.RoleLastUsed = &roleLastUsed{&used, s.region}
	}
	return out
}

type createRoleInput struct {
	Path                     string
	RoleName                 string `query:"required"`
	AssumeRolePolicyDocument string `query:"required"`
	Description              string
	MaxSessionDuration       *int
	PermissionsBoundary      string
	Tags                     []tag
}

type roleOutput struct{ Role role }

func (s *service) createRole(ctx context.Context, c *query.Call, in *createRoleInput) (*roleOutput, error) {
	n := iam.NewRole{
		Name: in.RoleName, Path: in.Path, Description: in.Description, Trust: in.AssumeRolePolicyDocument,
		Boundary: in.PermissionsBoundary, Tags: tagsOf(in.Tags),
	}
	if in.MaxSessionDuration != nil {
		n.MaxSession = *in.MaxSessionDuration
	}
	r, err := s.dir.CreateRole(ctx, c.Caller.Account, n)
	if err != nil {
		return nil, err
	}
	out := s.whole(r)
	out.RoleLastUsed = nil
	return &roleOutput{out}, nil
}

type roleInput struct {
	RoleName string `query:"required"`
}

func (s *service) getRole(_ context.Context, c *query.Call, in *roleInput) (*roleOutput, error) {
	r, err := s.dir.Role(c.Caller.Account, in.RoleName)
	if err != nil {
		return nil, err
	}
	return &roleOutput{s.whole(r)}, nil
}

type listRolesInput struct {
	PathPrefix string
	paging
}

type listRolesOutput struct {
	Roles query.List[role]
	paged
}

func (s *service) listRoles(_ context.Context, c *query.Call, in *listRolesInput) (*listRolesOutput, error) {
	roles, marker, err := s.dir.Roles(c.Caller.Account, in.page(in.PathPrefix))
	if err != nil {
		return nil, err
	}
	out := &listRolesOutput{paged: next(marker)}
	for _, r := range roles {
		out.Roles = append(out.Roles, listed(r))
	}
	return out, nil
}

type updateRoleInput struct {
	RoleName           string `query:"required"`
	Description        *string
	MaxSessionDuration *int
}

// updateRoleOutput is an empty result, which is not the same as none.
type updateRoleOutput struct{}

func (s *service) updateRole(ctx context.Context, c *query.Call, in *updateRoleInput) (*updateRoleOutput, error) {
	if _, err := s.dir.UpdateRole(ctx, c.Caller.Account, in.RoleName, in.Description, in.MaxSessionDuration); err != nil {
		return nil, err
	}
	return &updateRoleOutput{}, nil
}

type updateRoleDescriptionInput struct {
	RoleName    string  `query:"required"`
	Description *string `query:"required"`
}

func (s *service) updateRoleDescription(ctx context.Context, c *query.Call, in *updateRoleDescriptionInput) (*roleOutput, error) {
	r, err := s.dir.UpdateRole(ctx, c.Caller.Account, in.RoleName, in.Description, nil)
	if err != nil {
		return nil, err
	}
	return &roleOutput{s.whole(r)}, nil
}

type updateAssumeRolePolicyInput struct {
	RoleName       string `query:"required"`
	PolicyDocument string `query:"required"`
}

func (s *service) updateAssumeRolePolicy(ctx context.Context, c *query.Call, in *updateAssumeRolePolicyInput) (*query.Nothing, error) {
	return nil, s.dir.SetTrust(ctx, c.Caller.Account, in.RoleName, in.PolicyDocument)
}

func (s *service) deleteRole(ctx context.Context, c *query.Call, in *roleInput) (*query.Nothing, error) {
	return nil, s.dir.DeleteRole(ctx, c.Caller.Account, in.RoleName)
}

type putRolePermissionsBoundaryInput struct {
	RoleName            string `query:"required"`
	PermissionsBoundary string `query:"required"`
}

func (s *service) putRolePermissionsBoundary(ctx context.Context, c *query.Call, in *putRolePermissionsBoundaryInput) (*query.Nothing, error) {
	return nil, s.dir.SetBoundary(ctx, c.Caller.Account, in.RoleName, in.PermissionsBoundary)
}

func (s *service) deleteRolePermissionsBoundary(ctx context.Context, c *query.Call, in *roleInput) (*query.Nothing, error) {
	return nil, s.dir.SetBoundary(ctx, c.Caller.Account, in.RoleName, "")
}

type tagRoleInput struct {
	RoleName string `query:"required"`
	Tags     []tag  `query:"required"`
}

func (s *service) tagRole(ctx context.Context, c *query.Call, in *tagRoleInput) (*query.Nothing, error) {
	return nil, s.dir.TagRole(ctx, c.Caller.Account, in.RoleName, tagsOf(in.Tags))
}

type untagRoleInput struct {
	RoleName string   `query:"required"`
	TagKeys  []string `query:"required"`
}

func (s *service) untagRole(ctx context.Context, c *query.Call, in *untagRoleInput) (*query.Nothing, error) {
	return nil, s.dir.UntagRole(ctx, c.Caller.Account, in.RoleName, in.TagKeys)
}

type roleListInput struct {
	RoleName string `query:"required"`
	paging
}

func (s *service) listRoleTags(_ context.Context, c *query.Call, in *roleListInput) (*tagsOutput, error) {
	r, err := s.dir.Role(c.Caller.Account, in.RoleName)
	if err != nil {
		return nil, err
	}
	return pageOfTags(r.Tags, in.paging)
}

func pageOfTags(tags []iam.Tag, p paging) (*tagsOutput, error) {
	some, marker, err := iam.Slice(tags, p.page(""), func(t iam.Tag) string { return t.Key })
	if err != nil {
		return nil, err
	}
	return &tagsOutput{tagList(some), next(marker)}, nil
}

type listInstanceProfilesOutput struct {
	InstanceProfiles query.List[string]
	paged
}

// listInstanceProfilesForRole is asked before a role is deleted. Nothing here
// has an instance profile.
func (s *service) listInstanceProfilesForRole(_ context.Context, c *query.Call, in *roleListInput) (*listInstanceProfilesOutput, error) {
	if _, err := s.dir.Role(c.Caller.Account, in.RoleName); err != nil {
		return nil, err
	}
	return &listInstanceProfilesOutput{}, nil
}

type putRolePolicyInput struct {
	RoleName       string `query:"required"`
	PolicyName     string `query:"required"`
	PolicyDocument string `query:"required"`
}

func (s *service) putRolePolicy(ctx context.Context, c *query.Call, in *putRolePolicyInput) (*query.Nothing, error) {
	return nil, s.dir.PutInline(ctx, c.Caller.Account, in.RoleName, iam.Inline{Name: in.PolicyName, Document: in.PolicyDocument})
}

type rolePolicyInput struct {
	RoleName   string `query:"required"`
	PolicyName string `query:"required"`
}

type getRolePolicyOutput struct {
	RoleName       string
	PolicyName     string
	PolicyDocument string
}

func (s *service) getRolePolicy(_ context.Context, c *query.Call, in *rolePolicyInput) (*getRolePolicyOutput, error) {
	p, err := s.dir.Inline(c.Caller.Account, in.RoleName, in.PolicyName)
	if err != nil {
		return nil, err
	}
	return &getRolePolicyOutput{in.RoleName, p.Name, encoded(p.Document)}, nil
}

func (s *service) deleteRolePolicy(ctx context.Context, c *query.Call, in *rolePolicyInput) (*query.Nothing, error) {
	return nil, s.dir.DeleteInline(ctx, c.Caller.Account, in.RoleName, in.PolicyName)
}

type listRolePoliciesOutput struct {
	PolicyNames query.List[string]
	paged
}

func (s *service) listRolePolicies(_ context.Context, c *query.Call, in *roleListInput) (*listRolePoliciesOutput, error) {
	r, err := s.dir.Role(c.Caller.Account, in.RoleName)
	if err != nil {
		return nil, err
	}
	return inlineNames(r.Inline, in.paging)
}

type attachInput struct {
	RoleName  string `query:"required"`
	PolicyArn string `query:"required"`
}

func (s *service) attachRolePolicy(ctx context.Context, c *query.Call, in *attachInput) (*query.Nothing, error) {
	return nil, s.dir.Attach(ctx, c.Caller.Account, in.RoleName, in.PolicyArn)
}

func (s *service) detachRolePolicy(ctx context.Context, c *query.Call, in *attachInput) (*query.Nothing, error) {
	return nil, s.dir.Detach(ctx, c.Caller.Account, in.RoleName, in.PolicyArn)
}

type listAttachedInput struct {
	RoleName   string `query:"required"`
	PathPrefix string
	paging
}

type attachedPolicy struct {
	PolicyName string
	PolicyArn  string
}

type listAttachedOutput struct {
	AttachedPolicies query.List[attachedPolicy]
	paged
}

func (s *service) listAttachedRolePolicies(_ context.Context, c *query.Call, in *listAttachedInput) (*listAttachedOutput, error) {
	r, err := s.dir.Role(c.Caller.Account, in.RoleName)
	if err != nil {
		return nil, err
	}
	return s.attachedPage(c, r.Attached, in.PathPrefix, in.paging)
}

// attachedPage is a page of attached policies that are under a path.
func (s *service) attachedPage(c *query.Call, attached []string, path string, page paging) (*listAttachedOutput, error) {
	var all []attachedPolicy
	for _, arn := range attached {
		p, err := s.dir.Policy(c.Caller.Account, arn)
		if err != nil {
			// One of AWS's that an older Hearth had.
			if hearth.KindOf(err) == hearth.NoSuchEntity {
				continue
			}
			return nil, err
		}
		if strings.HasPrefix(p.Path, path) {
			all = append(all, attachedPolicy{p.Name, arn})
		}
	}
	some, marker, err := iam.Slice(all, page.page(""), func(p attachedPolicy) string { return p.PolicyArn })
	if err != nil {
		return nil, err
	}
	return &listAttachedOutput{some, next(marker)}, nil
}
