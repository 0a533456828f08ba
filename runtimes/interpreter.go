package runtimes

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox"
)

// Interpreter is a program found on this machine.
type Interpreter struct {
	Language Language
	Version  Version
	// Path is the program itself: no symbolic link and no shim.
	Path string
	// Mounts is what a sandbox must show beside the base system for it to
	// run, each at its path on the host: interpreters have their own
	// location compiled in (library paths, prefixes), so that moving them
	// would be a promise that we cannot keep for every build.
	Mounts []sandbox.Mount
	// LibraryDirs are folders with shared libraries that the loader would
	// find only by the host's cache.
	LibraryDirs []string
}

// serves reports whether in has the version that r asks for.
func (in *Interpreter) serves(r runtime) bool {
	return in.Language == r.language && in.Version.Major == r.version.Major &&
		(r.language == Node || in.Version.Minor == r.version.Minor)
}

func (in *Interpreter) boot() hearth.Boot {
	if in.Language == Node {
		return hearth.Boot(fmt.Sprintf("node%d", in.Version.Major))
	}
	return hearth.Boot(fmt.Sprintf("python%d.%d", in.Version.Major, in.Version.Minor))
}

// base are the folders that every sandbox shows, and hidden those in them
// that it does not.
var (
	base   = []string{"/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin"}
	hidden = []string{"/usr/local"}
)

// inBase reports whether every sandbox shows path.
func inBase(path string) bool { return under(path, base) && !under(path, hidden) }

func under(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		return path == dir || strings.HasPrefix(path, dir+"/")
	})
}

// shared are prefixes that hold more than one program: of these only the parts
// that an interpreter needs are shown.
var shared = []string{"/", "/usr", "/usr/local", "/opt", "/home", "/root", "/var", "/srv"}

// mountsFor tells what to show for a program of the given prefix: the whole
// prefix where it is the interpreter's own, otherwise the pieces, folders and
// files which are all that it needs.
func mountsFor(prefix, home string, pieces []string) []sandbox.Mount {
	own := prefix != "" && !slices.Contains(shared, prefix) && prefix != home && !inBase(prefix)
	var paths []string
	if own {
		paths = append(paths, prefix)
	}
	for _, p := range pieces {
		if inBase(p) || under(p, paths) {
			continue
		}
		paths = append(paths, p)
	}
	slices.Sort(paths)
	paths = slices.Compact(paths)
	mounts := make([]sandbox.Mount, 0, len(paths))
	for i, p := range paths {
		if i > 0 && under(p, paths[:i]) {
			continue
		}
		mounts = append(mounts, sandbox.Mount{Host: p, Guest: filepath.Clean(p)})
	}
	return mounts
}
