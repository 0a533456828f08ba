package source_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/source"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/store/sqlite"
)

const account = hearth.Account("000000000000")

func TestSourcesKeepTheirSecretsSealedAndTheirNamesTheirKind(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	keys, err := identity.LoadOrCreate(identity.Config{Dir: t.TempDir(), Account: account, Region: "us-east-1", Clock: clock.System()})
	if err != nil {
		t.Fatal(err)
	}
	st, err := sqlite.Open(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	used, changed := false, 0
	open := func() *source.Sources {
		t.Helper()
		s, err := source.Open(ctx, source.Config{
			Store: st, Clock: clock.NewFake(time.Unix(0, 0)), Region: "us-east-1", Secret: keys.Key(),
			Used: func(hearth.Account, string) bool { return used }, Changed: func(hearth.Account, string) { changed++ },
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	made, err := s.Add(ctx, account, "orders", "redis://u:hunter2@db.example:6379/orders", nil)
	if err != nil || made.URL != "redis://u@db.example:6379/orders" || made.Kind() != event.Redis || bytes.Contains(made.Sealed, []byte("hunter2")) {
		t.Fatalf("%+v %v", made, err)
	}
	if s.ARN(account, "orders") != "arn:aws:hearth:us-east-1:000000000000:source/orders" {
		t.Errorf("its ARN is %s", s.ARN(account, "orders"))
	}
	s = open()
	got, err := s.ByARN(account, s.ARN(account, "orders"))
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := s.Secret(got); err != nil || string(secret) != "hunter2" {
		t.Errorf("the secret is %q, %v", secret, err)
	}
	// Its secret cannot be used for another.
	other := *got
	other.Name = "other"
	if secret, err := s.Secret(&other); err == nil {
		t.Errorf("another source has the secret %q", secret)
	}
	if _, err := s.ByARN("111111111111", s.ARN(account, "orders")); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("another account sees it: %v", err)
	}
	// What is not said stays.
	if got, err = s.Add(ctx, account, "orders", "rediss://db.example/orders", nil); err != nil || got.Sealed == nil || changed != 2 {
		t.Errorf("%+v %v, changed %d times", got, err, changed)
	}
	if got, err = s.Add(ctx, account, "orders", "", []byte{}); err != nil || got.Sealed != nil || got.URL == "" {
		t.Errorf("%+v %v", got, err)
	}
	for _, bad := range []struct{ name, url, secret, says string }{
		{"orders", "amqp://db.example", "", "cannot become"},
		{"a b", "amqp://db.example", "", "no name"},
		{"x", "gopher://db.example", "", "postgres"},
		{"x", "redis:///0", "", "no host"},
		{"x", "file://host/x", "", "whole path"},
		{"x", "", "", "URL"},
		{"x", "redis://u:p@h", "q", "one of them"},
		{"x", "redis://u:p@h:x", "", "no URL"},
	} {
		var secret []byte
		if bad.secret != "" {
			secret = []byte(bad.secret)
		}
		_, err := s.Add(ctx, account, bad.name, bad.url, secret)
		if hearth.KindOf(err) != hearth.InvalidParameter || !strings.Contains(err.Error(), bad.says) || strings.Contains(err.Error(), ":p@") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	used = true
	if err := s.Remove(ctx, account, "orders"); hearth.KindOf(err) != hearth.InUse {
		t.Errorf("a source that is read was removed: %v", err)
	}
	used = false
	if err := s.Remove(context.Background(), account, "orders"); err != nil || len(s.List(account)) != 0 {
		t.Errorf("%v, left %v", err, s.List(account))
	}
}
