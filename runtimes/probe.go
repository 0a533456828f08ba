package runtimes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// probeTimeout bounds one program's answer.
const probeTimeout = 10 * time.Second

// cacheFormat is raised when entries change their meaning.
const cacheFormat = 1

// cache keeps what probing found, by path.
type cache struct {
	file string

	mu      sync.Mutex
	known   map[string]cacheEntry
	used    map[string]cacheEntry // what this run looked at: the rest is gone from the machine
	changed bool
}

type cacheFile struct {
	Format  int
	Entries map[string]cacheEntry
}

type cacheEntry struct {
	Size     int64
	Modified time.Time
	Home     string // what counts as shared depends on it
	Found    Interpreter
	Error    string // of a program that is no interpreter
}

// openCache reads the cache. One that cannot be read is an empty one: nothing
// but time is lost.
func openCache(file string) *cache {
	c := &cache{file: file, known: map[string]cacheEntry{}, used: map[string]cacheEntry{}}
	if file == "" {
		return c
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return c
	}
	var f cacheFile
	if json.Unmarshal(data, &f) == nil && f.Format == cacheFormat {
		c.known = f.Entries
	}
	return c
}

// save writes the cache where it changed. A cache that cannot be written costs
// the next start a probe, and nobody has to be told.
func (c *cache) save() {
	if c.file == "" || !c.changed && len(c.used) == len(c.known) {
		return
	}
	data, err := json.Marshal(cacheFile{Format: cacheFormat, Entries: c.used})
	if err == nil {
		_ = replaceFile(c.file, data)
	}
}

// probe asks the program what it is, or the cache. An interpreter that was
// found is looked at anew as to whether it can be used.
func (c *cache) probe(ctx context.Context, p candidate, home string) (*Interpreter, error) {
	c.mu.Lock()
	entry, ok := c.known[p.path]
	c.mu.Unlock()
	if !ok || entry.Size != p.info.Size() || !entry.Modified.Equal(p.info.ModTime()) || entry.Home != home || !present(entry.Found) {
		in, err := ask(ctx, p, home)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		entry = cacheEntry{Size: p.info.Size(), Modified: p.info.ModTime(), Home: home, Found: in}
		if err != nil {
			entry.Error = err.Error()
		}
		c.mu.Lock()
		c.changed = true
		c.mu.Unlock()
	}
	c.mu.Lock()
	c.used[p.path] = entry
	c.mu.Unlock()
	if entry.Error != "" {
		return nil, errors.New(entry.Error)
	}
	in := entry.Found
	return &in, usable(&in)
}

// present reports whether what a cached interpreter needs is still there.
func present(in Interpreter) bool {
	for _, m := range in.Mounts {
		if _, err := os.Stat(m.Host); err != nil {
			return false
		}
	}
	return true
}

// ask runs the program once.
func ask(ctx context.Context, p candidate, home string) (Interpreter, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if p.language == Node {
		return askNode(ctx, p, home)
	}
	return askPython(ctx, p, home)
}

func run(ctx context.Context, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"LANG=C.UTF-8"}
	cmd.Dir = "/"
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("it does not run: %w %s", err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// askNode needs only the version: node is one file.
func askNode(ctx context.Context, p candidate, home string) (Interpreter, error) {
	in := Interpreter{Language: Node, Path: p.path}
	out, err := run(ctx, p.path, "--version")
	if err != nil {
		return in, err
	}
	if _, err := fmt.Sscanf(out, "v%d.%d.%d", &in.Version.Major, &in.Version.Minor, &in.Version.Patch); err != nil {
		return in, fmt.Errorf("it is not node: %q", out)
	}
	return in, locate(&in, prefixOf(p.path), home, nil)
}

// prefixOf is the folder above bin.
func prefixOf(program string) string {
	dir := filepath.Dir(program)
	if filepath.Base(dir) != "bin" {
		return ""
	}
	return filepath.Dir(dir)
}

const pythonQuestion = `import json, os, sys
dirs = [p for p in sys.path if os.path.isdir(p)]
print(json.dumps({"version": list(sys.version_info[:3]), "name": sys.implementation.name, "prefix": sys.base_prefix, "dirs": dirs}))`

func askPython(ctx context.Context, p candidate, home string) (Interpreter, error) {
	in := Interpreter{Language: Python, Path: p.path}
	out, err := run(ctx, p.path, "-E", "-s", "-S", "-c", pythonQuestion)
	if err != nil {
		return in, err
	}
	var answer struct {
		Version      [3]int
		Name, Prefix string
		Dirs         []string
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return in, fmt.Errorf("it is not python: %q", out)
	}
	if answer.Name != "cpython" {
		return in, fmt.Errorf("it is %s, and Hearth's client is tested on cpython only", answer.Name)
	}
	in.Version = Version{answer.Version[0], answer.Version[1], answer.Version[2]}
	var dirs []string
	for _, dir := range answer.Dirs {
		if real, err := filepath.EvalSymlinks(dir); err == nil && filepath.IsAbs(dir) {
			dirs = append(dirs, real)
		}
	}
	return in, locate(&in, answer.Prefix, home, dirs)
}

// locate fills in what must be shown to run in: its prefix or its pieces, and
// the shared libraries of it and of the extension modules in dirs.
func locate(in *Interpreter, prefix, home string, dirs []string) error {
	files := []string{in.Path}
	for _, dir := range dirs {
		modules, err := filepath.Glob(filepath.Join(dir, "*.so"))
		if err != nil {
			return err
		}
		files = append(files, modules...)
	}
	libraries, libraryDirs, err := sharedLibraries(files)
	if err != nil {
		return err
	}
	if prefix != "" {
		if real, err := filepath.EvalSymlinks(prefix); err == nil {
			prefix = real
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	pieces := append(append([]string{in.Path}, dirs...), libraries...)
	in.Mounts = mountsFor(prefix, home, pieces)
	in.LibraryDirs = libraryDirs
	return nil
}
