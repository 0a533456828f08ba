package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A layer's tar becomes a folder as overlayfs wants a lower one: what the layer
// deletes is a character device 0/0, a folder that hides those below has the
// attribute user.overlay.opaque. Owners, set-user-id bits, devices, pipes and
// extended attributes are left out: what runs here is nobody's but the
// sandbox's user, without privileges.

// budget bounds what an image may become. It is shared by its layers.
type budget struct {
	bytes   atomic.Int64 // of files
	entries atomic.Int64
	raw     atomic.Int64 // of tars: what is left out is still read
}

func newBudget(bytes int64) *budget {
	b := &budget{}
	b.bytes.Store(bytes)
	b.entries.Store(maxEntries)
	b.raw.Store(bytes + maxEntries*1024)
	return b
}

func (b *budget) takeBytes(n int64) error {
	if b.bytes.Add(-n) < 0 {
		return broken("it is larger than an image may be")
	}
	return nil
}

// raw reads a tar within a budget.
type rawReader struct {
	ctx    context.Context
	r      io.Reader
	budget *budget
}

func (r *rawReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	if r.budget.raw.Add(-int64(n)) < 0 {
		return n, broken("its layers are larger than an image may be")
	}
	return n, err
}

// opaque marks a folder that hides what lower layers have in it.
const opaque = "user.overlay.opaque"

const (
	whiteout       = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	whiteoutOther  = ".wh..wh." // aufs kept its own files under such names
)

// unpacker writes one layer.
type unpacker struct {
	root   *os.Root
	budget *budget
	dirs   map[string]bool // known to be directories, and no links
	times  map[string]time.Time
	buf    []byte
}

// unpack extracts a layer's tar into dir, which is empty.
func unpack(ctx context.Context, r io.Reader, dir string, b *budget) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() // every file is closed by itself
	u := &unpacker{root: root, budget: b, dirs: map[string]bool{".": true}, times: map[string]time.Time{}, buf: make([]byte, 64<<10)}
	in := &rawReader{ctx, r, b}
	for t := tar.NewReader(in); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = u.entry(h, t)
		}
		if err != nil {
			return classify(err)
		}
	}
	// What comes after the last entry is a part of what the digest is of.
	if _, err := io.CopyBuffer(io.Discard, in, u.buf); err != nil {
		return classify(err)
	}
	for name, at := range u.times {
		if err := root.Chtimes(name, at, at); err != nil {
			return err
		}
	}
	return nil
}

// classify tells a broken tar from a source that can't be read.
func classify(err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return err
	}
	for _, e := range []error{tar.ErrHeader, tar.ErrFieldTooLong, tar.ErrInsecurePath, io.ErrUnexpectedEOF} {
		if errors.Is(err, e) {
			return broken("a layer is no tar: %v", err)
		}
	}
	return err
}

// entry writes one entry.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if u.budget.entries.Add(-1) < 0 {
		return broken("it has more than %d files", maxEntries)
	}
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		if h.Typeflag == tar.TypeDir {
			return u.root.Chmod(".", dirMode(h))
		}
		return nil
	}
	dir, err := u.parent(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if strings.HasPrefix(base, whiteout) {
		return u.delete(dir, base)
	}
	at := path.Join(dir, base)
	switch h.Typeflag {
	case tar.TypeDir:
		return u.directory(at, h)
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(at, h, content)
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) > maxPath || strings.ContainsRune(h.Linkname, 0) {
			return broken("the target of %s", name)
		}
		if _, err := u.clear(at); err != nil {
			return err
		}
		return u.root.Symlink(h.Linkname, at)
	case tar.TypeLink:
		return u.link(at, h)
	}
	return nil // devices and pipes
}

// Limits of Linux for the parts and the whole of a path.
const (
	maxPart = 255
	maxPath = 4095
)

// clean gives a name relative to the root.
func clean(name string) (string, error) {
	if len(name) > maxPath || strings.ContainsRune(name, 0) {
		return "", broken("the name %.80q", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." || len(part) > maxPart {
			return "", broken("the name %.80q", name)
		}
	}
	return path.Clean(strings.TrimLeft(name, "/")), nil
}

// maxHops is how many links a path may go through, as on Linux.
const maxHops = 40

// parent makes a directory and those above it, and gives its path without
// links. Links within the layer are followed as if the layer were the root of
// the file system.
func (u *unpacker) parent(dir string) (string, error) {
	if u.dirs[dir] {
		return dir, nil
	}
	at, hops := ".", 0
	todo := strings.Split(dir, "/")
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		if u.dirs[next] {
			at = next
			continue
		}
		info, err := u.root.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := u.makeDir(next); err != nil {
				return "", err
			}
		case err != nil:
			return "", err
		case info.Mode()&fs.ModeSymlink != 0:
			if hops++; hops > maxHops {
				return "", broken("too many links on the way to %s", dir)
			}
			target, err := u.root.Readlink(next)
			if err != nil {
				return "", err
			}
			if strings.HasPrefix(target, "/") {
				at = "."
			}
			todo = append(strings.Split(target, "/"), todo...)
			continue
		case info.IsDir():
			u.dirs[next] = true
		default: // a file, or what was deleted, becomes a directory
			if _, err := u.clear(next); err != nil {
				return "", err
			}
			if err := u.makeDir(next); err != nil {
				return "", err
			}
			if err := u.hide(next); err != nil {
				return "", err
			}
		}
		at = next
	}
	return at, nil
}

