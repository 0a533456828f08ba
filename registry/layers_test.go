package registry_test

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/archive"
	"github.com/hearth-faas/hearth/policy"
	"github.com/hearth-faas/hearth/registry"
)

const layerARN = "arn:aws:lambda:us-east-1:111111111111:layer:"

func (w *world) layer(name, text string) *registry.LayerVersion {
	w.t.Helper()
	v, err := w.PublishLayer(ctx, registry.PublishLayer{Account: account, Name: name, Zip: code(text)})
	w.must(err)
	return v
}

// layered makes a function with the layers.
func (w *world) layered(name string, arns ...string) *hearth.Function {
	w.t.Helper()
	f := function(name)
	f.Layers = uses(arns...)
	w.got(w.Create(ctx, registry.Create{Function: f, Zip: code(name)}))
	return w.settled(name)
}

func uses(arns ...string) []hearth.Layer {
	ls := []hearth.Layer{}
	for _, a := range arns {
		ls = append(ls, hearth.Layer{ARN: a})
	}
	return ls
}

func TestALayersPackageStaysAsLongAsAVersionOrAFunctionNeedsIt(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	a, b := w.layer("a", "one"), w.layer("a", "two")
	if a.ARN() != layerARN+"a:1" || b.ARN() != layerARN+"a:2" || w.blobs(2) != 2 {
		t.Fatalf("%s, %s, %d blobs", a.ARN(), b.ARN(), w.stored())
	}
	f := w.layered("f", a.ARN())
	if len(f.Layers) != 1 || f.Layers[0].Package != a.Package() {
		t.Fatalf("the function uses %+v", f.Layers)
	}
	w.got(w.Publish(ctx, account, "f", registry.Publish{}))
	w.settled("f")
	w.got(w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{Layers: uses()}))
	w.settled("f")
	w.must(w.DeleteLayerVersion(ctx, account, "a", 1))
	w.must(w.DeleteLayerVersion(ctx, account, "a", 2))
	w.must(w.DeleteLayerVersion(ctx, account, "a", 2))
	open := func(v *registry.LayerVersion) bool {
		r, _, err := w.OpenPackage(ctx, v.SHA256)
		if err != nil {
			return false
		}
		_, err = io.ReadAll(r)
		w.must(err)
		w.must(r.Close())
		return true
	}
	for range 2 {
		if w.blobs(2) != 2 || !open(a) || open(b) {
			t.Fatalf("of the version that uses one: %d blobs, %v, %v", w.stored(), open(a), open(b))
		}
		w.reopen()
	}
	if v := w.layer("a", "one"); v.Version != 3 {
		t.Errorf("the number %d was given again", v.Version)
	}
	w.must(w.Delete(ctx, account, "f", "1"))
	w.must(w.DeleteLayerVersion(ctx, account, "a", 3))
	if w.blobs(1) != 1 {
		t.Errorf("%d blobs are left of a function's code", w.stored())
	}
	w.close()
}

