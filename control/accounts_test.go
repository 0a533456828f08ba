package control

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

type accountParts struct{ *parts }

var oneAccount = Account{ID: theirs, Name: "team-a", State: "Active", Created: noon, Quotas: Quotas{Concurrency: 10}}

func (p accountParts) List(context.Context) ([]Account, error) {
	return []Account{{ID: ours, Name: "operator", State: "Active", Operator: true, Created: noon}, oneAccount}, p.err
}
func (p accountParts) Get(_ context.Context, account string) (Account, error) {
	a := oneAccount
	a.ID = hearth.Account(account)
	return a, p.err
}
func (p accountParts) Create(_ context.Context, id hearth.Account, name string, q Quotas) (AccountMade, error) {
	return AccountMade{Account: Account{ID: id, Name: name, State: "Active", Created: noon, Quotas: q}, AccessKeyID: "AKIA", SecretAccessKey: "s"}, p.err
}
func (p accountParts) Suspend(_ context.Context, _, reason string) (Account, error) {
	a := oneAccount
	a.State, a.Reason = "Suspended", reason
	return a, p.err
}
func (p accountParts) Resume(context.Context, string) (Account, error) { return oneAccount, p.err }
func (p accountParts) SetQuotas(_ context.Context, _ string, c QuotaChange) (Account, error) {
	a := oneAccount
	if c.Concurrency != nil {
		a.Quotas.Concurrency = *c.Concurrency
	}
	return a, p.err
}
func (p accountParts) Delete(context.Context, string, bool) error { return p.err }
func (p accountParts) Keys(_ context.Context, account string) ([]AccessKey, error) {
	return []AccessKey{{ID: "AKIA" + account, Active: true, Created: noon}}, p.err
}
func (p accountParts) CreateKey(context.Context, string) (AccessKey, error) {
	return AccessKey{ID: "AKIA", Active: true, Created: noon, SecretAccessKey: "s"}, p.err
}
func (p accountParts) UpdateKey(context.Context, string, string, bool) error { return p.err }
func (p accountParts) DeleteKey(context.Context, string, string) error       { return p.err }
func (p accountParts) Session(_ context.Context, _ string, ttl time.Duration) (AccountSession, error) {
	return AccountSession{Account: theirs, AccessKeyID: "ASIA", SecretAccessKey: "s", SessionToken: "t", Expires: noon.Add(ttl)}, p.err
}

func TestTheOperatorManagesAccountsAndNobodyElseDoes(t *testing.T) {
	operator := serve(t, &parts{}, root, nil)
	team := serve(t, &parts{}, hearth.Identity{Account: theirs, ARN: "arn:aws:iam::111111111111:root", UserID: "111111111111"}, nil)
	ctx := t.Context()
	made, err := operator.CreateAccount(ctx, theirs, "team-a", Quotas{Functions: 3})
	if err != nil || made.Account.Quotas.Functions != 3 || made.SecretAccessKey != "s" {
		t.Errorf("%+v, %v", made, err)
	}
	if list, err := operator.Accounts(ctx); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	if list, err := team.Accounts(ctx); err != nil || len(list) != 1 || list[0].ID != theirs {
		t.Errorf("an account sees others: %v, %v", list, err)
	}
	if keys, err := operator.AccountKeys(ctx, "team-a"); err != nil || keys[0].ID != "AKIAteam-a" {
		t.Errorf("%v, %v", keys, err)
	}
	if keys, err := team.AccountKeys(ctx, ""); err != nil || keys[0].ID != "AKIA111111111111" {
		t.Errorf("%v, %v", keys, err)
	}
	for what, err := range map[string]error{
		"create":      second(team.CreateAccount(ctx, "", "x", Quotas{})),
		"suspend":     second(team.SuspendAccount(ctx, "operator", "")),
		"resume":      second(team.ResumeAccount(ctx, "team-a")),
		"delete":      team.DeleteAccount(ctx, string(ours), true),
		"quota":       second(team.SetQuotas(ctx, string(theirs), QuotaChange{})),
		"session":     second(team.AccountSession(ctx, string(ours), 0)),
		"others' key": second(team.AccountKeys(ctx, string(ours))),
		"make others": second(team.CreateAccountKey(ctx, string(ours))),
		"stop others": team.UpdateAccountKey(ctx, string(ours), "AKIA", false),
		"drop others": team.DeleteAccountKey(ctx, string(ours), "AKIA"),
		"doctor":      second(team.Doctor(ctx)),
		"nodes":       second(team.Nodes(ctx)),
		"drain":       team.Drain(ctx, "rack2", false),
	} {
		if f, ok := errors.AsType[*Failure](err); !ok || f.Kind != hearth.AccessDenied {
			t.Errorf("%s by another account: %v", what, err)
		}
	}
}

