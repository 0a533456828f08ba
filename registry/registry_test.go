package registry_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
)

func TestANewFunctionIsPendingThenActive(t *testing.T) {
	g := newGate()
	var changes []string
	w := newWorld(t, t.TempDir(), func(c *registry.Config) {
		c.Prepare = g.prepare
		c.Changed = func(old, new *hearth.Function) { changes = append(changes, describe(old)+" → "+describe(new)) }
	})
	defer func() { w.close() }()
	made := w.got(w.Create(ctx, registry.Create{Function: function("f"), Zip: code("f"), Tags: map[string]string{"a": "b"}}))
	if made.State != hearth.Pending || made.StateReason != "The function is being created." || made.StateReasonCode != "Creating" ||
		made.Version != hearth.Latest || made.Region != "us-east-1" || made.RevisionID == "" || !made.LastModified.Equal(start) || made.Generation == 0 {
		t.Errorf("made %+v", made)
	}
	if sum := sha256.Sum256(code("f")); made.Package.SHA256 != fmt.Sprintf("%x", sum) || made.Package.Size != int64(len(code("f"))) || made.Package.Unpacked != 1 {
		t.Errorf("package %+v", made.Package)
	}
	<-g.entered
	_, err := w.Resolve(ctx, account, "f", "")
	wantError(t, err, hearth.Conflict, "The operation cannot be performed at this time. The function is currently in the following state: Pending")
	_, err = w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code("g")})
	wantError(t, err, hearth.Conflict, "The operation cannot be performed at this time. The function is currently in the following state: Pending")

	// A stop in the midst of it is taken up.
	w.reopen()
	if f := <-g.entered; f.Generation != made.Generation {
		t.Errorf("resumed %+v", f)
	}
	g.leave <- nil
	f := w.settled("f")
	if f.State != hearth.Active || f.StateReason+f.StateReasonCode != "" || f.UpdateStatus != hearth.UpdateSuccessful || f.RevisionID == made.RevisionID || f.Generation != made.Generation {
		t.Errorf("settled %+v", f)
	}
	for _, q := range []string{"", hearth.Latest} {
		if got := w.got(w.Resolve(ctx, account, "f", q)); got != f {
			t.Errorf("Resolve(%q) is %+v", q, got)
		}
	}
	w.reopen() // waits for the job, which tells last
	if want := []string{"nil → f:$LATEST Active/Successful"}; !slices.Equal(changes, want) {
		t.Errorf("told %q", changes)
	}
	if tags, err := w.Tags(ctx, account, "f"); err != nil || tags["a"] != "b" {
		t.Errorf("tags %v %v", tags, err)
	}
}

func TestAFailedPreparationFailsTheFunctionAndCanBeMended(t *testing.T) {
	g := newGate()
	w := newWorld(t, t.TempDir(), func(c *registry.Config) { c.Prepare = g.prepare })
	defer func() { w.close() }()
	g.leave <- &hearth.Error{Kind: hearth.InvalidRuntime, Message: "python3.12 is not installed here", Err: errors.New("secret detail")}
	w.got(w.Create(ctx, registry.Create{Function: function("f"), Zip: code("f")}))
	f := w.settled("f")
	if f.State != hearth.Failed || f.StateReason != "python3.12 is not installed here" || f.StateReasonCode != "InvalidRuntime" || f.UpdateStatus != hearth.UpdateFailed {
		t.Errorf("settled %+v", f)
	}
	_, err := w.Resolve(ctx, account, "f", "")
	wantError(t, err, hearth.Conflict, "The operation cannot be performed at this time. The function is currently in the following state: Failed")
	_, err = w.Publish(ctx, account, "f", registry.Publish{})
	wantError(t, err, hearth.Conflict, "The operation cannot be performed at this time. The function is currently in the following state: Failed")
	w.reopen()
	g.leave <- nil
	f = w.got(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code("better")}))
	if f.State != hearth.Pending || f.UpdateStatus != hearth.UpdateInProgress {
		t.Errorf("mending: %s", describe(f))
	}
	if f = w.settled("f"); f.State != hearth.Active || f.UpdateStatus != hearth.UpdateSuccessful {
		t.Errorf("mended: %s", describe(f))
	}
	if n := w.blobs(1); n != 1 {
		t.Errorf("%d packages are kept", n)
	}
}

