package runtimes

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

//go:embed client/node client/python/bootstrap.py client/python/hearth_runtime/*.py
var embedded embed.FS

// Names of folders in the place that Install fills.
const (
	clientDir = "client" // shown at /var/runtime
	emptyDir  = "empty"
)

// Files are the runtime clients: node/index.js, python/bootstrap.py and what
// they load.
func Files() fs.FS {
	sub, err := fs.Sub(embedded, "client")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	return sub
}

// Install lays the clients out in Options.Files and compiles them for every
// python of s, which halves a boot. Files that are there already and the same
// are not touched: running sandboxes may be showing them.
func (s *Set) Install(ctx context.Context) error {
	if err := makeDir(filepath.Join(s.files, emptyDir)); err != nil {
		return fmt.Errorf("laying out the runtime clients: %w", err)
	}
	target := filepath.Join(s.files, clientDir)
	files := Files()
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path := filepath.Join(target, filepath.FromSlash(name))
		if d.IsDir() {
			return makeDir(path)
		}
		want, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, want) {
			return nil
		}
		return replaceFile(path, want)
	})
	if err != nil {
		return fmt.Errorf("laying out the runtime clients: %w", err)
	}
	return s.compile(ctx, filepath.Join(target, "python", "hearth_runtime"))
}

// makeDir makes a folder that sandboxes' users can read, whatever the umask.
func makeDir(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, 0o755)
}

// compile writes byte code beside the python client's sources, one file for
// each version. It is checked by the sources' hash, so that neither their
// times nor the path at which a sandbox shows them matters.
func (s *Set) compile(ctx context.Context, dir string) error {
	const script = "import compileall, os, py_compile, sys; os.umask(0o22); sys.exit(not compileall.compile_dir(sys.argv[1], quiet=1, stripdir=sys.argv[1], prependdir='/var/runtime/python/hearth_runtime', invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH, force=True))"
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	sources, err := filepath.Glob(filepath.Join(dir, "*.py"))
	if err != nil {
		return err
	}
	for _, in := range s.interpreters {
		if in.Language != Python || compiled(dir, sources, in.Version) {
			continue
		}
		wg.Go(func() {
			cmd := exec.CommandContext(ctx, in.Path, "-I", "-S", "-c", script, dir)
			cmd.Env = []string{"LANG=C.UTF-8"}
			if out, err := cmd.CombinedOutput(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("compiling the runtime client with %s: %w: %s", in.Path, err, out))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// compiled reports whether every source has byte code that is not older.
func compiled(dir string, sources []string, v Version) bool {
	for _, source := range sources {
		name := filepath.Base(source[:len(source)-len(".py")])
		code, err := os.Stat(filepath.Join(dir, "__pycache__", fmt.Sprintf("%s.cpython-%d%d.pyc", name, v.Major, v.Minor)))
		if err != nil {
			return false
		}
		text, err := os.Stat(source)
		if err != nil || code.ModTime().Before(text.ModTime()) {
			return false
		}
	}
	return true
}

// replaceFile writes a file so that readers see the old or the new one whole.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