func (p accountParts) Can(_ context.Context, account hearth.Account, who, action, resource string, about map[string][]string) (Can, error) {
	return Can{Who: who, Action: action, Resource: resource, Allowed: account == ours, Why: strings.Join(about["aws:sourceip"], " "), Statement: []byte(`{}`)}, p.err
}

// Who is no root is let in by the policies alone, under the names of the
// document's operations.
func TestWhoIsNoRootMayWhatThePoliciesSay(t *testing.T) {
	user := hearth.Identity{Account: theirs, ARN: "arn:aws:iam::111111111111:user/ann", UserID: "AIDA"}
	h := &Handler{Operator: ours, Region: "us-east-1"}
	for path, c := range map[string]struct{ query, action, resource string }{
		"/ps":     {"", "hearth:ListInstances", "*"},
		"/advice": {"function=f", "hearth:Advise", "arn:aws:lambda:us-east-1:111111111111:function:f"},
	} {
		q, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.mayUse(t.Context(), user, path, q); hearth.KindOf(err) != hearth.AccessDenied {
			t.Errorf("%s without policies: %v", path, err)
		}
		var action, resource string
		allowing := *h
		allowing.Authorize = func(_ context.Context, _ hearth.Identity, a, r string) error {
			action, resource = a, r
			return nil
		}
		if err := allowing.mayUse(t.Context(), user, path, q); err != nil || action == "" || resource != c.resource {
			t.Errorf("%s: %v, asked for %s on %s", path, err, action, resource)
		}
	}
	limited := root
	limited.Policy = "{}"
	if err := h.mayUse(t.Context(), limited, "/ps", nil); hearth.KindOf(err) != hearth.AccessDenied {
		t.Errorf("a limited session of root: %v", err)
	}
	for path := range (&Handler{}).routes() {
		if !strings.HasPrefix(actionNames()[path], "hearth:") {
			t.Errorf("%s has no action", path)
		}
	}
	v, err := serve(t, &parts{}, root, nil).Can(t.Context(), "", "ann", "lambda:GetFunction", "f", []string{"aws:SourceIp=192.0.2.1"})
	if err != nil || !v.Allowed || v.Why != "192.0.2.1" {
		t.Errorf("%+v, %v", v, err)
	}
}

func second[T any](_ T, err error) error { return err }

// What is of all accounts together tells one of them about the others.
func TestAnAccountDoesNotSeeWhatIsOfAll(t *testing.T) {
	team := serve(t, &parts{}, hearth.Identity{Account: theirs, ARN: "arn:aws:iam::111111111111:root"}, nil)
	s, err := team.PS(t.Context())
	if err != nil || s.CommittedMiB != 0 || s.Subpools != nil || len(s.Instances) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	_, err = rawBy(t, team, "GET", "/ps?all=true")
	if err == nil || !strings.Contains(err.Error(), "operator") {
		t.Errorf("all instances: %v", err)
	}
	body, err := rawBy(t, serve(t, &parts{}, root, nil), "GET", "/ps?all=true")
	if err != nil || !strings.Contains(string(body), `"theirs"`) {
		t.Errorf("%s, %v", body, err)
	}
}
