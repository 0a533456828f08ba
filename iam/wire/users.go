package wire

import (
	"context"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/query"
)

// user is a user in an output.
type user struct {
	Path                string `xml:",omitempty"`
	UserName            string
	UserId              string
	Arn                 string
	CreateDate          query.Time
	PermissionsBoundary *roleBoundary    `xml:",omitempty"`
	Tags                *query.List[tag] `xml:",omitempty"`
}

// listedUser is a user as lists have it: without tags and boundary.
func listedUser(u *iam.User) user {
	return user{Path: u.Path, UserName: u.Name, UserId: u.ID, Arn: u.ARN(), CreateDate: query.Time(u.Created)}
}

func wholeUser(u *iam.User) user {
	out := listedUser(u)
	if u.Boundary != "" {
		out.PermissionsBoundary = &roleBoundary{"Policy", u.Boundary}
	}
	if len(u.Tags) > 0 {
		tags := tagList(u.Tags)
		out.Tags = &tags
	}
	return out
}

type createUserInput struct {
	Path                string
	UserName            string `query:"required"`
	PermissionsBoundary string
	Tags                []tag
}

type userOutput struct{ User user }

func (s *service) createUser(ctx context.Context, c *query.Call, in *createUserInput) (*userOutput, error) {
	u, err := s.dir.CreateUser(ctx, c.Caller.Account, iam.NewUser{
		Name: in.UserName, Path: in.Path, Boundary: in.PermissionsBoundary, Tags: tagsOf(in.Tags),
	})
	if err != nil {
		return nil, err
	}
	return &userOutput{wholeUser(u)}, nil
}

type maybeUserInput struct{ UserName string }

// getUser tells of a user, or without a name of who asks: a user, or root.
func (s *service) getUser(_ context.Context, c *query.Call, in *maybeUserInput) (*userOutput, error) {
	if in.UserName == "" && strings.HasSuffix(c.Caller.ARN, ":root") {
		account := string(c.Caller.Account)
		return &userOutput{user{UserName: account, UserId: account, Arn: c.Caller.ARN, CreateDate: query.Time(s.since(c.Caller.Account))}}, nil
	}
	u, err := s.userOrSelf(c, in.UserName)
	if err != nil {
		return nil, err
	}
	return &userOutput{wholeUser(u)}, nil
}

// userOrSelf is the user of a name, or with "" who asks. Errors: Validation if
// who asks is no user.
func (s *service) userOrSelf(c *query.Call, name string) (*iam.User, error) {
	if name != "" {
		return s.dir.User(c.Caller.Account, name)
	}
	if strings.Contains(c.Caller.ARN, ":user/") {
		if u := s.dir.UserByID(c.Caller.Account, c.Caller.UserID); u != nil {
			return u, nil
		}
	}
	return nil, hearth.Errorf(hearth.Validation, "Must specify userName when calling with non-User credentials")
}

type listUsersInput struct {
	PathPrefix string
	paging
}

type listUsersOutput struct {
	Users query.List[user]
	paged
}

func (s *service) listUsers(_ context.Context, c *query.Call, in *listUsersInput) (*listUsersOutput, error) {
	some, marker, err := iam.Slice(s.dir.Users(c.Caller.Account, in.PathPrefix), in.page(""), func(u *iam.User) string { return u.Name })
	if err != nil {
		return nil, err
	}
	out := &listUsersOutput{paged: next(marker)}
	for _, u := range some {
		out.Users = append(out.Users, listedUser(u))
	}
	return out, nil
}

type updateUserInput struct {
	UserName    string `query:"required"`
	NewUserName string
	NewPath     string
}

func (s *service) updateUser(ctx context.Context, c *query.Call, in *updateUserInput) (*query.Nothing, error) {
	return nil, s.dir.UpdateUser(ctx, c.Caller.Account, in.UserName, in.NewUserName, in.NewPath)
}

type userInput struct {
	UserName string `query:"required"`
}

func (s *service) deleteUser(ctx context.Context, c *query.Call, in *userInput) (*query.Nothing, error) {
	s.keysChanging.Lock()
	defer s.keysChanging.Unlock()
	u, err := s.dir.User(c.Caller.Account, in.UserName)
	if err != nil {
		return nil, err
	}
	if len(s.keys.List(u.Account, u.ID)) > 0 {
		return nil, hearth.Errorf(hearth.DeleteConflict, "Cannot delete entity, must delete access keys first.")
	}
	return nil, s.dir.DeleteUser(ctx, u.Account, u.Name)
}

type putUserPermissionsBoundaryInput struct {
	UserName            string `query:"required"`
	PermissionsBoundary string `query:"required"`
}

func (s *service) putUserPermissionsBoundary(ctx context.Context, c *query.Call, in *putUserPermissionsBoundaryInput) (*query.Nothing, error) {
	return nil, s.dir.SetUserBoundary(ctx, c.Caller.Account, in.UserName, in.PermissionsBoundary)
}

func (s *service) deleteUserPermissionsBoundary(ctx context.Context, c *query.Call, in *userInput) (*query.Nothing, error) {
	return nil, s.dir.SetUserBoundary(ctx, c.Caller.Account, in.UserName, "")
}

type tagUserInput struct {
	UserName string `query:"required"`
	Tags     []tag  `query:"required"`
}

