package backfill

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"
)

// folder is the files under a folder, by their path, in the order in which the
// file system has them: putting a folder of millions in order would take as
// much memory. A position is how many were read; another order, or files that
// come and go, are made up for by the next pass.
type folder struct {
	path  string
	since time.Time

	at   int64 // what was read; of the walk below
	open []*level
}

// level is a folder that is being read.
type level struct {
	name    string // below the top
	f       *os.File
	entries []fs.DirEntry
	old     bool // nothing has come into it since
}

func (f *folder) Steady() bool      { return false }
func (f *folder) Since(t time.Time) { f.since = t }

func (f *folder) Close() (err error) {
	for _, l := range f.open {
		err = errors.Join(err, l.f.Close())
	}
	f.open = nil
	return err
}

func (f *folder) Page(ctx context.Context, position string, most int) (items []Item, next string, err error) {
	at, err := offset(position)
	if err != nil {
		return nil, "", err
	}
	if len(f.open) == 0 || at == 0 || at != f.at {
		if err := errors.Join(f.Close(), f.enter("")); err != nil {
			return nil, "", err
		}
		for f.at = 0; f.at < at; f.at++ { // another process, or another source, was there
			if name, _, err := f.next(ctx); err != nil || name == "" {
				return nil, "", err
			}
		}
	}
	for len(items) < most {
		name, d, err := f.next(ctx)
		if err != nil || name == "" {
			return items, "", err
		}
		f.at++
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return nil, "", err
		}
		value, err := json.Marshal(struct {
			Path     string `json:"path"`
			Size     int64  `json:"size"`
			Modified string `json:"modified"`
		}{filepath.Join(f.path, name), info.Size(), info.ModTime().UTC().Format(stamp)})
		if err != nil {
			return nil, "", err
		}
		items = append(items, Item{ID: name, Value: value, Modified: info.ModTime()})
	}
	return items, strconv.FormatInt(f.at, 10), nil
}

// enter begins with a folder.
func (f *folder) enter(name string) error {
	d, err := os.Open(filepath.Join(f.path, name))
	if errors.Is(err, fs.ErrNotExist) && name != "" {
		return nil // removed since
	}
	if err != nil {
		return err
	}
	l := &level{name: name, f: d}
	if !f.since.IsZero() {
		info, err := d.Stat()
		if err != nil {
			return errors.Join(err, d.Close())
		}
		// A second more, for file systems that count in those.
		l.old = info.ModTime().Before(f.since.Add(-time.Second))
	}
	f.open = append(f.open, l)
	return nil
}

// next is the next file's name below the top; "" is the end.
func (f *folder) next(ctx context.Context) (string, fs.DirEntry, error) {
	for len(f.open) > 0 {
		l := f.open[len(f.open)-1]
		if len(l.entries) == 0 {
			if err := ctx.Err(); err != nil {
				return "", nil, err
			}
			var err error
			if l.entries, err = l.f.ReadDir(page); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, fs.ErrNotExist) {
				return "", nil, err
			}
			if len(l.entries) == 0 {
				f.open = f.open[:len(f.open)-1]
				if err := l.f.Close(); err != nil {
					return "", nil, err
				}
				continue
			}
		}
		d := l.entries[0]
		l.entries = l.entries[1:]
		name := path.Join(l.name, d.Name())
		switch {
		case d.IsDir():
			if err := f.enter(name); err != nil {
				return "", nil, err
			}
		case d.Type().IsRegular() && !l.old:
			return name, d, nil
		}
	}
	return "", nil, nil
}
