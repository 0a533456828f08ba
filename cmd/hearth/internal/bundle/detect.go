// Package bundle makes a function's package of a folder: it finds out what
// sort of code is there, builds it if it is Go, and zips it so that the same
// files always give the same bytes.
package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Family is a sort of code; each has runtimes of several versions.
type Family string

// The families.
const (
	Custom Family = "provided" // an executable called bootstrap
	Go     Family = "go"       // built into a bootstrap first
	Node   Family = "nodejs"
	Python Family = "python"
)

// Of is the family that serves a runtime of the Lambda API, such as
// python3.12; "" for one that is not served from a folder.
func Of(runtime string) Family {
	for _, f := range []Family{Custom, Node, Python} {
		if strings.HasPrefix(runtime, string(f)) {
			return f
		}
	}
	return ""
}

// Candidate is one way in which a folder can be understood.
type Candidate struct {
	Family  Family
	Handler string
	File    string // what tells so, relative to the folder
	Note    string // what the user should know; "" for nothing
}

// Ambiguous is the error of a folder that can be understood in several ways.
type Ambiguous struct{ Candidates []Candidate }

func (e *Ambiguous) Error() string {
	var parts []string
	for _, c := range e.Candidates {
		parts = append(parts, fmt.Sprintf("%s says %s with handler %s", c.File, c.Family, c.Handler))
	}
	return strings.Join(parts, "; ")
}

// Unclear is the error of a folder in which nothing was recognized.
type Unclear struct{ Reason string }

func (e *Unclear) Error() string { return e.Reason }

// Want narrows down what Detect may find; empty fields allow all.
type Want struct {
	Family  Family // Custom allows Go too
	Handler string
}

// Detect finds out what the folder holds: an *Ambiguous or *Unclear error if
// that isn't plain.
func Detect(dir string, want Want) (Candidate, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return Candidate{}, err
	}
	if !info.IsDir() {
		return Candidate{}, &Unclear{"it is a file, and a folder is wanted"}
	}
	var found []Candidate
	var hints []string
	for _, detect := range []func(string, Want) ([]Candidate, string, error){detectCustom, detectNode, detectPython} {
		cs, hint, err := detect(dir, want)
		if err != nil {
			return Candidate{}, err
		}
		found = append(found, cs...)
		if hint != "" {
			hints = append(hints, hint)
		}
	}
	kept := found[:0]
	for _, c := range found {
		if want.allows(c.Family) && (want.Handler == "" || want.Handler == c.Handler || c.Family == Go || c.Family == Custom) {
			kept = append(kept, c)
		}
	}
	switch {
	case len(kept) == 1:
		if want.Handler != "" {
			kept[0].Handler = want.Handler
		}
		return kept[0], nil
	case len(kept) > 1:
		return Candidate{}, &Ambiguous{kept}
	case want.Handler != "" && want.Family != "" && want.Family != Custom:
		// A handler that isn't seen by reading may be there all the same.
		return Candidate{Family: want.Family, Handler: want.Handler, File: "--handler"}, nil
	case len(hints) > 0:
		return Candidate{}, &Unclear{strings.Join(hints, "; ")}
	default:
		return Candidate{}, &Unclear{"no Go main package, no package.json or index.js, no lambda_function.py, app.py, main.py, handler.py or index.py, and no bootstrap is in it"}
	}
}

func (w Want) allows(f Family) bool {
	return w.Family == "" || w.Family == f || w.Family == Custom && f == Go
}

// detectCustom looks for a bootstrap and for Go. A bootstrap that is a binary
// beside a Go program is what an earlier build left: the program counts.
func detectCustom(dir string, _ Want) ([]Candidate, string, error) {
	var found []Candidate
	head, err := readHead(filepath.Join(dir, "bootstrap"), 4)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, "", err
	default:
		found = append(found, Candidate{Family: Custom, Handler: "bootstrap", File: "bootstrap"})
	}
	file, hint, err := goMain(dir)
	if err != nil || file == "" {
		return found, hint, err
	}
	c := Candidate{Family: Go, Handler: "bootstrap", File: file}
	if string(head) == "\x7fELF" {
		found, c.Note = nil, "the bootstrap in the folder is left out, a fresh one is built"
	}
	return append(found, c), "", nil
}

