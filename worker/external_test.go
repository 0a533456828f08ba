package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
)

// layerOf makes a layer's folder: "a" is a file, "a/" a folder, "!a" a
// deletion, "^a" a folder that hides what is below, "a>b" a link.
func layerOf(t *testing.T, paths ...string) string {
	t.Helper()
	layer := t.TempDir()
	for _, p := range paths {
		name, target, link := strings.Cut(strings.TrimLeft(p, "!^"), ">")
		at := filepath.Join(layer, name)
		err := os.MkdirAll(filepath.Dir(at), 0o755)
		switch {
		case err != nil:
		case p[0] == '!':
			err = unix.Mknod(at, unix.S_IFCHR, 0)
		case p[0] == '^':
			if err = os.MkdirAll(at, 0o755); err == nil {
				err = unix.Setxattr(at, "user.overlay.opaque", []byte("y"), 0)
			}
		case link:
			err = os.Symlink(target, at)
		case strings.HasSuffix(p, "/"):
			err = os.MkdirAll(at, 0o755)
		default:
			err = os.WriteFile(at, nil, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return layer
}

func TestAnImagesExtensionsAreThoseOfItsMergedRoot(t *testing.T) {
	const e = "opt/extensions/"
	for name, c := range map[string]struct {
		layers [][]string
		want   string
	}{
		"none":                        {[][]string{{"bin/sh"}}, "[]"},
		"of several layers":           {[][]string{{e + "b"}, {"opt/other"}, {e + "a", e + "sub/c"}}, "[a b]"},
		"a link to a program":         {[][]string{{"opt/tool", e + "a>../tool"}}, "[a]"},
		"a deleted one":               {[][]string{{e + "a", e + "b"}, {"!" + e + "a"}}, "[b]"},
		"a deleted one, again":        {[][]string{{e + "a"}, {"!" + e + "a"}, {e + "a"}}, "[a]"},
		"a folder in its place":       {[][]string{{e + "a"}, {e + "a/"}}, "[]"},
		"their folder deleted":        {[][]string{{e + "a"}, {"!opt/extensions"}}, "[]"},
		"their folder made anew":      {[][]string{{e + "a"}, {"^opt/extensions", e + "b"}}, "[b]"},
		"/opt deleted":                {[][]string{{e + "a"}, {"!opt"}, {e + "c"}}, "[c]"},
		"/opt made anew":              {[][]string{{e + "a"}, {"^opt", e + "c"}}, "[c]"},
		"/opt made anew, without any": {[][]string{{e + "a"}, {"^opt"}}, "[]"},
		"a file where the folder was": {[][]string{{e + "a"}, {"opt/extensions"}}, "[]"},
	} {
		var at sandbox.Attachment
		for _, l := range c.layers {
			at.Root = append(at.Root, layerOf(t, l...))
		}
		if got, err := externalOf(at); err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%s: found %v, %v, want %s", name, got, err, c.want)
		}
	}
}

func TestALayerShowsNothingOfTheHostAsItsExtensions(t *testing.T) {
	host := layerOf(t, "secret", "extensions/secret")
	zips := []string{layerOf(t, "extensions>"+host), layerOf(t, "extensions/b", "extensions/a"), t.TempDir()}
	if got, err := externalOf(sandbox.Attachment{Layers: zips}); err != nil || fmt.Sprint(got) != "[a b]" {
		t.Errorf("found %v, %v", got, err)
	}
	for _, link := range []string{"opt>" + host, "opt/extensions>" + host} {
		if got, err := externalOf(sandbox.Attachment{Root: []string{layerOf(t, link)}}); err != nil || len(got) != 0 {
			t.Errorf("%s: found %v, %v", link, got, err)
		}
	}
}
