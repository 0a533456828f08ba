package registry_test

import (
	"context"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
	"github.com/hearth-faas/hearth/registry"
)

func TestABorrowedNameHasSettingsOfItsOwnUntilItIsGivenUp(t *testing.T) {
	is, told := true, map[string]*registry.Settings{}
	w := newWorld(t, t.TempDir(), func(c *registry.Config) {
		c.Taken = func(a hearth.Account, name string) bool { return is && a == account && name == "lent" }
		c.Borrowed = c.Taken
		c.Configured = func(c registry.Configured) { told[c.Function] = c.Settings }
	})
	defer func() { w.close() }()
	document := &policy.Document{Version: "2012-10-17", Statements: []policy.Statement{{
		Effect: policy.Deny, Principal: &policy.Principals{Any: true}, Action: []string{"*"}, Resource: []string{arn + "lent"},
	}}}
	set := func(change func(*registry.Settings)) error {
		_, err := w.Configure(ctx, account, "lent", "", func(s *registry.Settings) error { change(s); return nil })
		return err
	}
	w.must(set(func(s *registry.Settings) {
		s.URL = &registry.URL{ID: "u", AuthType: "NONE"}
		s.Policy = &registry.Policy{Document: document, RevisionID: "r"}
	}))
	w.must(set(func(s *registry.Settings) { s.EventInvoke = &registry.EventInvoke{OnFailure: "arn:q"} }))
	for range 2 { // now, and after a restart
		s, err := w.Settings(ctx, account, "lent", hearth.Latest)
		w.must(err)
		if s.URL == nil || s.URL.ID != "u" || s.EventInvoke == nil || w.Policy(account, "lent", "") == nil || !w.Denies() || told["lent"].URL == nil {
			t.Errorf("%+v, told %+v, denies %v", s, told["lent"], w.Denies())
		}
		n := 0
		for c := range w.EverySettings() {
			if n++; c.Function != "lent" || c.Account != account || c.Qualifier != "" || c.Settings.URL == nil {
				t.Errorf("%+v", c)
			}
		}
		all, err := w.AllSettings(ctx, account, "lent")
		if err != nil || n != 1 || len(all) != 1 || all[""].URL == nil {
			t.Errorf("%d, %v, %v", n, all, err)
		}
		w.reopen()
	}
	for what, err := range map[string]error{
		"a version of it":     func() error { _, err := w.Configure(ctx, account, "lent", "1", nil); return err }(),
		"another's":           func() error { _, err := w.Settings(ctx, "999999999999", "lent", ""); return err }(),
		"its code's signer":   set(func(s *registry.Settings) { s.CodeSigningConfig = "arn:csc" }),
		"its runtime":         set(func(s *registry.Settings) { s.RuntimeManagement = &registry.RuntimeManagement{UpdateOn: "Manual"} }),
		"what is kept of it":  set(func(s *registry.Settings) { s.Scaling = &registry.Scaling{} }),
		"a function under it": w.Unclaimed(account, "lent", func() error { return nil }),
	} {
		switch hearth.KindOf(err) {
		case hearth.NotFound, hearth.InvalidParameter, hearth.Conflict:
		default:
			t.Errorf("%s: %v", what, err)
		}
	}
	w.must(w.GiveUp(ctx, account, "lent", func() error { is = false; return nil }))
	if _, err := w.Settings(ctx, account, "lent", ""); hearth.KindOf(err) != hearth.NotFound || w.Denies() || w.Policy(account, "lent", "") != nil || told["lent"].URL != nil {
		t.Errorf("after it was given up: %v, %+v", err, told["lent"])
	}
	if err := set(func(s *registry.Settings) { s.Recursion = "Allow" }); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("after it was given up: %v", err)
	}
	w.create("lent") // by whom it is no business what was there
	if s, err := w.Settings(context.Background(), account, "lent", ""); err != nil || s.Policy != nil || s.URL != nil {
		t.Errorf("a new function has %+v, %v", s, err)
	}
}
