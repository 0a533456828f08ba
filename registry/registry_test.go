package registry_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/archive"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/store"
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
	if n := w.blobs(); n != 1 {
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
	if n := w.blobs(); n != 1 {
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
	if n := w.blobs(); n != 2 {
		t.Errorf("%d packages", n)
	}
	// A deleted version's number is not given again, and its code goes.
	w.must(w.Delete(ctx, account, "f", "1"))
	w.must(w.Delete(ctx, account, "f", "2"))
	if n := w.blobs(); n != 1 {
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

func TestRefusalsInTheServicesWords(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *registry.Config) { c.CodeStorage = 5000 })
	defer func() { w.close() }()
	f := w.create("f")
	sum := base64.StdEncoding.EncodeToString(func() []byte { s := sha256.Sum256(code("f")); return s[:] }())
	edit := func(change func(*hearth.Function)) error {
		g := function("g")
		change(&g)
		_, err := w.Create(ctx, registry.Create{Function: g, Zip: code("g")})
		return err
	}
	get := func(_ *hearth.Function, err error) error { return err }
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprint(i)] = ""
	}
	const (
		badZip  = "Could not unzip uploaded file. Please check your file, then try to upload again."
		both    = "Runtime and Handler are mandatory parameters for functions created with deployment packages."
		version = "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
	)
	noise := make([]byte, 6000)
	for i := range noise {
		noise[i] = byte(sha256.Sum256([]byte(fmt.Sprint(i)))[0])
	}
	for name, c := range map[string]struct {
		err     error
		kind    hearth.Kind
		message string
	}{
		"exists":              {edit(func(g *hearth.Function) { g.Name = "f" }), hearth.Conflict, "Function already exist: f"},
		"long name":           {edit(func(g *hearth.Function) { g.Name = strings.Repeat("a", 65) }), hearth.InvalidParameter, "1 validation error detected: Value '" + strings.Repeat("a", 65) + "' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64"},
		"name that is none":   {edit(func(g *hearth.Function) { g.Name = "a/b" }), hearth.Validation, "1 validation error detected: Value 'a/b' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+"},
		"no runtime":          {edit(func(g *hearth.Function) { g.Runtime = "" }), hearth.InvalidParameter, both},
		"no handler":          {edit(func(g *hearth.Function) { g.Handler = "" }), hearth.InvalidParameter, both},
		"retired runtime":     {edit(func(g *hearth.Function) { g.Runtime = "nodejs14.x" }), hearth.InvalidParameter, "The runtime parameter of nodejs14.x is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions."},
		"unknown runtime":     {edit(func(g *hearth.Function) { g.Runtime = "PYTHON3.9" }), hearth.InvalidParameter, "Value PYTHON3.9 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [" + strings.Join(registry.Runtimes(), ", ") + "] or be a valid ARN"},
		"much memory":         {edit(func(g *hearth.Function) { g.MemoryMiB = 10241 }), hearth.InvalidParameter, "'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to 10240"},
		"long timeout":        {edit(func(g *hearth.Function) { g.Timeout = 901 * time.Second }), hearth.Validation, "1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900"},
		"image":               {edit(func(g *hearth.Function) { g.PackageType = "Image" }), hearth.NotBuilt, "Hearth does not run container images yet: use PackageType Zip."},
		"layer":               {edit(func(g *hearth.Function) { g.Layers = []hearth.Layer{{ARN: "arn:l:1"}} }), hearth.InvalidParameter, "Layer version arn:l:1 does not exist."},
		"reserved variable":   {edit(func(g *hearth.Function) { g.Env = map[string]string{"AWS_REGION": "x", "_HANDLER": "y", "A": "b"} }), hearth.InvalidParameter, "Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: _HANDLER, AWS_REGION"},
		"large environment":   {edit(func(g *hearth.Function) { g.Env = map[string]string{"LARGE_VAR": strings.Repeat("<", 4081)} }), hearth.InvalidParameter, `Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: {"LARGE_VAR":"` + strings.Repeat("<", 4081) + `"}`},
		"bad zip":             {get(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: []byte("no zip")})), hearth.InvalidParameter, badZip},
		"storage":             {get(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code(string(noise))})), hearth.CodeStorageExceeded, "Code storage limit exceeded."},
		"revision of code":    {get(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code("x"), RevisionID: "old"})), hearth.PreconditionFailed, version},
		"revision of config":  {get(w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{RevisionID: "old"})), hearth.PreconditionFailed, version},
		"revision of publish": {get(w.Publish(ctx, account, "f", registry.Publish{RevisionID: "old"})), hearth.PreconditionFailed, version},
		"runtime of update":   {get(w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{Runtime: new("go1.x")})), hearth.InvalidParameter, "The runtime parameter of go1.x is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions."},
		"sha":                 {get(w.Publish(ctx, account, "f", registry.Publish{CodeSHA256: "somenonexistentsha256"})), hearth.InvalidParameter, "CodeSHA256 (somenonexistentsha256) is different from current CodeSHA256 in $LATEST (" + sum + "). Please try again with the CodeSHA256 in $LATEST."},
		"get":                 {get(w.Get(ctx, account, "none", "")), hearth.NotFound, "Function not found: " + arn + "none"},
		"resolve":             {get(w.Resolve(ctx, account, "none", "")), hearth.NotFound, "Function not found: " + arn + "none"},
		"resolve version":     {get(w.Resolve(ctx, account, "f", "10")), hearth.NotFound, "Function not found: " + arn + "f:10"},
		"resolve alias":       {get(w.Resolve(ctx, account, "f", "nosuchalias")), hearth.NotFound, "Function not found: " + arn + "f:nosuchalias"},
		"resolve $LATEST":     {get(w.Resolve(ctx, account, "none", "$LATEST")), hearth.NotFound, "Function not found: " + arn + "none:$LATEST"},
		"other account":       {get(w.Resolve(ctx, "222222222222", "f", "")), hearth.NotFound, "Function not found: arn:aws:lambda:us-east-1:222222222222:function:f"},
		"odd version":         {get(w.Get(ctx, account, "f", "01")), hearth.NotFound, "Function not found: " + arn + "f:01"},
		"delete":              {w.Delete(ctx, account, "none", ""), hearth.NotFound, "Function not found: " + arn + "none"},
		"delete version":      {w.Delete(ctx, account, "f", "1221"), hearth.NotFound, "Function not found: " + arn + "f:1221"},
		"delete $LATEST":      {w.Delete(ctx, account, "f", "$LATEST"), hearth.InvalidParameter, "$LATEST version cannot be deleted without deleting the function."},
		"tags of none":        {w.Tag(ctx, account, "none", map[string]string{"a": "b"}), hearth.NotFound, "Function not found: " + arn + "none"},
		"no tags":             {w.Tag(ctx, account, "f", nil), hearth.InvalidParameter, "An error occurred and the request cannot be processed."},
		"many tags":           {w.Tag(ctx, account, "f", many), hearth.InvalidParameter, "Number of tags exceeds resource tag limit."},
		"no tag keys":         {w.Untag(ctx, account, "f", nil), hearth.Validation, "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null"},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, c.err, c.kind, c.message) })
	}
	if now := w.got(w.Get(ctx, account, "f", "")); now != f {
		t.Errorf("something was changed: %+v", now)
	}
	if n := w.blobs(); n != 1 {
		t.Errorf("%d packages are kept", n)
	}
	if u, err := w.Usage(ctx, account); u != (registry.Usage{CodeBytes: f.Package.Size, Functions: 1}) || err != nil {
		t.Errorf("usage %+v %v", u, err)
	}
	large := registry.Create{Function: function("g"), Zip: make([]byte, archive.Lambda.Zipped+1)}
	_, err := w.Create(ctx, large)
	wantError(t, err, hearth.EntityTooLarge, "Zipped size must be smaller than 52428800 bytes")
	for _, runtime := range []string{"provided", "provided.al2", "provided.al2023", "nodejs18.x", "nodejs20.x", "nodejs22.x", "nodejs24.x", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14"} {
		w.got(w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{Runtime: &runtime}))
		w.settled("f")
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	f := w.create("f")
	dry := w.got(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code("new"), Publish: true, DryRun: true}))
	if dry.Package == f.Package || dry.RevisionID != f.RevisionID || dry.Version != hearth.Latest {
		t.Errorf("dry run: %+v", dry)
	}
	if now := w.got(w.Get(ctx, account, "f", "")); now != f {
		t.Errorf("it became %+v", now)
	}
	if n := w.blobs(); n != 1 {
		t.Errorf("%d packages are kept", n)
	}
}

