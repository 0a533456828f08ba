package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// partial is what the names of directories that are being unpacked begin
// with.
const partial = ".unpacking-"

// Unpack extracts the archive as the directory dir, which must not exist and
// whose parent must. The directory appears complete or, after an error, not
// at all. Errors of the archive are those of Inspect; others are of kind
// Service, and wrap fs.ErrExist when dir is there already. Nothing is synced:
// what is unpacked can be unpacked again.
//
// Directories and executable files get mode 0755, other files 0644, whatever
// the archive says, so that code can be read by a user other than the
// server's. Files keep their time, which Python compares with its caches'.
func Unpack(ctx context.Context, r io.ReaderAt, size int64, dir string, limits Limits) (err error) {
	p, err := newPlan(r, size, limits)
	if err != nil {
		return err
	}
	defer func() {
		if _, ok := errors.AsType[*hearth.Error](err); err != nil && !ok {
			err = &hearth.Error{Op: "archive", Subject: dir, Kind: hearth.Service, Message: "The code package cannot be unpacked.", Err: err}
		}
	}()
	tmp, err := os.MkdirTemp(filepath.Dir(dir), partial)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	if err := p.extract(ctx, tmp); err != nil {
		return err
	}
	// rename(2) would replace an empty directory.
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%w: %s", fs.ErrExist, dir))
	}
	return os.Rename(tmp, dir)
}

// Sweep removes what a crash left of Unpack in the directory parent, where
// none may be running.
func Sweep(parent string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), partial) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(parent, e.Name())))
		}
	}
	return err
}

func (p *plan) extract(ctx context.Context, dir string) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := root.Chmod(".", 0o755); err != nil {
		return err
	}
	x := &extraction{root: root, made: map[string]bool{".": true}, buf: make([]byte, copySize)}
	for _, e := range p.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch e.kind {
		case directory:
			err = x.mkdir(e.name)
		case file:
			err = x.file(ctx, e)
		case link:
			// Links come last: until then no path goes through one.
		}
		if err != nil {
			return err
		}
	}
	for _, e := range p.entries {
		if e.kind != link {
			continue
		}
		if err := errors.Join(x.mkdir(path.Dir(e.name)), root.Symlink(e.target, e.name)); err != nil {
			return err
		}
	}
	return nil
}

type extraction struct {
	root *os.Root
	made map[string]bool // directories
	buf  []byte
}

// mkdir makes a directory and those above it, past the umask.
func (x *extraction) mkdir(name string) error {
	if x.made[name] {
		return nil
	}
	if err := x.mkdir(path.Dir(name)); err != nil {
		return err
	}
	x.made[name] = true
	return errors.Join(x.root.Mkdir(name, 0o755), x.root.Chmod(name, 0o755))
}

func (x *extraction) file(ctx context.Context, e *entry) error {
	if err := x.mkdir(path.Dir(e.name)); err != nil {
		return err
	}
	f, err := x.root.OpenFile(e.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = copyEntry(ctx, f, e, x.buf)
	if err = errors.Join(err, f.Chmod(e.mode()), f.Close()); err != nil {
		return err
	}
	modified := e.modified()
	return x.root.Chtimes(e.name, modified, modified)
}

// mode is 0755 for what may be executed. An archive that was made where
// files have no modes says nothing, and then it is for the one file that is
// always executed.
func (e *entry) mode() fs.FileMode {
	const unix, darwin = 3, 19
	if maker := e.zip.CreatorVersion >> 8; maker != unix && maker != darwin {
		if e.name == "bootstrap" {
			return 0o755
		}
		return 0o644
	}
	if e.zip.Mode()&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

// epoch stands for times that are none: the first that a zip can hold.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

func (e *entry) modified() time.Time {
	if t := e.zip.Modified; t.After(epoch) {
		return t
	}
	return epoch
}
