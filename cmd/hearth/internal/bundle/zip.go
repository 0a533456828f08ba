package bundle

import (
	"archive/zip"
	"bytes"
	"cmp"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The Lambda API's limits on a package that is sent with the request, and on
// its files, in bytes.
const (
	MaxZip      = 52_428_800
	MaxUnpacked = 262_144_000
)

// Package is what is sent to the API.
type Package struct {
	Zip      []byte
	Files    int
	Unpacked int64 // bytes of all files
}

// CodeSHA256 is the hash that the API reports for the package.
func (p *Package) CodeSHA256() string {
	sum := sha256.Sum256(p.Zip)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// TooLarge is the error of a package beyond the API's limits.
type TooLarge struct {
	Size, Limit int64
	Unpacked    bool     // the files, not the zip, are too large
	Largest     []string // the largest files, with their sizes
}

func (e *TooLarge) Error() string {
	what := "zipped"
	if e.Unpacked {
		what = "unpacked"
	}
	return fmt.Sprintf("%s it has %d bytes and %d are allowed; the largest files are %s", what, e.Size, e.Limit, strings.Join(e.Largest, ", "))
}

// entry is one file of a package.
type entry struct {
	name string // slash-separated
	path string // on disk
	mode fs.FileMode
	size int64
}

// Zip packs the folder. The same files give the same bytes, whenever and
// wherever they are packed: names are sorted, times and owners left out, and
// of modes only whether a file is executable is kept.
func Zip(ctx context.Context, dir string) (*Package, error) {
	rs, err := loadRules(dir)
	if err != nil {
		return nil, err
	}
	var entries []entry
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if rs.leavesOut(rel, d.IsDir()) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return nil
		case info.Mode()&fs.ModeSymlink != 0:
			if err := checkLink(path, rel); err != nil {
				return err
			}
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is neither a file, a folder nor a link", rel)
		}
		entries = append(entries, entry{rel, path, info.Mode(), info.Size()})
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	return pack(ctx, entries)
}

// checkLink refuses a link out of the package, which would point nowhere, or
// somewhere else, on the machine that runs the function.
func checkLink(path, rel string) error {
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	if filepath.IsAbs(target) || !filepath.IsLocal(filepath.Join(filepath.Dir(rel), target)) {
		return fmt.Errorf("%s is a link to %s, which is outside the folder", rel, target)
	}
	return nil
}

// ZipFile packs one file on disk as the only, executable, one of a package.
func ZipFile(ctx context.Context, name, path string) (*Package, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return pack(ctx, []entry{{name, path, 0o755, info.Size()}})
}

func pack(ctx context.Context, entries []entry) (*Package, error) {
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	p := &Package{Files: len(entries)}
	for _, e := range entries {
		p.Unpacked += e.size
	}
	if p.Unpacked > MaxUnpacked {
		return nil, &TooLarge{Size: p.Unpacked, Limit: MaxUnpacked, Unpacked: true, Largest: largest(entries)}
	}
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	zw.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(w, flate.DefaultCompression)
	})
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := add(zw, e); err != nil {
			return nil, err
		}
		if buf.Len() > MaxZip {
			return nil, &TooLarge{Size: int64(buf.Len()), Limit: MaxZip, Largest: largest(entries)}
		}
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	p.Zip = buf.Bytes()
	return p, nil
}

// epoch is the earliest time that a zip can hold.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

func add(zw *zip.Writer, e entry) error {
	h := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: epoch}
	link := e.mode&fs.ModeSymlink != 0
	switch {
	case link:
		h.SetMode(fs.ModeSymlink | 0o777)
	case e.mode&0o111 != 0 || e.name == "bootstrap": // without the bit it could not start
		h.SetMode(0o755)
	default:
		h.SetMode(0o644)
	}
	w, err := zw.CreateHeader(h)
	if err != nil {
		return err
	}
	if link {
		target, err := os.Readlink(e.path)
		if err != nil {
			return err
		}
		_, err = io.WriteString(w, filepath.ToSlash(target))
		return err
	}
	f, err := os.Open(e.path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

func largest(entries []entry) []string {
	bySize := slices.SortedFunc(slices.Values(entries), func(a, b entry) int { return cmp.Compare(b.size, a.size) })
	var names []string
	for _, e := range bySize[:min(3, len(bySize))] {
		names = append(names, fmt.Sprintf("%s (%.1f MiB)", e.name, float64(e.size)/(1<<20)))
	}
	return names
}
