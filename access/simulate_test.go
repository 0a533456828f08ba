package access_test

import (
	"context"
	"testing"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/policy"
)

// Whatever policies somebody has, a simulation of what he may do and the judge
// who decides about it say the same.
func TestASimulationSaysWhatTheJudgeDoes(t *testing.T) {
	statements := rapid.SampledFrom([]string{
		`{"Effect":"Allow","Action":"lambda:*","Resource":"*"}`,
		`{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"` + fn + `"}`,
		`{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"arn:aws:lambda:*:*:function:${aws:username}"}`,
		`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"a"}}}`,
		`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"x:y":"true"}}}`,
		`{"Effect":"Deny","Action":"lambda:Delete*","Resource":"*"}`,
		`{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"x:y":"true"}}}`,
	})
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, false)
		id := w.user(us, "f", doc(statements.Draw(t, "p0")), doc(statements.Draw(t, "p1")))
		if rapid.Bool().Draw(t, "bounded") {
			p, err := w.dir.CreatePolicy(context.Background(), us, iam.NewPolicy{Name: "b", Document: doc(statements.Draw(t, "boundary"))})
			w.must(err)
			w.must(w.dir.SetUserBoundary(context.Background(), us, "f", p.ARN()))
		}
		r := &access.Request{
			Caller: id, Action: rapid.SampledFrom([]string{invoke, "lambda:DeleteFunction", "sqs:ListQueues"}).Draw(t, "action"),
			Resource: rapid.SampledFrom([]string{fn, "arn:aws:lambda:us-east-1:444455556666:function:g", "*"}).Draw(t, "resource"),
			Account:  rapid.SampledFrom([]hearth.Account{"", us, them}).Draw(t, "account"),
			Context:  map[string][]string{},
		}
		if rapid.Bool().Draw(t, "known") {
			r.Context["x:y"] = []string{rapid.SampledFrom([]string{"true", "false"}).Draw(t, "x:y")}
		}
		if rapid.Bool().Draw(t, "theirs") {
			r.Policy = parse(t, doc(`{"Effect":"`+rapid.SampledFrom([]string{"Allow", "Deny"}).Draw(t, "effect")+`","Principal":{"AWS":"`+id.ARN+`"},"Action":"lambda:*","Resource":"*"}`))
		}
		p, _, err := w.dir.PermissionsByARN(us, id.ARN)
		w.must(err)
		v, s := w.judge.Judge(context.Background(), r), w.judge.Simulate(r, p)
		if v.Allowed != (s.Outcome == policy.Allowed) || v.Explicit != (s.Outcome == policy.ExplicitDeny) {
			t.Fatalf("the judge says %+v, the simulation %+v", v, s)
		}
		if (s.Outcome == policy.ImplicitDeny) != (len(s.Matched) == 0) {
			t.Fatalf("%+v matched", s)
		}
		if v.Statement != nil {
			found := false
			for _, m := range s.Matched {
				doc := r.Policy
				if m.Of != nil {
					doc = m.Of.Document
				}
				found = found || doc.Statements[m.Statement].String() == v.Statement.String()
			}
			if !found {
				t.Fatalf("the judge goes by %s, which is not among %+v", v.Statement, s.Matched)
			}
		}
		if missing := len(s.Missing) > 0; missing && len(r.Context) > 0 && r.Resource != "*" && s.Missing[0] == "x:y" {
			t.Fatalf("x:y is %v, and missing", r.Context)
		}
	})
}

// A simulation can't be used to find out what somebody else's resource is like.
func TestASimulationKnowsNothingOfAResource(t *testing.T) {
	w := newWorld(t, false)
	id := w.user(us, "ann", doc(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/secret":"s"}}}`))
	w.judge.Tags(func(string) map[string]string { return map[string]string{"secret": "s"} })
	p, _, err := w.dir.PermissionsByARN(us, id.ARN)
	w.must(err)
	r := &access.Request{Caller: id, Action: invoke, Resource: fn}
	if !w.judge.Judge(context.Background(), r).Allowed {
		t.Fatal("the judge does not know the tag")
	}
	if s := w.judge.Simulate(r, p); s.Outcome != policy.ImplicitDeny || len(s.Missing) != 1 || s.Missing[0] != "aws:ResourceTag/secret" {
		t.Errorf("%+v", s)
	}
	r.Context = map[string][]string{"aws:resourcetag/secret": {"s"}}
	if s := w.judge.Simulate(r, p); s.Outcome != policy.Allowed {
		t.Errorf("%+v", s)
	}
}

// How a request came is known of one that did.
func TestASimulationDoesNotKnowHowARequestCame(t *testing.T) {
	w := newWorld(t, false)
	id := w.user(us, "ann", doc(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}`))
	p, _, err := w.dir.PermissionsByARN(us, id.ARN)
	w.must(err)
	r := &access.Request{Caller: id, Action: invoke, Resource: fn}
	if s := w.judge.Simulate(r, p); s.Outcome != policy.ImplicitDeny || len(s.Missing) != 1 || s.Missing[0] != "aws:SecureTransport" {
		t.Errorf("%+v", s)
	}
	r.Context = map[string][]string{"aws:securetransport": {"false"}}
	if s := w.judge.Simulate(r, p); s.Outcome != policy.Allowed || len(s.Missing) != 0 {
		t.Errorf("%+v", s)
	}
}
