package archive

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

var noon = time.Date(2024, 5, 6, 12, 0, 0, 0, time.UTC)

// item is an entry to be written. Of content and raw only one is used.
type item struct {
	name    string
	mode    fs.FileMode
	content string
	edit    func(*zip.FileHeader)
}

func build(t testing.TB, items ...item) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, it := range items {
		h := &zip.FileHeader{Name: it.name, Method: zip.Deflate, Modified: noon}
		if it.mode == 0 {
			it.mode = 0o600
		}
		h.SetMode(it.mode)
		if strings.HasSuffix(it.name, "/") || it.mode&fs.ModeSymlink != 0 {
			h.Method = zip.Store
		}
		if it.edit != nil {
			it.edit(h)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if it.content == "" {
			continue // a directory takes no Write, not even an empty one
		}
		if _, err := io.WriteString(f, it.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// raw writes an entry whose header lies as edit wants it to.
func raw(t testing.TB, name, content string, edit func(*zip.FileHeader)) []byte {
	t.Helper()
	var packed bytes.Buffer
	fw, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(fw, content); err != nil {
		t.Fatal(err)
	}
	if err := fw.Close(); err != nil {
		t.Fatal(err)
	}
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, UncompressedSize64: uint64(len(content)), CompressedSize64: uint64(packed.Len())}
	h.SetMode(0o644)
	edit(h)
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	f, err := w.CreateRaw(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(packed.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func lying(size uint64) func(*zip.FileHeader) {
	return func(h *zip.FileHeader) { h.UncompressedSize64 = size }
}

func maker(system uint16) func(*zip.FileHeader) {
	return func(h *zip.FileHeader) {
		h.CreatorVersion = system<<8 | 20
		h.ExternalAttrs = 0
	}
}

// overlapping is an archive whose two entries are the same bytes.
func overlapping(t testing.TB) []byte {
	b := build(t, item{name: "a", content: strings.Repeat("x", 1000)}, item{name: "b", content: strings.Repeat("x", 1000)})
	second := bytes.LastIndex(b, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(b[second+42:], 0) // b's local header is a's
	return b
}

const (
	badZip  = "Could not unzip uploaded file. Please check your file, then try to upload again."
	tooFull = "Unzipped size must be smaller than 262144000 bytes"
)

func TestHostileArchivesAreRefusedAndLeaveNothing(t *testing.T) {
	ok := item{name: "index.js", content: "x"}
	link := func(name, target string) item {
		return item{name: name, mode: fs.ModeSymlink | 0o777, content: target}
	}
	good := build(t, ok, item{name: "big", content: strings.Repeat("hello ", 10000)})
	flipped := slices.Clone(good)
	flipped[len(flipped)/3] ^= 0x55
	manyLinks := []item{ok}
	for i := range 300 {
		manyLinks = append(manyLinks, link(fmt.Sprintf("%sl%d", strings.Repeat("d/", 900), i), strings.Repeat("d/../", 800)+"x"))
	}
	var deep []item
	for i := range 200 {
		deep = append(deep, item{name: fmt.Sprint(i, strings.Repeat("/d", 1500)), content: "x"})
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":                  {nil, badZip},
		"no archive":               {[]byte("hello"), badZip},
		"NUL in a link":            {build(t, ok, link("l", "a\x00b")), badZip},
		"no files":                 {build(t), "Uploaded file must be a non-empty zip"},
		"only a directory":         {build(t, item{name: "d/"}), "Uploaded file must be a non-empty zip"},
		"truncated":                {good[:len(good)-30], badZip},
		"half":                     {good[:len(good)/2], badZip},
		"beginning cut":            {good[40:], badZip},
		"flipped bit":              {flipped, badZip},
		"dot dot":                  {build(t, ok, item{name: "../evil"}), badZip},
		"dot dot inside":           {build(t, ok, item{name: "a/../../evil"}), badZip},
		"dot dot that stays":       {build(t, ok, item{name: "a/../b"}), badZip},
		"absolute":                 {build(t, ok, item{name: "/etc/cron.d/evil"}), badZip},
		"backslashes":              {build(t, ok, item{name: `..\evil`, edit: maker(0)}), badZip},
		"absolute backslash":       {build(t, ok, item{name: `\evil`, edit: maker(10)}), badZip},
		"NUL in a name":            {build(t, ok, item{name: "a\x00b"}), badZip},
		"long part":                {build(t, ok, item{name: strings.Repeat("n", 256)}), badZip},
		"long name":                {build(t, ok, item{name: strings.Repeat("d/", 2100) + "f"}), badZip},
		"same name":                {build(t, ok, ok), badZip},
		"same name, spelled oddly": {build(t, ok, item{name: "./index.js"}), badZip},
		"file and directory":       {build(t, ok, item{name: "index.js/x"}), badZip},
		"directory and file":       {build(t, item{name: "a/x"}, item{name: "a"}), badZip},
		"file below a link":        {build(t, ok, link("l", "d"), item{name: "l/x"}), badZip},
		"link over a directory":    {build(t, item{name: "d/x"}, link("d", "e")), badZip},
		"absolute link":            {build(t, ok, link("l", "/etc/passwd")), badZip},
		"link out":                 {build(t, ok, link("l", "../x")), badZip},
		"deep link out":            {build(t, ok, link("a/b/l", "../../../x")), badZip},
		"link out through a link":  {build(t, ok, link("a/up", ".."), link("b", "a/up/../x")), badZip},
		"link to itself":           {build(t, ok, link("l", "l")), badZip},
		"links in a circle":        {build(t, ok, link("a", "b"), link("b", "a/x")), badZip},
		"empty link":               {build(t, ok, link("l", "")), badZip},
		"long link":                {build(t, ok, link("l", strings.Repeat("x/", 3000))), badZip},
		"links that take for ever": {build(t, manyLinks...), badZip},
		"device":                   {build(t, ok, item{name: "dev", mode: fs.ModeDevice | 0o666}), badZip},
		"pipe":                     {build(t, ok, item{name: "pipe", mode: fs.ModeNamedPipe | 0o666}), badZip},
		"socket":                   {build(t, ok, item{name: "sock", mode: fs.ModeSocket | 0o666}), badZip},
		"encrypted":                {build(t, ok, item{name: "e", content: "x", edit: func(h *zip.FileHeader) { h.Flags |= 1 }}), badZip},
		"unknown method":           {raw(t, "f", "x", func(h *zip.FileHeader) { h.Method = 12 }), badZip},
		"directory with content":   {build(t, ok, item{name: "d", mode: fs.ModeDir | 0o755, content: "x"}), badZip},
		"says it is shorter":       {raw(t, "f", strings.Repeat("x", 1<<20), lying(10)), badZip},
		"says it is longer":        {raw(t, "f", "abc", lying(10)), badZip},
		"wrong checksum":           {raw(t, "f", "abc", func(h *zip.FileHeader) { h.CRC32 = 1 }), badZip},
		"a ratio that cannot be":   {raw(t, "f", "abc", lying(100_000_000)), badZip},
		"zip64 of no size":         {raw(t, "f", "abc", lying(1<<63)), badZip},
		"zip64 that overflows":     {raw(t, "f", "abc", lying(1<<64-1)), badZip},
		"entries of one place":     {overlapping(t), badZip},
		"bomb":                     {bomb(t, 262_144_001), tooFull},
		"directories implied":      {build(t, deep...), badZip},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Inspect(context.Background(), bytes.NewReader(c.data), int64(len(c.data)), Lambda)
			dir := t.TempDir()
			err2 := Unpack(context.Background(), bytes.NewReader(c.data), int64(len(c.data)), filepath.Join(dir, "f"), Lambda)
			for what, err := range map[string]error{"Inspect": err, "Unpack": err2} {
				if e, ok := errors.AsType[*hearth.Error](err); !ok || e.Kind != hearth.InvalidParameter || e.Message != c.want {
					t.Errorf("%s: %v", what, err)
				}
			}
			if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
				t.Errorf("left: %v %v", left, err)
			}
		})
	}
}

// bomb is an archive of one file that says it becomes size bytes, by a ratio
// that deflate can reach.
func bomb(t testing.TB, size uint64) []byte {
	noise := rand.NewChaCha8([32]byte{})
	content := make([]byte, size/1000)
	for i := range content {
		content[i] = byte(noise.Uint64())
	}
	return raw(t, "zeros", string(content), func(h *zip.FileHeader) {
		h.UncompressedSize64 = size
	})
}

func TestTheLimitsAreExact(t *testing.T) {
	data := build(t, item{name: "a", content: "12345"}, item{name: "b", content: "67890"})
	n := int64(len(data))
	for _, c := range []struct {
		limits Limits
		kind   hearth.Kind
		want   string
	}{
		{Limits{n, 10, 2}, "", ""},
		{Limits{n - 1, 10, 2}, hearth.EntityTooLarge, fmt.Sprintf("Zipped size must be smaller than %d bytes", n-1)},
		{Limits{n, 9, 2}, hearth.InvalidParameter, "Unzipped size must be smaller than 9 bytes"},
		{Limits{n, 10, 1}, hearth.InvalidParameter, badZip},
	} {
		info, err := Inspect(context.Background(), bytes.NewReader(data), n, c.limits)
		e, _ := errors.AsType[*hearth.Error](err)
		switch {
		case c.kind == "" && (err != nil || info != Info{Files: 2, Unpacked: 10}):
			t.Errorf("%v: %v %v", c.limits, info, err)
		case c.kind != "" && (e == nil || e.Kind != c.kind || e.Message != c.want):
			t.Errorf("%v: %v", c.limits, err)
		}
	}
}

// A directory may hold far more headers than it counts.
func TestADirectoryIsReadNoFurtherThanTheLimitAllows(t *testing.T) {
	var items []item
	for i := range 70_000 {
		items = append(items, item{name: fmt.Sprintf("f%d", i), edit: func(h *zip.FileHeader) { h.Method = zip.Store }})
	}
	data := build(t, items...)
	read := &counter{r: bytes.NewReader(data)}
	_, err := Inspect(context.Background(), read, int64(len(data)), Limits{Zipped: 1 << 30, Unpacked: 1 << 30, Entries: 1000})
	if hearth.KindOf(err) != hearth.InvalidParameter {
		t.Errorf("the error is %v", err)
	}
	if read.n > 1<<20 {
		t.Errorf("read %d of %d bytes", read.n, len(data))
	}
}

type counter struct {
	r io.ReaderAt
	n int
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(p, off)
	c.n += n
	return n, err
}

func TestWhatIsUnpackedIsWhatWasPacked(t *testing.T) {
	odd := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	data := build(t,
		item{name: "./index.js", content: "exports.handler", mode: 0o600},
		item{name: "empty/", mode: fs.ModeDir | 0o700},
		item{name: "empty/", mode: fs.ModeDir | 0o700},
		item{name: "bin//run", content: "#!/bin/sh", mode: 0o700},
		item{name: "bin/setuid", content: "x", mode: fs.ModeSetuid | 0o4750},
		item{name: "deep/er/module.py", content: strings.Repeat("pass\n", 50_000), mode: 0o200, edit: func(h *zip.FileHeader) { h.Modified = odd }},
		item{name: "bin/to", mode: fs.ModeSymlink | 0o777, content: "../deep/er/module.py"},
		item{name: "up", mode: fs.ModeSymlink | 0o777, content: "bin/../deep"},
		item{name: "dangling", mode: fs.ModeSymlink | 0o777, content: "not/there"},
		item{name: "bootstrap", content: "x", mode: 0o644},
		item{name: "ünïcödé \U0001F525.txt", content: "x"},
		item{name: `back\slash`, content: "x"},
		item{name: "old", content: "x", edit: func(h *zip.FileHeader) { h.Modified = time.Time{} }},
		item{name: "fifty", content: "", mode: 0o444},
	)
	info, err := Inspect(context.Background(), bytes.NewReader(data), int64(len(data)), Lambda)
	if want := (Info{Files: 9, Links: 3, Unpacked: 15 + 9 + 1 + 250_000 + 1 + 1 + 1 + 1}); info != want || err != nil {
		t.Errorf("Inspect: %+v %v, want %+v", info, err, want)
	}
	parent := t.TempDir()
	dir := filepath.Join(parent, "code")
	if err := Unpack(context.Background(), bytes.NewReader(data), int64(len(data)), dir, Lambda); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		".": "drwxr-xr-x", "empty": "drwxr-xr-x", "bin": "drwxr-xr-x", "deep/er": "drwxr-xr-x",
		"index.js": "-rw-r--r--", "bin/run": "-rwxr-xr-x", "bin/setuid": "-rwxr-xr-x", "deep/er/module.py": "-rw-r--r--",
		"bootstrap": "-rw-r--r--", "ünïcödé \U0001F525.txt": "-rw-r--r--", `back\slash`: "-rw-r--r--", "fifty": "-rw-r--r--",
		"bin/to": "Lrwxrwxrwx", "up": "Lrwxrwxrwx", "dangling": "Lrwxrwxrwx",
	} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().String() != want {
			t.Errorf("%s is %v, want %s", name, info.Mode(), want)
		}
	}
	for name, want := range map[string]time.Time{"deep/er/module.py": odd, "index.js": noon, "old": epoch} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || !info.ModTime().Equal(want) {
			t.Errorf("%s is of %v (%v), want %v", name, info.ModTime(), err, want)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "bin/to")); string(b) != strings.Repeat("pass\n", 50_000) || err != nil {
		t.Errorf("through a link: %d bytes, %v", len(b), err)
	}
	// Once more is refused, and changes nothing.
	if err := Unpack(context.Background(), bytes.NewReader(data), int64(len(data)), dir, Lambda); !errors.Is(err, fs.ErrExist) || hearth.KindOf(err) != hearth.Service {
		t.Errorf("the error is %v", err)
	}
	if left, err := os.ReadDir(parent); len(left) != 1 || err != nil {
		t.Errorf("left: %v %v", left, err)
	}
}