func TestTagsAreKeptBesideTheFunction(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	f := w.create("f")
	w.must(w.Tag(ctx, account, "f", map[string]string{"a": "1", "b": "2"}))
	w.must(w.Tag(ctx, account, "f", map[string]string{"a": "3"}))
	w.must(w.Untag(ctx, account, "f", []string{"b", "never"}))
	for range 2 {
		tags, err := w.Tags(ctx, account, "f")
		if err != nil || len(tags) != 1 || tags["a"] != "3" {
			t.Errorf("%v %v", tags, err)
		}
		tags["mine"] = "to change"
		if g := w.got(w.Get(ctx, account, "f", "")); g.RevisionID != f.RevisionID {
			t.Error("tags changed the revision")
		}
		w.reopen()
	}
}

func TestListsGoOnFromTheirMarker(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	names := []string{"b", "a", "C", "a-1", "a_1", "a1", "zz", "d"}
	for _, n := range names {
		w.create(n)
	}
	for i := range 3 {
		w.got(w.UpdateConfiguration(ctx, account, "b", registry.UpdateConfiguration{Description: new(fmt.Sprint(i))}))
		w.settled("b")
		w.got(w.Publish(ctx, account, "b", registry.Publish{}))
	}
	slices.Sort(names)
	var full []string
	for _, n := range names {
		full = append(full, n+":$LATEST")
		if n == "b" {
			full = append(full, "b:1", "b:2", "b:3")
		}
	}
	for max := range 14 {
		for _, all := range []bool{false, true} {
			var got []string
			marker, pages := "", 0
			for {
				fs, next, err := w.List(ctx, account, marker, max, all)
				w.must(err)
				if pages++; max > 0 && len(fs) > max || pages > 20 || next != "" && len(fs) == 0 {
					t.Fatalf("page %d of %d", pages, len(fs))
				}
				for _, f := range fs {
					got = append(got, f.Name+":"+f.Version)
				}
				if marker = next; next == "" {
					break
				}
			}
			want := full
			if !all {
				want = nil
				for _, n := range names {
					want = append(want, n+":$LATEST")
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("by %d, all %v: %q", max, all, got)
			}
			if max > 0 && pages != (len(want)+max-1)/max {
				t.Errorf("by %d, all %v: %d pages", max, all, pages)
			}
		}
		var got []string
		for marker := ""; ; {
			fs, next, err := w.Versions(ctx, account, "b", marker, max)
			w.must(err)
			for _, f := range fs {
				got = append(got, f.Version)
			}
			if marker = next; next == "" {
				break
			}
		}
		if want := []string{"$LATEST", "1", "2", "3"}; !slices.Equal(got, want) {
			t.Errorf("versions by %d: %q", max, got)
		}
	}
	for _, bad := range []string{"?", "YQ==", "YTotMQ==", "OjE="} {
		if _, _, err := w.List(ctx, account, bad, 1, true); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("marker %q: %v", bad, err)
		}
		if _, _, err := w.Versions(ctx, account, "b", bad, 1); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("marker %q: %v", bad, err)
		}
	}
	if fs, next, err := w.List(ctx, "222222222222", "", 10, true); len(fs) != 0 || next != "" || err != nil {
		t.Errorf("another account has %v", fs)
	}
}

