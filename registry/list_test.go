package registry_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
)

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
	if n := w.blobs(1); n != 1 {
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
