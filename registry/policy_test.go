package registry_test

import (
	"testing"

	"github.com/hearth-faas/hearth/policy"
	"github.com/hearth-faas/hearth/registry"
)

func TestPoliciesAndWhetherOneDeniesSurviveAndEndWithTheirFunction(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	w.create("f")
	if w.Policy(account, "f", "") != nil || w.Policy(account, "g", "") != nil || w.Denies() {
		t.Error("there is a policy that nobody made")
	}
	document := func(effect policy.Effect) *policy.Document {
		return &policy.Document{Version: "2012-10-17", Statements: []policy.Statement{{
			Effect: effect, Principal: &policy.Principals{Any: true}, Action: []string{"*"}, Resource: []string{arn + "f"},
		}}}
	}
	put := func(d *policy.Document) {
		t.Helper()
		_, err := w.Configure(ctx, account, "f", "", func(s *registry.Settings) error {
			s.Policy = &registry.Policy{Document: d, RevisionID: "r"}
			return nil
		})
		w.must(err)
	}
	for effect, denies := range map[policy.Effect]bool{policy.Allow: false, policy.Deny: true} {
		put(document(effect))
		for range 2 {
			if got := w.Policy(account, "f", ""); got.String() != document(effect).String() || w.Denies() != denies {
				t.Errorf("the policy is %s and denies: %v", got, w.Denies())
			}
			w.reopen()
		}
	}
	put(document(policy.Deny))
	w.must(w.Delete(ctx, account, "f", ""))
	if w.Policy(account, "f", "") != nil || w.Denies() {
		t.Error("the policy outlived its function")
	}
	w.close()
}