func TestAnUpdateSwitchesOnlyWhenItIsPrepared(t *testing.T) {
	g := newGate()
	var told []string
	var w *world
	w = newWorld(t, t.TempDir(), func(c *registry.Config) {
		c.Prepare = g.prepare
		c.Changed = func(old, new *hearth.Function) {
			told = append(told, describe(old)+" → "+describe(new))
			if old != nil && new != nil {
				// The hook runs after the switch.
				if f, err := w.Resolve(ctx, account, "f", ""); f != new || err != nil {
					t.Errorf("during the hook Resolve gives %v %v", describe(f), err)
				}
			}
		}
	})
	defer func() { w.close() }()
	g.leave <- nil
	old := w.create("f")
	<-g.entered

	env := map[string]string{"NEW": "1"}
	f := w.got(w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{MemoryMiB: new(256), Env: env, RevisionID: old.RevisionID}))
	env["NEW"] = "changed by its owner"
	if f.UpdateStatus != hearth.UpdateInProgress || f.UpdateReason != "The function is being created." || f.UpdateReasonCode != "Creating" || f.State != hearth.Active || f.MemoryMiB != 256 || f.Env["NEW"] != "1" || f.Handler != "index.handler" {
		t.Errorf("updating: %+v", f)
	}
	<-g.entered
	check := func(when string) {
		t.Helper()
		if got := w.got(w.Resolve(ctx, account, "f", "")); got.Generation != old.Generation || got.MemoryMiB != 128 || got.Env["MODE"] != "test" {
			t.Errorf("%s Resolve gives %+v", when, got)
		}
		if got := w.got(w.Get(ctx, account, "f", "")); got.MemoryMiB != 256 || got.UpdateStatus != hearth.UpdateInProgress {
			t.Errorf("%s Get gives %+v", when, got)
		}
		_, err := w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{})
		wantError(t, err, hearth.Conflict, "The operation cannot be performed at this time. An update is in progress for resource: "+arn+"f")
		_, err = w.Publish(ctx, account, "f", registry.Publish{})
		wantError(t, err, hearth.Conflict, "The operation cannot be performed at this time. An update is in progress for resource: "+arn+"f")
	}
	check("in progress")
	w.reopen() // a stop in the midst of it
	<-g.entered
	check("after a restart")
	g.leave <- nil
	f = w.settled("f")
	if got := w.got(w.Resolve(ctx, account, "f", "")); got != f || got.MemoryMiB != 256 || got.Generation <= old.Generation {
		t.Errorf("Resolve gives %+v", got)
	}

	// A failed update leaves what runs, and says why.
	g.leave <- errors.New("disk on fire")
	w.got(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code("bad")}))
	back := w.settled("f")
	if back.UpdateStatus != hearth.UpdateFailed || back.State != hearth.Active || back.UpdateReasonCode != "InternalError" || back.Package != f.Package || back.Generation != f.Generation {
		t.Errorf("after a failed update: %+v", back)
	}
	if strings.Contains(back.UpdateReason, "fire") {
		t.Errorf("the cause is shown: %q", back.UpdateReason)
	}
	if got := w.got(w.Resolve(ctx, account, "f", "")); got.Generation != f.Generation {
		t.Errorf("Resolve gives %+v", got)
	}
	if n := w.blobs(1); n != 1 {
		t.Errorf("%d packages are kept", n)
	}
	w.reopen() // waits for the jobs, which tell last
	want := []string{"nil → f:$LATEST Active/Successful", "f:$LATEST Active/Successful → f:$LATEST Active/Successful"}
	if !slices.Equal(told, want) {
		t.Errorf("told %q", told)
	}
}