func (s *service) tagUser(ctx context.Context, c *query.Call, in *tagUserInput) (*query.Nothing, error) {
	return nil, s.dir.TagUser(ctx, c.Caller.Account, in.UserName, tagsOf(in.Tags))
}

type untagUserInput struct {
	UserName string   `query:"required"`
	TagKeys  []string `query:"required"`
}

func (s *service) untagUser(ctx context.Context, c *query.Call, in *untagUserInput) (*query.Nothing, error) {
	return nil, s.dir.UntagUser(ctx, c.Caller.Account, in.UserName, in.TagKeys)
}

type userListInput struct {
	UserName string `query:"required"`
	paging
}

func (s *service) listUserTags(_ context.Context, c *query.Call, in *userListInput) (*tagsOutput, error) {
	u, err := s.dir.User(c.Caller.Account, in.UserName)
	if err != nil {
		return nil, err
	}
	return pageOfTags(u.Tags, in.paging)
}

type putUserPolicyInput struct {
	UserName       string `query:"required"`
	PolicyName     string `query:"required"`
	PolicyDocument string `query:"required"`
}

func (s *service) putUserPolicy(ctx context.Context, c *query.Call, in *putUserPolicyInput) (*query.Nothing, error) {
	return nil, s.dir.PutUserPolicy(ctx, c.Caller.Account, in.UserName, iam.Inline{Name: in.PolicyName, Document: in.PolicyDocument})
}

type userPolicyInput struct {
	UserName   string `query:"required"`
	PolicyName string `query:"required"`
}

type getUserPolicyOutput struct {
	UserName       string
	PolicyName     string
	PolicyDocument string
}

func (s *service) getUserPolicy(_ context.Context, c *query.Call, in *userPolicyInput) (*getUserPolicyOutput, error) {
	u, err := s.dir.User(c.Caller.Account, in.UserName)
	if err != nil {
		return nil, err
	}
	p, err := u.Named("user", in.PolicyName)
	if err != nil {
		return nil, err
	}
	return &getUserPolicyOutput{in.UserName, p.Name, encoded(p.Document)}, nil
}

func (s *service) deleteUserPolicy(ctx context.Context, c *query.Call, in *userPolicyInput) (*query.Nothing, error) {
	return nil, s.dir.DeleteUserPolicy(ctx, c.Caller.Account, in.UserName, in.PolicyName)
}

// inlineNames is a page of the names of inline policies.
func inlineNames(all []iam.Inline, p paging) (*listRolePoliciesOutput, error) {
	some, marker, err := iam.Slice(all, p.page(""), func(p iam.Inline) string { return p.Name })
	if err != nil {
		return nil, err
	}
	out := &listRolePoliciesOutput{paged: next(marker)}
	for _, p := range some {
		out.PolicyNames = append(out.PolicyNames, p.Name)
	}
	return out, nil
}

func (s *service) listUserPolicies(_ context.Context, c *query.Call, in *userListInput) (*listRolePoliciesOutput, error) {
	u, err := s.dir.User(c.Caller.Account, in.UserName)
	if err != nil {
		return nil, err
	}
	return inlineNames(u.Inline, in.paging)
}

type attachUserInput struct {
	UserName  string `query:"required"`
	PolicyArn string `query:"required"`
}

func (s *service) attachUserPolicy(ctx context.Context, c *query.Call, in *attachUserInput) (*query.Nothing, error) {
	return nil, s.dir.AttachToUser(ctx, c.Caller.Account, in.UserName, in.PolicyArn)
}

func (s *service) detachUserPolicy(ctx context.Context, c *query.Call, in *attachUserInput) (*query.Nothing, error) {
	return nil, s.dir.DetachFromUser(ctx, c.Caller.Account, in.UserName, in.PolicyArn)
}

type listAttachedUserInput struct {
	UserName   string `query:"required"`
	PathPrefix string
	paging
}

func (s *service) listAttachedUserPolicies(_ context.Context, c *query.Call, in *listAttachedUserInput) (*listAttachedOutput, error) {
	u, err := s.dir.User(c.Caller.Account, in.UserName)
	if err != nil {
		return nil, err
	}
	return s.attachedPage(c, u.Attached, in.PathPrefix, in.paging)
}

// nothingOfUser is the answer for what no user has here; deployers ask for it
// before they delete one.
type nothingOfUser struct {
	MFADevices                 query.List[string]
	SSHPublicKeys              query.List[string]
	Certificates               query.List[string]
	ServiceSpecificCredentials query.List[string]
	VirtualMFADevices          query.List[string]
	paged
}

func (s *service) listNothingOfUser(_ context.Context, c *query.Call, in *maybeUserInput) (*nothingOfUser, error) {
	if in.UserName != "" {
		if _, err := s.dir.User(c.Caller.Account, in.UserName); err != nil {
			return nil, err
		}
	}
	return &nothingOfUser{}, nil
}

// loginProfile is the answer for what no user has here either: a password.
func (s *service) loginProfile(_ context.Context, c *query.Call, in *userInput) (*query.Nothing, error) {
	if _, err := s.dir.User(c.Caller.Account, in.UserName); err != nil {
		return nil, err
	}
	return nil, hearth.Errorf(hearth.NoSuchEntity, "Login Profile for User %s cannot be found.", in.UserName)
}
