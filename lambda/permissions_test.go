package lambda

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/frontend"
	"github.com/hearth-faas/hearth/internal/sdkhttp"
	"pgregory.net/rapid"
)

// accountKeys are credentials of every account's root: AKID and the account.
type accountKeys struct{}

func (accountKeys) Lookup(key, _ string) (string, hearth.Identity, error) {
	account := strings.TrimPrefix(key, "AKID")
	return "secret", hearth.Identity{Account: hearth.Account(account), ARN: "arn:aws:iam::" + account + ":root", UserID: account}, nil
}

// neighbours is a world with a real frontend, which any account may call.
type neighbours struct {
	*world
	server *httptest.Server
}

func newNeighbours(t *testing.T) *neighbours {
	t.Helper()
	w := newWorld(t)
	front, err := frontend.New(frontend.Config{Functions: w.registry, Manager: w.invoker, Policies: w.registry, Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(access.Noting(New(Config{
		Registry: w.registry, Invoker: front, Credentials: accountKeys{}, Clock: w.clock, Region: "us-east-1", Log: slog.New(slog.DiscardHandler),
	}), access.FromNetwork))
	t.Cleanup(server.Close)
	n := &neighbours{w, server}
	w.lambda = n.as(string(testAccount))
	return n
}

// as is a client of the account.
func (n *neighbours) as(account string) *sdk.Client {
	return sdk.NewFromConfig(aws.Config{
		Region: "us-east-1", BaseEndpoint: &n.server.URL, RetryMaxAttempts: 1, HTTPClient: sdkhttp.Client{},
		Credentials: credentials.NewStaticCredentialsProvider("AKID"+account, "secret", ""),
	})
}

const (
	helloARN  = "arn:aws:lambda:us-east-1:000000000000:function:hello"
	neighbour = "111111111111"
)

func permission(edit func(*sdk.AddPermissionInput)) *sdk.AddPermissionInput {
	in := &sdk.AddPermissionInput{FunctionName: new("hello"), StatementId: new("s"), Action: new("lambda:InvokeFunction"), Principal: new(neighbour)}
	if edit != nil {
		edit(in)
	}
	return in
}

func provokePermissions(p *provoker) {
	ctx := p.t.Context()
	p.create("hello")
	tryAdd := func(edit func(*sdk.AddPermissionInput)) {
		p.t.Helper()
		p.try(failed(p.lambda.AddPermission(ctx, permission(edit))))
	}
	tryRemove := func(name, qualifier, sid string) {
		p.t.Helper()
		p.try(failed(p.lambda.RemovePermission(ctx, &sdk.RemovePermissionInput{FunctionName: &name, Qualifier: optional(qualifier), StatementId: &sid})))
	}
	tryGet := func(name, qualifier string) {
		p.t.Helper()
		p.try(failed(p.lambda.GetPolicy(ctx, &sdk.GetPolicyInput{FunctionName: &name, Qualifier: optional(qualifier)})))
	}
	tryGet("doesnotexist", "")
	tryGet("hello", "")
	tryRemove("doesnotexist", "", "s3")
	tryRemove("hello", "", "s3")
	tryAdd(func(in *sdk.AddPermissionInput) { in.FunctionName = new("doesnotexist") })
	tryAdd(func(in *sdk.AddPermissionInput) { in.StatementId = new("example.com") })
	tryAdd(func(in *sdk.AddPermissionInput) { in.Qualifier = new("$LATEST") })
	tryAdd(func(in *sdk.AddPermissionInput) { in.Principal = new("invalid.nonaws.com") })
	tryAdd(func(in *sdk.AddPermissionInput) { in.Qualifier = new("42") })
	tryAdd(func(in *sdk.AddPermissionInput) { in.Qualifier = new("alias-doesnotexist") })
	tryAdd(func(in *sdk.AddPermissionInput) { in.Qualifier = new("valid-with-$-but-doesnotexist") })
	tryAdd(func(in *sdk.AddPermissionInput) { in.Qualifier = new("invalid-qualifier-with-?-char") })
	tryAdd(func(in *sdk.AddPermissionInput) { in.RevisionId = new("wrong") })
	s3 := func(in *sdk.AddPermissionInput) { in.StatementId, in.Principal = new("s3"), new("s3.amazonaws.com") }
	if _, err := p.lambda.AddPermission(ctx, permission(s3)); err != nil {
		p.t.Fatal(err)
	}
	tryAdd(s3)
	tryRemove("hello", "", "non-existent")
	tryRemove("hello", "42", "s3")
	tryRemove("hello", "alias-doesnotexist", "s3")
}

func TestEachFieldOfAPermissionBecomesTheServicesCondition(t *testing.T) {
	w := newNeighbours(t)
	w.create("hello")
	const head = `{"Sid":"s","Effect":"Allow",`
	const tail = `"Action":"lambda:InvokeFunction","Resource":"` + helloARN + `"`
	s3 := func(in *sdk.AddPermissionInput) { in.Principal = new("s3.amazonaws.com") }
	for _, c := range []struct {
		want string
		edit func(*sdk.AddPermissionInput)
	}{
		{head + `"Principal":{"AWS":"arn:aws:iam::111111111111:root"},` + tail + `}`, nil},
		{head + `"Principal":{"AWS":"arn:aws:iam::111111111111:role/r"},` + tail + `}`, func(in *sdk.AddPermissionInput) { in.Principal = new("arn:aws:iam::111111111111:role/r") }},
		{head + `"Principal":{"Service":"s3.amazonaws.com"},` + tail + `}`, s3},
		{head + `"Principal":"*",` + tail + `,"Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1234567890"}}}`, func(in *sdk.AddPermissionInput) {
			in.Principal, in.PrincipalOrgID = new("*"), new("o-1234567890")
		}},
		{head + `"Principal":{"Service":"s3.amazonaws.com"},` + tail + `,"Condition":{"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::b"},"StringEquals":{"AWS:SourceAccount":"222222222222"}}}`, func(in *sdk.AddPermissionInput) {
			s3(in)
			in.SourceArn, in.SourceAccount = new("arn:aws:s3:::b"), new("222222222222")
		}},
		{head + `"Principal":{"Service":"alexa-appkit.amazon.com"},` + tail + `,"Condition":{"StringEquals":{"lambda:EventSourceToken":"amzn1.ask.skill.x"}}}`, func(in *sdk.AddPermissionInput) {
			in.Principal, in.EventSourceToken = new("alexa-appkit.amazon.com"), new("amzn1.ask.skill.x")
		}},
		{head + `"Principal":"*",` + tail + `,"Condition":{"Bool":{"lambda:InvokedViaFunctionUrl":"true"}}}`, func(in *sdk.AddPermissionInput) {
			in.Principal, in.InvokedViaFunctionUrl = new("*"), new(true)
		}},
		{head + `"Principal":"*","Action":"lambda:InvokeFunctionUrl","Resource":"` + helloARN + `","Condition":{"StringEquals":{"lambda:FunctionUrlAuthType":"NONE"}}}`, func(in *sdk.AddPermissionInput) {
			in.Principal, in.FunctionUrlAuthType, in.Action = new("*"), "NONE", new("lambda:InvokeFunctionUrl")
		}},
	} {
		out, err := w.lambda.AddPermission(t.Context(), permission(c.edit))
		if err != nil || *out.Statement != c.want {
			t.Fatalf("%v, %v\nand not\n%s", out, err, c.want)
		}
		got, err := w.lambda.GetPolicy(t.Context(), &sdk.GetPolicyInput{FunctionName: new("hello")})
		if want := `{"Version":"2012-10-17","Id":"default","Statement":[` + c.want + `]}`; err != nil || *got.Policy != want {
			t.Errorf("%v, %v\nand not\n%s", got, err, want)
		}
		if _, err := w.lambda.RemovePermission(t.Context(), &sdk.RemovePermissionInput{FunctionName: new("hello"), StatementId: new("s")}); err != nil {
			t.Fatal(err)
		}
		_, err = w.lambda.GetPolicy(t.Context(), &sdk.GetPolicyInput{FunctionName: new("hello")})
		wantError(t, err, "ResourceNotFoundException", "The resource you requested does not exist.")
	}
	_, err := w.lambda.AddPermission(t.Context(), permission(func(in *sdk.AddPermissionInput) { in.FunctionUrlAuthType = types.FunctionUrlAuthTypeNone }))
	wantError(t, err, "InvalidParameterValueException", "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")
}

func TestPermissionsAreBoundedAndRevised(t *testing.T) {
	w := newNeighbours(t)
	w.create("hello")
	ctx := t.Context()
	long := strings.Repeat("x", 90)
	added := 0
	for ; ; added++ {
		_, err := w.lambda.AddPermission(ctx, permission(func(in *sdk.AddPermissionInput) { in.StatementId = new(fmt.Sprint(long, added)) }))
		if err != nil {
			wantError(t, err, "PolicyLengthExceededException", "is bigger than the limit (20480).")
			break
		}
	}
	if added < 50 || added > 100 {
		t.Errorf("a policy held %d statements of some 280 bytes", added)
	}
	p, err := w.lambda.GetPolicy(ctx, &sdk.GetPolicyInput{FunctionName: new("hello")})
	if err != nil {
		t.Fatal(err)
	}
	remove := &sdk.RemovePermissionInput{FunctionName: new("hello"), StatementId: new(fmt.Sprint(long, 0)), RevisionId: p.RevisionId}
	if _, err := w.lambda.RemovePermission(ctx, remove); err != nil {
		t.Fatal(err)
	}
	remove.StatementId = new(fmt.Sprint(long, 1))
	_, err = w.lambda.RemovePermission(ctx, remove)
	wantError(t, err, "PreconditionFailedException", "GetPolicy API")
}

func TestAPolicyLetsAnotherAccountInvokeAndNoMore(t *testing.T) {
	w := newNeighbours(t)
	w.create("hello")
	ctx := t.Context()
	if _, err := w.lambda.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: new("hello")}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.lambda.CreateAlias(ctx, &sdk.CreateAliasInput{FunctionName: new("hello"), Name: new("live"), FunctionVersion: new("1")}); err != nil {
		t.Fatal(err)
	}
	other := w.as(neighbour)
	invoke := func(qualifier string) error {
		return failed(other.Invoke(ctx, &sdk.InvokeInput{FunctionName: new(helloARN), Qualifier: optional(qualifier)}))
	}
	denied := func(err error, action, arn string) {
		t.Helper()
		wantError(t, err, "AccessDeniedException", "User: arn:aws:iam::111111111111:root is not authorized to perform: "+action+
			" on resource: "+arn+" because no resource-based policy allows the "+action+" action")
	}
	denied(invoke(""), "lambda:InvokeFunction", helloARN)
	denied(failed(other.Invoke(ctx, &sdk.InvokeInput{FunctionName: new(helloARN + "-none")})), "lambda:InvokeFunction", helloARN+"-none")
	if _, err := w.lambda.AddPermission(ctx, permission(nil)); err != nil {
		t.Fatal(err)
	}
	if err := invoke(""); err != nil {
		t.Error(err)
	}
	denied(invoke("live"), "lambda:InvokeFunction", helloARN+":live")
	denied(invoke("1"), "lambda:InvokeFunction", helloARN+":1")
	_, err := w.as("222222222222").Invoke(ctx, &sdk.InvokeInput{FunctionName: new(helloARN), InvocationType: "DryRun"})
	wantError(t, err, "AccessDeniedException", "User: arn:aws:iam::222222222222:root is not authorized")
	denied(failed(other.GetFunction(ctx, &sdk.GetFunctionInput{FunctionName: new(helloARN)})), "lambda:GetFunction", helloARN)
	for _, qualifier := range []string{"live", "1"} {
		if _, err := w.lambda.AddPermission(ctx, permission(func(in *sdk.AddPermissionInput) { in.Qualifier = &qualifier; in.Principal = new("*") })); err != nil {
			t.Fatal(err)
		}
		if err := invoke(qualifier); err != nil {
			t.Errorf("%s: %v", qualifier, err)
		}
	}
	if _, err := w.lambda.AddPermission(ctx, permission(func(in *sdk.AddPermissionInput) {
		in.StatementId, in.Action = new("get"), new("lambda:GetFunction")
	})); err != nil {
		t.Fatal(err)
	}
	if _, err := other.GetFunction(ctx, &sdk.GetFunctionInput{FunctionName: new(helloARN)}); err != nil {
		t.Error(err)
	}
	if _, err := w.lambda.RemovePermission(ctx, &sdk.RemovePermissionInput{FunctionName: new("hello"), StatementId: new("s")}); err != nil {
		t.Fatal(err)
	}
	denied(invoke(""), "lambda:InvokeFunction", helloARN)
}

func TestAWholePolicyIsPutReadAndDeleted(t *testing.T) {
	w := newNeighbours(t)
	w.create("hello")
	ctx := t.Context()
	put := func(policy string, revision *string) (*sdk.PutResourcePolicyOutput, error) {
		return w.lambda.PutResourcePolicy(ctx, &sdk.PutResourcePolicyInput{ResourceArn: new(helloARN), Policy: &policy, RevisionId: revision})
	}
	const open = `{"Version":"2012-10-17","Statement":[{"Sid":"all","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:root"},"Action":"lambda:*","Resource":"` + helloARN + `"}]}`
	_, err := w.lambda.GetResourcePolicy(ctx, &sdk.GetResourcePolicyInput{ResourceArn: new(helloARN)})
	wantError(t, err, "ResourceNotFoundException", "The resource you requested does not exist.")
	for policy, want := range map[string]string{
		`{`: "This policy contains invalid Json",
		`{"Version":"2012-10-17","Statement":[]}`:                                             "Syntax errors in policy.",
		strings.Replace(open, "Allow", "Perhaps", 1):                                          "Syntax errors in policy.",
		strings.Replace(open, `"Principal":{"AWS":"arn:aws:iam::111111111111:root"},`, "", 1): "Missing required field Principal",
		strings.Replace(open, `"all"`, `"`+strings.Repeat("s", maxPolicy)+`"`, 1):             "",
	} {
		_, err := put(policy, nil)
		if want == "" {
			wantError(t, err, "PolicyLengthExceededException", "")
		} else {
			wantError(t, err, "InvalidParameterValueException", want)
		}
	}
	first, err := put(open, nil)
	if err != nil || *first.Policy != open {
		t.Fatal(first, err)
	}
	got, err := w.lambda.GetResourcePolicy(ctx, &sdk.GetResourcePolicyInput{ResourceArn: new(helloARN)})
	if err != nil || *got.Policy != open || *got.RevisionId != *first.RevisionId {
		t.Fatal(got, err)
	}
	same, err := w.lambda.GetPolicy(ctx, &sdk.GetPolicyInput{FunctionName: new("hello")})
	if err != nil || *same.Policy != open {
		t.Fatal(same, err)
	}
	other := w.as(neighbour)
	if _, err := other.GetFunction(ctx, &sdk.GetFunctionInput{FunctionName: new(helloARN)}); err != nil {
		t.Error(err)
	}
	// What a policy denies is denied to its own account too.
	closed := strings.Replace(open, `"Statement":[`, `"Statement":[{"Sid":"no","Effect":"Deny","Principal":"*","Action":"lambda:InvokeFunction","Resource":"*"},`, 1)
	_, err = put(closed, new("wrong"))
	wantError(t, err, "PreconditionFailedException", "GetResourcePolicy API")
	second, err := put(closed, first.RevisionId)
	if err != nil {
		t.Fatal(err)
	}
	for _, client := range []*sdk.Client{w.lambda, other} {
		_, err = client.Invoke(ctx, &sdk.InvokeInput{FunctionName: new(helloARN)})
		wantError(t, err, "AccessDeniedException", "is not authorized to perform: lambda:InvokeFunction on resource: "+helloARN+" with an explicit deny in a resource-based policy")
	}
	// An address may be what decides, and nobody shuts himself out of a policy.
	far := strings.Replace(open, `"Statement":[`, `"Statement":[{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":"10.9.8.7"}}},`, 1)
	if second, err = put(far, second.RevisionId); err != nil {
		t.Fatal(err)
	}
	_, err = w.lambda.Invoke(ctx, &sdk.InvokeInput{FunctionName: new(helloARN)})
	wantError(t, err, "AccessDeniedException", "with an explicit deny")
	_, err = w.lambda.GetFunction(ctx, &sdk.GetFunctionInput{FunctionName: new(helloARN)})
	wantError(t, err, "AccessDeniedException", "lambda:GetFunction on resource: "+helloARN+" with an explicit deny")
	near := strings.Replace(far, "10.9.8.7", "127.0.0.0/8", 1)
	if second, err = put(near, second.RevisionId); err != nil {
		t.Fatal(err)
	}
	for _, client := range []*sdk.Client{w.lambda, other} {
		if _, err = client.Invoke(ctx, &sdk.InvokeInput{FunctionName: new(helloARN)}); err != nil {
			t.Error(err)
		}
	}
	drop := &sdk.DeleteResourcePolicyInput{ResourceArn: new(helloARN), RevisionId: first.RevisionId}
	_, err = w.lambda.DeleteResourcePolicy(ctx, drop)
	wantError(t, err, "PreconditionFailedException", "")
	drop.RevisionId = second.RevisionId
	if _, err := w.lambda.DeleteResourcePolicy(ctx, drop); err != nil {
		t.Fatal(err)
	}
	if _, err := w.lambda.Invoke(ctx, &sdk.InvokeInput{FunctionName: new("hello")}); err != nil {
		t.Error(err)
	}
	for arn, code := range map[string]string{"hello": "InvalidParameterValueException", helloARN + ":$LATEST": "InvalidParameterValueException", helloARN + "2": "ResourceNotFoundException"} {
		_, err := w.lambda.PutResourcePolicy(ctx, &sdk.PutResourcePolicyInput{ResourceArn: &arn, Policy: new(open)})
		wantError(t, err, code, "")
	}
}

// TestWhatWasAddedIsWhatIsThere adds and removes permissions at random and
// holds the policy against a list.
func TestWhatWasAddedIsWhatIsThere(t *testing.T) {
	w := newNeighbours(t)
	w.create("hello")
	rapid.Check(t, func(rt *rapid.T) {
		var want []string
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			sid := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "sid")
			at := -1
			for i := range want {
				if want[i] == sid {
					at = i
				}
			}
			if rapid.Bool().Draw(rt, "add") {
				_, err := w.lambda.AddPermission(t.Context(), permission(func(in *sdk.AddPermissionInput) { in.StatementId = &sid }))
				if (err == nil) != (at < 0) {
					rt.Fatalf("add %s to %v: %v", sid, want, err)
				}
				if at < 0 {
					want = append(want, sid)
				}
			} else {
				_, err := w.lambda.RemovePermission(t.Context(), &sdk.RemovePermissionInput{FunctionName: new("hello"), StatementId: &sid})
				if (err == nil) != (at >= 0) {
					rt.Fatalf("remove %s from %v: %v", sid, want, err)
				}
				if at >= 0 {
					want = append(want[:at], want[at+1:]...)
				}
			}
			var got struct{ Statement []struct{ Sid string } }
			if d := w.registry.Policy(testAccount, "hello", ""); d != nil {
				if err := json.Unmarshal([]byte(d.String()), &got); err != nil {
					rt.Fatal(err)
				}
			}
			var sids []string
			for _, s := range got.Statement {
				sids = append(sids, s.Sid)
			}
			if fmt.Sprint(sids) != fmt.Sprint(want) {
				rt.Fatalf("%v and not %v", sids, want)
			}
		}
		for _, sid := range want {
			if _, err := w.lambda.RemovePermission(t.Context(), &sdk.RemovePermissionInput{FunctionName: new("hello"), StatementId: &sid}); err != nil {
				rt.Fatal(err)
			}
		}
	})
}
