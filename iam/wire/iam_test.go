package wire_test

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/hearth-faas/hearth/iam/wire"
	"github.com/hearth-faas/hearth/query"
)

func decoded(t *testing.T, document *string) string {
	t.Helper()
	text, err := url.QueryUnescape(*document)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestALifeOfARole(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	made, err := w.iam.CreateRole(ctx, &sdk.CreateRoleInput{
		RoleName: new("Fn-Role"), Path: new("/service-role/"), AssumeRolePolicyDocument: new(trusted), Description: new("für <f>"),
		MaxSessionDuration: new(int32(7200)), Tags: []types.Tag{{Key: new("b"), Value: new("2")}, {Key: new("a"), Value: new("")}},
	})
	w.must(err)
	if r := made.Role; *r.Arn != "arn:aws:iam::123456789012:role/service-role/Fn-Role" || !strings.HasPrefix(*r.RoleId, "AROA") || len(*r.RoleId) != 21 ||
		!r.CreateDate.Equal(now) || decoded(t, r.AssumeRolePolicyDocument) != trusted {
		t.Errorf("made %+v", r)
	}
	_, err = w.iam.CreateRole(ctx, &sdk.CreateRoleInput{RoleName: new("fn-role"), AssumeRolePolicyDocument: new(trusted)})
	wantError(t, err, "EntityAlreadyExists", "Role with name fn-role already exists.")

	got, err := w.iam.GetRole(ctx, &sdk.GetRoleInput{RoleName: new("Fn-Role")})
	w.must(err)
	if r := got.Role; *r.RoleId != *made.Role.RoleId || *r.Description != "für <f>" || *r.MaxSessionDuration != 7200 || *r.Path != "/service-role/" ||
		len(r.Tags) != 2 || *r.Tags[0].Key != "a" || *r.Tags[1].Value != "2" || r.RoleLastUsed == nil || r.RoleLastUsed.LastUsedDate != nil || r.PermissionsBoundary != nil {
		t.Errorf("got %+v", r)
	}
	_, err = w.iam.UpdateRole(ctx, &sdk.UpdateRoleInput{RoleName: new("Fn-Role"), MaxSessionDuration: new(int32(3600))})
	w.must(err)
	described, err := w.iam.UpdateRoleDescription(ctx, &sdk.UpdateRoleDescriptionInput{RoleName: new("Fn-Role"), Description: new("")})
	if err != nil || described.Role.Description != nil || *described.Role.MaxSessionDuration != 3600 {
		t.Errorf("%+v %v", described, err)
	}
	_, err = w.iam.UpdateAssumeRolePolicy(ctx, &sdk.UpdateAssumeRolePolicyInput{RoleName: new("Fn-Role"), PolicyDocument: new(allowed)})
	wantError(t, err, "MalformedPolicyDocument", "")
	other := strings.Replace(trusted, "lambda", "edgelambda", 1)
	_, err = w.iam.UpdateAssumeRolePolicy(ctx, &sdk.UpdateAssumeRolePolicyInput{RoleName: new("Fn-Role"), PolicyDocument: &other})
	w.must(err)

	_, err = w.iam.TagRole(ctx, &sdk.TagRoleInput{RoleName: new("Fn-Role"), Tags: []types.Tag{{Key: new("B"), Value: new("3")}, {Key: new("c"), Value: new("4")}}})
	w.must(err)
	_, err = w.iam.UntagRole(ctx, &sdk.UntagRoleInput{RoleName: new("Fn-Role"), TagKeys: []string{"a", "none"}})
	w.must(err)
	_, err = w.iam.TagRole(ctx, &sdk.TagRoleInput{RoleName: new("Fn-Role"), Tags: []types.Tag{{Key: new("aws:x"), Value: new("")}}})
	wantError(t, err, "InvalidInput", "aws:")
	tags, err := w.iam.ListRoleTags(ctx, &sdk.ListRoleTagsInput{RoleName: new("Fn-Role"), MaxItems: new(int32(1))})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].Key != "B" || !tags.IsTruncated {
		t.Fatalf("%+v %v", tags, err)
	}
	tags, err = w.iam.ListRoleTags(ctx, &sdk.ListRoleTagsInput{RoleName: new("Fn-Role"), Marker: tags.Marker})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].Key != "c" || tags.IsTruncated || tags.Marker != nil {
		t.Errorf("%+v %v", tags, err)
	}

	// Inline policies, which keep a role from being deleted.
	_, err = w.iam.PutRolePolicy(ctx, &sdk.PutRolePolicyInput{RoleName: new("Fn-Role"), PolicyName: new("in"), PolicyDocument: new(allowed)})
	w.must(err)
	_, err = w.iam.PutRolePolicy(ctx, &sdk.PutRolePolicyInput{RoleName: new("Fn-Role"), PolicyName: new("in"), PolicyDocument: new(`{"Version":"2012-10-17"}`)})
	wantError(t, err, "MalformedPolicyDocument", "")
	inline, err := w.iam.GetRolePolicy(ctx, &sdk.GetRolePolicyInput{RoleName: new("Fn-Role"), PolicyName: new("in")})
	if err != nil || decoded(t, inline.PolicyDocument) != allowed || strings.ContainsAny(*inline.PolicyDocument, ` "{+`) {
		t.Errorf("%+v %v", inline, err)
	}
	names, err := w.iam.ListRolePolicies(ctx, &sdk.ListRolePoliciesInput{RoleName: new("Fn-Role")})
	if err != nil || !slices.Equal(names.PolicyNames, []string{"in"}) {
		t.Errorf("%+v %v", names, err)
	}
	_, err = w.iam.DeleteRole(ctx, &sdk.DeleteRoleInput{RoleName: new("Fn-Role")})
	wantError(t, err, "DeleteConflict", "Cannot delete entity, must delete policies first.")
	_, err = w.iam.DeleteRolePolicy(ctx, &sdk.DeleteRolePolicyInput{RoleName: new("Fn-Role"), PolicyName: new("in")})
	w.must(err)
	_, err = w.iam.GetRolePolicy(ctx, &sdk.GetRolePolicyInput{RoleName: new("Fn-Role"), PolicyName: new("in")})
	wantError(t, err, "NoSuchEntity", "The role policy with name in cannot be found.")

	// Attached ones, too.
	const basic = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
	for range 2 { // the second time changes nothing
		_, err = w.iam.AttachRolePolicy(ctx, &sdk.AttachRolePolicyInput{RoleName: new("Fn-Role"), PolicyArn: new(basic)})
		w.must(err)
	}
	_, err = w.iam.AttachRolePolicy(ctx, &sdk.AttachRolePolicyInput{RoleName: new("Fn-Role"), PolicyArn: new("arn:aws:iam::aws:policy/NoSuchPolicy")})
	wantError(t, err, "NoSuchEntity", "Policy arn:aws:iam::aws:policy/NoSuchPolicy does not exist or is not attachable.")
	_, err = w.iam.AttachRolePolicy(ctx, &sdk.AttachRolePolicyInput{RoleName: new("Fn-Role"), PolicyArn: new("arn:aws:iam::000000000000:policy/Other")})
	wantError(t, err, "InvalidInput", "ARN arn:aws:iam::000000000000:policy/Other is not valid.")
	attached, err := w.iam.ListAttachedRolePolicies(ctx, &sdk.ListAttachedRolePoliciesInput{RoleName: new("Fn-Role")})
	if err != nil || len(attached.AttachedPolicies) != 1 || *attached.AttachedPolicies[0].PolicyArn != basic || *attached.AttachedPolicies[0].PolicyName != "AWSLambdaBasicExecutionRole" {
		t.Errorf("%+v %v", attached, err)
	}
	users, err := w.iam.ListEntitiesForPolicy(ctx, &sdk.ListEntitiesForPolicyInput{PolicyArn: new(basic)})
	if err != nil || len(users.PolicyRoles) != 1 || *users.PolicyRoles[0].RoleName != "Fn-Role" || *users.PolicyRoles[0].RoleId != *made.Role.RoleId {
		t.Errorf("%+v %v", users, err)
	}
	_, err = w.iam.DeleteRole(ctx, &sdk.DeleteRoleInput{RoleName: new("Fn-Role")})
	wantError(t, err, "DeleteConflict", "Cannot delete entity, must detach all policies first.")
	_, err = w.iam.DetachRolePolicy(ctx, &sdk.DetachRolePolicyInput{RoleName: new("Fn-Role"), PolicyArn: new(basic)})
	w.must(err)
	_, err = w.iam.DetachRolePolicy(ctx, &sdk.DetachRolePolicyInput{RoleName: new("Fn-Role"), PolicyArn: new(basic)})
	wantError(t, err, "NoSuchEntity", "Policy "+basic+" was not found.")

	_, err = w.iam.PutRolePermissionsBoundary(ctx, &sdk.PutRolePermissionsBoundaryInput{RoleName: new("Fn-Role"), PermissionsBoundary: new(basic)})
	w.must(err)
	if got, err := w.iam.GetRole(ctx, &sdk.GetRoleInput{RoleName: new("Fn-Role")}); err != nil || *got.Role.PermissionsBoundary.PermissionsBoundaryArn != basic {
		t.Errorf("%+v %v", got, err)
	}
	for range 2 {
		_, err = w.iam.DeleteRolePermissionsBoundary(ctx, &sdk.DeleteRolePermissionsBoundaryInput{RoleName: new("Fn-Role")})
	}
	wantError(t, err, "NoSuchEntity", "does not have a permissions boundary")

	profiles, err := w.iam.ListInstanceProfilesForRole(ctx, &sdk.ListInstanceProfilesForRoleInput{RoleName: new("Fn-Role")})
	if err != nil || len(profiles.InstanceProfiles) != 0 {
		t.Errorf("%+v %v", profiles, err)
	}
	_, err = w.iam.DeleteRole(ctx, &sdk.DeleteRoleInput{RoleName: new("Fn-Role")})
	w.must(err)
	_, err = w.iam.DeleteRole(ctx, &sdk.DeleteRoleInput{RoleName: new("Fn-Role")})
	wantError(t, err, "NoSuchEntity", "The role with name Fn-Role cannot be found.")
}

