package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func unpackTo(t testing.TB, dir string, raw []byte, bytesAllowed int64) error {
	t.Helper()
	return unpack(t.Context(), bytes.NewReader(raw), dir, newBudget(bytesAllowed))
}

func isWhiteout(path string) bool {
	var st syscall.Stat_t
	return syscall.Lstat(path, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFCHR && st.Rdev == 0
}

func isOpaque(path string) bool {
	var b [4]byte
	n, err := unix.Getxattr(path, opaque, b[:])
	return err == nil && string(b[:n]) == "y"
}

func TestALayerBecomesWhatOverlayfsWants(t *testing.T) {
	dir := t.TempDir()
	at := time.Unix(1_600_000_000, 0)
	raw := tarOf(t, map[string]string{"bin/su": "su", "/a/file": "first", "replaced": "file", "abs/inside": "x", "rel/inside2": "y"},
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o2555, ModTime: at},
		tar.Header{Name: "bin/su", Typeflag: tar.TypeReg, Mode: 0o6755, ModTime: at, Uid: 1000, PAXRecords: map[string]string{"SCHILY.xattr.user.overlay.opaque": "y"}},
		tar.Header{Name: "bin/hard", Typeflag: tar.TypeLink, Linkname: "bin/su"},
		tar.Header{Name: "/a/file", Typeflag: tar.TypeReg},
		tar.Header{Name: "a/.wh.gone", Typeflag: tar.TypeReg},
		tar.Header{Name: "a/.wh.file", Typeflag: tar.TypeReg}, // of a lower one: this layer's stays
		tar.Header{Name: "hides/.wh..wh..opq", Typeflag: tar.TypeReg},
		tar.Header{Name: ".wh..wh.plnk", Typeflag: tar.TypeReg},
		tar.Header{Name: ".wh.back", Typeflag: tar.TypeReg},
		tar.Header{Name: "back/", Typeflag: tar.TypeDir, Mode: 0o700},
		tar.Header{Name: "replaced", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "replaced", Typeflag: tar.TypeReg},
		tar.Header{Name: "mem", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1},
		tar.Header{Name: "zero", Typeflag: tar.TypeChar},
		tar.Header{Name: "disk", Typeflag: tar.TypeBlock, Devmajor: 8},
		tar.Header{Name: "pipe", Typeflag: tar.TypeFifo},
		tar.Header{Name: "real/", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "abs", Typeflag: tar.TypeSymlink, Linkname: "/real"},
		tar.Header{Name: "rel", Typeflag: tar.TypeSymlink, Linkname: "../../real"},
		tar.Header{Name: "abs/inside", Typeflag: tar.TypeReg},
		tar.Header{Name: "rel/inside2", Typeflag: tar.TypeReg},
		tar.Header{Name: "outside", Typeflag: tar.TypeSymlink, Linkname: "/etc/shadow"},
	)
	if err := unpackTo(t, dir, raw, 1<<20); err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	su, err := os.Lstat(path("bin/su"))
	if err != nil {
		t.Fatal(err)
	}
	hard, err := os.Lstat(path("bin/hard"))
	if err != nil || !os.SameFile(su, hard) {
		t.Errorf("the hard link is none: %v", err)
	}
	if su.Mode() != 0o755 || !su.ModTime().Equal(at) || isOpaque(path("bin/su")) {
		t.Errorf("su is %v of %v", su.Mode(), su.ModTime())
	}
	if bin, err := os.Lstat(path("bin")); err != nil || bin.Mode() != fs.ModeDir|0o755 || !bin.ModTime().Equal(at) {
		t.Errorf("bin: %v, %v", bin, err)
	}
	for name, is := range map[string]bool{
		"a/gone": isWhiteout(path("a/gone")), "hides": isOpaque(path("hides")), "back": isOpaque(path("back")),
		"file stays": !isWhiteout(path("a/file")), "a not": !isOpaque(path("a")),
	} {
		if !is {
			t.Errorf("%s is not", name)
		}
	}
	for _, name := range []string{"mem", "zero", "disk", "pipe", ".wh..wh.plnk"} {
		if _, err := os.Lstat(path(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
	for name, want := range map[string]string{"replaced": "file", "real/inside": "x", "real/inside2": "y", "a/file": "first"} {
		if got, err := os.ReadFile(path(name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestLayersThatMeanHarmAreRefused(t *testing.T) {
	for name, raw := range map[string][]byte{
		"above":           tarOf(t, nil, tar.Header{Name: "../x", Typeflag: tar.TypeReg}),
		"above within":    tarOf(t, nil, tar.Header{Name: "a/../../x", Typeflag: tar.TypeReg}),
		"link above":      tarOf(t, nil, tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "../../etc/shadow"}),
		"link to nothing": tarOf(t, nil, tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "etc/shadow"}),
		"link to a dir":   tarOf(t, nil, tar.Header{Name: "d/", Typeflag: tar.TypeDir}, tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "d"}),
		"links in a ring": tarOf(t, nil, tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "b"}, tar.Header{Name: "b", Typeflag: tar.TypeSymlink, Linkname: "/a"}, tar.Header{Name: "a/x", Typeflag: tar.TypeReg}),
		"deletes above":   tarOf(t, nil, tar.Header{Name: "a/.wh...", Typeflag: tar.TypeReg}),
		"long part":       tarOf(t, nil, tar.Header{Name: strings.Repeat("a", 300), Typeflag: tar.TypeReg}),
		"no tar":          []byte(strings.Repeat("this is no tar ", 100)),
		"half":            tarOf(t, map[string]string{"x": strings.Repeat("x", 5000)}, tar.Header{Name: "x", Typeflag: tar.TypeReg})[:2000],
		"too large":       tarOf(t, map[string]string{"x": strings.Repeat("x", 5000)}, tar.Header{Name: "x", Typeflag: tar.TypeReg}),
	} {
		outer := t.TempDir()
		dir := filepath.Join(outer, "layer")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		err := unpackTo(t, dir, raw, 4096)
		if sort(err) != wrong {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadDir(outer); err != nil || len(left) != 1 {
			t.Errorf("%s: beside it there is %v, %v", name, left, err)
		}
	}
}

func TestNoMoreFilesAreMadeThanAllowed(t *testing.T) {
	b := newBudget(1 << 20)
	b.entries.Store(10)
	err := unpack(t.Context(), bytes.NewReader(tarOf(t, nil, tar.Header{Name: strings.Repeat("d/", 20) + "x", Typeflag: tar.TypeReg})), t.TempDir(), b)
	if sort(err) != wrong {
		t.Error(err)
	}
	b = newBudget(100)
	b.raw.Store(4096)
	zeros := tarOf(t, map[string]string{"x": "x"}, tar.Header{Name: "x", Typeflag: tar.TypeReg})
	err = unpack(t.Context(), bytes.NewReader(append(zeros, make([]byte, 1<<20)...)), t.TempDir(), b)
	if sort(err) != wrong {
		t.Errorf("what follows the last entry is not bounded: %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(tarOf(f, map[string]string{"a/b": "x"}, tar.Header{Name: "a/b", Typeflag: tar.TypeReg}, tar.Header{Name: "a/.wh.c", Typeflag: tar.TypeReg},
		tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/a"}, tar.Header{Name: "l/../l/x", Typeflag: tar.TypeReg}))
	f.Add(tarOf(f, nil, tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: ".."}, tar.Header{Name: "a/x", Typeflag: tar.TypeDir},
		tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "a"}, tar.Header{Name: "a/.wh..wh..opq", Typeflag: tar.TypeReg}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "layer")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		b := newBudget(1 << 20)
		b.entries.Store(1000)
		err := unpack(t.Context(), bytes.NewReader(raw), dir, b)
		_ = err // most are no tars
		if left, err := os.ReadDir(outer); err != nil || len(left) != 1 {
			t.Fatalf("beside it there is %v, %v", left, err)
		}
		var size int64
		err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			switch m := info.Mode(); {
			case m&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeNamedPipe|fs.ModeSocket) != 0, m&fs.ModeDevice != 0 && !isWhiteout(path):
				t.Errorf("%s is %v", path, m)
			case m.IsRegular():
				size += info.Size()
			}
			return nil
		})
		if err != nil || size > 1<<20 {
			t.Errorf("%d bytes, %v", size, err)
		}
	})
}

func FuzzReference(f *testing.F) {
	for _, s := range []string{"app:v1", "h:5000/a/b@sha256:" + strings.Repeat("a", 64), "oci:///a/b:v1", "docker-archive:///x.tar:app:v1", "oci-archive:///x@sha256:" + strings.Repeat("b", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		r, err := parse(uri)
		if err != nil {
			return
		}
		if r.place != inRegistry && (!strings.HasPrefix(r.path, "/") || strings.Contains(r.path, "/../") || strings.ContainsAny(r.path, ":@\x00")) {
			t.Errorf("%q has the path %q", uri, r.path)
		}
	})
}
