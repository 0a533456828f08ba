package wire_test

import (
	"net/http/httptest"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// IAM and STS know whether a request came by TLS: a user's policy asks for it,
// and a role's, whose trust names him.
func TestPoliciesTellPlainTextFromTLS(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	const unlessTLS = `,"Condition":{"Bool":{"aws:SecureTransport":"false"}}`
	user := func(name, more string) (client func(url string) (*sdk.Client, *sts.Client)) {
		_, err := w.iam.CreateUser(ctx, &sdk.CreateUserInput{UserName: &name})
		w.must(err)
		_, err = w.iam.PutUserPolicy(ctx, &sdk.PutUserPolicyInput{UserName: &name, PolicyName: new("p"), PolicyDocument: new(
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}` + more + `]}`)})
		w.must(err)
		k, err := w.iam.CreateAccessKey(ctx, &sdk.CreateAccessKeyInput{UserName: &name})
		w.must(err)
		return func(url string) (*sdk.Client, *sts.Client) {
			cfg := w.config(url, *k.AccessKey.AccessKeyId, *k.AccessKey.SecretAccessKey, "")
			return sdk.NewFromConfig(cfg), sts.NewFromConfig(cfg)
		}
	}
	careful := user("careful", `,{"Effect":"Deny","Action":"*","Resource":"*"`+unlessTLS+`}`)
	careless := user("careless", "")
	role := w.role("r", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"`+ours+`"},"Action":"sts:AssumeRole"},`+
		`{"Effect":"Deny","Principal":"*","Action":"sts:AssumeRole"`+unlessTLS+`}]}`)
	secure := httptest.NewTLSServer(w.handler)
	defer secure.Close()
	for _, c := range []struct {
		url string
		tls bool
	}{{*w.aws.BaseEndpoint, false}, {secure.URL, true}} {
		check := func(what string, err error) {
			t.Helper()
			if c.tls && err != nil {
				t.Errorf("%s by TLS: %v", what, err)
			} else if !c.tls {
				wantError(t, err, "AccessDenied", "with an explicit deny")
			}
		}
		i, s := careful(c.url)
		_, s2 := careless(c.url)
		tls := secure.Client()
		_, err := i.ListUsers(ctx, &sdk.ListUsersInput{}, func(o *sdk.Options) { o.HTTPClient = tls })
		check("ListUsers", err)
		_, err = s.GetAccessKeyInfo(ctx, &sts.GetAccessKeyInfoInput{AccessKeyId: new(w.authority.Root().AccessKeyID)}, func(o *sts.Options) { o.HTTPClient = tls })
		check("GetAccessKeyInfo", err)
		for _, s := range []*sts.Client{s, s2} { // by the user's policy, and by the role's alone
			_, err = s.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: new("me")}, func(o *sts.Options) { o.HTTPClient = tls })
			check("AssumeRole", err)
		}
	}
}
