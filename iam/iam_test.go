package iam_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
)

const account hearth.Account = "123456789012"

const (
	trust = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}}`
	allow = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`
)

var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func records(t testing.TB) store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func open(t interface{ Fatal(...any) }, cfg iam.Config) *iam.Directory {
	if cfg.Clock == nil {
		cfg.Clock = clock.NewFake(start)
	}
	d, err := iam.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// state is all that a directory shows, in words.
func state(t interface{ Fatal(...any) }, d *iam.Directory) (all []string) {
	roles, _, err := d.Roles(account, iam.Page{Max: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range roles {
		var inline []string
		for _, p := range r.Inline {
			inline = append(inline, p.Name)
		}
		all = append(all, fmt.Sprint("role ", r.Name, " ", inline, r.Attached, r.Boundary))
	}
	for _, p := range d.Policies(account) {
		var versions []string
		for _, v := range p.Versions {
			versions = append(versions, v.ID)
		}
		all = append(all, fmt.Sprint("policy ", p.Name, " ", versions, p.Default))
	}
	slices.Sort(all)
	return all
}

type (
	roleModel struct {
		inline, attached map[string]bool
		boundary         string
	}
	policyModel struct {
		versions []string
		def      string
		made     int
	}
)

// Whatever is done in whatever order, the directory is what a simple model
// says, also after it was opened again; and what is refused changes nothing.
func TestADirectoryIsWhatWasDoneToIt(t *testing.T) {
	s := records(t)
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		d := open(t, iam.Config{Store: s})
		empty(t, d)
		roles, policies := map[string]*roleModel{}, map[string]*policyModel{}
		arnOf := func(name string) string { return "arn:aws:iam::123456789012:policy/" + name }
		names := rapid.SampledFrom([]string{"a", "b"})
		keys := func(m map[string]bool) []string { return slices.Sorted(maps.Keys(m)) }
		used := func(policy string) bool {
			for _, r := range roles {
				if r.attached[arnOf(policy)] || r.boundary == arnOf(policy) {
					return true
				}
			}
			return false
		}
		// expect compares what came with what the model allows.
		expect := func(err error, want hearth.Kind, then func()) {
			t.Helper()
			if got := hearth.KindOf(err); got != want {
				t.Fatalf("%v, expected %q", err, want)
			}
			if err == nil {
				then()
			}
		}
		// kind is the first that is true.
		type when struct {
			so   bool
			kind hearth.Kind
		}
		kind := func(cs ...when) hearth.Kind {
			for _, c := range cs {
				if c.so {
					return c.kind
				}
			}
			return ""
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			role, pol := names.Draw(t, "role"), names.Draw(t, "policy")
			arn, r, p := arnOf(pol), roles[role], policies[pol]
			missing := when{r == nil, hearth.NoSuchEntity}
			noPolicy := when{p == nil, hearth.NoSuchEntity}
			switch rapid.IntRange(0, 12).Draw(t, "what") {
			case 0, 1:
				_, err := d.CreateRole(ctx, account, iam.NewRole{Name: role, Trust: trust})
				expect(err, kind(when{r != nil, hearth.EntityExists}), func() {
					roles[role] = &roleModel{map[string]bool{}, map[string]bool{}, ""}
				})
			case 2:
				err := d.DeleteRole(ctx, account, role)
				expect(err, kind(missing, when{r != nil && len(r.attached)+len(r.inline) > 0, hearth.DeleteConflict}), func() { delete(roles, role) })
			case 3:
				err := d.PutInline(ctx, account, role, iam.Inline{Name: pol, Document: allow})
				expect(err, kind(missing), func() { r.inline[pol] = true })
			case 4:
				err := d.DeleteInline(ctx, account, role, pol)
				expect(err, kind(missing, when{r != nil && !r.inline[pol], hearth.NoSuchEntity}), func() { delete(r.inline, pol) })
			case 5:
				err := d.Attach(ctx, account, role, arn)
				expect(err, kind(missing, noPolicy), func() { r.attached[arn] = true })
			case 6:
				err := d.Detach(ctx, account, role, arn)
				expect(err, kind(missing, when{r != nil && !r.attached[arn], hearth.NoSuchEntity}), func() { delete(r.attached, arn) })
			case 7, 8:
				_, err := d.CreatePolicy(ctx, account, iam.NewPolicy{Name: pol, Document: allow})
				expect(err, kind(when{p != nil, hearth.EntityExists}), func() { policies[pol] = &policyModel{[]string{"v1"}, "v1", 1} })
			case 9:
				def := rapid.Bool().Draw(t, "default")
				_, v, err := d.CreateVersion(ctx, account, arn, allow, def)
				expect(err, kind(noPolicy, when{p != nil && len(p.versions) == iam.MaxVersions, hearth.LimitExceeded}), func() {
					p.made++
					if want := fmt.Sprint("v", p.made); v.ID != want {
						t.Fatalf("made version %s, expected %s", v.ID, want)
					}
					p.versions = append(p.versions, v.ID)
					if def {
						p.def = v.ID
					}
				})
			case 10:
				v := rapid.SampledFrom([]string{"v1", "v2", "v3"}).Draw(t, "version")
				err := d.DeleteVersion(ctx, account, arn, v)
				expect(err, kind(noPolicy, when{p != nil && !slices.Contains(p.versions, v), hearth.NoSuchEntity}, when{p != nil && p.def == v, hearth.DeleteConflict}), func() {
					p.versions = slices.DeleteFunc(p.versions, func(x string) bool { return x == v })
				})
			case 11:
				err := d.DeletePolicy(ctx, account, arn)
				expect(err, kind(noPolicy, when{used(pol) || p != nil && len(p.versions) > 1, hearth.DeleteConflict}), func() { delete(policies, pol) })
			case 12:
				err := d.SetBoundary(ctx, account, role, arn)
				expect(err, kind(missing, noPolicy), func() { r.boundary = arn })
			}
		}
		var want []string
		for name, r := range roles {
			want = append(want, fmt.Sprint("role ", name, " ", keys(r.inline), keys(r.attached), r.boundary))
		}
		for name, p := range policies {
			want = append(want, fmt.Sprint("policy ", name, " ", p.versions, p.def))
		}
		slices.Sort(want)
		if got := state(t, d); !slices.Equal(got, want) {
			t.Fatalf("%q, expected %q", got, want)
		}
		if got := state(t, open(t, iam.Config{Store: s})); !slices.Equal(got, want) {
			t.Fatalf("opened again: %q, expected %q", got, want)
		}
	})
}

// empty deletes everything.
func empty(t interface{ Fatal(...any) }, d *iam.Directory) {
	ctx := context.Background()
	var errs []error
	roles, _, err := d.Roles(account, iam.Page{Max: 1000})
	errs = append(errs, err)
	for _, r := range roles {
		for _, p := range r.Inline {
			errs = append(errs, d.DeleteInline(ctx, account, r.Name, p.Name))
		}
		for _, arn := range r.Attached {
			errs = append(errs, d.Detach(ctx, account, r.Name, arn))
		}
		errs = append(errs, d.DeleteRole(ctx, account, r.Name))
	}
	for _, p := range d.Policies(account) {
		for _, v := range p.Versions {
			if v.ID != p.Default {
				errs = append(errs, d.DeleteVersion(ctx, account, p.ARN(), v.ID))
			}
		}
		errs = append(errs, d.DeletePolicy(ctx, account, p.ARN()))
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestAFunctionGetsARoleThatLambdaMayTakeOn(t *testing.T) {
	s, ctx := records(t), t.Context()
	d := open(t, iam.Config{Store: s})
	const function = "arn:aws:lambda:us-east-1:123456789012:function:f"
	role := func(name, document string) string {
		t.Helper()
		r, err := d.CreateRole(ctx, account, iam.NewRole{Name: name, Path: "/p/", Trust: document})
		if err != nil {
			t.Fatal(err)
		}
		return r.ARN()
	}
	only := func(function string) string {
		return strings.Replace(trust, `"Action"`, `"Condition":{"ArnLike":{"aws:SourceArn":"`+function+`"},"StringEquals":{"aws:SourceAccount":"123456789012"}},"Action"`, 1)
	}
	for arn, want := range map[string]bool{
		role("good", trust):                                            true,
		role("this", only(function)):                                   true,
		role("that", only("arn:aws:lambda:*:*:function:other")):        false,
		role("other", strings.Replace(trust, "lambda.", "ec2.", 1)):    false,
		role("denied", strings.Replace(trust, `"Allow"`, `"Deny"`, 1)): false,
		role("people", strings.Replace(trust, `"Service":"lambda.amazonaws.com"`, `"AWS":"123456789012"`, 1)): false,
	} {
		err := d.PassToFunction(account, arn, function)
		if (err == nil) != want {
			t.Errorf("%s: %v", arn, err)
		}
		if e, ok := errors.AsType[*hearth.Error](err); err != nil && (!ok || e.Kind != hearth.InvalidParameter || e.Message != "The role defined for the function cannot be assumed by Lambda.") {
			t.Errorf("%s: %v", arn, err)
		}
	}
	if err := d.PassToService(account, role("times", strings.Replace(trust, "lambda.", "scheduler.", 1)), "scheduler.amazonaws.com", "arn:aws:scheduler:us-east-1:123456789012:schedule/default/s"); err != nil {
		t.Error(err)
	}
	if err := d.PassToService(account, "arn:aws:iam::123456789012:role/p/good", "scheduler.amazonaws.com", "s"); hearth.KindOf(err) != hearth.Validation {
		t.Errorf("a role for functions is given to a schedule: %v", err)
	}
	if err := d.PassToService(account, "arn:aws:iam::210987654321:role/unknown", "scheduler.amazonaws.com", "s"); hearth.KindOf(err) != hearth.Validation {
		t.Errorf("a service is given a role of another account: %v", err)
	}
	strict := open(t, iam.Config{Store: s, Strict: true}) // with the roles
	for _, arn := range []string{"arn:aws:iam::123456789012:role/unknown", "arn:aws:iam::123456789012:role/good", "arn:aws:iam::210987654321:role/p/good"} {
		if err := d.PassToFunction(account, arn, function); err != nil {
			t.Errorf("%s: %v", arn, err)
		}
		if err := strict.PassToFunction(account, arn, function); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%s with strict roles: %v", arn, err)
		}
	}
	if err := strict.PassToFunction(account, "arn:aws:iam::123456789012:role/p/good", function); err != nil {
		t.Error(err)
	}
}

func TestItIsKeptWhenARoleWasUsedLast(t *testing.T) {
	s, ctx, c := records(t), t.Context(), clock.NewFake(start)
	d := open(t, iam.Config{Store: s, Clock: c})
	made, err := d.CreateRole(ctx, account, iam.NewRole{Name: "r", Trust: trust})
	if err != nil {
		t.Fatal(err)
	}
	if id := d.Use("arn:aws:iam::123456789012:role/none"); id != "" {
		t.Error(id)
	}
	for _, step := range []struct {
		later time.Duration
		want  time.Time
	}{{0, start}, {time.Minute, start}, {time.Hour, start.Add(time.Hour + time.Minute)}} {
		c.Advance(step.later)
		if id := d.Use(made.ARN()); id != made.ID {
			t.Errorf("used %s, made %s", id, made.ID)
		}
		if err := d.Close(); err != nil { // waits for what is written
			t.Fatal(err)
		}
		r, err := d.Role(account, "r")
		if err != nil || !r.Used.Equal(step.want) {
			t.Errorf("%+v %v, expected %v", r, err, step.want)
		}
	}
	if r, err := open(t, iam.Config{Store: s}).Role(account, "r"); err != nil || r.Used.IsZero() {
		t.Errorf("opened again: %+v %v", r, err)
	}
}

// TestManyChangeRolesAndPoliciesAtOnce is the hammer: at no time is a policy
// deleted that a role has attached.
func TestManyChangeRolesAndPoliciesAtOnce(t *testing.T) {
	d := open(t, iam.Config{Store: records(t), Clock: clock.System()})
	ctx := t.Context()
	if _, err := d.CreateRole(ctx, account, iam.NewRole{Name: "shared", Trust: trust}); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			name := fmt.Sprint("p", w%4)
			for range 20 {
				// Any of these may be refused; what matters is what is there.
				if p, err := d.CreatePolicy(ctx, account, iam.NewPolicy{Name: name, Document: allow}); err == nil {
					_ = d.Attach(ctx, account, "shared", p.ARN())
				}
				d.Use("arn:aws:iam::123456789012:role/shared")
				r, err := d.Role(account, "shared")
				if err != nil {
					t.Error(err)
					return
				}
				for _, arn := range r.Attached {
					_ = d.Detach(ctx, account, "shared", arn)
					_ = d.DeletePolicy(ctx, account, arn)
				}
			}
		})
	}
	all.Wait()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := d.Role(account, "shared")
	if err != nil {
		t.Fatal(err)
	}
	for _, arn := range r.Attached {
		if _, err := d.Policy(account, arn); err != nil {
			t.Errorf("attached is what does not exist: %v", err)
		}
	}
}
