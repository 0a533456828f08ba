package wire_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

// results are what comes of a simulation, one line for each.
func results(all []types.EvaluationResult) (lines []string) {
	for _, r := range all {
		line := fmt.Sprintf("%s %s %s", *r.EvalActionName, *r.EvalResourceName, r.EvalDecision)
		for _, m := range r.MatchedStatements {
			line += fmt.Sprintf(" %s(%s %d:%d-%d:%d)", *m.SourcePolicyId, m.SourcePolicyType, m.StartPosition.Line, m.StartPosition.Column, m.EndPosition.Line, m.EndPosition.Column)
		}
		if len(r.MissingContextValues) > 0 {
			line += fmt.Sprint(" missing ", r.MissingContextValues)
		}
		lines = append(lines, line)
	}
	return lines
}

func wantResults(t *testing.T, all []types.EvaluationResult, want ...string) {
	t.Helper()
	if got := results(all); !slices.Equal(got, want) {
		t.Errorf("the results are\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

const queue = "arn:aws:sqs:eu-west-1:123456789012:jobs"

func TestSimulatingWhatAUserMayDo(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	_, err := w.iam.CreateUser(ctx, &sdk.CreateUserInput{UserName: new("ann"), Path: new("/team/"), Tags: []types.Tag{{Key: new("team"), Value: new("a")}}})
	w.must(err)
	ann := "arn:aws:iam::123456789012:user/team/ann"
	_, err = w.iam.PutUserPolicy(ctx, &sdk.PutUserPolicyInput{UserName: new("ann"), PolicyName: new("own"), PolicyDocument: new(`{"Version":"2012-10-17","Statement":[
  {"Effect":"Allow","Action":"sqs:*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"a"}}},
  {"Effect":"Deny","Action":"sqs:DeleteQueue","Resource":"*"},
  {"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}
]}`)})
	w.must(err)
	_, err = w.iam.CreateGroup(ctx, &sdk.CreateGroupInput{GroupName: new("devs")})
	w.must(err)
	_, err = w.iam.PutGroupPolicy(ctx, &sdk.PutGroupPolicyInput{GroupName: new("devs"), PolicyName: new("g"), PolicyDocument: new(allowed)})
	w.must(err)
	_, err = w.iam.AddUserToGroup(ctx, &sdk.AddUserToGroupInput{GroupName: new("devs"), UserName: new("ann")})
	w.must(err)
	read, err := w.iam.CreatePolicy(ctx, &sdk.CreatePolicyInput{PolicyName: new("reading"), PolicyDocument: new(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sqs:Get*","Resource":"*"}}`)})
	w.must(err)
	_, err = w.iam.AttachUserPolicy(ctx, &sdk.AttachUserPolicyInput{UserName: new("ann"), PolicyArn: read.Policy.Arn})
	w.must(err)

	simulate := func(in sdk.SimulatePrincipalPolicyInput) *sdk.SimulatePrincipalPolicyOutput {
		t.Helper()
		if in.PolicySourceArn == nil {
			in.PolicySourceArn = &ann
		}
		out, err := w.iam.SimulatePrincipalPolicy(ctx, &in)
		w.must(err)
		return out
	}
	out := simulate(sdk.SimulatePrincipalPolicyInput{ActionNames: []string{"sqs:GetQueueUrl", "sqs:DeleteQueue", "s3:GetObject", "lambda:InvokeFunction", "events:PutRule"}})
	wantResults(t, out.EvaluationResults,
		"sqs:GetQueueUrl * allowed user_ann_own(IAM Policy 1:38-2:112) reading(IAM Policy 1:38-1:90)",
		"sqs:DeleteQueue * explicitDeny user_ann_own(IAM Policy 2:112-3:62)",
		"s3:GetObject * allowed group_devs_g(IAM Policy 1:41-1:95)",
		"lambda:InvokeFunction * implicitDeny missing [aws:SourceIp]",
		"events:PutRule * implicitDeny")
	if r := out.EvaluationResults[0]; r.ResourceSpecificResults != nil || r.EvalDecisionDetails != nil || r.PermissionsBoundaryDecisionDetail != nil || out.IsTruncated {
		t.Errorf("%+v", r)
	}

	// On a resource, with a context; and the resource by itself, as today's SDK
	// says to look for it.
	out = simulate(sdk.SimulatePrincipalPolicyInput{
		ActionNames: []string{"lambda:InvokeFunction"}, ResourceArns: []string{"arn:aws:lambda:eu-west-1:123456789012:function:f"},
		ContextEntries: []types.ContextEntry{{ContextKeyName: new("AWS:sourceip"), ContextKeyType: types.ContextKeyTypeEnumIp, ContextKeyValues: []string{"10.1.2.3"}}},
	})
	wantResults(t, out.EvaluationResults, "lambda:InvokeFunction arn:aws:lambda:eu-west-1:123456789012:function:f allowed user_ann_own(IAM Policy 3:62-4:125)")
	r := out.EvaluationResults[0]
	if r.EvalDecisionDetails == nil || len(r.EvalDecisionDetails) != 0 || len(r.ResourceSpecificResults) != 1 || r.ResourceSpecificResults[0].EvalResourceDecision != "allowed" ||
		*r.ResourceSpecificResults[0].EvalResourceName != *r.EvalResourceName || len(r.ResourceSpecificResults[0].MatchedStatements) != 1 {
		t.Errorf("%+v", r)
	}

	// With more policies, and bounded.
	out = simulate(sdk.SimulatePrincipalPolicyInput{
		ActionNames: []string{"sqs:GetQueueUrl", "events:PutRule"}, PolicyInputList: []string{`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"events:*","Resource":"*"}}`},
		PermissionsBoundaryPolicyInputList: []string{`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"events:*","Resource":"*"}}`},
	})
	wantResults(t, out.EvaluationResults, "sqs:GetQueueUrl * implicitDeny", "events:PutRule * allowed PolicyInputList.1(IAM Policy 1:38-1:90)")
	for i, want := range []bool{false, true} {
		if d := out.EvaluationResults[i].PermissionsBoundaryDecisionDetail; d == nil || d.AllowedByPermissionsBoundary != want {
			t.Errorf("%+v", d)
		}
	}

	// A group, and somebody else with ann's policies.
	out = simulate(sdk.SimulatePrincipalPolicyInput{PolicySourceArn: new("arn:aws:iam::123456789012:group/devs"), ActionNames: []string{"s3:GetObject"}})
	wantResults(t, out.EvaluationResults, "s3:GetObject * allowed group_devs_g(IAM Policy 1:41-1:95)")
	out = simulate(sdk.SimulatePrincipalPolicyInput{CallerArn: new("arn:aws:iam::123456789012:user/bob"), ActionNames: []string{"sqs:GetQueueUrl", "sqs:SendMessage"}})
	wantResults(t, out.EvaluationResults,
		"sqs:GetQueueUrl * allowed reading(IAM Policy 1:38-1:90) missing [aws:PrincipalTag/team]", "sqs:SendMessage * implicitDeny missing [aws:PrincipalTag/team]")

	// Another account's queue needs a policy of its own.
	theirs := "arn:aws:sqs:eu-west-1:999999999999:jobs"
	in := sdk.SimulatePrincipalPolicyInput{ActionNames: []string{"sqs:SendMessage"}, ResourceArns: []string{theirs}}
	out = simulate(in)
	wantResults(t, out.EvaluationResults, "sqs:SendMessage "+theirs+" implicitDeny")
	if d := out.EvaluationResults[0].EvalDecisionDetails; d["IAM Policy"] != "allowed" || d["Resource Policy"] != "implicitDeny" {
		t.Error(d)
	}
	in.ResourcePolicy = new(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + ann + `"},"Action":"sqs:SendMessage","Resource":"` + theirs + `"}}`)
	out = simulate(in)
	wantResults(t, out.EvaluationResults, "sqs:SendMessage "+theirs+" allowed user_ann_own(IAM Policy 1:38-2:112) ResourcePolicy(Resource Policy 1:38-1:197)")

	keys, err := w.iam.GetContextKeysForPrincipalPolicy(ctx, &sdk.GetContextKeysForPrincipalPolicyInput{PolicySourceArn: &ann})
	if err != nil || !slices.Equal(keys.ContextKeyNames, []string{"aws:PrincipalTag/team", "aws:SourceIp"}) {
		t.Errorf("%v, %v", keys, err)
	}

	// Who may find that out.
	key, err := w.iam.CreateAccessKey(ctx, &sdk.CreateAccessKeyInput{UserName: new("ann")})
	w.must(err)
	me := sdk.NewFromConfig(w.config(*w.aws.BaseEndpoint, *key.AccessKey.AccessKeyId, *key.AccessKey.SecretAccessKey, ""))
	_, err = me.SimulatePrincipalPolicy(ctx, &sdk.SimulatePrincipalPolicyInput{PolicySourceArn: &ann, ActionNames: []string{"s3:GetObject"}})
	wantError(t, err, "AccessDenied", "is not authorized to perform: iam:SimulatePrincipalPolicy on resource: "+ann)
	_, err = me.SimulateCustomPolicy(ctx, &sdk.SimulateCustomPolicyInput{PolicyInputList: []string{allowed}, ActionNames: []string{"s3:GetObject"}})
	wantError(t, err, "AccessDenied", "is not authorized to perform: iam:SimulateCustomPolicy")
	_, err = w.iam.PutUserPolicy(ctx, &sdk.PutUserPolicyInput{UserName: new("ann"), PolicyName: new("self"),
		PolicyDocument: new(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:SimulatePrincipalPolicy","Resource":"` + ann + `"}}`)})
	w.must(err)
	_, err = me.SimulatePrincipalPolicy(ctx, &sdk.SimulatePrincipalPolicyInput{PolicySourceArn: &ann, ActionNames: []string{"s3:GetObject"}})
	w.must(err)
	_, err = me.SimulatePrincipalPolicy(ctx, &sdk.SimulatePrincipalPolicyInput{PolicySourceArn: new("arn:aws:iam::123456789012:group/devs"), ActionNames: []string{"s3:GetObject"}})
	wantError(t, err, "AccessDenied", "")
}

func TestSimulatingPoliciesThatNobodyHas(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	// The example of the command line's documentation.
	dated := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"dynamodb:*","Resource":"*","Condition":{"DateGreaterThan":{"aws:CurrentTime":"2018-08-16T12:00:00Z"}}}}`
	for at, want := range map[string]string{
		"2019-04-25T11:00:00Z": "dynamodb:CreateBackup * allowed PolicyInputList.1(IAM Policy 1:38-1:167)",
		"2014-04-25T11:00:00Z": "dynamodb:CreateBackup * implicitDeny",
	} {
		out, err := w.iam.SimulateCustomPolicy(ctx, &sdk.SimulateCustomPolicyInput{PolicyInputList: []string{dated}, ActionNames: []string{"dynamodb:CreateBackup"},
			ContextEntries: []types.ContextEntry{{ContextKeyName: new("aws:CurrentTime"), ContextKeyType: types.ContextKeyTypeEnumDate, ContextKeyValues: []string{at}}}})
		w.must(err)
		wantResults(t, out.EvaluationResults, want)
	}
	keys, err := w.iam.GetContextKeysForCustomPolicy(ctx, &sdk.GetContextKeysForCustomPolicyInput{PolicyInputList: []string{dated}})
	if err != nil || !slices.Equal(keys.ContextKeyNames, []string{"aws:CurrentTime"}) {
		t.Errorf("%v, %v", keys, err)
	}

	// Every action on every resource, in pages.
	in := &sdk.SimulateCustomPolicyInput{PolicyInputList: []string{allowed}, ActionNames: []string{"s3:GetObject", "s3:PutObject", "sqs:SendMessage"}, MaxItems: new(int32(2))}
	for i := range 5 {
		in.ResourceArns = append(in.ResourceArns, fmt.Sprint("arn:aws:s3:::b/", i))
	}
	var seen []string
	pages := sdk.NewSimulateCustomPolicyPaginator(w.iam, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		w.must(err)
		if len(page.EvaluationResults) > 2 {
			t.Errorf("%d on a page", len(page.EvaluationResults))
		}
		for _, r := range page.EvaluationResults {
			seen = append(seen, fmt.Sprint(*r.EvalActionName, *r.EvalResourceName, r.EvalDecision))
		}
	}
	if slices.Sort(seen); len(slices.Compact(seen)) != 15 {
		t.Errorf("%d pairs: %v", len(seen), seen)
	}

	// A resource's policy names who calls.
	theirs := &sdk.SimulateCustomPolicyInput{PolicyInputList: []string{allowed}, ActionNames: []string{"sqs:SendMessage"}, ResourceArns: []string{queue}, CallerArn: new("arn:aws:iam::999999999999:user/bob"),
		ResourcePolicy: new(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"sqs:SendMessage","Resource":"` + queue + `"}]}`)}
	out, err := w.iam.SimulateCustomPolicy(ctx, theirs)
	w.must(err)
	wantResults(t, out.EvaluationResults, "sqs:SendMessage "+queue+" explicitDeny ResourcePolicy(Resource Policy 1:38-1:151)")

	bad := func(change func(in *sdk.SimulateCustomPolicyInput), code, text string) {
		t.Helper()
		in := &sdk.SimulateCustomPolicyInput{PolicyInputList: []string{allowed}, ActionNames: []string{"s3:GetObject"}}
		change(in)
		_, err := w.iam.SimulateCustomPolicy(ctx, in)
		wantError(t, err, code, text)
	}
	bad(func(in *sdk.SimulateCustomPolicyInput) { in.PolicyInputList = []string{"{"} }, "InvalidInput", "This policy contains invalid Json")
	bad(func(in *sdk.SimulateCustomPolicyInput) { in.ActionNames = []string{"s3:*"} }, "InvalidInput", "Invalid Action Name: s3:*")
	bad(func(in *sdk.SimulateCustomPolicyInput) { in.ResourceArns = []string{"b"} }, "InvalidInput", "not in a valid ARN format: b")
	bad(func(in *sdk.SimulateCustomPolicyInput) { in.CallerArn = new("arn:aws:iam::123456789012:root") }, "InvalidInput", "Caller must be an IAM user, role or group")
	bad(func(in *sdk.SimulateCustomPolicyInput) { in.ResourcePolicy = theirs.ResourcePolicy }, "InvalidInput", "Caller cannot be null or empty")
	bad(func(in *sdk.SimulateCustomPolicyInput) { in.ResourceOwner = new("me") }, "InvalidInput", "Invalid Resource Owner")
	bad(func(in *sdk.SimulateCustomPolicyInput) { in.ResourceHandlingOption = new("EC2-VPC-EBS") }, "InvalidInput", "EC2")
	bad(func(in *sdk.SimulateCustomPolicyInput) {
		in.PermissionsBoundaryPolicyInputList = []string{allowed, allowed}
	}, "InvalidInput", "one permissions boundary")
	bad(func(in *sdk.SimulateCustomPolicyInput) { in.Marker = new("x") }, "ValidationError", "Invalid Marker")
	bad(func(in *sdk.SimulateCustomPolicyInput) {
		in.ContextEntries = []types.ContextEntry{{ContextKeyName: new("aws:x"), ContextKeyType: "words", ContextKeyValues: []string{"y"}}}
	}, "ValidationError", "contextKeyType")
	// What takes long is for other pages, and what takes too long for none.
	long := strings.Replace(allowed, `"s3:*"`, `["s3:`+strings.Repeat("*a", 50_000)+`","s3:*"]`, 1)
	bad(func(in *sdk.SimulateCustomPolicyInput) {
		in.PolicyInputList = []string{long}
		in.ContextEntries = []types.ContextEntry{{ContextKeyName: new("aws:x"), ContextKeyType: "string", ContextKeyValues: []string{strings.Repeat("a", 4000)}}}
	}, "LimitExceeded", "too long")
	out, err = w.iam.SimulateCustomPolicy(ctx, &sdk.SimulateCustomPolicyInput{PolicyInputList: []string{long}, ActionNames: slices.Repeat([]string{"s3:GetObject"}, 300), MaxItems: new(int32(1000))})
	if err != nil || !out.IsTruncated || len(out.EvaluationResults) < 10 || len(out.EvaluationResults) >= 300 {
		t.Errorf("%d results, %v", len(out.EvaluationResults), err)
	}

	for arn, code := range map[string]string{
		"arn:aws:iam::123456789012:root":                  "InvalidInput",
		"arn:aws:sts::123456789012:assumed-role/r/s":      "InvalidInput",
		"arn:aws:iam::123456789012:user/nobody":           "NoSuchEntity",
		"arn:aws:iam::999999999999:user/theirs":           "NoSuchEntity",
		"arn:aws:iam::123456789012:role/service-role/non": "NoSuchEntity",
	} {
		_, err := w.iam.SimulatePrincipalPolicy(ctx, &sdk.SimulatePrincipalPolicyInput{PolicySourceArn: &arn, ActionNames: []string{"s3:GetObject"}})
		wantError(t, err, code, "")
	}
}

// What would become of it without some of the policies can be asked.
func TestASimulationLeavesPoliciesOut(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	allow := func(action string) *string {
		return new(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"` + action + `","Resource":"*"}}`)
	}
	user, err := w.iam.CreateUser(ctx, &sdk.CreateUserInput{UserName: new("ann")})
	w.must(err)
	_, err = w.iam.PutUserPolicy(ctx, &sdk.PutUserPolicyInput{UserName: new("ann"), PolicyName: new("own"), PolicyDocument: allow("a:Own")})
	w.must(err)
	_, err = w.iam.CreateGroup(ctx, &sdk.CreateGroupInput{GroupName: new("staff")})
	w.must(err)
	_, err = w.iam.PutGroupPolicy(ctx, &sdk.PutGroupPolicyInput{GroupName: new("staff"), PolicyName: new("own"), PolicyDocument: allow("a:Group")})
	w.must(err)
	_, err = w.iam.AddUserToGroup(ctx, &sdk.AddUserToGroupInput{GroupName: new("staff"), UserName: new("ann")})
	w.must(err)
	managed, err := w.iam.CreatePolicy(ctx, &sdk.CreatePolicyInput{PolicyName: new("managed"), PolicyDocument: allow("a:Managed")})
	w.must(err)
	_, err = w.iam.AttachUserPolicy(ctx, &sdk.AttachUserPolicyInput{UserName: new("ann"), PolicyArn: managed.Policy.Arn})
	w.must(err)
	bound, err := w.iam.CreatePolicy(ctx, &sdk.CreatePolicyInput{PolicyName: new("bound"), PolicyDocument: new(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","NotAction":"a:Managed","Resource":"*"}}`)})
	w.must(err)
	_, err = w.iam.PutUserPermissionsBoundary(ctx, &sdk.PutUserPermissionsBoundaryInput{UserName: new("ann"), PermissionsBoundary: bound.Policy.Arn})
	w.must(err)

	arn := func(a string) types.PolicyIdentifier { return &types.PolicyIdentifierMemberPolicyArn{Value: a} }
	sort := func(s types.PolicyIdentifierPolicyType) types.PolicyIdentifier {
		return &types.PolicyIdentifierMemberPolicyType{Value: s}
	}
	inline := func(of types.AttachmentType, name string) types.PolicyIdentifier {
		return &types.PolicyIdentifierMemberInlinePolicyIdentifier{Value: types.InlinePolicyIdentifierType{AttachmentType: of, AttachmentName: &name, PolicyName: new("own")}}
	}
	ask := func(excluded ...types.PolicyIdentifier) (allowed string, err error) {
		out, err := w.iam.SimulatePrincipalPolicy(ctx, &sdk.SimulatePrincipalPolicyInput{
			PolicySourceArn: user.User.Arn, ActionNames: []string{"a:Own", "a:Group", "a:Managed"}, PolicyExclusionList: excluded,
		})
		if err != nil {
			return "", err
		}
		for _, r := range out.EvaluationResults {
			if r.EvalDecision == types.PolicyEvaluationDecisionTypeAllowed {
				allowed += strings.TrimPrefix(*r.EvalActionName, "a:") + " "
			}
		}
		return allowed, nil
	}
	for _, c := range []struct {
		excluded []types.PolicyIdentifier
		want     string
	}{
		{nil, "Own Group "},
		{[]types.PolicyIdentifier{sort("permission-boundary")}, "Own Group Managed "},
		{[]types.PolicyIdentifier{sort("permission-boundary"), arn(*managed.Policy.Arn)}, "Own Group "},
		{[]types.PolicyIdentifier{sort("permission-boundary"), arn("arn:aws:iam::123456789012:policy/m?nag*")}, "Own Group "},
		{[]types.PolicyIdentifier{sort("permission-boundary"), sort("user-managed")}, "Own Group "},
		{[]types.PolicyIdentifier{sort("permission-boundary"), sort("aws-managed"), sort("scp"), sort("rcp"), arn("arn:aws:iam::aws:policy/*")}, "Own Group Managed "},
		{[]types.PolicyIdentifier{sort("inline")}, ""},
		{[]types.PolicyIdentifier{inline("user", "ann")}, "Group "},
		{[]types.PolicyIdentifier{inline("group", "st*")}, "Own "},
		{[]types.PolicyIdentifier{inline("role", "ann")}, "Own Group "},
	} {
		if got, err := ask(c.excluded...); err != nil || got != c.want {
			t.Errorf("without %v: %q, %v; want %q", c.excluded, got, err, c.want)
		}
	}
	for _, bad := range []types.PolicyIdentifier{arn("arn:aws:s3:::policy/managed-by-us"), arn("arn:aws:iam::*:policy/managed"), arn("arn:aws:iam::aws:policy/*a*"), sort("other"), inline("user", "a*b*"), inline("machine", "a")} {
		_, err := ask(bad)
		wantError(t, err, "InvalidInput", "exclude")
	}
}
