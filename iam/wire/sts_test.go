package wire_test

import (
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	hearth "github.com/hearth-faas/hearth"
)

func TestARoleIsTakenOn(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	arn := w.role("r", trusted)
	out, err := w.sts.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: new("me"), DurationSeconds: new(int32(900))})
	w.must(err)
	role, err := w.iam.GetRole(ctx, &sdk.GetRoleInput{RoleName: new("r")})
	w.must(err)
	if u := out.AssumedRoleUser; *u.Arn != "arn:aws:sts::123456789012:assumed-role/r/me" || *u.AssumedRoleId != *role.Role.RoleId+":me" {
		t.Errorf("%s %s", *u.Arn, *u.AssumedRoleId)
	}
	c := out.Credentials
	if !c.Expiration.Equal(now.Add(15*time.Minute)) || !strings.HasPrefix(*c.AccessKeyId, "ASIA") {
		t.Errorf("%v %s", c.Expiration, *c.AccessKeyId)
	}
	session := w.as(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
	me, err := session.GetCallerIdentity(ctx, nil)
	if err != nil || *me.Arn != *out.AssumedRoleUser.Arn || *me.UserId != *out.AssumedRoleUser.AssumedRoleId || *me.Account != ours {
		t.Errorf("%+v %v", me, err)
	}
	info, err := w.sts.GetAccessKeyInfo(ctx, &sts.GetAccessKeyInfoInput{AccessKeyId: c.AccessKeyId})
	if err != nil || *info.Account != ours {
		t.Errorf("%+v %v", info, err)
	}
	_, err = w.sts.GetAccessKeyInfo(ctx, &sts.GetAccessKeyInfoInput{AccessKeyId: new("ASIAIOSFODNN7EXAMPLE")})
	wantError(t, err, "ValidationError", "ASIAIOSFODNN7EXAMPLE")

	// From one role to the next, for an hour at most. The role trusts the account,
	// which has to let the session.
	_, err = session.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: new("next")})
	wantError(t, err, "AccessDenied", "because no identity-based policy allows the sts:AssumeRole action")
	_, err = w.iam.PutRolePolicy(ctx, &sdk.PutRolePolicyInput{RoleName: new("r"), PolicyName: new("chain"),
		PolicyDocument: new(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:*","Resource":"` + arn + `"}}`)})
	w.must(err)
	next, err := session.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: new("next")})
	if err != nil || !next.Credentials.Expiration.Equal(now.Add(time.Hour)) {
		t.Errorf("%+v %v", next, err)
	}
	_, err = w.iam.UpdateRole(ctx, &sdk.UpdateRoleInput{RoleName: new("r"), MaxSessionDuration: new(int32(7200))})
	w.must(err)
	_, err = session.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: new("next"), DurationSeconds: new(int32(3601))})
	wantError(t, err, "ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
	_, err = session.GetSessionToken(ctx, nil)
	wantError(t, err, "AccessDenied", "Cannot call GetSessionToken with session credentials")

	w.clock.Advance(15 * time.Minute)
	if _, _, err := w.authority.Lookup(*c.AccessKeyId, *c.SessionToken); hearth.KindOf(err) != hearth.ExpiredToken {
		t.Errorf("after its time: %v", err)
	}
}