func TestLayersAreRefusedInTheServicesWords(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *registry.Config) {
		c.Limits = archive.Limits{Zipped: 1 << 20, Unpacked: 100, Entries: 10}
	})
	for _, name := range []string{"a", "b"} {
		w.layer(name, strings.Repeat(name, 40))
	}
	w.layer("c", "c")
	w.layer("a", "newer")
	w.create("f")
	const theirs = "arn:aws:lambda:us-east-1:222222222222:layer:"
	_, err := w.PublishLayer(ctx, registry.PublishLayer{Account: "222222222222", Name: "open", Zip: code("x")})
	w.must(err)
	_, err = w.PublishLayer(ctx, registry.PublishLayer{Account: account, Name: "large", Zip: code(strings.Repeat("x", 101))})
	wantError(t, err, hearth.InvalidParameter, "Unzipped size must be smaller than 100 bytes")
	caller := hearth.Identity{Account: account, ARN: "arn:aws:iam::111111111111:user/u"}
	for _, c := range []struct {
		layers  []string
		kind    hearth.Kind
		message string
	}{
		{[]string{layerARN + "a:1", layerARN + "c:1", layerARN + "a:2"}, hearth.InvalidParameter, "Two different versions of the same layer are not allowed to be referenced in the same function. " + layerARN + "a:1 and " + layerARN + "a:2 are versions of the same layer."},
		{[]string{layerARN + "a:9"}, hearth.InvalidParameter, "Layer version " + layerARN + "a:9 does not exist."},
		{[]string{layerARN + "a:01"}, hearth.InvalidParameter, "Layer version " + layerARN + "a:01 does not exist."},
		{[]string{"arn:aws:lambda:eu-west-1:111111111111:layer:a:1"}, hearth.InvalidParameter, "Layers are not in the same region as the function. Layers are expected to be in region us-east-1."},
		{slices.Repeat([]string{layerARN + "a:1"}, 6), hearth.InvalidParameter, "Cannot reference more than 5 layers."},
		{[]string{layerARN + "a:1", layerARN + "c:1", layerARN + "b:1"}, hearth.InvalidParameter, "Function code combined with layers exceeds the maximum allowed size of 100 bytes. The actual size is 136 bytes."},
		{[]string{theirs + "open:1"}, hearth.AccessDenied, "User: arn:aws:iam::111111111111:user/u is not authorized to perform: lambda:GetLayerVersion on resource: " + theirs + "open:1 because no resource-based policy allows the lambda:GetLayerVersion action"},
		{[]string{theirs + "none:1"}, hearth.AccessDenied, "User: arn:aws:iam::111111111111:user/u is not authorized to perform: lambda:GetLayerVersion on resource: " + theirs + "none:1 because no resource-based policy allows the lambda:GetLayerVersion action"},
	} {
		code55 := code(strings.Repeat("f", 55))
		g := function("g")
		g.Layers = uses(c.layers...)
		_, err := w.Create(ctx, registry.Create{Function: g, Zip: code55, Caller: caller})
		wantError(t, err, c.kind, c.message)
		if strings.HasPrefix(c.message, "Function code") {
			continue // f is smaller
		}
		_, err = w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{Layers: uses(c.layers...), Caller: caller})
		wantError(t, err, c.kind, c.message)
	}
	_, err = w.UpdateConfiguration(ctx, account, "none", registry.UpdateConfiguration{Layers: uses(layerARN + "a:9")})
	wantError(t, err, hearth.NotFound, "Function not found: "+arn+"none")
	w.got(w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{Layers: uses(layerARN+"a:1", layerARN+"b:1")}))
	w.settled("f")
	_, err = w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code(strings.Repeat("f", 55))})
	wantError(t, err, hearth.InvalidParameter, "Function code combined with layers exceeds the maximum allowed size of 100 bytes. The actual size is 135 bytes.")
	w.layer("d", strings.Repeat("d", 30))
	_, err = w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{Layers: uses(layerARN+"a:1", layerARN+"b:1", layerARN+"d:1")})
	wantError(t, err, hearth.InvalidParameter, "Layers consume more than the available size of 100 bytes")
	if w.blobs(7) != 7 {
		t.Errorf("%d blobs: what was refused left something", w.stored())
	}
	w.close()
}

func TestALayersPolicySurvivesAndItsVersionIsRefusedAfterItWasDeleted(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	v := w.layer("l", "x")
	other := hearth.Identity{Account: "222222222222", ARN: "arn:aws:iam::222222222222:root"}
	if hearth.KindOf(v.UsableBy(other)) != hearth.AccessDenied || v.UsableBy(hearth.Identity{Account: account}) != nil {
		t.Error("a layer without a policy is another's, or not one's own")
	}
	_, err := w.ConfigureLayer(ctx, account, "l", 1, func(*registry.Policy) (*registry.Policy, error) {
		return &registry.Policy{RevisionID: "r", Document: &policy.Document{Statements: []policy.Statement{{
			Effect: policy.Allow, Principal: &policy.Principals{AWS: []string{other.ARN}}, Action: []string{"lambda:GetLayerVersion"}, Resource: []string{v.ARN()},
		}}}}, nil
	})
	w.must(err)
	w.reopen()
	w.must(w.LayerVersion(account, "l", 1).UsableBy(other))
	_, err = w.ConfigureLayer(ctx, account, "l", 2, func(p *registry.Policy) (*registry.Policy, error) { return p, nil })
	wantError(t, err, hearth.NotFound, "Layer version "+layerARN+"l:2 does not exist.")
	w.layered("f", v.ARN())
	w.must(w.DeleteLayerVersion(ctx, account, "l", 1))
	_, err = w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{Layers: uses(v.ARN())})
	wantError(t, err, hearth.InvalidParameter, "Layer version "+v.ARN()+" does not exist.")
	w.got(w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{Description: new("x")}))
	if f := w.settled("f"); f.State != hearth.Active || len(f.Layers) != 1 {
		t.Errorf("a function whose layer was deleted is %s with %v", f.State, f.Layers)
	}
	w.close()
}

