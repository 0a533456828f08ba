package access_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/policy"
	"github.com/hearth-faas/hearth/store/storetest"
)

const (
	us, them hearth.Account = "111122223333", "444455556666"
	fn                      = "arn:aws:lambda:us-east-1:111122223333:function:f"
	invoke                  = "lambda:InvokeFunction"
)

var now = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// world is users and roles and a judge over them.
type world struct {
	t     interface{ Fatal(...any) }
	dir   *iam.Directory
	judge *access.Judge
}

func newWorld(t interface{ Fatal(...any) }, strict bool) *world {
	dir, err := iam.Open(context.Background(), iam.Config{Store: &storetest.Memory{}, Clock: clock.NewFake(now), Strict: strict})
	if err != nil {
		t.Fatal(err)
	}
	return &world{t, dir, access.New(dir, clock.NewFake(now), "us-east-1")}
}

func (w *world) must(err error) {
	if err != nil {
		w.t.Fatal(err)
	}
}

func doc(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

func parse(t interface{ Fatal(...any) }, text string) *policy.Document {
	if text == "" {
		return nil
	}
	d, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// user makes a user with inline policies.
func (w *world) user(account hearth.Account, name string, documents ...string) hearth.Identity {
	u, err := w.dir.CreateUser(context.Background(), account, iam.NewUser{Name: name, Tags: []iam.Tag{{Key: "Team", Value: "a"}}})
	w.must(err)
	for i, d := range documents {
		w.must(w.dir.PutUserPolicy(context.Background(), account, name, iam.Inline{Name: fmt.Sprint("p", i), Document: d}))
	}
	return hearth.Identity{Account: account, ARN: u.ARN(), UserID: u.ID}
}

// role makes a role and a session of it.
func (w *world) role(account hearth.Account, name string, documents ...string) hearth.Identity {
	r, err := w.dir.CreateRole(context.Background(), account, iam.NewRole{Name: name, Trust: doc(`{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}`)})
	w.must(err)
	for i, d := range documents {
		w.must(w.dir.PutInline(context.Background(), account, name, iam.Inline{Name: fmt.Sprint("p", i), Document: d}))
	}
	return hearth.Identity{Account: account, ARN: "arn:aws:sts::" + string(account) + ":assumed-role/" + name + "/s", UserID: r.ID + ":s", Role: r.ARN()}
}

const (
	allowInvoke = `{"Sid":"A","Effect":"Allow","Action":"lambda:Invoke*","Resource":"` + fn + `"}`
	denyInvoke  = `{"Sid":"D","Effect":"Deny","Action":"lambda:*","Resource":"*"}`
	allowAll    = `{"Effect":"Allow","Action":"*","Resource":"*"}`
)

func onResource(effect, principal string) string {
	return doc(`{"Effect":"` + effect + `","Principal":` + principal + `,"Action":"lambda:InvokeFunction","Resource":"` + fn + `"}`)
}

func TestWhoMay(t *testing.T) {
	w := newWorld(t, false)
	root := func(a hearth.Account) hearth.Identity {
		return hearth.Identity{Account: a, ARN: "arn:aws:iam::" + string(a) + ":root", UserID: string(a)}
	}
	allowed := w.user(us, "allowed", doc(allowInvoke))
	denied := w.user(us, "denied", doc(allowAll), doc(denyInvoke))
	nobody := w.user(us, "nobody")
	bounded := w.user(us, "bounded", doc(allowAll))
	tagged := w.user(us, "tagged", doc(`{"Effect":"Allow","Action":"lambda:*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"a"},"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}}`))
	self := w.user(us, "self", doc(`{"Effect":"Allow","Action":"iam:*","Resource":"arn:aws:iam::*:user/${aws:username}"}`))
	member := w.user(us, "member")
	role := w.role(us, "worker", doc(allowInvoke))
	foreign := w.user(them, "foreign", doc(allowAll))
	foreignNobody := w.user(them, "foreignnobody")
	ctx := t.Context()
	p, err := w.dir.CreatePolicy(ctx, us, iam.NewPolicy{Name: "bound", Document: doc(`{"Effect":"Allow","Action":"sqs:*","Resource":"*"}`)})
	w.must(err)
	w.must(w.dir.SetUserBoundary(ctx, us, "bounded", p.ARN()))
	_, err = w.dir.CreateGroup(ctx, us, "devs", "")
	w.must(err)
	w.must(w.dir.PutGroupPolicy(ctx, us, "devs", iam.Inline{Name: "g", Document: doc(allowInvoke)}))
	w.must(w.dir.Join(ctx, us, "devs", "member"))

	limited := root(us)
	limited.Policy = doc(`{"Effect":"Allow","Action":"lambda:GetFunction","Resource":"*"}`)
	limitedRole := role
	limitedRole.Policy = doc(`{"Effect":"Allow","Action":"sqs:*","Resource":"*"}`)
	badLimits := root(us)
	badLimits.Policy = "{"
	unkept := hearth.Identity{Account: us, ARN: "arn:aws:sts::111122223333:assumed-role/unkept/f", UserID: "AROAX:f"}
	gone := role
	gone.ARN, gone.UserID, gone.Role = "arn:aws:sts::111122223333:assumed-role/gone/s", "AROAAAAAAAAAAAAAAAAAA:s", "arn:aws:iam::111122223333:role/gone"
	replaced := role
	replaced.UserID = "AROAAAAAAAAAAAAAAAAAA:s"

	ip := map[string][]string{"aws:sourceip": {"192.0.2.7"}}
	for _, c := range []struct {
		name     string
		who      hearth.Identity
		action   string
		on       string
		policy   string
		context  map[string][]string
		want     bool
		explicit bool
		by       string
	}{
		{"root", root(us), invoke, fn, "", nil, true, false, "root"},
		{"a session of root with a policy, within it", limited, "lambda:GetFunction", fn, "", nil, true, false, "account"},
		{"and beyond it", limited, invoke, fn, "", nil, false, false, ""},
		{"one whose policy can't be read", badLimits, invoke, fn, "", nil, false, true, "session"},
		{"root denied by the resource", root(us), invoke, fn, onResource("Deny", `"*"`), nil, false, true, "resource"},
		{"a user who is allowed", allowed, invoke, fn, "", nil, true, false, "inline policy p0"},
		{"on another function", allowed, invoke, fn + "2", "", nil, false, false, ""},
		{"something else", allowed, "lambda:DeleteFunction", fn, "", nil, false, false, ""},
		{"an explicit deny", denied, invoke, fn, "", nil, false, true, "inline policy p1"},
		{"beside it", denied, "sqs:SendMessage", "*", "", nil, true, false, "inline policy p0"},
		{"nothing at all", nobody, invoke, fn, "", nil, false, false, ""},
		{"the resource allows himself", nobody, invoke, fn, onResource("Allow", `{"AWS":"arn:aws:iam::111122223333:user/nobody"}`), nil, true, false, "resource"},
		{"the resource allows his account", nobody, invoke, fn, onResource("Allow", `{"AWS":"111122223333"}`), nil, false, false, ""},
		{"the resource allows everybody", nobody, invoke, fn, onResource("Allow", `"*"`), nil, true, false, "resource"},
		{"within the boundary", bounded, "sqs:SendMessage", "*", "", nil, true, false, ""},
		{"beyond the boundary", bounded, invoke, fn, "", nil, false, false, ""},
		{"conditions that hold", tagged, invoke, fn, "", ip, true, false, ""},
		{"conditions that do not", tagged, invoke, fn, "", map[string][]string{"aws:sourceip": {"198.51.100.1"}}, false, false, ""},
		{"variables", self, "iam:GetUser", "arn:aws:iam::111122223333:user/self", "", nil, true, false, ""},
		{"of others", self, "iam:GetUser", "arn:aws:iam::111122223333:user/other", "", nil, false, false, ""},
		{"by a group", member, invoke, fn, "", nil, true, false, "group devs: inline policy g"},
		{"a role's session", role, invoke, fn, "", nil, true, false, "inline policy p0"},
		{"beyond the role", role, "lambda:GetFunction", fn, "", nil, false, false, ""},
		{"a session with a policy", limitedRole, invoke, fn, "", nil, false, false, ""},
		{"a session of a role that nobody keeps", unkept, invoke, fn, "", nil, true, false, "account"},
		{"a session of a deleted role", gone, invoke, fn, "", nil, false, false, ""},
		{"a session of the role before this of the name", replaced, invoke, fn, "", nil, false, false, ""},
		{"another account's root without a policy", root(them), invoke, fn, "", nil, false, false, ""},
		{"with one that allows the account", root(them), invoke, fn, onResource("Allow", `{"AWS":"444455556666"}`), nil, true, false, "resource"},
		{"its user, whom both sides allow", foreign, invoke, fn, onResource("Allow", `{"AWS":"444455556666"}`), nil, true, false, ""},
		{"whom only the resource allows", foreignNobody, invoke, fn, onResource("Allow", `{"AWS":"arn:aws:iam::444455556666:user/foreignnobody"}`), nil, false, false, ""},
		{"whom only his own side allows", foreign, invoke, fn, "", nil, false, false, ""},
		{"a service with a statement", hearth.Identity{Service: "events.amazonaws.com"}, invoke, fn, onResource("Allow", `{"Service":"events.amazonaws.com"}`), nil, true, false, "resource"},
		{"and without", hearth.Identity{Service: "events.amazonaws.com"}, invoke, fn, "", nil, false, false, ""},
		{"anybody", hearth.Identity{}, invoke, fn, onResource("Allow", `"*"`), nil, true, false, "resource"},
		{"nobody", hearth.Identity{}, invoke, fn, "", nil, false, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &access.Request{Caller: c.who, Action: c.action, Resource: c.on, Account: us, Context: c.context, Policy: parse(t, c.policy)}
			v := w.judge.Judge(context.Background(), r)
			if v.Allowed != c.want || v.Explicit != c.explicit || !strings.Contains(v.By, c.by) || v.Why == "" {
				t.Errorf("%+v", v)
			}
			err := w.judge.Check(context.Background(), r)
			if (err == nil) != c.want || err != nil && hearth.KindOf(err) != hearth.AccessDenied {
				t.Errorf("Check: %v", err)
			}
			if v.By != "" && v.Statement == nil && strings.Contains(v.By, "policy p") {
				t.Error("the statement that decided is not told")
			}
		})
	}
}

func TestAVerdictTellsTheConditionForWhichAPolicyDidNotAllow(t *testing.T) {
	w := newWorld(t, false)
	who := w.user(us, "remote", doc(`{"Effect":"Allow","Action":"sqs:*","Resource":"*"}`), doc(`{"Effect":"Allow","Action":"lambda:*","Resource":"`+fn+`","Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}}`))
	for want, r := range map[string]*access.Request{
		"inline policy p1 would, were it not for its condition IpAddress of aws:SourceIp, which is 198.51.100.1":             {Resource: fn, Context: map[string][]string{"aws:sourceip": {"198.51.100.1"}}},
		"inline policy p1 would, were it not for its condition IpAddress of aws:SourceIp, which is not known of the request": {Resource: fn},
		"none of the caller's policies allows it": {Resource: fn + "2"},
	} {
		r.Caller, r.Action, r.Account = who, invoke, us
		if v := w.judge.Judge(context.Background(), r); v.Allowed || !strings.HasSuffix(v.Why, want) {
			t.Errorf("%q, want %q", v.Why, want)
		}
		if err := w.judge.Check(context.Background(), r); err == nil || strings.Contains(err.Error(), "condition") {
			t.Errorf("who is refused is told %v", err)
		}
	}
}

func TestStrictRolesRefuseWhatNobodyKeeps(t *testing.T) {
	w := newWorld(t, true)
	v := w.judge.Judge(context.Background(), &access.Request{Caller: hearth.Identity{Account: us, ARN: "arn:aws:sts::111122223333:assumed-role/unkept/f", UserID: "AROAX:f"}, Action: invoke, Resource: fn})
	if v.Allowed {
		t.Errorf("%+v", v)
	}
}

func TestARefusalIsInTheServicesWords(t *testing.T) {
	w := newWorld(t, false)
	for want, r := range map[string]*access.Request{
		"User: arn:aws:iam::111122223333:user/a is not authorized to perform: lambda:InvokeFunction on resource: " + fn + " because no identity-based policy allows the lambda:InvokeFunction action": {Caller: w.user(us, "a"), Action: invoke, Resource: fn},
		"User: arn:aws:iam::111122223333:user/b is not authorized to perform: lambda:InvokeFunction on resource: " + fn + " with an explicit deny in an identity-based policy":                        {Caller: w.user(us, "b", doc(denyInvoke)), Action: invoke, Resource: fn},
		"User: arn:aws:iam::111122223333:user/c is not authorized to perform: iam:ListUsers because no identity-based policy allows the iam:ListUsers action":                                         {Caller: w.user(us, "c"), Action: "iam:ListUsers", Resource: "*"},
		"User: arn:aws:iam::444455556666:user/d is not authorized to perform: lambda:InvokeFunction on resource: " + fn + " with an explicit deny in a resource-based policy":                         {Caller: w.user(them, "d"), Action: invoke, Resource: fn, Account: us, Policy: parse(t, onResource("Deny", `"*"`))},
		"User: anonymous is not authorized to perform: lambda:InvokeFunction on resource: " + fn + " because no resource-based policy allows the lambda:InvokeFunction action":                        {Action: invoke, Resource: fn, Account: us},
	} {
		if err := w.judge.Check(context.Background(), r); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// What was changed counts for the next request.
func TestAChangeCountsAtOnce(t *testing.T) {
	w := newWorld(t, false)
	ann := w.user(us, "ann")
	may := func() bool {
		return w.judge.Judge(context.Background(), &access.Request{Caller: ann, Action: invoke, Resource: fn}).Allowed
	}
	ctx := t.Context()
	p, err := w.dir.CreatePolicy(ctx, us, iam.NewPolicy{Name: "p", Document: doc(allowInvoke)})
	w.must(err)
	for _, step := range []struct {
		what string
		do   func() error
		want bool
	}{
		{"nothing", func() error { return nil }, false},
		{"attached", func() error { return w.dir.AttachToUser(ctx, us, "ann", p.ARN()) }, true},
		{"another version", func() error { _, _, err := w.dir.CreateVersion(ctx, us, p.ARN(), doc(denyInvoke), true); return err }, false},
		{"the version before", func() error { return w.dir.SetDefault(ctx, us, p.ARN(), "v1") }, true},
		{"detached", func() error { return w.dir.DetachFromUser(ctx, us, "ann", p.ARN()) }, false},
		{"inline", func() error {
			return w.dir.PutUserPolicy(ctx, us, "ann", iam.Inline{Name: "i", Document: doc(allowInvoke)})
		}, true},
		{"gone", func() error {
			if err := w.dir.DeleteUserPolicy(ctx, us, "ann", "i"); err != nil {
				return err
			}
			return w.dir.DeleteUser(ctx, us, "ann")
		}, false},
	} {
		w.must(step.do())
		for range 2 { // worked out, and from memory
			if may() != step.want {
				t.Errorf("%s: allowed is %v", step.what, !step.want)
			}
		}
	}
}

// Whatever policies there are: an explicit deny anywhere refuses, nothing but
// an allow allows, and another account's caller is never allowed more than one
// of the resource's own.
func TestTheRulesHoldForAllPolicies(t *testing.T) {
	effects := rapid.SampledFrom([]string{"", "Allow", "Deny"})
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, false)
		statement := func(effect string) []string {
			if effect == "" {
				return nil
			}
			return []string{doc(`{"Effect":"` + effect + `","Action":"lambda:InvokeFunction","Resource":"*"}`)}
		}
		identity, bound, session, resource := effects.Draw(t, "identity"), effects.Draw(t, "boundary"), effects.Draw(t, "session"), effects.Draw(t, "resource")
		hasBoundary, hasSession := rapid.Bool().Draw(t, "has boundary"), rapid.Bool().Draw(t, "has session")
		account := rapid.SampledFrom([]hearth.Account{us, them}).Draw(t, "account")
		who := w.role(account, "r", statement(identity)...)
		nothing := doc(`{"Effect":"Allow","Action":"none:None","Resource":"*"}`)
		if hasBoundary {
			text := nothing
			if s := statement(bound); s != nil {
				text = s[0]
			}
			p, err := w.dir.CreatePolicy(context.Background(), account, iam.NewPolicy{Name: "b", Document: text})
			w.must(err)
			w.must(w.dir.SetBoundary(context.Background(), account, "r", p.ARN()))
		}
		if hasSession {
			who.Policy = nothing
			if s := statement(session); s != nil {
				who.Policy = s[0]
			}
		}
		r := &access.Request{Caller: who, Action: invoke, Resource: fn, Account: us}
		if resource != "" {
			r.Policy = parse(t, onResource(resource, `"*"`))
		}
		got := w.judge.Judge(context.Background(), r)
		deny := identity == "Deny" || resource == "Deny" || hasBoundary && bound == "Deny" || hasSession && session == "Deny"
		within := (!hasBoundary || bound == "Allow") && (!hasSession || session == "Allow")
		want := !deny && within && (identity == "Allow" || resource == "Allow")
		if account == them {
			want = !deny && within && identity == "Allow" && resource == "Allow"
		}
		if got.Allowed != want || got.Explicit != deny {
			t.Fatalf("%+v, want allowed %v, explicit %v", got, want, deny)
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	w := newWorld(b, false)
	for name, who := range map[string]hearth.Identity{
		"root": {Account: us, ARN: "arn:aws:iam::111122223333:root"}, "user": w.user(us, "u", doc(allowInvoke)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			r := &access.Request{Caller: who, Action: invoke, Resource: fn, Account: us}
			for b.Loop() {
				if !w.judge.Judge(context.Background(), r).Allowed {
					b.Fatal("refused")
				}
			}
		})
	}
}

func TestRootIsJudgedWithoutAllocating(t *testing.T) {
	w := newWorld(t, false)
	r := &access.Request{Caller: hearth.Identity{Account: us, ARN: "arn:aws:iam::111122223333:root"}, Action: invoke, Resource: fn, Account: us}
	if n := testing.AllocsPerRun(100, func() { _ = w.judge.Judge(context.Background(), r) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
