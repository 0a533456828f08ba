package wire_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// as with a long-lived key.
func (w *world) whoIs(k *types.AccessKey) (string, error) {
	out, err := w.as(*k.AccessKeyId, *k.SecretAccessKey, "").GetCallerIdentity(w.t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", err
	}
	return *out.Arn, nil
}

func TestALifeOfAUser(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	made, err := w.iam.CreateUser(ctx, &sdk.CreateUserInput{UserName: new("Ann"), Path: new("/team/"), Tags: []types.Tag{{Key: new("team"), Value: new("a")}}})
	w.must(err)
	if u := made.User; *u.Arn != "arn:aws:iam::123456789012:user/team/Ann" || len(*u.UserId) != 21 || (*u.UserId)[:4] != "AIDA" || !u.CreateDate.Equal(now) {
		t.Errorf("made %+v", u)
	}
	_, err = w.iam.CreateUser(ctx, &sdk.CreateUserInput{UserName: new("ann")})
	wantError(t, err, "EntityAlreadyExists", "User with name ann already exists.")
	_, err = w.iam.CreateUser(ctx, &sdk.CreateUserInput{UserName: new("Bob")})
	w.must(err)

	// Keys: two at most, and rotation.
	first, err := w.iam.CreateAccessKey(ctx, &sdk.CreateAccessKeyInput{UserName: new("Ann")})
	w.must(err)
	if arn, err := w.whoIs(first.AccessKey); err != nil || arn != *made.User.Arn {
		t.Errorf("%s, %v", arn, err)
	}
	second, err := w.iam.CreateAccessKey(ctx, &sdk.CreateAccessKeyInput{UserName: new("Ann")})
	w.must(err)
	_, err = w.iam.CreateAccessKey(ctx, &sdk.CreateAccessKeyInput{UserName: new("Ann")})
	wantError(t, err, "LimitExceeded", "AccessKeysPerUser: 2")
	_, err = w.iam.UpdateAccessKey(ctx, &sdk.UpdateAccessKeyInput{UserName: new("Ann"), AccessKeyId: first.AccessKey.AccessKeyId, Status: types.StatusTypeInactive})
	w.must(err)
	_, err = w.whoIs(first.AccessKey)
	wantError(t, err, "InvalidClientTokenId", "")
	keys, err := w.iam.ListAccessKeys(ctx, &sdk.ListAccessKeysInput{UserName: new("Ann")})
	w.must(err)
	states := map[string]types.StatusType{}
	for _, k := range keys.AccessKeyMetadata {
		states[*k.AccessKeyId] = k.Status
	}
	if len(states) != 2 || states[*first.AccessKey.AccessKeyId] != types.StatusTypeInactive || states[*second.AccessKey.AccessKeyId] != types.StatusTypeActive {
		t.Errorf("keys %v", states)
	}
	used, err := w.iam.GetAccessKeyLastUsed(ctx, &sdk.GetAccessKeyLastUsedInput{AccessKeyId: second.AccessKey.AccessKeyId})
	if err != nil || *used.UserName != "Ann" || used.AccessKeyLastUsed.LastUsedDate != nil {
		t.Errorf("%+v, %v", used, err)
	}
	_, err = w.iam.DeleteAccessKey(ctx, &sdk.DeleteAccessKeyInput{UserName: new("Bob"), AccessKeyId: first.AccessKey.AccessKeyId})
	wantError(t, err, "NoSuchEntity", *first.AccessKey.AccessKeyId)

	// A key is of the user, whatever he is called.
	_, err = w.iam.UpdateUser(ctx, &sdk.UpdateUserInput{UserName: new("Ann"), NewUserName: new("bob")})
	wantError(t, err, "EntityAlreadyExists", "")
	_, err = w.iam.UpdateUser(ctx, &sdk.UpdateUserInput{UserName: new("Ann"), NewUserName: new("Anna"), NewPath: new("/")})
	w.must(err)
	if arn, err := w.whoIs(second.AccessKey); err != nil || arn != "arn:aws:iam::123456789012:user/Anna" {
		t.Errorf("%s, %v", arn, err)
	}

	// As herself she need not say who she is. What she may her policies say.
	_, err = w.iam.PutUserPolicy(ctx, &sdk.PutUserPolicyInput{UserName: new("Anna"), PolicyName: new("self"),
		PolicyDocument: new(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:GetUser","Resource":"arn:aws:iam::123456789012:user/${aws:username}"}}`)})
	w.must(err)
	me := sdk.NewFromConfig(w.config(*w.aws.BaseEndpoint, *second.AccessKey.AccessKeyId, *second.AccessKey.SecretAccessKey, ""))
	self, err := me.GetUser(ctx, &sdk.GetUserInput{})
	if err != nil || *self.User.UserName != "Anna" || len(self.User.Tags) != 1 {
		t.Errorf("%+v, %v", self, err)
	}
	_, err = me.ListUsers(ctx, &sdk.ListUsersInput{})
	wantError(t, err, "AccessDenied", "User: arn:aws:iam::123456789012:user/Anna is not authorized to perform: iam:ListUsers because no identity-based policy allows the iam:ListUsers action")
	_, err = me.GetUser(ctx, &sdk.GetUserInput{UserName: new("Bob")})
	wantError(t, err, "AccessDenied", "on resource: arn:aws:iam::123456789012:user/Bob")
	_, err = w.iam.DeleteUserPolicy(ctx, &sdk.DeleteUserPolicyInput{UserName: new("Anna"), PolicyName: new("self")})
	w.must(err)
	token, err := w.as(*second.AccessKey.AccessKeyId, *second.AccessKey.SecretAccessKey, "").GetSessionToken(ctx, &sts.GetSessionTokenInput{})
	w.must(err)
	if !token.Credentials.Expiration.Equal(now.Add(12 * time.Hour)) {
		t.Errorf("her session ends %v", token.Credentials.Expiration)
	}
	session := w.as(*token.Credentials.AccessKeyId, *token.Credentials.SecretAccessKey, *token.Credentials.SessionToken)
	if who, err := session.GetCallerIdentity(ctx, nil); err != nil || *who.UserId != *made.User.UserId {
		t.Errorf("%+v, %v", who, err)
	}

	// Policies, groups, tags, a boundary; and the order in which it goes.
	_, err = w.iam.PutUserPolicy(ctx, &sdk.PutUserPolicyInput{UserName: new("Anna"), PolicyName: new("in"), PolicyDocument: new(allowed)})
	w.must(err)
	inline, err := w.iam.GetUserPolicy(ctx, &sdk.GetUserPolicyInput{UserName: new("Anna"), PolicyName: new("in")})
	if err != nil || decoded(t, inline.PolicyDocument) != allowed {
		t.Errorf("%+v, %v", inline, err)
	}
	policy, err := w.iam.CreatePolicy(ctx, &sdk.CreatePolicyInput{PolicyName: new("p"), PolicyDocument: new(allowed)})
	w.must(err)
	_, err = w.iam.AttachUserPolicy(ctx, &sdk.AttachUserPolicyInput{UserName: new("Anna"), PolicyArn: policy.Policy.Arn})
	w.must(err)
	_, err = w.iam.CreateGroup(ctx, &sdk.CreateGroupInput{GroupName: new("devs")})
	w.must(err)
	_, err = w.iam.AttachGroupPolicy(ctx, &sdk.AttachGroupPolicyInput{GroupName: new("devs"), PolicyArn: policy.Policy.Arn})
	w.must(err)
	_, err = w.iam.PutGroupPolicy(ctx, &sdk.PutGroupPolicyInput{GroupName: new("devs"), PolicyName: new("g"), PolicyDocument: new(allowed)})
	w.must(err)
	for range 2 {
		_, err = w.iam.AddUserToGroup(ctx, &sdk.AddUserToGroupInput{GroupName: new("devs"), UserName: new("Anna")})
		w.must(err)
	}
	entities, err := w.iam.ListEntitiesForPolicy(ctx, &sdk.ListEntitiesForPolicyInput{PolicyArn: policy.Policy.Arn})
	if err != nil || len(entities.PolicyUsers) != 1 || len(entities.PolicyGroups) != 1 || len(entities.PolicyRoles) != 0 {
		t.Errorf("%+v, %v", entities, err)
	}
	group, err := w.iam.GetGroup(ctx, &sdk.GetGroupInput{GroupName: new("devs")})
	if err != nil || len(group.Users) != 1 || *group.Users[0].UserName != "Anna" {
		t.Errorf("%+v, %v", group, err)
	}
	groups, err := w.iam.ListGroupsForUser(ctx, &sdk.ListGroupsForUserInput{UserName: new("Anna")})
	if err != nil || len(groups.Groups) != 1 || *groups.Groups[0].Arn != "arn:aws:iam::123456789012:group/devs" {
		t.Errorf("%+v, %v", groups, err)
	}
	_, err = w.iam.PutUserPermissionsBoundary(ctx, &sdk.PutUserPermissionsBoundaryInput{UserName: new("Anna"), PermissionsBoundary: policy.Policy.Arn})
	w.must(err)
	_, err = w.iam.DeletePolicy(ctx, &sdk.DeletePolicyInput{PolicyArn: policy.Policy.Arn})
	wantError(t, err, "DeleteConflict", "")
	page, err := w.iam.ListUsers(ctx, &sdk.ListUsersInput{MaxItems: aws.Int32(1)})
	if err != nil || len(page.Users) != 1 || !page.IsTruncated {
		t.Fatalf("%+v, %v", page, err)
	}
	rest, err := w.iam.ListUsers(ctx, &sdk.ListUsersInput{Marker: page.Marker})
	if err != nil || len(rest.Users) != 1 || rest.IsTruncated {
		t.Errorf("%+v, %v", rest, err)
	}
	for _, step := range []struct {
		refusal string
		do      func() error
	}{
		{"must delete access keys first", func() error {
			for _, k := range []*types.AccessKey{first.AccessKey, second.AccessKey} {
				if _, err := w.iam.DeleteAccessKey(ctx, &sdk.DeleteAccessKeyInput{UserName: new("Anna"), AccessKeyId: k.AccessKeyId}); err != nil {
					return err
				}
			}
			return nil
		}},
		{"must remove users from group first", func() error {
			_, err := w.iam.RemoveUserFromGroup(ctx, &sdk.RemoveUserFromGroupInput{UserName: new("Anna"), GroupName: new("devs")})
			return err
		}},
		{"must detach all policies first", func() error {
			_, err := w.iam.DetachUserPolicy(ctx, &sdk.DetachUserPolicyInput{UserName: new("Anna"), PolicyArn: policy.Policy.Arn})
			return err
		}},
		{"must delete policies first", func() error {
			_, err := w.iam.DeleteUserPolicy(ctx, &sdk.DeleteUserPolicyInput{UserName: new("Anna"), PolicyName: new("in")})
			return err
		}},
	} {
		_, err = w.iam.DeleteUser(ctx, &sdk.DeleteUserInput{UserName: new("Anna")})
		wantError(t, err, "DeleteConflict", step.refusal)
		w.must(step.do())
	}
	_, err = w.iam.DeleteUser(ctx, &sdk.DeleteUserInput{UserName: new("Anna")})
	w.must(err)
	_, err = w.iam.GetUser(ctx, &sdk.GetUserInput{UserName: new("Anna")})
	wantError(t, err, "NoSuchEntity", "The user with name Anna cannot be found.")
	for _, refused := range []func() error{
		func() error {
			_, err := w.iam.DeleteGroup(ctx, &sdk.DeleteGroupInput{GroupName: new("devs")})
			return err
		},
	} {
		wantError(t, refused(), "DeleteConflict", "must detach all policies first")
	}
}

func TestRootHasKeysToo(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	k, err := w.iam.CreateAccessKey(ctx, &sdk.CreateAccessKeyInput{})
	w.must(err)
	if arn, err := w.whoIs(k.AccessKey); err != nil || arn != "arn:aws:iam::123456789012:root" {
		t.Errorf("%s, %v", arn, err)
	}
	list, err := w.iam.ListAccessKeys(ctx, &sdk.ListAccessKeysInput{})
	if err != nil || !slices.ContainsFunc(list.AccessKeyMetadata, func(m types.AccessKeyMetadata) bool { return *m.AccessKeyId == *k.AccessKey.AccessKeyId }) {
		t.Errorf("%+v, %v", list, err)
	}
	_, err = w.iam.DeleteAccessKey(ctx, &sdk.DeleteAccessKeyInput{AccessKeyId: k.AccessKey.AccessKeyId})
	w.must(err)
	_, err = w.whoIs(k.AccessKey)
	wantError(t, err, "InvalidClientTokenId", "")
}