// goMain finds a file of package main, or tells where in the module one is.
func goMain(dir string) (file, hint string, err error) {
	files, err := filepath.Glob(filepath.Join(glob(dir), "*.go"))
	if err != nil {
		return "", "", err
	}
	if file := firstMain(files); file != "" {
		return filepath.Base(file), "", nil
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", "", nil
		}
		return "", "", err
	}
	below, err := filepath.Glob(filepath.Join(glob(dir), "cmd", "*", "*.go"))
	if err != nil {
		return "", "", err
	}
	if file := firstMain(below); file != "" {
		return "", "its Go module has no main package at the top: deploy the folder of one, such as " + filepath.Dir(file), nil
	}
	return "", "its Go module has no main package at the top: deploy the folder of one", nil
}

func firstMain(files []string) string {
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly)
		if err == nil && f.Name.Name == "main" { // one that can't be parsed is the compiler's to report
			return file
		}
	}
	return ""
}

// glob quotes what filepath.Glob would interpret.
func glob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

func readHead(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, n)
	got, err := io.ReadFull(f, buf)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // a short file is no failure
	}
	return buf[:got], err
}

// nodeExports matches a file that exports a function called handler, in the
// ways that people write it.
var nodeExports = regexp.MustCompile(`(?m)` +
	`^\s*(module\.)?exports\.handler\s*=` +
	`|^\s*export\s+(const|let|var|async\s+function|function)\s*\*?\s*handler\b` +
	`|^\s*export\s*\{[^}]*\bhandler\b[^}]*\}` +
	`|^\s*module\.exports\s*=\s*\{[^}]*\bhandler\b` +
	`|\bexports\.handler\s*=` + // bundlers write it mid-line
	`|\bhandler\s*:\s*\(\)\s*=>\s*\w+`) // and esbuild as a getter

func detectNode(dir string, _ Want) ([]Candidate, string, error) {
	var files []string
	var note string
	data, err := os.ReadFile(filepath.Join(dir, "package.json"))
	isPackage := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", err
	}
	if isPackage {
		var pkg struct {
			Main         string            `json:"main"`
			Dependencies map[string]string `json:"dependencies"`
		}
		if err := json.Unmarshal(data, &pkg); err != nil {
			return nil, "", fmt.Errorf("package.json: %w", err)
		}
		if main := filepath.Clean(pkg.Main); pkg.Main != "" && filepath.IsLocal(main) {
			files = append(files, main, main+".js", filepath.Join(main, "index.js"))
		}
		if _, err := os.Stat(filepath.Join(dir, "node_modules")); len(pkg.Dependencies) > 0 && err != nil {
			note = "package.json has dependencies and there is no node_modules: run npm install --omit=dev in the folder first, unless the code is bundled"
		}
	}
	files = append(files, "index.mjs", "index.js", "index.cjs")
	var seen string
	for _, file := range files {
		code, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			continue // not there, or a folder
		}
		if seen == "" {
			seen = file
		}
		if nodeExports.Match(code) {
			// The first counts: package.json's main before index, and .mjs
			// before .js, as the runtime itself prefers.
			return []Candidate{{Family: Node, Handler: module(file) + ".handler", File: file, Note: note}}, "", nil
		}
	}
	if seen != "" {
		return nil, fmt.Sprintf("%s exports no function called handler: say which one with --runtime nodejs22.x --handler %s.NAME", seen, module(seen)), nil
	}
	if isPackage {
		return nil, "package.json names no main file that is there, and there is no index.js", nil
	}
	return nil, "", nil
}

// module is a file's path as a handler begins: without its extension.
func module(file string) string {
	return strings.TrimSuffix(filepath.ToSlash(file), filepath.Ext(file))
}

var pythonHandler = regexp.MustCompile(`(?m)^(?:async\s+)?def\s+(lambda_handler|handler)\b|^(lambda_handler|handler)\s*[:=]|^from\s+\S+\s+import\s.*\b(lambda_handler|handler)\b`)

func detectPython(dir string, _ Want) ([]Candidate, string, error) {
	var found []Candidate
	var seen string
	for _, file := range []string{"lambda_function.py", "app.py", "main.py", "handler.py", "index.py"} {
		code, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			continue // not there, or a folder
		}
		if seen == "" {
			seen = file
		}
		names := map[string]bool{}
		for _, m := range pythonHandler.FindAllSubmatch(code, -1) {
			for _, name := range m[1:] {
				if n := string(name); n != "" && !names[n] {
					names[n] = true
					found = append(found, Candidate{Family: Python, Handler: module(file) + "." + n, File: file})
				}
			}
		}
	}
	if len(found) == 0 && seen != "" {
		return nil, fmt.Sprintf("%s has no function called lambda_handler or handler: say which one with --runtime python3.12 --handler %s.NAME", seen, module(seen)), nil
	}
	return found, "", nil
}
