package runtimes

import (
	"bufio"
	"debug/elf"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sharedLibraries finds what the dynamic loader would load for the given
// programs and modules, in the order in which it looks: DT_RPATH, DT_RUNPATH,
// the system's folders. It returns the libraries that no sandbox's base has,
// and the folders that the loader inside would not look in by itself, since
// there is no cache of the host's (ld.so.cache). A library that is nowhere is
// left out: a module that needs it does not load on the host either.
func sharedLibraries(files []string) (outside, dirs []string, err error) {
	l := loader{system: systemDirs(), configured: configuredDirs(), seen: map[string]bool{}, extra: map[string]bool{}}
	for i, file := range files {
		if err := l.load(file, nil); err != nil {
			if i == 0 {
				return nil, nil, fmt.Errorf("reading what it is linked with: %w", err)
			}
			continue // a module that is no ELF file is not this machine's
		}
	}
	slices.Sort(l.outside)
	return slices.Compact(l.outside), slices.Sorted(maps.Keys(l.extra)), nil
}

type loader struct {
	system, configured []string
	seen               map[string]bool
	outside            []string
	extra              map[string]bool
}

// load follows the needs of one file. inherited are the DT_RPATHs of those
// that need it.
func (l *loader) load(file string, inherited []string) error {
	if l.seen[file] {
		return nil
	}
	l.seen[file] = true
	f, err := elf.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	needed, err := f.DynString(elf.DT_NEEDED)
	if err != nil || len(needed) == 0 {
		return nil // statically linked
	}
	rpath := paths(f, elf.DT_RPATH, file)
	runpath := paths(f, elf.DT_RUNPATH, file)
	if len(runpath) > 0 {
		rpath = nil // DT_RUNPATH replaces it
	}
	own := append(slices.Clone(rpath), inherited...)
	for _, name := range needed {
		l.find(name, f.Machine, own, runpath)
	}
	return nil
}

func (l *loader) find(name string, machine elf.Machine, rpath, runpath []string) {
	if strings.Contains(name, "/") {
		l.take(name, rpath)
		return
	}
	for _, group := range []struct {
		dirs   []string
		hidden bool // the loader inside does not know them
	}{{rpath, false}, {runpath, false}, {l.system, false}, {l.configured, true}} {
		for _, dir := range group.dirs {
			path := filepath.Join(dir, name)
			if !isLibrary(path, machine) {
				continue
			}
			if group.hidden {
				l.extra[dir] = true
			}
			l.take(path, rpath)
			return
		}
	}
}

// take notes a library that was found, by the name under which it is looked
// for: a mount of that name shows what the link leads to.
func (l *loader) take(path string, rpath []string) {
	if !inBase(path) || !inBase(followed(path)) {
		l.outside = append(l.outside, path)
	}
	// A library that cannot be read was seen to be one a moment ago; what it
	// needs stays unknown, and shows when the interpreter starts.
	_ = l.load(path, rpath)
}

func followed(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

func isLibrary(path string, machine elf.Machine) bool {
	if _, err := os.Stat(path); err != nil {
		return false
	}
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return f.Machine == machine
}

// paths reads a search path, with $ORIGIN filled in.
func paths(f *elf.File, tag elf.DynTag, file string) []string {
	values, err := f.DynString(tag)
	if err != nil {
		return nil
	}
	var list []string
	for _, value := range values {
		for dir := range strings.SplitSeq(value, ":") {
			dir = strings.NewReplacer("$ORIGIN", filepath.Dir(file), "${ORIGIN}", filepath.Dir(file)).Replace(dir)
			if filepath.IsAbs(dir) {
				list = append(list, filepath.Clean(dir))
			}
		}
	}
	return list
}

// systemDirs are compiled into the loader; on Debian and its children they
// include the folders of the architecture.
func systemDirs() []string {
	dirs := []string{"/lib64", "/usr/lib64", "/lib", "/usr/lib"}
	for _, pattern := range []string{"/lib/*-linux-gnu", "/usr/lib/*-linux-gnu", "/lib/*-linux-musl", "/usr/lib/*-linux-musl"} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			continue // the patterns are constants
		}
		dirs = append(dirs, matches...)
	}
	return dirs
}

// configuredDirs are those of /etc/ld.so.conf, which the host's loader knows by
// its cache.
func configuredDirs() []string {
	var dirs []string
	seen := map[string]bool{}
	var read func(string)
	read = func(file string) {
		if seen[file] {
			return
		}
		seen[file] = true
		f, err := os.Open(file)
		if err != nil {
			return // no such configuration, as on most machines
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			line, _, _ := strings.Cut(lines.Text(), "#")
			line = strings.TrimSpace(line)
			if pattern, ok := strings.CutPrefix(line, "include"); ok {
				matches, err := filepath.Glob(strings.TrimSpace(pattern))
				if err != nil {
					continue // ldconfig would not understand it either
				}
				for _, m := range matches {
					read(m)
				}
			} else if filepath.IsAbs(line) {
				dirs = append(dirs, filepath.Clean(line))
			}
		}
	}
	read("/etc/ld.so.conf")
	return dirs
}
