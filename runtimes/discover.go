package runtimes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
)

// Options say where to look.
type Options struct {
	// Files is the folder in which Install lays the clients out; absolute.
	Files string
	// Dirs are looked at first: each is an interpreter, a folder with
	// interpreters, a prefix with a bin folder, or a folder of such prefixes.
	Dirs []string
	// Path is the server's PATH, Home its user's home. Empty ones are left
	// out of the search.
	Path, Home string
	// Cache is a file that keeps what probing found, "" for none. An entry
	// holds while its program has the same size and time of change.
	Cache string
	// Strict refuses a runtime whose exact version is missing.
	Strict bool
	// Only looks at nothing but Dirs.
	Only bool
}

// names are what interpreters are called, without a version.
var names = map[Language][]string{
	Node:   {"node", "nodejs"},
	Python: {"python3", "python"},
}

// oldest are the versions from which on the clients work.
var oldest = map[Language]Version{Node: {18, 0, 0}, Python: {3, 9, 0}}

// Discover finds the interpreters of this machine. Probing runs each program
// that is not in the cache once, with an empty environment. It fails only if
// ctx ends; a program that cannot be used is in Set.Rejected.
func Discover(ctx context.Context, opt Options) (*Set, error) {
	s := &Set{files: opt.Files, strict: opt.Strict}
	cache := openCache(opt.Cache)
	type result struct {
		in  *Interpreter
		err error
	}
	found := candidates(opt)
	results := make([]result, len(found))
	var wg sync.WaitGroup
	gate := make(chan struct{}, 2*goruntime.NumCPU())
	for i, c := range found {
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			results[i].in, results[i].err = cache.probe(ctx, c, opt.Home)
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("looking for interpreters: %w", err)
	}
	for i, r := range results {
		if r.err != nil {
			s.rejected = append(s.rejected, Rejected{Path: found[i].path, Reason: r.err.Error()})
			continue
		}
		s.interpreters = append(s.interpreters, r.in)
	}
	s.keepBest()
	cache.save()
	return s, nil
}

// keepBest keeps for each language and version the interpreter that was found
// first, and sorts them by language and version.
func (s *Set) keepBest() {
	seen := map[string]bool{}
	s.interpreters = slices.DeleteFunc(s.interpreters, func(in *Interpreter) bool {
		key := string(in.boot())
		had := seen[key]
		seen[key] = true
		return had
	})
	slices.SortStableFunc(s.interpreters, func(a, b *Interpreter) int {
		return cmp.Or(
			cmp.Compare(a.Language, b.Language),
			cmp.Compare(a.Version.Major, b.Version.Major),
			cmp.Compare(a.Version.Minor, b.Version.Minor),
		)
	})
}

// candidate is a program that may be an interpreter.
type candidate struct {
	language Language
	path     string // without symbolic links
	info     os.FileInfo
}

// candidates lists programs in the order of preference: what the operator
// named, what every sandbox shows anyway, then the rest.
func candidates(opt Options) []candidate {
	var list []candidate
	seen := map[string]bool{}
	add := func(path string) {
		if c, ok := examine(path); ok && !seen[c.path] {
			seen[c.path] = true
			list = append(list, c)
		}
	}
	folder := func(dir string) {
		for _, path := range programsIn(dir) {
			add(path)
		}
	}
	for _, dir := range opt.Dirs {
		if info, err := os.Stat(dir); err == nil && !info.IsDir() {
			add(dir)
			continue
		}
		folder(dir)
		folder(filepath.Join(dir, "bin"))
		for _, sub := range subfolders(dir) {
			folder(filepath.Join(sub, "bin"))
		}
	}
	if opt.Only {
		return list
	}
	folder("/usr/bin")
	folder("/usr/local/bin")
	for _, dir := range filepath.SplitList(opt.Path) {
		if filepath.IsAbs(dir) {
			folder(dir)
		}
	}
	prefixes := []string{"/opt", "/opt/python", "/opt/node", "/opt/hostedtoolcache/node/*", "/opt/hostedtoolcache/Python/*"}
	if opt.Home != "" {
		for _, d := range []string{".pyenv/versions", ".nvm/versions/node", ".local/share/fnm/node-versions/*", ".local/share/uv/python", ".asdf/installs/nodejs", ".asdf/installs/python", ".local/share/mise/installs/node", ".local/share/mise/installs/python"} {
			prefixes = append(prefixes, filepath.Join(opt.Home, d))
		}
	}
	for _, pattern := range prefixes {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			continue // only a malformed pattern, and these are constants but for Home
		}
		for _, dir := range dirs {
			for _, sub := range subfolders(dir) {
				folder(filepath.Join(sub, "bin"))
				folder(filepath.Join(sub, "x64", "bin"))
				folder(filepath.Join(sub, "installation", "bin"))
			}
		}
	}
	return list
}

// subfolders are the folders in dir, the highest name last, so sorted that of
// "3.11.2" and "3.11.7" the newer is met first.
func subfolders(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // most places do not exist on most machines
	}
	var list []string
	for _, e := range slices.Backward(entries) {
		list = append(list, filepath.Join(dir, e.Name()))
	}
	return list
}

// programsIn are the files in dir whose names are those of interpreters.
func programsIn(dir string) []string {
	var list []string
	for _, language := range []Language{Node, Python} {
		for _, name := range names[language] {
			list = append(list, filepath.Join(dir, name))
		}
	}
	for _, pattern := range []string{"python3.[0-9]", "python3.[0-9][0-9]"} {
		matches, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			continue // dir holds characters of a pattern
		}
		list = append(list, matches...)
	}
	return list
}

// examine follows a path to the program itself. Shims are scripts, and so are
// told apart by not being ELF files.
func examine(path string) (candidate, bool) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return candidate{}, false
	}
	info, err := os.Stat(real)
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 || !isELF(real) {
		return candidate{}, false
	}
	language := Python
	if base := filepath.Base(real); strings.HasPrefix(base, "node") {
		language = Node
	} else if !strings.HasPrefix(base, "python") {
		return candidate{}, false
	}
	return candidate{language: language, path: real, info: info}, true
}

func isELF(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	_, err = io.ReadFull(f, magic[:])
	return err == nil && string(magic[:]) == "\x7fELF"
}

// usable tells why an interpreter cannot serve, nil if it can.
func usable(in *Interpreter) error {
	if first := oldest[in.Language]; compareVersions(in.Version, first) < 0 {
		return fmt.Errorf("version %s is older than %d.%d, the first that Hearth's client runs on", in.Version, first.Major, first.Minor)
	}
	if in.Language == Python && in.Version.Major != 3 {
		return errors.New("not a Python 3")
	}
	// Inside, another user reads it.
	for _, path := range append([]string{in.Path}, guests(in)...) {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if need := os.FileMode(0o004); info.Mode()&need == 0 {
			return fmt.Errorf("%s is not readable by every user, as it must be inside a sandbox", path)
		}
	}
	return nil
}

func guests(in *Interpreter) []string {
	list := make([]string, len(in.Mounts))
	for i, m := range in.Mounts {
		list[i] = m.Host
	}
	return list
}

func compareVersions(a, b Version) int {
	return cmp.Or(cmp.Compare(a.Major, b.Major), cmp.Compare(a.Minor, b.Minor), cmp.Compare(a.Patch, b.Patch))
}
