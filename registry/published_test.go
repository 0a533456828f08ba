package registry_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
)

const onProvider = "arn:aws:lambda:us-east-1:111111111111:capacity-provider:p"

func (w *world) place(name string) {
	w.t.Helper()
	f := function(name)
	f.CapacityProvider = &hearth.CapacityProvider{ARN: onProvider}
	w.got(w.Create(ctx, registry.Create{Function: f, Zip: code(name)}))
	w.settled(name)
}

var latestPublished = registry.Publish{LatestPublished: true}

func TestAnUnqualifiedInvocationOnACapacityProviderRunsWhatWasPublishedLast(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	w.place("f")
	_, err := w.Resolve(ctx, account, "f", "")
	wantError(t, err, hearth.NoPublishedVersion, "The function "+arn+"f has no $LATEST.PUBLISHED version, which is what an invocation without a qualifier runs on a capacity provider. Publish one with PublishTo LATEST_PUBLISHED, or invoke a version by its number.")
	_, err = w.Resolve(ctx, account, "f", hearth.LatestPublished)
	wantError(t, err, hearth.NotFound, "Function not found: "+arn+"f:$LATEST.PUBLISHED")
	latest := w.got(w.Resolve(ctx, account, "f", hearth.Latest))

	p := w.got(w.Publish(ctx, account, "f", latestPublished))
	if p.Version != hearth.LatestPublished || p.State != hearth.Pending || p.Generation == latest.Generation || p.Package != latest.Package {
		t.Errorf("published %+v", p)
	}
	w.settled("f")
	first := w.got(w.Resolve(ctx, account, "f", ""))
	if again := w.got(w.Publish(ctx, account, "f", latestPublished)); again != first {
		t.Error("what had not changed was published again")
	}
	if byName := w.got(w.Resolve(ctx, account, "f", hearth.LatestPublished)); byName != first || first.Version != hearth.LatestPublished || first.State != hearth.Active {
		t.Errorf("runs %+v", first)
	}
	// $LATEST goes on; what was published stays, over a restart too, until it is
	// published again. No number was used.
	w.got(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code("new")}))
	w.settled("f")
	w.reopen()
	if f := w.got(w.Resolve(ctx, account, "f", "")); f.Key() != first.Key() || f.State != hearth.Active {
		t.Errorf("after a restart it runs %+v", f)
	}
	w.got(w.Publish(ctx, account, "f", registry.Publish{LatestPublished: true, Description: new("second")}))
	w.settled("f")
	second := w.got(w.Resolve(ctx, account, "f", ""))
	if second.Package == first.Package || second.Generation <= first.Generation || second.Description != "second" {
		t.Errorf("published again: %+v", second)
	}
	if v1 := w.got(w.Publish(ctx, account, "f", registry.Publish{})); v1.Version != "1" {
		t.Errorf("the first number is %s", v1.Version)
	}
	w.settled("f")
	if u, err := w.Usage(ctx, account); err != nil || u.CodeBytes != 3*second.Package.Size {
		t.Errorf("usage %+v, %v", u, err)
	}
	if n := w.blobs(1); n != 1 {
		t.Errorf("%d packages are kept of what nobody has any more", n)
	}
}

func TestWhatIsPublishedRunsUntilTheNextIsReady(t *testing.T) {
	g := newGate()
	var changed, overtaken []string
	w := newWorld(t, t.TempDir(), func(c *registry.Config) {
		c.Prepare = g.prepare
		c.Overtake = func(_ context.Context, old, now *hearth.Function) {
			if now.Version == hearth.LatestPublished {
				overtaken = append(overtaken, describe(old)+" → "+describe(now))
			}
		}
		c.Changed = func(old, new *hearth.Function) {
			if new != nil && new.Version == hearth.LatestPublished {
				changed = append(changed, describe(old)+" → "+describe(new))
			}
		}
	})
	defer func() { w.close() }()
	g.leave <- nil
	w.place("f")
	g.leave <- nil
	w.got(w.Publish(ctx, account, "f", latestPublished))
	w.settled("f")
	first := w.got(w.Resolve(ctx, account, "f", ""))

	g.leave <- nil
	w.got(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code("2")}))
	w.settled("f")
	w.got(w.Publish(ctx, account, "f", latestPublished))
	w.reopen() // while it is prepared
	if f := w.got(w.Resolve(ctx, account, "f", "")); f.Key() != first.Key() {
		t.Errorf("before the next is ready it runs %+v", f)
	}
	if f := w.got(w.Get(ctx, account, "f", hearth.LatestPublished)); f.State != hearth.Pending || f.Package == first.Package {
		t.Errorf("the next is %+v", f)
	}
	g.leave <- &hearth.Error{Kind: hearth.InvalidZip, Message: "no"}
	w.settled("f")
	if f := w.got(w.Get(ctx, account, "f", hearth.LatestPublished)); f.State != hearth.Failed || f.StateReason != "no" {
		t.Errorf("the next is %+v", f)
	}
	if f := w.got(w.Resolve(ctx, account, "f", "")); f.Key() != first.Key() {
		t.Errorf("after the next failed it runs %+v", f)
	}
	g.leave <- nil
	w.got(w.Publish(ctx, account, "f", latestPublished)) // a new attempt
	w.settled("f")
	if f := w.got(w.Resolve(ctx, account, "f", "")); f.Package == first.Package {
		t.Errorf("at last it runs %+v", f)
	}
	w.close()
	want := []string{"nil → f:$LATEST.PUBLISHED Active/Successful", "f:$LATEST.PUBLISHED Active/Successful → f:$LATEST.PUBLISHED Active/Successful"}
	if !slices.Equal(changed, want) {
		t.Errorf("told of %q", changed)
	}
	if want := []string{"f:$LATEST.PUBLISHED Active/Successful → f:$LATEST.PUBLISHED Pending/Successful"}; !slices.Equal(overtaken, want) {
		t.Errorf("had the next take over: %q", overtaken)
	}
	w.open()
}