func TestLayersCountAsCode(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *registry.Config) { c.CodeStorage = int64(len(code("x")) * 2) })
	w.layer("l", "x")
	w.layer("l", "y")
	_, err := w.PublishLayer(ctx, registry.PublishLayer{Account: account, Name: "l", Zip: code("z")})
	wantError(t, err, hearth.CodeStorageExceeded, "Code storage limit exceeded.")
	w.reopen()
	if u, err := w.Usage(ctx, account); err != nil || u.CodeBytes != int64(2*len(code("x"))) {
		t.Errorf("%+v, %v", u, err)
	}
	w.must(w.DeleteLayerVersion(ctx, account, "l", 1))
	if v := w.layer("l", "z"); v.Version != 3 {
		t.Errorf("version %d", v.Version)
	}
	w.close()
}

// TestLayersAreWhatTheirHistoryMadeThem publishes, deletes, uses and reopens
// at random, and holds all against a model.
func TestLayersAreWhatTheirHistoryMadeThem(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		w := newWorld(rt, dir, nil)
		defer func() { w.close() }()
		type version struct{ name, text string }
		there, next, used := map[string]version{}, map[string]int{}, map[string]version{}
		functions := 0
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			name := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "layer")
			text := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(rt, "text")
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0, 1:
				v := w.layer(name, text)
				next[name]++
				if v.Version != next[name] {
					rt.Fatalf("version %d of %s after %d", v.Version, name, next[name]-1)
				}
				there[v.ARN()] = version{name, text}
			case 2:
				n := rapid.IntRange(1, next[name]+1).Draw(rt, "number")
				w.must(w.DeleteLayerVersion(ctx, account, name, n))
				delete(there, fmt.Sprint(layerARN, name, ":", n))
			case 3:
				n := rapid.IntRange(1, next[name]+1).Draw(rt, "number")
				arn := fmt.Sprint(layerARN, name, ":", n)
				f := function(fmt.Sprint("f", functions))
				f.Layers = uses(arn)
				_, err := w.Create(ctx, registry.Create{Function: f, Zip: code("code")})
				if v, ok := there[arn]; ok != (err == nil) {
					rt.Fatalf("use %s: %v", arn, err)
				} else if ok {
					w.settled(f.Name)
					used[f.Name] = v
					functions++
				}
			case 4:
				w.reopen()
			}
		}
		texts := map[string]bool{}
		for arn, v := range there {
			_, _, name, n, ok := registry.ParseLayerVersion(arn)
			if got := w.LayerVersion(account, name, n); !ok || got == nil || got.ARN() != arn {
				rt.Fatalf("%s is %+v", arn, got)
			}
			texts[v.text] = true
		}
		for _, v := range used {
			texts[v.text] = true
		}
		want := len(texts)
		if len(used) > 0 {
			want++ // the functions' own code
		}
		if w.blobs(want) != want {
			rt.Fatalf("%d blobs and not %d: %v, used %v", w.stored(), want, there, used)
		}
	})
}

func TestLayersArePublishedAndDeletedAndUsedAtOnce(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			for i := range 8 {
				v, err := w.PublishLayer(ctx, registry.PublishLayer{Account: account, Name: "l", Zip: code(fmt.Sprint(i % 3))})
				if err != nil {
					t.Error(err)
					return
				}
				f := function(fmt.Sprintf("f-%d-%d", g, i))
				f.Layers = uses(v.ARN())
				if _, err := w.Create(ctx, registry.Create{Function: f, Zip: code("c")}); err != nil {
					t.Error(err)
				}
				if err := w.DeleteLayerVersion(ctx, account, "l", v.Version); err != nil {
					t.Error(err)
				}
				r, _, err := w.OpenPackage(ctx, v.SHA256)
				if err != nil {
					t.Errorf("the layer of a function is gone: %v", err)
					return
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if vs, _, err := w.LayerVersions(account, "l", "", "", "", 50); err != nil || len(vs) != 0 {
		t.Errorf("%d versions are left, %v", len(vs), err)
	}
	if v := w.layer("l", "last"); v.Version != 49 {
		t.Errorf("48 versions, and the next is %d", v.Version)
	}
	w.close()
}

func FuzzParseLayerVersion(f *testing.F) {
	f.Add(layerARN + "l:1")
	f.Add("arn:aws:lambda:::awslayer:x")
	f.Fuzz(func(t *testing.T, arn string) {
		region, account, name, version, ok := registry.ParseLayerVersion(arn)
		if !ok {
			return
		}
		v := registry.LayerVersion{Account: account, Region: region, Name: name, Version: version}
		parts := strings.SplitN(arn, ":", 3)
		if got := strings.SplitN(v.ARN(), ":", 3); version < 1 || got[2] != parts[2] {
			t.Errorf("%q is read as %q", arn, v.ARN())
		}
	})
}