func TestAPackageStaysWhileSomebodyReadsIt(t *testing.T) {
	g := newGate()
	w := newWorld(t, t.TempDir(), func(c *registry.Config) { c.Prepare = g.prepare })
	defer func() { w.close() }()
	g.leave <- nil
	f := w.create("f")
	<-g.entered
	r, size, err := w.OpenPackage(ctx, f.Package.SHA256)
	w.must(err)
	w.must(w.Delete(ctx, account, "f", ""))
	if n := w.blobs(); n != 1 {
		t.Errorf("%d packages while one is read", n)
	}
	if _, ok := r.(io.ReaderAt); !ok || size != f.Package.Size {
		t.Errorf("%T of %d", r, size)
	}
	if b, err := io.ReadAll(r); string(b) != string(code("f")) || err != nil {
		t.Errorf("read %d bytes, %v", len(b), err)
	}
	w.must(r.Close())
	if n := w.blobs(); n != 0 {
		t.Errorf("%d packages after it", n)
	}
	_, _, err = w.OpenPackage(ctx, f.Package.SHA256)
	if hearth.KindOf(err) != hearth.NotFound || !errors.Is(err, store.ErrNoBlob) {
		t.Errorf("gone: %v", err)
	}
	if _, _, err = w.OpenPackage(ctx, "../x"); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("no hash: %v", err)
	}

	// Deleted while it is prepared: the code stays until Prepare returns.
	w.got(w.Create(ctx, registry.Create{Function: function("f"), Zip: code("f")}))
	<-g.entered
	w.must(w.Delete(ctx, account, "f", ""))
	if n := w.blobs(); n != 1 {
		t.Errorf("%d packages while one is prepared", n)
	}
	g.leave <- nil
	w.close() // waits for the job
	if n := w.blobs(); n != 0 {
		t.Errorf("%d packages after it", n)
	}
	w.open()
	if _, err := w.Get(ctx, account, "f", ""); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("it came back: %v", err)
	}
}

