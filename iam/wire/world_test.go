package wire_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/account"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/iam/wire"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/internal/sdkhttp"
	"github.com/hearth-faas/hearth/lambda"
	"github.com/hearth-faas/hearth/query"
	"github.com/hearth-faas/hearth/store/sqlite"
)

const (
	ours    = "123456789012"
	trusted = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com","AWS":"` + ours + `"},"Action":"sts:AssumeRole"}]}`
	allowed = `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}`
)

// now is the real time, since the SDK signs with it.
var now = time.Now().UTC().Truncate(time.Second)

// world is the API with IAM and STS behind it, in a region of its own.
type world struct {
	t         testing.TB
	dir       string
	clock     *clock.Fake
	directory *iam.Directory
	authority *identity.Authority
	accounts  *account.Directory
	handler   http.Handler
	aws       aws.Config
	iam       *sdk.Client
	sts       *sts.Client
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: clock.NewFake(now)}
	records, err := sqlite.Open(t.Context(), w.dir)
	w.must(err)
	w.directory, err = iam.Open(t.Context(), iam.Config{Store: records, Clock: w.clock, Changed: func() {
		if w.accounts != nil {
			w.must(w.accounts.Keys().Refresh())
		}
	}})
	w.must(err)
	t.Cleanup(func() {
		if err := errors.Join(w.directory.Close(), w.accounts.Close(), records.Close()); err != nil {
			t.Error(err)
		}
	})
	w.authority, err = identity.LoadOrCreate(identity.Config{Dir: w.dir, Account: ours, Region: "eu-west-1", Clock: w.clock})
	w.must(err)
	w.accounts, err = account.Open(t.Context(), account.Config{
		Store: records, Clock: w.clock, Secrets: w.authority.Key(), Operator: ours, Since: w.authority.Since(),
	})
	w.must(err)
	w.authority.Consult(w.accounts)
	w.must(w.accounts.Keys().Users(func(a hearth.Account, id string) (string, bool) {
		u := w.directory.UserByID(a, id)
		if u == nil {
			return "", false
		}
		return u.ARN(), true
	}))
	w.handler = access.Noting(lambda.New(lambda.Config{
		Credentials: w.authority, Clock: w.clock, Region: "eu-west-1", Log: slog.New(slog.DiscardHandler),
		Queries: map[string]*query.Service{
			"iam": wire.IAM(w.directory, w.accounts.Keys(), access.New(w.directory, w.clock, "eu-west-1"), "eu-west-1", func(hearth.Account) time.Time { return w.authority.Since() }), "sts": wire.STS(w.directory, w.authority, access.New(w.directory, w.clock, "eu-west-1")),
		},
	}), access.FromNetwork)
	server := httptest.NewServer(w.handler)
	t.Cleanup(server.Close)
	root := w.authority.Root()
	w.aws = w.config(server.URL, root.AccessKeyID, root.SecretAccessKey.Reveal(), "")
	w.iam, w.sts = sdk.NewFromConfig(w.aws), sts.NewFromConfig(w.aws)
	return w
}

func (w *world) config(url, id, secret, token string) aws.Config {
	return aws.Config{
		Region: "eu-west-1", BaseEndpoint: &url, RetryMaxAttempts: 1, HTTPClient: sdkhttp.Client{},
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, token),
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// as is an STS client with a session's credentials.
func (w *world) as(id, secret, token string) *sts.Client {
	return sts.NewFromConfig(w.config(*w.aws.BaseEndpoint, id, secret, token))
}

func wantError(t testing.TB, err error, code, text string) {
	t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), text) {
		t.Errorf("the error is %v, expected %s: %s", err, code, text)
	}
}

// role makes a role.
func (w *world) role(name, trust string) string {
	w.t.Helper()
	out, err := w.iam.CreateRole(w.t.Context(), &sdk.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &trust})
	w.must(err)
	return *out.Role.Arn
}