func TestVersionsAreMadeOfWhatChanged(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	w.create("f")
	latest := w.got(w.Get(ctx, account, "f", ""))
	v1 := w.got(w.Publish(ctx, account, "f", registry.Publish{Description: new("first"), RevisionID: latest.RevisionID}))
	if v1.Version != "1" || v1.State != hearth.Pending || v1.StateReasonCode != "Creating" || v1.Description != "first" || !v1.PublishedAt.Equal(start) || v1.Generation == latest.Generation {
		t.Errorf("published %+v", v1)
	}
	w.settled("f")
	after := w.got(w.Get(ctx, account, "f", ""))
	if after.RevisionID == latest.RevisionID || after.Generation != latest.Generation || after.Description != "" {
		t.Errorf("$LATEST became %+v", after)
	}
	for _, d := range []*string{nil, new("first"), new("other")} {
		if again := w.got(w.Publish(ctx, account, "f", registry.Publish{Description: d})); again.Version != "1" || again.Description != "first" {
			t.Errorf("nothing changed, and %+v was published", again)
		}
	}
	if now := w.got(w.Get(ctx, account, "f", "")); now != after {
		t.Error("publishing nothing changed $LATEST")
	}
	// The same again is no change, even after a restart; something else is.
	w.reopen()
	w.got(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code("f")}))
	w.settled("f")
	if again := w.got(w.Publish(ctx, account, "f", registry.Publish{})); again.Version != "1" {
		t.Errorf("the same code gave %s", describe(again))
	}
	v2 := w.got(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code("new"), Publish: true}))
	if v2.Version != "2" || v2.State != hearth.Pending {
		t.Errorf("published with an update: %s", describe(v2))
	}
	w.settled("f")
	r1, r2, rl := w.got(w.Resolve(ctx, account, "f", "1")), w.got(w.Resolve(ctx, account, "f", "2")), w.got(w.Resolve(ctx, account, "f", ""))
	if r1.Package != latest.Package || r2.Package == latest.Package || r2.Package != rl.Package || r1.State != hearth.Active || r2.UpdateStatus != hearth.UpdateSuccessful {
		t.Errorf("%+v\n%+v\n%+v", r1, r2, rl)
	}
	if u, err := w.Usage(ctx, account); err != nil || u != (registry.Usage{CodeBytes: r1.Package.Size + 2*r2.Package.Size, Functions: 1}) {
		t.Errorf("usage %+v %v", u, err)
	}
	if n := w.blobs(2); n != 2 {
		t.Errorf("%d packages", n)
	}
	// A deleted version's number is not given again, and its code goes.
	w.must(w.Delete(ctx, account, "f", "1"))
	w.must(w.Delete(ctx, account, "f", "2"))
	if n := w.blobs(1); n != 1 {
		t.Errorf("%d packages", n)
	}
	w.reopen()
	if v3 := w.got(w.Publish(ctx, account, "f", registry.Publish{})); v3.Version != "3" {
		t.Errorf("published %s", describe(v3))
	}
	made := w.got(w.Create(ctx, registry.Create{Function: function("g"), Zip: code("g"), Publish: true}))
	if made.Version != "1" {
		t.Errorf("created %s", describe(made))
	}
	w.settled("g")
	w.got(w.Resolve(ctx, account, "g", "1"))
}

func TestResolveAllocatesNothing(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	w.create("f")
	w.got(w.Publish(ctx, account, "f", registry.Publish{}))
	w.settled("f")
	if n := testing.AllocsPerRun(100, func() {
		_, err := w.Resolve(ctx, account, "f", "")
		_, err2 := w.Resolve(ctx, account, "f", "1")
		if err != nil || err2 != nil {
			t.Error(err, err2)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkResolve(b *testing.B) {
	w := newWorld(b, b.TempDir(), nil)
	defer func() { w.close() }()
	w.create("some-function")
	w.got(w.Publish(ctx, account, "some-function", registry.Publish{}))
	w.settled("some-function")
	for _, q := range []string{"", "1"} {
		b.Run("qualifier="+q, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Resolve(ctx, account, "some-function", q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPublish(b *testing.B) {
	w := newWorld(b, b.TempDir(), nil)
	defer func() { w.close() }()
	w.create("f")
	for i := 0; b.Loop(); i++ {
		w.got(w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{Description: new(fmt.Sprint(i))}))
		w.settled("f")
		w.got(w.Publish(ctx, account, "f", registry.Publish{}))
	}
}

// BenchmarkOpen is a start with functions registered, each with a package that
// another has too.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		b.Run(fmt.Sprint(n, " functions"), func(b *testing.B) {
			w := newWorld(b, b.TempDir(), nil)
			var wg sync.WaitGroup
			for k := range 32 {
				wg.Go(func() {
					for i := k; i < n; i += 32 {
						if _, err := w.Create(ctx, registry.Create{Function: function(fmt.Sprintf("f%06d", i)), Zip: code("a")}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			w.settled("f000000")
			for b.Loop() {
				w.reopen()
			}
			w.close()
		})
	}
}
