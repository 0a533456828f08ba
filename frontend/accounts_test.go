package frontend_test

import (
	"context"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/frontend"
	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/store/storetest"
)

// suspended is accounts of which one is.
type suspended hearth.Account

func (s suspended) Stopped(a hearth.Account) bool { return a == hearth.Account(s) }
func (s suspended) Refusal(a hearth.Account) error {
	return hearth.Errorf(hearth.AccessDenied, "The account %s is suspended.", a)
}

// Nothing of a stopped account runs; what was let in before is to come again,
// and is not given up.
func TestNothingOfAStoppedAccountRuns(t *testing.T) {
	own := hearth.Identity{Account: hearth.DefaultAccount, ARN: "arn:aws:iam::000000000000:root"}
	for _, c := range []struct {
		what       string
		stopped    hearth.Account
		authorized bool
		want       hearth.Kind
	}{
		{"an active account", "111122223333", false, ""},
		{"a stopped one", hearth.DefaultAccount, false, hearth.AccessDenied},
		{"an event of a stopped one", hearth.DefaultAccount, true, hearth.TooManyRequests},
	} {
		ran := false
		f := newFrontend(t, func(context.Context, *hearth.Invocation) (*hearth.Result, error) {
			ran = true
			return &hearth.Result{}, nil
		}, func(cfg *frontend.Config) { cfg.Accounts = suspended(c.stopped) })
		_, err := f.Invoke(t.Context(), &hearth.Invocation{Account: hearth.DefaultAccount, Name: "f", Caller: own, Authorized: c.authorized})
		if hearth.KindOf(err) != c.want || ran != (c.want == "") {
			t.Errorf("%s: %v, ran %v", c.what, err, ran)
		}
	}
}

// Who is no root is let in by his policies, or by the function's; an event that
// was let in is not judged again.
func TestAUserInvokesWhatHisPoliciesAllow(t *testing.T) {
	now := clock.System()
	dir, err := iam.Open(t.Context(), iam.Config{Store: &storetest.Memory{}, Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	user := func(name, statement string) hearth.Identity {
		t.Helper()
		u, err := dir.CreateUser(t.Context(), hearth.DefaultAccount, iam.NewUser{Name: name})
		if err == nil && statement != "" {
			err = dir.PutUserPolicy(t.Context(), hearth.DefaultAccount, name, iam.Inline{Name: "p", Document: `{"Version":"2012-10-17","Statement":` + statement + `}`})
		}
		if err != nil {
			t.Fatal(err)
		}
		return hearth.Identity{Account: hearth.DefaultAccount, ARN: u.ARN(), UserID: u.ID}
	}
	may := user("may", `{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"`+functionARN+`"}`)
	other := user("other", `{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"`+functionARN+`2"}`)
	nothing := user("nothing", "")
	f := newFrontend(t, echo, func(cfg *frontend.Config) {
		cfg.Judge = access.New(dir, now, "us-east-1")
		cfg.Policies = &policies{doc: document(t, `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/other"},"Action":"lambda:InvokeFunction","Resource":"`+functionARN+`","Condition":{"Bool":{"lambda:InvokedViaFunctionUrl":"true"}}}`)}
	})
	url := &hearth.Source{URLAuthType: "AWS_IAM"}
	for _, c := range []struct {
		what       string
		who        hearth.Identity
		source     *hearth.Source
		authorized bool
		want       hearth.Kind
	}{
		{"allowed", may, nil, false, ""},
		{"allowed another function", other, nil, false, hearth.AccessDenied},
		{"allowed nothing", nothing, nil, false, hearth.AccessDenied},
		{"an event that was let in", nothing, nil, true, ""},
		{"one action of two by a URL", may, url, false, hearth.AccessDenied},
		{"root", hearth.Identity{Account: hearth.DefaultAccount, ARN: "arn:aws:iam::000000000000:root"}, nil, false, ""},
	} {
		_, err := f.Invoke(t.Context(), &hearth.Invocation{Account: hearth.DefaultAccount, Name: "f", Caller: c.who, Source: c.source, Authorized: c.authorized})
		if hearth.KindOf(err) != c.want {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
