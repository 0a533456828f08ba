package frontend_test

import (
	"context"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/frontend"
	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/policy"
	"github.com/hearth-faas/hearth/store/storetest"
)

// policies is one document for the function as a whole.
type policies struct {
	doc    *policy.Document
	denies bool
	asked  int
}

func (p *policies) Policy(_ hearth.Account, _, qualifier string) *policy.Document {
	p.asked++
	if qualifier != "" {
		return nil
	}
	return p.doc
}

func (p *policies) Denies() bool { return p.denies }

func document(t testing.TB, statements string) *policy.Document {
	t.Helper()
	d, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":[` + statements + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Check(policy.Resource); err != nil {
		t.Fatal(err)
	}
	return d
}

const functionARN = "arn:aws:lambda:us-east-1:000000000000:function:f"

func TestAnInvocationNeedsAStatementThatAllowsIt(t *testing.T) {
	own := hearth.Identity{Account: hearth.DefaultAccount, ARN: "arn:aws:iam::000000000000:root"}
	session := hearth.Identity{Account: hearth.DefaultAccount, ARN: "arn:aws:sts::000000000000:assumed-role/r/f"}
	foreign := hearth.Identity{Account: "111111111111", ARN: "arn:aws:sts::111111111111:assumed-role/r/s"}
	bucket := hearth.Identity{Service: "s3.amazonaws.com"}
	url := &hearth.Source{URLAuthType: "NONE"}
	const to = `,"Resource":"` + functionARN + `"`
	s3 := `{"Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"lambda:InvokeFunction"` + to +
		`,"Condition":{"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::b"},"StringEquals":{"AWS:SourceAccount":"222222222222"}}}`
	public := `{"Effect":"Allow","Principal":"*","Action":"lambda:InvokeFunctionUrl"` + to + `,"Condition":{"StringEquals":{"lambda:FunctionUrlAuthType":"NONE"}}}`
	via := `{"Effect":"Allow","Principal":"*","Action":"lambda:InvokeFunction"` + to + `,"Condition":{"Bool":{"lambda:InvokedViaFunctionUrl":"true"}}}`
	deny := `{"Effect":"Deny","Principal":{"AWS":"arn:aws:iam::000000000000:role/r"},"Action":"*","Resource":"*"}`
	for _, c := range []struct {
		what       string
		caller     hearth.Identity
		source     *hearth.Source
		statements string
		denied     string // a part of the message
	}{
		{"the account's own", own, nil, via, ""},
		{"a function of the account", session, nil, via, ""},
		{"another account without a statement", foreign, nil, via, "User: arn:aws:sts::111111111111:assumed-role/r/s is not authorized to perform: lambda:InvokeFunction on resource: " + functionARN + " because no resource-based policy allows the lambda:InvokeFunction action"},
		{"another account", foreign, nil, `{"Effect":"Allow","Principal":{"AWS":"111111111111"},"Action":"lambda:InvokeFunction"` + to + `}`, ""},
		{"another account's role", foreign, nil, `{"Effect":"Allow","Principal":"*","Action":"lambda:*"` + to + `,"Condition":{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111111111111:role/r"}}}`, ""},
		{"another organization", foreign, &hearth.Source{OrganizationID: "o-2222222222"}, `{"Effect":"Allow","Principal":"*","Action":"lambda:*"` + to + `,"Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1111111111"}}}`, "no resource-based policy"},
		{"a service for its bucket", bucket, &hearth.Source{ARN: "arn:aws:s3:::b", Account: "222222222222"}, s3, ""},
		{"a service for another bucket", bucket, &hearth.Source{ARN: "arn:aws:s3:::c", Account: "222222222222"}, s3, "User: s3.amazonaws.com is not authorized"},
		{"a service for a bucket of somebody else", bucket, &hearth.Source{ARN: "arn:aws:s3:::b", Account: "333333333333"}, s3, "no resource-based policy"},
		{"a service for nothing", bucket, nil, s3, "no resource-based policy"},
		{"another service", hearth.Identity{Service: "sns.amazonaws.com"}, &hearth.Source{ARN: "arn:aws:s3:::b", Account: "222222222222"}, s3, "no resource-based policy"},
		{"anybody by a public URL", hearth.Identity{}, url, public + "," + via, ""},
		{"anybody by a URL that is half public", hearth.Identity{}, url, public, "User: anonymous is not authorized to perform: lambda:InvokeFunction on"},
		{"anybody by a URL that is the other half public", hearth.Identity{}, url, via, "to perform: lambda:InvokeFunctionUrl on"},
		{"anybody by a URL that wants a signature", hearth.Identity{}, &hearth.Source{URLAuthType: "AWS_IAM"}, public + "," + via, "to perform: lambda:InvokeFunctionUrl on"},
		{"the account's own by URL", own, &hearth.Source{URLAuthType: "AWS_IAM"}, s3, ""},
		{"anybody past the URL", hearth.Identity{}, nil, public + "," + via, "to perform: lambda:InvokeFunction on"},
		{"the account's own role that a policy denies", session, nil, deny, "with an explicit deny in a resource-based policy"},
		{"the account's own root beside it", own, nil, deny, ""},
	} {
		p := &policies{doc: document(t, c.statements), denies: strings.Contains(c.statements, "Deny")}
		f := newFrontend(t, echo, func(cfg *frontend.Config) { cfg.Policies = p })
		inv := request()
		inv.Caller, inv.Source = c.caller, c.source
		_, err := f.Invoke(context.Background(), inv)
		switch {
		case c.denied == "" && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.denied != "" && (hearth.KindOf(err) != hearth.AccessDenied || !strings.Contains(err.Error(), c.denied)):
			t.Errorf("%s: %v\nand not %s", c.what, err, c.denied)
		}
		if asked := c.caller.Account != hearth.DefaultAccount || p.denies; asked != (p.asked > 0) {
			t.Errorf("%s: the policy was asked for %d times", c.what, p.asked)
		}
	}
}