func TestALifeOfAManagedPolicy(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	made, err := w.iam.CreatePolicy(ctx, &sdk.CreatePolicyInput{
		PolicyName: new("p"), Path: new("/team/"), PolicyDocument: new(allowed), Description: new("of ours"), Tags: []types.Tag{{Key: new("k"), Value: new("v")}},
	})
	w.must(err)
	arn := made.Policy.Arn
	if p := made.Policy; *arn != "arn:aws:iam::123456789012:policy/team/p" || !strings.HasPrefix(*p.PolicyId, "ANPA") || *p.DefaultVersionId != "v1" || !p.IsAttachable {
		t.Errorf("made %+v", p)
	}
	_, err = w.iam.CreatePolicy(ctx, &sdk.CreatePolicyInput{PolicyName: new("p"), PolicyDocument: new(allowed)})
	wantError(t, err, "EntityAlreadyExists", "A policy called p already exists. Duplicate names are not allowed.")
	_, err = w.iam.GetPolicy(ctx, &sdk.GetPolicyInput{PolicyArn: new("arn:aws:iam::123456789012:policy/p")})
	wantError(t, err, "NoSuchEntity", "Policy arn:aws:iam::123456789012:policy/p was not found.")

	for i := 2; i <= 5; i++ {
		document := strings.Replace(allowed, "s3", fmt.Sprintf("s%d", i), 1)
		v, err := w.iam.CreatePolicyVersion(ctx, &sdk.CreatePolicyVersionInput{PolicyArn: arn, PolicyDocument: &document, SetAsDefault: i == 3})
		if err != nil || *v.PolicyVersion.VersionId != fmt.Sprintf("v%d", i) || v.PolicyVersion.IsDefaultVersion != (i == 3) {
			t.Fatalf("%+v %v", v, err)
		}
	}
	_, err = w.iam.CreatePolicyVersion(ctx, &sdk.CreatePolicyVersionInput{PolicyArn: arn, PolicyDocument: new(allowed)})
	wantError(t, err, "LimitExceeded", "A managed policy can have up to 5 versions.")
	var versions []string
	pages := sdk.NewListPolicyVersionsPaginator(w.iam, &sdk.ListPolicyVersionsInput{PolicyArn: arn, MaxItems: new(int32(2))})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		w.must(err)
		for _, v := range page.Versions {
			versions = append(versions, *v.VersionId)
		}
	}
	if !slices.Equal(versions, []string{"v5", "v4", "v3", "v2", "v1"}) {
		t.Error(versions)
	}
	v3, err := w.iam.GetPolicyVersion(ctx, &sdk.GetPolicyVersionInput{PolicyArn: arn, VersionId: new("v3")})
	if err != nil || !v3.PolicyVersion.IsDefaultVersion || !strings.Contains(decoded(t, v3.PolicyVersion.Document), `"s3:*"`) {
		t.Errorf("%+v %v", v3, err)
	}
	_, err = w.iam.DeletePolicyVersion(ctx, &sdk.DeletePolicyVersionInput{PolicyArn: arn, VersionId: new("v3")})
	wantError(t, err, "DeleteConflict", "Cannot delete the default version of a policy.")
	_, err = w.iam.DeletePolicy(ctx, &sdk.DeletePolicyInput{PolicyArn: arn})
	wantError(t, err, "DeleteConflict", "This policy has more than one version.")
	_, err = w.iam.SetDefaultPolicyVersion(ctx, &sdk.SetDefaultPolicyVersionInput{PolicyArn: arn, VersionId: new("v5")})
	w.must(err)
	for _, v := range versions[1:] {
		_, err = w.iam.DeletePolicyVersion(ctx, &sdk.DeletePolicyVersionInput{PolicyArn: arn, VersionId: &v})
		w.must(err)
	}
	v6, err := w.iam.CreatePolicyVersion(ctx, &sdk.CreatePolicyVersionInput{PolicyArn: arn, PolicyDocument: new(allowed)})
	if err != nil || *v6.PolicyVersion.VersionId != "v6" {
		t.Fatalf("%+v %v", v6, err)
	}
	_, err = w.iam.DeletePolicyVersion(ctx, &sdk.DeletePolicyVersionInput{PolicyArn: arn, VersionId: new("v6")})
	w.must(err)
	_, err = w.iam.GetPolicyVersion(ctx, &sdk.GetPolicyVersionInput{PolicyArn: arn, VersionId: new("v6")})
	wantError(t, err, "NoSuchEntity", "version v6 does not exist")

	w.role("r", trusted)
	_, err = w.iam.AttachRolePolicy(ctx, &sdk.AttachRolePolicyInput{RoleName: new("r"), PolicyArn: arn})
	w.must(err)
	got, err := w.iam.GetPolicy(ctx, &sdk.GetPolicyInput{PolicyArn: arn})
	if err != nil || *got.Policy.AttachmentCount != 1 || *got.Policy.DefaultVersionId != "v5" || *got.Policy.Description != "of ours" || len(got.Policy.Tags) != 1 {
		t.Errorf("%+v %v", got, err)
	}
	_, err = w.iam.DeletePolicy(ctx, &sdk.DeletePolicyInput{PolicyArn: arn})
	wantError(t, err, "DeleteConflict", "Cannot delete a policy attached to entities.")

	list := func(in sdk.ListPoliciesInput) (arns []string) {
		t.Helper()
		in.MaxItems = new(int32(3))
		pages := sdk.NewListPoliciesPaginator(w.iam, &in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			w.must(err)
			for _, p := range page.Policies {
				arns = append(arns, *p.Arn)
			}
		}
		return arns
	}
	if local := list(sdk.ListPoliciesInput{Scope: types.PolicyScopeTypeLocal}); !slices.Equal(local, []string{*arn}) {
		t.Error(local)
	}
	aws := list(sdk.ListPoliciesInput{Scope: types.PolicyScopeTypeAws})
	if len(aws) < 15 || !slices.IsSorted(aws) || !slices.Contains(aws, "arn:aws:iam::aws:policy/AWSXRayDaemonWriteAccess") {
		t.Error(aws)
	}
	if all := list(sdk.ListPoliciesInput{}); len(all) != len(aws)+1 {
		t.Error(all)
	}
	if used := list(sdk.ListPoliciesInput{OnlyAttached: true}); !slices.Equal(used, []string{*arn}) {
		t.Error(used)
	}
	if services := list(sdk.ListPoliciesInput{PathPrefix: new("/service-role/")}); len(services) < 5 || len(services) >= len(aws) {
		t.Error(services)
	}

	_, err = w.iam.TagPolicy(ctx, &sdk.TagPolicyInput{PolicyArn: arn, Tags: []types.Tag{{Key: new("l"), Value: new("w")}}})
	w.must(err)
	_, err = w.iam.UntagPolicy(ctx, &sdk.UntagPolicyInput{PolicyArn: arn, TagKeys: []string{"k"}})
	w.must(err)
	tags, err := w.iam.ListPolicyTags(ctx, &sdk.ListPolicyTagsInput{PolicyArn: arn})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].Key != "l" {
		t.Errorf("%+v %v", tags, err)
	}
	_, err = w.iam.DetachRolePolicy(ctx, &sdk.DetachRolePolicyInput{RoleName: new("r"), PolicyArn: arn})
	w.must(err)
	_, err = w.iam.DeletePolicy(ctx, &sdk.DeletePolicyInput{PolicyArn: arn})
	w.must(err)
	_, err = w.iam.DeletePolicy(ctx, &sdk.DeletePolicyInput{PolicyArn: new("arn:aws:iam::aws:policy/AdministratorAccess")})
	wantError(t, err, "AccessDenied", "cannot be changed")
}