func (u *unpacker) makeDir(at string) error {
	if len(at) > maxPath {
		return broken("a path of %d bytes", len(at))
	}
	if u.budget.entries.Add(-1) < 0 { // also those that are only implied
		return broken("it has more than %d files", maxEntries)
	}
	if err := u.root.Mkdir(at, 0o755); err != nil {
		return err
	}
	u.dirs[at] = true
	return u.root.Chmod(at, 0o755) // whatever the umask
}

// dirMode and fileMode leave the owner, who is the server, what it takes to
// read and to remove.
func dirMode(h *tar.Header) fs.FileMode  { return fs.FileMode(h.Mode)&0o777 | 0o700 }
func fileMode(h *tar.Header) fs.FileMode { return fs.FileMode(h.Mode)&0o777 | 0o400 }

func (u *unpacker) directory(at string, h *tar.Header) error {
	info, err := u.root.Lstat(at)
	if err == nil && !info.IsDir() {
		var deleted bool
		if deleted, err = u.clear(at); err != nil {
			return err
		}
		if err := u.makeDir(at); err != nil {
			return err
		}
		if deleted {
			if err := u.hide(at); err != nil {
				return err
			}
		}
	} else if errors.Is(err, fs.ErrNotExist) {
		err = u.makeDir(at)
	}
	if err != nil {
		return err
	}
	if t := h.ModTime; t.Unix() > 0 {
		u.times[at] = t
	}
	return u.root.Chmod(at, dirMode(h))
}

func (u *unpacker) file(at string, h *tar.Header, content io.Reader) error {
	if h.Size < 0 {
		return broken("the size of %s", at)
	}
	if err := u.budget.takeBytes(h.Size); err != nil {
		return err
	}
	if _, err := u.clear(at); err != nil {
		return err
	}
	f, err := u.root.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(f, content, u.buf)
	if err = errors.Join(err, f.Chmod(fileMode(h)), f.Close()); err != nil {
		return err
	}
	if h.ModTime.Unix() > 0 {
		return u.root.Chtimes(at, h.ModTime, h.ModTime)
	}
	return nil
}

// link makes another name of a file that the layer has already.
func (u *unpacker) link(at string, h *tar.Header) error {
	target, err := clean(h.Linkname)
	if err != nil {
		return err
	}
	dir, err := u.parent(path.Dir(target))
	if err != nil {
		return err
	}
	from := path.Join(dir, path.Base(target))
	if from == at {
		return nil
	}
	info, err := u.root.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() && info.Mode()&fs.ModeSymlink == 0 {
		return broken("a link to %.80q, which is no file of the same layer", h.Linkname)
	}
	if err != nil {
		return err
	}
	if _, err := u.clear(at); err != nil {
		return err
	}
	return u.root.Link(from, at)
}

// clear removes what is at a path, which is to become something else, and
// tells whether that was a deletion's mark.
func (u *unpacker) clear(at string) (deleted bool, err error) {
	info, err := u.root.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.IsDir() {
		prefix := at + "/"
		for d := range u.dirs {
			if d == at || strings.HasPrefix(d, prefix) {
				delete(u.dirs, d)
			}
		}
		for d := range u.times {
			if d == at || strings.HasPrefix(d, prefix) {
				delete(u.times, d)
			}
		}
	}
	return info.Mode()&fs.ModeCharDevice != 0, u.root.RemoveAll(at)
}

// delete marks that the layer deletes something in dir.
func (u *unpacker) delete(dir, base string) error {
	if base == whiteoutOpaque {
		return u.hide(dir)
	}
	if strings.HasPrefix(base, whiteoutOther) {
		return nil
	}
	name := strings.TrimPrefix(base, whiteout)
	if slices.Contains([]string{"", ".", ".."}, name) {
		return broken("the deletion of %q", name)
	}
	if _, err := u.root.Lstat(path.Join(dir, name)); err == nil {
		// The layer has put something else there: a deletion is of what is
		// below. A folder of its own then hides that.
		if info, err := u.root.Lstat(path.Join(dir, name)); err == nil && info.IsDir() {
			return u.hide(path.Join(dir, name))
		}
		return nil
	}
	at, err := u.root.Open(dir)
	if err != nil {
		return err
	}
	defer at.Close() // only a place
	if err := unix.Mknodat(int(at.Fd()), name, unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("mark a deletion: %w", err)
	}
	return nil
}

// hide makes a folder hide what lower layers have in it.
func (u *unpacker) hide(dir string) error {
	at, err := u.root.Open(dir)
	if err != nil {
		return err
	}
	defer at.Close() // only a place
	if err := unix.Fsetxattr(int(at.Fd()), opaque, []byte("y"), 0); err != nil {
		return fmt.Errorf("mark a folder that hides those below: %w", err)
	}
	return nil
}