func TestWhoMayTakeARoleOnIsForTheRoleToSay(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	statement := func(effect, principal, more string) string {
		return `{"Effect":"` + effect + `","Principal":` + principal + `,"Action":"sts:AssumeRole"` + more + `}`
	}
	document := func(statements ...string) string {
		return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
	}
	const us = `{"AWS":"123456789012"}`
	service := w.role("service", document(statement("Allow", `{"Service":"lambda.amazonaws.com"}`, "")))
	other := w.role("other", document(statement("Allow", `{"AWS":"210987654321"}`, "")))
	denied := w.role("denied", document(statement("Allow", us, ""), statement("Deny", `"*"`, `,"Condition":{"StringEquals":{"sts:RoleSessionName":"mallory"}}`)))
	external := w.role("external", document(statement("Allow", us, `,"Condition":{"StringEquals":{"sts:ExternalId":"secret"}}`)))
	tagged := w.role("tagged", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":["sts:AssumeRole","sts:TagSession"],"Condition":{"StringEquals":{"aws:RequestTag/team":"a"}}}]}`)
	named := w.role("named", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":["sts:AssumeRole","sts:SetSourceIdentity"]}]}`)
	near := w.role("near", document(statement("Allow", us, `,"Condition":{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}`)))
	far := w.role("far", document(statement("Allow", us, `,"Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`)))
	none := "arn:aws:iam::123456789012:role/none"
	me := func(arn string) *sts.AssumeRoleInput {
		return &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: new("me")}
	}
	with := func(in *sts.AssumeRoleInput, change func(*sts.AssumeRoleInput)) *sts.AssumeRoleInput {
		change(in)
		return in
	}
	no := func(action, arn string) string {
		return "User: arn:aws:iam::123456789012:root is not authorized to perform: " + action + " on resource: " + arn
	}
	for name, c := range map[string]struct {
		in         *sts.AssumeRoleInput
		code, text string
	}{
		"only the service":     {me(service), "AccessDenied", no("sts:AssumeRole", service)},
		"another account":      {me(other), "AccessDenied", no("sts:AssumeRole", other)},
		"no such role":         {me(none), "AccessDenied", no("sts:AssumeRole", none)},
		"allowed":              {me(denied), "", ""},
		"an explicit denial":   {with(me(denied), func(in *sts.AssumeRoleInput) { in.RoleSessionName = new("mallory") }), "AccessDenied", "with an explicit deny"},
		"no external id":       {me(external), "AccessDenied", no("sts:AssumeRole", external)},
		"external id":          {with(me(external), func(in *sts.AssumeRoleInput) { in.ExternalId = new("secret") }), "", ""},
		"tags":                 {with(me(tagged), func(in *sts.AssumeRoleInput) { in.Tags = []types.Tag{{Key: new("team"), Value: new("a")}} }), "", ""},
		"other tags":           {with(me(tagged), func(in *sts.AssumeRoleInput) { in.Tags = []types.Tag{{Key: new("team"), Value: new("b")}} }), "AccessDenied", "sts:AssumeRole"},
		"tags not allowed":     {with(me(named), func(in *sts.AssumeRoleInput) { in.Tags = []types.Tag{{Key: new("team"), Value: new("a")}} }), "AccessDenied", no("sts:TagSession", named)},
		"a source":             {with(me(named), func(in *sts.AssumeRoleInput) { in.SourceIdentity = new("alice") }), "", ""},
		"a source not allowed": {with(me(denied), func(in *sts.AssumeRoleInput) { in.SourceIdentity = new("alice") }), "AccessDenied", no("sts:SetSourceIdentity", denied)},
		"from near":            {me(near), "", ""},
		"from far":             {me(far), "AccessDenied", no("sts:AssumeRole", far)},
		"a session policy":     {with(me(near), func(in *sts.AssumeRoleInput) { in.Policy = new(allowed) }), "", ""},
		"a wrong policy":       {with(me(near), func(in *sts.AssumeRoleInput) { in.Policy = new(`{"Statement":[{}]}`) }), "MalformedPolicyDocument", ""},
		"an unknown policy": {with(me(near), func(in *sts.AssumeRoleInput) {
			in.PolicyArns = []types.PolicyDescriptorType{{Arn: new("arn:aws:iam::123456789012:policy/none")}}
		}), "NoSuchEntity", "policy/none"},
		"another factor":       {with(me(near), func(in *sts.AssumeRoleInput) { in.SerialNumber, in.TokenCode = new("GAHT12345678"), new("123456") }), "AccessDenied", "MultiFactorAuthentication failed"},
		"too short":            {with(me(near), func(in *sts.AssumeRoleInput) { in.DurationSeconds = new(int32(899)) }), "ValidationError", "Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900"},
		"too long":             {with(me(near), func(in *sts.AssumeRoleInput) { in.DurationSeconds = new(int32(43201)) }), "ValidationError", "less than or equal to 43200"},
		"longer than the role": {with(me(near), func(in *sts.AssumeRoleInput) { in.DurationSeconds = new(int32(3601)) }), "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
		"a short name":         {with(me(near), func(in *sts.AssumeRoleInput) { in.RoleSessionName = new("m") }), "ValidationError", "roleSessionName"},
		"no ARN":               {with(me(near), func(in *sts.AssumeRoleInput) { in.RoleArn = new(strings.Repeat("r", 20)) }), "ValidationError", "is invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := w.sts.AssumeRole(ctx, c.in)
			switch {
			case c.code != "":
				wantError(t, err, c.code, c.text)
			case err != nil || c.in.SourceIdentity != nil && *out.SourceIdentity != *c.in.SourceIdentity:
				t.Errorf("%+v %v", out, err)
			}
		})
	}
}

func TestASessionOfRootIsRootForAnHour(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	for _, seconds := range []int32{900, 3600, 129600} {
		out, err := w.sts.GetSessionToken(ctx, &sts.GetSessionTokenInput{DurationSeconds: &seconds})
		w.must(err)
		c := out.Credentials
		if want := now.Add(time.Duration(min(seconds, 3600)) * time.Second); !c.Expiration.Equal(want) {
			t.Errorf("%d seconds end %v, not %v", seconds, c.Expiration, want)
		}
		me, err := w.as(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken).GetCallerIdentity(ctx, nil)
		if err != nil || *me.Arn != "arn:aws:iam::123456789012:root" || *me.UserId != ours {
			t.Errorf("%+v %v", me, err)
		}
	}
	_, err := w.sts.GetFederationToken(ctx, &sts.GetFederationTokenInput{Name: new("bob")})
	wantError(t, err, "InvalidAction", "STS's operation GetFederationToken is not built")
}

// What a session was given, and when, conditions can ask about: its tags, its
// source, which those who take on roles one after the other keep, and its time,
// by which sessions are cut.
func TestConditionsAskWhatASessionWasGiven(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	const trust = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"*"},"Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"]}}`
	first, second := w.role("first", trust), w.role("second", trust)
	may := func(role, condition string) {
		t.Helper()
		_, err := w.iam.PutRolePolicy(ctx, &sdk.PutRolePolicyInput{RoleName: &role, PolicyName: new("p"), PolicyDocument: new(
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"iam:*","Resource":"*","Condition":` + condition + `}]}`)})
		w.must(err)
	}
	_, err := w.iam.CreateUser(ctx, &sdk.CreateUserInput{UserName: new("ann")})
	w.must(err)
	key, err := w.iam.CreateAccessKey(ctx, &sdk.CreateAccessKeyInput{UserName: new("ann")})
	w.must(err)
	ann := w.as(*key.AccessKey.AccessKeyId, *key.AccessKey.SecretAccessKey, "")
	given, err := ann.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &first, RoleSessionName: new("s-1"), SourceIdentity: new("ann"),
		Tags: []types.Tag{{Key: new("Project"), Value: new("blue + green")}}})
	w.must(err)
	c := given.Credentials
	session := w.as(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
	users := sdk.NewFromConfig(w.config(*w.aws.BaseEndpoint, *c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken))
	for condition, denied := range map[string]bool{
		`{"StringNotEquals":{"aws:PrincipalTag/project":"blue + green"}}`:                       false,
		`{"StringEquals":{"aws:PrincipalTag/project":"blue + green"}}`:                          true,
		`{"StringEquals":{"aws:SourceIdentity":"ann"}}`:                                         true,
		`{"Bool":{"aws:MultiFactorAuthPresent":"false"}}`:                                       true,
		`{"DateLessThan":{"aws:TokenIssueTime":"2020-01-01T00:00:00Z"}}`:                        false,
		`{"DateLessThan":{"aws:TokenIssueTime":"2999-01-01T00:00:00Z"}}`:                        true, // as AWS revokes sessions
		`{"StringNotEquals":{"aws:RequestedRegion":"eu-west-1"}}`:                               false,
		`{"StringEquals":{"aws:RequestedRegion":"eu-west-1"}}`:                                  true,
		`{"NotIpAddress":{"aws:SourceIp":"192.0.2.0/24"},"Bool":{"aws:ViaAWSService":"false"}}`: true, // as AWS documents it
		`{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"},"Bool":{"aws:ViaAWSService":"false"}}`:    false,
	} {
		may("first", condition)
		_, err := users.ListUsers(ctx, &sdk.ListUsersInput{})
		if denied {
			wantError(t, err, "AccessDenied", "explicit deny")
		} else if err != nil {
			t.Errorf("%s: %v", condition, err)
		}
	}
	// Long-lived keys have no such time.
	_, err = w.iam.PutUserPolicy(ctx, &sdk.PutUserPolicyInput{UserName: new("ann"), PolicyName: new("p"), PolicyDocument: new(
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:ListUsers","Resource":"*","Condition":{"Null":{"aws:TokenIssueTime":"true","aws:MultiFactorAuthPresent":"true"}}}}`)})
	w.must(err)
	_, err = sdk.NewFromConfig(w.config(*w.aws.BaseEndpoint, *key.AccessKey.AccessKeyId, *key.AccessKey.SecretAccessKey, "")).ListUsers(ctx, &sdk.ListUsersInput{})
	w.must(err)

	may("first", `{"Null":{"aws:PrincipalArn":"true"}}`)
	next, err := session.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &second, RoleSessionName: new("s-2")})
	w.must(err)
	if next.SourceIdentity == nil || *next.SourceIdentity != "ann" {
		t.Error("the next session has not the same source")
	}
	_, err = session.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &second, RoleSessionName: new("s-2"), SourceIdentity: new("bob")})
	wantError(t, err, "AccessDenied", "source identity")

	for what, in := range map[string]*sts.AssumeRoleInput{
		"Duplicate tag keys": {Tags: []types.Tag{{Key: new("a"), Value: new("1")}, {Key: new("A"), Value: new("2")}}},
		"TransitiveTagKeys":  {Tags: []types.Tag{{Key: new("a"), Value: new("1")}}, TransitiveTagKeys: []string{"a"}},
		"ProvidedContexts":   {ProvidedContexts: []types.ProvidedContext{{ProviderArn: new("arn:aws:iam::aws:contextProvider/IdentityCenter"), ContextAssertion: new("abcd")}}},
	} {
		in.RoleArn, in.RoleSessionName = &first, new("s-1")
		if _, err := ann.AssumeRole(ctx, in); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
