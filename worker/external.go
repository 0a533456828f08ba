package worker

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
)

// externalOf lists the external extensions of what is attached: those in an
// image's root, or those that a function's layers bring.
func externalOf(at sandbox.Attachment) ([]string, error) {
	if len(at.Root) > 0 {
		return externalIn(at.Root, strings.TrimPrefix(extensionsDir, "/"))
	}
	return externalIn(at.Layers, "extensions")
}

// externalIn lists the programs in the folder at a path of merged layers, the
// lowest first, as overlayfs shows it: a later layer's file covers an earlier
// one's of the same name, a deletion's mark takes it away, and so it is with
// the folders above. A link on the way is not followed, since that would show
// what the host has there.
func externalIn(layers []string, at string) ([]string, error) {
	seen := map[string]bool{} // whether it is a program
	for _, layer := range layers {
		dir, err := within(layer, at, seen)
		if err != nil {
			return nil, err
		}
		if dir == "" {
			continue
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Type()&fs.ModeCharDevice != 0 { // a deletion
				delete(seen, e.Name())
			} else {
				seen[e.Name()] = !e.IsDir()
			}
		}
	}
	maps.DeleteFunc(seen, func(_ string, program bool) bool { return !program })
	return slices.Sorted(maps.Keys(seen)), nil
}

// within is a layer's own folder at the path, "" if it has none. It forgets
// what was seen of lower layers if this one hides that.
func within(layer, at string, seen map[string]bool) (string, error) {
	dir := layer
	for name := range strings.SplitSeq(at, "/") {
		dir = filepath.Join(dir, name)
		info, err := os.Lstat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", nil
		case err != nil:
			return "", err
		case !info.IsDir(): // a file, a link, or a deletion
			clear(seen)
			return "", nil
		}
		var mark [1]byte
		if n, err := unix.Lgetxattr(dir, "user.overlay.opaque", mark[:]); err == nil && n == 1 && mark[0] == 'y' {
			clear(seen)
		}
	}
	return dir, nil
}