func TestEveryManagedPolicyOfAWSIsADocumentInOrder(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.role("r", trusted)
	out, err := w.iam.ListPolicies(ctx, &sdk.ListPoliciesInput{Scope: types.PolicyScopeTypeAws, MaxItems: new(int32(1000))})
	w.must(err)
	for i, p := range out.Policies {
		v, err := w.iam.GetPolicyVersion(ctx, &sdk.GetPolicyVersionInput{PolicyArn: p.Arn, VersionId: p.DefaultVersionId})
		w.must(err)
		// What AWS has, IAM here takes from anybody.
		document := decoded(t, v.PolicyVersion.Document)
		_, err = w.iam.CreatePolicy(ctx, &sdk.CreatePolicyInput{PolicyName: new(fmt.Sprintf("copy%d", i)), PolicyDocument: &document})
		if err != nil {
			t.Errorf("%s: %v", *p.Arn, err)
		}
	}
}

func TestRolesAreListedByNameInPages(t *testing.T) {
	w := newWorld(t)
	var want []string
	for i := range 25 {
		name := fmt.Sprintf("%c%02d", "aB"[i%2], i)
		want = append(want, name)
		w.role(name, trusted)
	}
	slices.SortFunc(want, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	for _, size := range []int32{1, 7, 25, 100} {
		var got []string
		pages := sdk.NewListRolesPaginator(w.iam, &sdk.ListRolesInput{MaxItems: &size, PathPrefix: new("/")})
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			w.must(err)
			for _, r := range page.Roles {
				got = append(got, *r.RoleName)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %v", size, got)
		}
	}
	_, err := w.iam.ListRoles(t.Context(), &sdk.ListRolesInput{Marker: new("nonsense!")})
	wantError(t, err, "ValidationError", "Invalid Marker.")
}

func TestBadInputIsRefusedInIAMsWords(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	create := func(in sdk.CreateRoleInput) error {
		if in.RoleName == nil {
			in.RoleName = new("ok")
		}
		if in.AssumeRolePolicyDocument == nil {
			in.AssumeRolePolicyDocument = new(trusted)
		}
		_, err := w.iam.CreateRole(ctx, &in)
		return err
	}
	for _, c := range []struct {
		err        error
		code, text string
	}{
		{create(sdk.CreateRoleInput{RoleName: new("a b")}), "ValidationError", "The specified value for roleName is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-"},
		{create(sdk.CreateRoleInput{RoleName: new(strings.Repeat("a", 65))}), "ValidationError", "at 'roleName' failed to satisfy constraint: Member must have length less than or equal to 64"},
		{create(sdk.CreateRoleInput{Path: new("no/slash")}), "ValidationError", "The specified value for path is invalid."},
		{create(sdk.CreateRoleInput{MaxSessionDuration: new(int32(3599))}), "ValidationError", "Value '3599' at 'maxSessionDuration' failed to satisfy constraint: Member must have value greater than or equal to 3600"},
		{create(sdk.CreateRoleInput{MaxSessionDuration: new(int32(43201))}), "ValidationError", "less than or equal to 43200"},
		{create(sdk.CreateRoleInput{Description: new(strings.Repeat("a", 1001))}), "ValidationError", "description"},
		{create(sdk.CreateRoleInput{AssumeRolePolicyDocument: new("{")}), "MalformedPolicyDocument", "This policy contains invalid Json"},
		{create(sdk.CreateRoleInput{AssumeRolePolicyDocument: new(allowed)}), "MalformedPolicyDocument", ""},
		{create(sdk.CreateRoleInput{AssumeRolePolicyDocument: new(strings.Replace(trusted, "lambda.amazonaws.com", strings.Repeat("x", 2048)+".com", 1))}), "LimitExceeded", "Cannot exceed quota for ACLSizePerRole: 2048"},
		{create(sdk.CreateRoleInput{PermissionsBoundary: new("arn:aws:iam::123456789012:policy/none")}), "NoSuchEntity", "does not exist or is not attachable"},
		{create(sdk.CreateRoleInput{Tags: []types.Tag{{Key: new("a"), Value: new("")}, {Key: new("A"), Value: new("")}}}), "InvalidInput", "Duplicate tag keys found."},
	} {
		wantError(t, c.err, c.code, c.text)
	}
	w.role("r", trusted)
	for i := range 2 {
		large := strings.Replace(allowed, "s3:*", "s3:"+strings.Repeat("a", 6000), 1)
		_, err := w.iam.PutRolePolicy(ctx, &sdk.PutRolePolicyInput{RoleName: new("r"), PolicyName: new(fmt.Sprint(i)), PolicyDocument: &large})
		if i == 1 {
			wantError(t, err, "LimitExceeded", "Maximum policy size of 10240 bytes exceeded for role r")
		} else {
			w.must(err)
		}
		huge := strings.Replace(allowed, "s3:*", "s3:"+strings.Repeat("a", 6144), 1)
		_, err = w.iam.CreatePolicy(ctx, &sdk.CreatePolicyInput{PolicyName: new("p"), PolicyDocument: &huge})
		wantError(t, err, "LimitExceeded", "Cannot exceed quota for PolicySize: 6144")
	}
	aws, err := w.iam.ListPolicies(ctx, &sdk.ListPoliciesInput{Scope: types.PolicyScopeTypeAws})
	w.must(err)
	for i, p := range aws.Policies[:11] {
		_, err := w.iam.AttachRolePolicy(ctx, &sdk.AttachRolePolicyInput{RoleName: new("r"), PolicyArn: p.Arn})
		if i < 10 {
			w.must(err)
		} else {
			wantError(t, err, "LimitExceeded", "Cannot exceed quota for PoliciesPerRole: 10")
		}
	}
	_, err = w.iam.GetRole(ctx, &sdk.GetRoleInput{RoleName: new("none")})
	if _, ok := errors.AsType[*types.NoSuchEntityException](err); !ok {
		t.Errorf("the SDK does not know the error: %v", err)
	}
}

func TestRootIsNoUserOfAName(t *testing.T) {
	w := newWorld(t)
	me, err := w.iam.GetUser(t.Context(), &sdk.GetUserInput{})
	if err != nil || *me.User.Arn != "arn:aws:iam::123456789012:root" || *me.User.UserId != ours || me.User.CreateDate.IsZero() {
		t.Errorf("%+v %v", me.User, err)
	}
	_, err = w.iam.GetUser(t.Context(), &sdk.GetUserInput{UserName: new("bob")})
	wantError(t, err, "NoSuchEntity", "The user with name bob cannot be found.")
	aliases, err := w.iam.ListAccountAliases(t.Context(), &sdk.ListAccountAliasesInput{})
	if err != nil || len(aliases.AccountAliases) != 0 {
		t.Errorf("%+v %v", aliases, err)
	}
	_, err = w.iam.CreateLoginProfile(t.Context(), &sdk.CreateLoginProfileInput{UserName: new("bob"), Password: new("secret-1")})
	wantError(t, err, "InvalidAction", "IAM's operation CreateLoginProfile is not built in this version of Hearth")
}

// operationsOf are the names of an SDK's operations.
func operationsOf(client any) (names []string) {
	c := reflect.TypeOf(client)
	for i := range c.NumMethod() {
		if m := c.Method(i); m.Type.NumIn() >= 3 && m.Type.NumOut() == 2 {
			names = append(names, m.Name)
		}
	}
	return names
}

func TestEveryOperationIsServedOrRefusedByName(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		service *query.Service
		client  any
	}{
		{wire.IAM(w.directory, nil, nil, "", nil), w.iam},
		{wire.STS(w.directory, w.authority, nil), w.sts},
	} {
		names := operationsOf(c.client)
		if len(names) < 10 {
			t.Fatalf("the SDK has %d operations of %s", len(names), c.service.Name)
		}
		for _, name := range names {
			if c.service.Operations[name] == nil && c.service.Beyond(name) == "" {
				t.Errorf("%s %s is neither served nor refused by name", c.service.Name, name)
			}
		}
		for name := range c.service.Operations {
			if !slices.Contains(names, name) {
				t.Errorf("%s has no operation %s", c.service.Name, name)
			}
		}
	}
}