func TestABootstrapFromWindowsIsExecutable(t *testing.T) {
	data := build(t, item{name: "bootstrap", content: "x", edit: maker(0)}, item{name: `lib\x.js`, content: "x", edit: maker(0)})
	dir := filepath.Join(t.TempDir(), "code")
	if err := Unpack(context.Background(), bytes.NewReader(data), int64(len(data)), dir, Lambda); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"bootstrap": 0o755, "lib/x.js": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
}

func TestAnUnpackThatFailsOnTheWayLeavesNothing(t *testing.T) {
	data := build(t, item{name: "a", content: "x"}, item{name: "b", content: strings.Repeat("y", 1<<20)})
	parent := t.TempDir()
	broken := errors.New("broken disk")
	src := readerAt(func(p []byte, off int64) (int, error) {
		if off > 100 && off < 300 {
			return 0, broken
		}
		return bytes.NewReader(data).ReadAt(p, off)
	})
	if err := Unpack(context.Background(), src, int64(len(data)), filepath.Join(parent, "code"), Lambda); !errors.Is(err, broken) || hearth.KindOf(err) != hearth.Service {
		t.Errorf("the error is %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Unpack(ctx, bytes.NewReader(data), int64(len(data)), filepath.Join(parent, "code"), Lambda); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if left, err := os.ReadDir(parent); len(left) != 0 || err != nil {
		t.Errorf("left: %v %v", left, err)
	}
	if err := os.Mkdir(filepath.Join(parent, partial+"1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(parent); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(parent); len(left) != 0 || err != nil {
		t.Errorf("after the sweep: %v %v", left, err)
	}
}

type readerAt func(p []byte, off int64) (int, error)

func (f readerAt) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

func FuzzUnpack(f *testing.F) {
	f.Add([]byte("PK\x05\x06"))
	f.Add(build(f, item{name: "index.js", content: "exports.handler = 1"}, item{name: "d/e", content: "x"}))
	f.Add(build(f, item{name: "a", content: "x"}, item{name: "l", mode: fs.ModeSymlink | 0o777, content: "a"}))
	f.Add(build(f, item{name: "a", content: "x"}, item{name: "../l", mode: fs.ModeSymlink | 0o777, content: "../.."}))
	f.Add(raw(f, "f", strings.Repeat("x", 5000), lying(10)))
	f.Add(overlapping(f))
	limits := Limits{Zipped: 1 << 20, Unpacked: 1 << 20, Entries: 100}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, size := bytes.NewReader(data), int64(len(data))
		info, err := Inspect(context.Background(), r, size, limits)
		if kind := hearth.KindOf(err); err != nil && kind != hearth.InvalidParameter && kind != hearth.EntityTooLarge {
			t.Fatalf("Inspect: %v", err)
		}
		parent := t.TempDir()
		dir := filepath.Join(parent, "code")
		err2 := Unpack(context.Background(), r, size, dir, limits)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("Inspect: %v, Unpack: %v", err, err2)
		}
		files, links, unpacked := 0, 0, int64(0)
		if err := filepath.WalkDir(parent, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if path != parent && !strings.HasPrefix(path, dir) {
				t.Errorf("outside: %s", path)
			}
			stat, err := d.Info()
			if err != nil {
				return err
			}
			switch {
			case d.IsDir():
			case d.Type() == fs.ModeSymlink:
				links++
				// Wherever it ends, it is inside.
				if to, err := filepath.EvalSymlinks(path); err == nil && !strings.HasPrefix(to, dir) {
					t.Errorf("%s leads to %s", path, to)
				}
			default:
				files++
				unpacked += stat.Size()
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if got := (Info{files, links, unpacked}); err == nil && got != info {
			t.Errorf("unpacked %+v, inspected %+v", got, info)
		}
	})
}

func BenchmarkInspect(b *testing.B) {
	var items []item
	for i := range 1000 {
		items = append(items, item{name: fmt.Sprintf("node_modules/p%d/index.js", i), content: strings.Repeat(fmt.Sprintf("exports.f%d = () => %d;\n", i, i*i), 200)})
	}
	data := build(b, items...)
	b.Run("Inspect", func(b *testing.B) {
		for b.Loop() {
			if _, err := Inspect(context.Background(), bytes.NewReader(data), int64(len(data)), Lambda); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Unpack", func(b *testing.B) {
		dir := b.TempDir()
		n := 0
		for b.Loop() {
			n++
			if err := Unpack(context.Background(), bytes.NewReader(data), int64(len(data)), filepath.Join(dir, fmt.Sprint(n)), Lambda); err != nil {
				b.Fatal(err)
			}
		}
	})
}