// How a call came is for policies to ask, with a judge of callers and without.
func TestAPolicyAsksHowACallCame(t *testing.T) {
	now := clock.System()
	dir, err := iam.Open(t.Context(), iam.Config{Store: &storetest.Memory{}, Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	for what, judge := range map[string]*access.Judge{"without a judge": nil, "with one": access.New(dir, now, "us-east-1")} {
		for denied, came := range map[string]access.Origin{
			"":             {Secure: true, IP: "10.0.0.1"},
			"plain text":   {IP: "10.0.0.1"},
			"another's IP": {Secure: true, IP: "10.0.0.2"},
		} {
			f := newFrontend(t, echo, func(cfg *frontend.Config) {
				cfg.Judge = judge
				cfg.Policies = &policies{denies: true, doc: document(t, `{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}},`+
					`{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":"10.0.0.1/32"}}}`)}
			})
			inv := request()
			inv.Caller = hearth.Identity{Account: hearth.DefaultAccount, ARN: "arn:aws:iam::000000000000:root"}
			if _, err := f.Invoke(access.Arrived(t.Context(), came), inv); (hearth.KindOf(err) == hearth.AccessDenied) != (denied != "") {
				t.Errorf("%s, %s: %v", what, denied, err)
			}
		}
	}
}

func TestWhatWasAuthorizedWhenItWasTakenInIsNotJudgedAgain(t *testing.T) {
	p := &policies{doc: document(t, `{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}`), denies: true}
	f := newFrontend(t, echo, func(cfg *frontend.Config) { cfg.Policies = p })
	inv := request()
	inv.Caller, inv.Authorized = hearth.Identity{Account: "111111111111"}, true
	if _, err := f.Invoke(context.Background(), inv); err != nil || p.asked != 0 {
		t.Error(err, p.asked)
	}
}

func TestWhatDoesNotExistIsDeniedToOthersAsWhatDoes(t *testing.T) {
	f := newFrontend(t, echo, func(cfg *frontend.Config) { cfg.Policies = &policies{} })
	inv := request()
	inv.Caller.Account, inv.Name = "111111111111", "none"
	if _, err := f.Invoke(context.Background(), inv); hearth.KindOf(err) != hearth.AccessDenied || inv.Outcome != string(hearth.AccessDenied) {
		t.Error(err, inv.Outcome)
	}
}
