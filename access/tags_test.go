package access_test

import (
	"context"
	"maps"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
)

// Conditions ask about the tags of what a request is about, and of those in it;
// what tags another account's resources have they do not find out.
func TestPoliciesAskAboutTags(t *testing.T) {
	w := newWorld(t, false)
	foreign := "arn:aws:lambda:us-east-1:444455556666:function:g"
	w.judge.Tags(func(resource string) map[string]string {
		return map[string]map[string]string{fn: {"Team": "web"}, foreign: {"Team": "web"}}[resource]
	})
	who := w.user(us, "tagged",
		doc(`{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"web"}}}`),
		doc(`{"Effect":"Allow","Action":"lambda:TagResource","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/stage":"beta"},"ForAllValues:StringEquals":{"aws:TagKeys":["stage","team"]}}}`),
		doc(`{"Effect":"Allow","Action":"lambda:UntagResource","Resource":"*","Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":"stage"}}}`))
	for _, c := range []struct {
		what, action, resource string
		account                hearth.Account
		tags                   map[string][]string
		want                   bool
	}{
		{"its tag", invoke, fn, us, nil, true},
		{"another's without tags", invoke, fn + "x", us, nil, false},
		{"another account's", invoke, foreign, "444455556666", nil, false},
		{"tags that it may set", "lambda:TagResource", fn, us, access.RequestTags(map[string]string{"stage": "beta", "team": "x"}, nil), true},
		{"another value", "lambda:TagResource", fn, us, access.RequestTags(map[string]string{"stage": "prod"}, nil), false},
		{"a key too many", "lambda:TagResource", fn, us, access.RequestTags(map[string]string{"stage": "beta", "cost": "1"}, nil), false},
		{"a tag that it may take away", "lambda:UntagResource", fn, us, access.RequestTags(nil, []string{"stage"}), true},
		{"another", "lambda:UntagResource", fn, us, access.RequestTags(nil, []string{"stage", "team"}), false},
	} {
		r := &access.Request{Caller: who, Action: c.action, Resource: c.resource, Account: c.account, Context: maps.Clone(c.tags), Open: true}
		if v := w.judge.Judge(context.Background(), r); v.Allowed != c.want {
			t.Errorf("%s: %+v", c.what, v)
		}
	}
}
