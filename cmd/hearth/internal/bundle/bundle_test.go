package bundle

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// folder makes a folder of path → text; a path that ends in "*" is
// executable, a text "→x" makes a link to x.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name, executable := strings.CutSuffix(name, "*")
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(text, "→"); ok {
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		mode := fs.FileMode(0o644)
		if executable {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	goCode = "package main\n\nfunc main() { println(1) }\n"
	jsCode = "export const handler = async (event) => event\n"
	pyCode = "def lambda_handler(event, context):\n    return event\n"
)

func TestFolderSaysWhatItIs(t *testing.T) {
	for name, c := range map[string]struct {
		files   map[string]string
		want    Want
		family  Family
		handler string
	}{
		"go with a module":             {map[string]string{"go.mod": "module x", "main.go": goCode}, Want{}, Go, "bootstrap"},
		"go inside another module":     {map[string]string{"main.go": goCode, "main_test.go": "package main"}, Want{}, Go, "bootstrap"},
		"go beside what it was built":  {map[string]string{"main.go": goCode, "bootstrap*": "\x7fELF…"}, Want{}, Go, "bootstrap"},
		"a shell bootstrap":            {map[string]string{"bootstrap*": "#!/bin/sh\n"}, Want{}, Custom, "bootstrap"},
		"an empty bootstrap":           {map[string]string{"bootstrap": ""}, Want{}, Custom, "bootstrap"},
		"python, index.py":             {map[string]string{"index.py": pyCode}, Want{}, Python, "index.lambda_handler"},
		"node, es module":              {map[string]string{"index.mjs": jsCode}, Want{}, Node, "index.handler"},
		"node, common js":              {map[string]string{"index.js": "exports.handler = async () => 1"}, Want{}, Node, "index.handler"},
		"node, module.exports":         {map[string]string{"index.js": "module.exports = { handler }"}, Want{}, Node, "index.handler"},
		"node, module.exports.handler": {map[string]string{"index.cjs": "module.exports.handler = f"}, Want{}, Node, "index.handler"},
		"node, exported list":          {map[string]string{"index.mjs": "const handler = 1\nexport { a, handler }"}, Want{}, Node, "index.handler"},
		"node, exported function":      {map[string]string{"index.mjs": "export async function handler(e) {}"}, Want{}, Node, "index.handler"},
		"node, bundled by esbuild":     {map[string]string{"index.js": "__export(x, {\n  handler: () => handler\n});"}, Want{}, Node, "index.handler"},
		"node, package.json main":      {map[string]string{"package.json": `{"main":"dist/app.js"}`, "dist/app.js": "exports.handler = 1"}, Want{}, Node, "dist/app.handler"},
		"node, main without extension": {map[string]string{"package.json": `{"main":"./src"}`, "src/index.js": "exports.handler = 1"}, Want{}, Node, "src/index.handler"},
		"node, main before index":      {map[string]string{"package.json": `{"main":"a.js"}`, "a.js": "exports.handler = 1", "index.js": "exports.handler = 1"}, Want{}, Node, "a.handler"},
		"python, as AWS names it":      {map[string]string{"lambda_function.py": pyCode}, Want{}, Python, "lambda_function.lambda_handler"},
		"python, app":                  {map[string]string{"app.py": "def handler(e, c): pass"}, Want{}, Python, "app.handler"},
		"python, assigned":             {map[string]string{"main.py": "handler = Mangum(app)"}, Want{}, Python, "main.handler"},
		"python, imported":             {map[string]string{"handler.py": "from pkg.core import other, handler"}, Want{}, Python, "handler.handler"},
		"two, narrowed by runtime":     {map[string]string{"index.mjs": jsCode, "app.py": pyCode}, Want{Family: Python}, Python, "app.lambda_handler"},
		"two, narrowed by handler":     {map[string]string{"main.py": pyCode, "app.py": pyCode}, Want{Handler: "main.lambda_handler"}, Python, "main.lambda_handler"},
		"go is a provided runtime":     {map[string]string{"main.go": goCode, "index.mjs": jsCode}, Want{Family: Custom}, Go, "bootstrap"},
		"both said, nothing seen":      {map[string]string{"x.py": ""}, Want{Family: Python, Handler: "x.run"}, Python, "x.run"},
	} {
		got, err := Detect(folder(t, c.files), c.want)
		if err != nil || got.Family != c.family || got.Handler != c.handler {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestFolderThatIsNotPlainSaysWhatThereIs(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		says  []string
	}{
		"two languages":            {map[string]string{"index.mjs": jsCode, "app.py": pyCode}, []string{"index.mjs says nodejs with handler index.handler", "app.py says python with handler app.lambda_handler"}},
		"two handlers":             {map[string]string{"app.py": pyCode + "def handler(e, c): pass\n"}, []string{"app.lambda_handler", "app.handler"}},
		"a script and a program":   {map[string]string{"bootstrap": "#!/bin/sh", "main.go": goCode}, []string{"bootstrap says", "main.go says"}},
		"nothing":                  {map[string]string{"notes.txt": ""}, []string{"no Go main package"}},
		"node without a handler":   {map[string]string{"index.js": "exports.other = 1"}, []string{"index.js exports no function called handler"}},
		"python without a handler": {map[string]string{"app.py": "def other(): pass"}, []string{"app.py has no function"}},
		"a library in Go":          {map[string]string{"go.mod": "module x", "x.go": "package x", "cmd/tool/main.go": goCode}, []string{"cmd/tool"}},
		"package.json alone":       {map[string]string{"package.json": "{}"}, []string{"package.json names no main file"}},
		"broken package.json":      {map[string]string{"package.json": "{"}, []string{"package.json: "}},
	} {
		got, err := Detect(folder(t, c.files), Want{})
		if err == nil {
			t.Errorf("%s: taken for %+v", name, got)
			continue
		}
		for _, want := range c.says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; lacks %q", name, err, want)
			}
		}
	}
	if _, err := Detect(filepath.Join(t.TempDir(), "gone"), Want{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

func TestMissingNodeModulesAreMentioned(t *testing.T) {
	files := map[string]string{"package.json": `{"main":"index.js","dependencies":{"a":"1"}}`, "index.js": "exports.handler = 1"}
	if c, err := Detect(folder(t, files), Want{}); err != nil || !strings.Contains(c.Note, "npm install") {
		t.Errorf("%+v, %v", c, err)
	}
	files["node_modules/a/index.js"] = ""
	if c, err := Detect(folder(t, files), Want{}); err != nil || c.Note != "" {
		t.Errorf("%+v, %v", c, err)
	}
}

func names(t *testing.T, p *Package) map[string]fs.FileMode {
	t.Helper()
	zr, err := zip.NewReader(bytes.NewReader(p.Zip), int64(len(p.Zip)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]fs.FileMode{}
	for _, f := range zr.File {
		got[f.Name] = f.Mode()
	}
	return got
}

func TestSameFilesGiveTheSameBytes(t *testing.T) {
	files := map[string]string{"b.py": "b", "a/x.py": "x", "run*": "r", "link": "→a/x.py"}
	first := folder(t, files)
	second := folder(t, files)
	old := time.Unix(1e9, 0)
	if err := os.Chtimes(filepath.Join(second, "b.py"), old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(second, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	a, err := Zip(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Zip(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Zip, b.Zip) || a.CodeSHA256() != b.CodeSHA256() {
		t.Error("two zips of the same files differ")
	}
	got := names(t, a)
	if got["run"].Perm() != 0o755 || got["b.py"].Perm() != 0o644 || got["link"]&fs.ModeSymlink == 0 || a.Files != 4 {
		t.Errorf("%v", got)
	}
}

func TestWhatIsIgnoredStaysOut(t *testing.T) {
	dir := folder(t, map[string]string{
		".hearthignore": "# not needed\n*.md\n/build\n!keep.md\ntest/\nsrc/**/raw.txt\nödd?.txt\n",
		"a.py":          "", "README.md": "", "keep.md": "", "build/x": "", "sub/build/x": "", "sub/test/x": "", "sub/test.py": "",
		"src/raw.txt": "", "src/a/b/raw.txt": "", "oddä.txt": "", "öddä.txt": "",
		".git/HEAD": "", "__pycache__/a.pyc": "", "node_modules/m/index.js": "",
	})
	p, err := Zip(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for name := range names(t, p) {
		got = append(got, name)
	}
	slices.Sort(got)
	if want := []string{"a.py", "keep.md", "node_modules/m/index.js", "oddä.txt", "sub/build/x", "sub/test.py"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestLinkOutOfTheFolderIsRefused(t *testing.T) {
	for _, target := range []string{"/etc/passwd", "../x", "sub/../../x"} {
		if _, err := Zip(t.Context(), folder(t, map[string]string{"l": "→" + target})); err == nil || !strings.Contains(err.Error(), "outside the folder") {
			t.Errorf("%s: %v", target, err)
		}
	}
	if _, err := Zip(t.Context(), folder(t, map[string]string{"a/l": "→../b", "b": ""})); err != nil {
		t.Errorf("a link inside: %v", err)
	}
}

func TestPackageBeyondTheLimitIsRefusedWithItsLargestFiles(t *testing.T) {
	dir := folder(t, map[string]string{"small.txt": "x"})
	big, err := os.Create(filepath.Join(dir, "big.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(big.Truncate(MaxUnpacked), big.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = Zip(t.Context(), dir)
	if e, ok := errors.AsType[*TooLarge](err); !ok || !e.Unpacked || e.Size != MaxUnpacked+1 || !strings.Contains(err.Error(), "big.bin (250.0 MiB)") {
		t.Errorf("%v", err)
	}
}

func TestCanceledZipStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Zip(ctx, folder(t, map[string]string{"a": ""})); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestGoIsBuiltIntoABootstrapThatRuns(t *testing.T) {
	dir := folder(t, map[string]string{"go.mod": "module x\n\ngo 1.26\n", "main.go": goCode})
	p, err := BuildGo(t.Context(), dir, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, p); len(got) != 1 || got["bootstrap"].Perm() != 0o755 {
		t.Fatalf("%v", got)
	}
	zr, err := zip.NewReader(bytes.NewReader(p.Zip), int64(len(p.Zip)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := zr.Open("bootstrap")
	if err != nil {
		t.Fatal(err)
	}
	code, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "bootstrap")
	if err := os.WriteFile(bin, code, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(bin).CombinedOutput(); err != nil || string(out) != "1\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestGoThatDoesNotCompileSaysWhy(t *testing.T) {
	dir := folder(t, map[string]string{"go.mod": "module x\n", "main.go": "package main\n\nfunc main() { undefined() }\n"})
	_, err := BuildGo(t.Context(), dir, runtime.GOARCH)
	if e, ok := errors.AsType[*BuildError](err); !ok || !strings.Contains(e.Output, "undefined") {
		t.Errorf("%v", err)
	}
}

func FuzzIgnoreRulesNeverPanic(f *testing.F) {
	for _, seed := range []string{"*.md", "!a/", "**/x", "a/**", "\\#x", "[ab]", "ö?", "\xff*", "**", "/"} {
		f.Add(seed, "a/b.md")
	}
	f.Fuzz(func(t *testing.T, text, path string) {
		parseRules(text).leavesOut(path, false)
	})
}