func TestCodeThatACrashLeftUnregisteredIsSwept(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	w.create("f")
	orphan := code("orphan")
	w.must(w.cfg.Blobs.Put(ctx, fmt.Sprintf("%x", sha256.Sum256(orphan)), strings.NewReader(string(orphan))))
	w.reopen()
	if n := w.blobs(); n != 1 {
		t.Errorf("%d packages", n)
	}
}

func TestTheEnvironmentIsNotReadableOnDisk(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	f := function("f")
	f.Env = map[string]string{"PASSWORD": "correct-horse-battery"}
	w.got(w.Create(ctx, registry.Create{Function: f, Zip: code("f")}))
	w.settled("f")
	w.got(w.Publish(ctx, account, "f", registry.Publish{}))
	w.settled("f")
	w.must(filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), "correct-horse") || strings.Contains(string(b), "PASSWORD") {
			t.Errorf("%s shows it", path)
		}
		return err
	}))
	w.reopen()
	for _, q := range []string{"", "1"} {
		if got := w.got(w.Resolve(ctx, account, "f", q)); got.Env["PASSWORD"] != "correct-horse-battery" {
			t.Errorf("%q: %v", q, got.Env)
		}
	}
}

// failing is a store that cannot write while it is told so.
type failing struct {
	store.Store
	err func() error
}

func (s failing) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.Update(ctx, fn)
}

func TestAFullDiskLosesNothingAndASettledStateIsStoredLater(t *testing.T) {
	g := newGate()
	w := newWorld(t, t.TempDir(), func(c *registry.Config) { c.Prepare = g.prepare })
	defer func() { w.close() }()
	w.close()
	fails := make(chan error, 1) // holds the present error
	fails <- nil
	set := func(err error) { <-fails; fails <- err }
	w.open()
	w.must(w.Close())
	w.cfg.Store = failing{w.cfg.Store, func() error { err := <-fails; fails <- err; return err }}
	var err error
	w.Registry, err = registry.Open(ctx, w.cfg)
	w.must(err)

	full := store.Full("/data", errors.New("ENOSPC"))
	set(full)
	_, err = w.Create(ctx, registry.Create{Function: function("f"), Zip: code("f")})
	wantError(t, err, hearth.Service, "The change could not be stored: the server's disk is full.")
	if n := w.blobs(); n != 0 {
		t.Errorf("%d packages are kept", n)
	}
	if u, err := w.Usage(ctx, account); u != (registry.Usage{}) || err != nil {
		t.Errorf("usage %+v %v", u, err)
	}
	set(nil)
	w.got(w.Create(ctx, registry.Create{Function: function("f"), Zip: code("f")}))
	<-g.entered
	set(full)
	g.leave <- nil
	for w.clock.Pending() == 0 { // the job has failed to store, and waits
		time.Sleep(time.Millisecond)
	}
	if f := w.got(w.Get(ctx, account, "f", "")); f.State != hearth.Pending {
		t.Errorf("it is %s", describe(f))
	}
	set(nil)
	w.clock.Advance(time.Second)
	if f := w.settled("f"); f.State != hearth.Active {
		t.Errorf("it is %s", describe(f))
	}
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