func TestLatestPublishedIsAVersionLikeOthers(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	w.place("f")
	if _, err := w.CreateAlias(ctx, account, "f", "live", registry.Alias{Version: new(hearth.LatestPublished)}); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("an alias to nothing: %v", err)
	}
	w.got(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code("2"), LatestPublished: true}))
	w.settled("f")
	w.got(w.Publish(ctx, account, "f", registry.Publish{}))
	w.settled("f")
	if _, err := w.CreateAlias(ctx, account, "f", "live", registry.Alias{Version: new(hearth.LatestPublished)}); err != nil {
		t.Fatal(err)
	}
	if f := w.got(w.Resolve(ctx, account, "f", "live")); f.Version != hearth.LatestPublished {
		t.Errorf("the alias runs %s", describe(f))
	}
	if _, err := w.Configure(ctx, account, "f", hearth.LatestPublished, func(s *registry.Settings) error {
		s.Scaling = &registry.Scaling{MinEnvironments: new(1)}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	err := w.Delete(ctx, account, "f", hearth.LatestPublished)
	wantError(t, err, hearth.Conflict, "Unable to delete version because the following aliases reference it: [live]")

	// Lists have it last, also by pages of one.
	var versions []string
	for marker := ""; ; {
		fs, next, err := w.Versions(ctx, account, "f", marker, 1)
		w.must(err)
		for _, f := range fs {
			versions = append(versions, f.Version)
		}
		if marker = next; next == "" {
			break
		}
	}
	if want := []string{hearth.Latest, "1", hearth.LatestPublished}; !slices.Equal(versions, want) {
		t.Errorf("listed %q", versions)
	}
	versions = nil
	for marker := ""; ; {
		fs, next, err := w.List(ctx, account, marker, 1, true)
		w.must(err)
		for _, f := range fs {
			versions = append(versions, f.Version)
		}
		if marker = next; next == "" {
			break
		}
	}
	if want := []string{hearth.Latest, "1", hearth.LatestPublished}; !slices.Equal(versions, want) {
		t.Errorf("listed %q", versions)
	}
	placed := 0
	for range w.PlacedOn(account, onProvider) {
		placed++
	}
	if placed != 3 {
		t.Errorf("%d versions are placed", placed)
	}
	w.must(errors.Join(w.DeleteAlias(ctx, account, "f", "live"), w.Delete(ctx, account, "f", hearth.LatestPublished)))
	if _, err := w.Get(ctx, account, "f", hearth.LatestPublished); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("after it was deleted: %v", err)
	}
	if all, err := w.AllSettings(ctx, account, "f"); err != nil || len(all) != 0 {
		t.Errorf("settings stay: %v, %v", all, err)
	}
}

func TestOnlyOnACapacityProviderIsThereALatestPublished(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	w.create("f")
	const refused = "PublishTo LATEST_PUBLISHED is supported only for functions that are configured with a capacity provider: " + arn
	_, err := w.Publish(ctx, account, "f", latestPublished)
	wantError(t, err, hearth.InvalidParameter, refused+"f has none.")
	_, err = w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code("x"), LatestPublished: true, DryRun: true})
	wantError(t, err, hearth.InvalidParameter, refused+"f has none.")
	_, err = w.Create(ctx, registry.Create{Function: function("g"), Zip: code("g"), LatestPublished: true})
	wantError(t, err, hearth.InvalidParameter, refused+"g has none.")
	if f := w.got(w.Resolve(ctx, account, "f", "")); f.Version != hearth.Latest {
		t.Errorf("without a provider it runs %s", describe(f))
	}
}

// What takes over is what runs then: nothing may come between, or who asks for what
// ran before would go on being given what never came to be.
func TestNothingIsPublishedInPlaceOfWhatIsTakingOver(t *testing.T) {
	entered, leave := make(chan *hearth.Function, 2), make(chan struct{})
	w := newWorld(t, t.TempDir(), func(c *registry.Config) {
		c.Overtake = func(ctx context.Context, _, now *hearth.Function) {
			if now.Version != hearth.LatestPublished {
				return
			}
			entered <- now
			select {
			case <-leave:
			case <-ctx.Done():
			}
		}
	})
	defer func() { w.close() }()
	w.place("f")
	w.got(w.Publish(ctx, account, "f", latestPublished))
	w.settled("f")
	update := func(text string) {
		t.Helper()
		w.got(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code(text)}))
		if waited, err := w.Settled(ctx, account, "f", hearth.Latest); err != nil {
			t.Fatal(waited, err)
		}
	}
	update("2")
	second := w.got(w.Publish(ctx, account, "f", latestPublished))
	<-entered
	update("3")
	_, err := w.Publish(ctx, account, "f", latestPublished)
	if err == nil {
		t.Fatal("something else is published while it takes over")
	}
	wantError(t, err, hearth.Conflict, "The operation cannot be performed at this time. An update is in progress for resource: "+arn+"f")
	leave <- struct{}{}
	w.settled("f")
	if f := w.got(w.Resolve(ctx, account, "f", "")); f.Key() != second.Key() {
		t.Errorf("%s runs, and %s took over", describe(f), describe(second))
	}
	third := w.got(w.Publish(ctx, account, "f", latestPublished))
	<-entered
	leave <- struct{}{}
	w.settled("f")
	if f := w.got(w.Resolve(ctx, account, "f", "")); f.Key() != third.Key() {
		t.Errorf("%s runs, and %s was published", describe(f), describe(third))
	}
}
