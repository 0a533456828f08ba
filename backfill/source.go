package backfill

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth"

	_ "modernc.org/sqlite" // the driver of sqlite: sources
)

// Item is one item of a data set. ID is what its source calls it: the same
// whenever it is listed, and no other item's.
type Item struct {
	ID    string
	Value json.RawMessage // what the function is given
}

// Source is a data set that can be listed. One goroutine at a time uses it.
type Source interface {
	// Page lists up to most items from a position on; "" is the beginning. next
	// is where the following page begins, "" after the last. A position must be
	// good in another process too. Items may come in any order, more than once,
	// and may be missed in one pass if they come in the next.
	Page(ctx context.Context, position string, most int) (items []Item, next string, err error)
	// Steady tells that the listing is in one order and has nothing twice, so
	// that one pass finds everything.
	Steady() bool
	Close() error
}

// OpenSource opens what a URL names: lines:///PATH (a file's lines),
// folder:///PATH (the files of a folder, at any depth) or sqlite:///PATH with
// a query whose first column is the item's id. Errors: InvalidParameter.
func OpenSource(address, query string) (Source, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The source %q is no URL: %v", address, err)
	}
	if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The source %q must have an absolute path, such as %s:///srv/data.", address, u.Scheme)
	}
	if _, err := os.Stat(u.Path); err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The source %s can't be read on the server's machine: %w", address, err)
	}
	switch {
	case (u.Scheme == "sqlite") != (query != ""):
		return nil, hearth.Errorf(hearth.InvalidParameter, "A query goes with a source sqlite:///PATH, and only with that.")
	case u.Scheme == "lines":
		return &lines{path: u.Path}, nil
	case u.Scheme == "folder":
		return &folder{path: u.Path}, nil
	case u.Scheme == "sqlite":
		db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: u.Path}).EscapedPath()+"?mode=ro&_pragma=busy_timeout(10000)")
		if err != nil {
			return nil, err
		}
		return &rows{db: db, query: query}, nil
	}
	return nil, hearth.Errorf(hearth.InvalidParameter, "There is no source %q: use lines:///PATH, folder:///PATH or sqlite:///PATH.", u.Scheme)
}

// lines are a file's lines, which are known by where they begin: lines that are
// equal are two items. A position is a byte's.
type lines struct{ path string }

// maxLine bounds a line, in bytes: what one call can carry.
const maxLine = 5 << 20

func (l *lines) Steady() bool { return true }
func (l *lines) Close() error { return nil }

func (l *lines) Page(_ context.Context, position string, most int) (items []Item, next string, err error) {
	at, err := offset(position)
	if err != nil {
		return nil, "", err
	}
	f, err := os.Open(l.path)
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		return nil, "", err
	}
	r := bufio.NewReaderSize(f, 64<<10)
	for len(items) < most {
		line, rerr := r.ReadString('\n')
		if len(line) > maxLine {
			return nil, "", fmt.Errorf("the line at byte %d of %s has more than %d bytes", at, l.path, maxLine)
		}
		if text := strings.TrimRight(line, "\r\n"); text != "" {
			items = append(items, Item{ID: strconv.FormatInt(at, 10), Value: jsonOf(text)})
		}
		at += int64(len(line))
		if errors.Is(rerr, io.EOF) {
			return items, "", nil
		}
		if rerr != nil {
			return nil, "", rerr
		}
	}
	return items, strconv.FormatInt(at, 10), nil
}

func offset(position string) (int64, error) {
	if position == "" {
		return 0, nil
	}
	return strconv.ParseInt(position, 10, 64)
}

// jsonOf is text that is JSON as it is, and other text as a string.
func jsonOf(text string) json.RawMessage {
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string always has a JSON form
	}
	return b
}

// folder is the files under a folder, by their path. A position is the path of
// the last one: what comes before it later is found by the next pass.
type folder struct{ path string }

func (f *folder) Steady() bool { return false }
func (f *folder) Close() error { return nil }

func (f *folder) Page(ctx context.Context, position string, most int) (items []Item, next string, err error) {
	err = f.walk(ctx, "", position, func(name string, d fs.DirEntry) error {
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed since
		}
		if err != nil {
			return err
		}
		value, err := json.Marshal(struct {
			Path     string `json:"path"`
			Size     int64  `json:"size"`
			Modified string `json:"modified"`
		}{filepath.Join(f.path, name), info.Size(), info.ModTime().UTC().Format("2006-01-02T15:04:05.000Z")})
		if err != nil {
			return err
		}
		items = append(items, Item{ID: name, Value: value})
		if len(items) == most {
			return fs.SkipAll
		}
		return nil
	})
	if errors.Is(err, fs.SkipAll) {
		return items, items[len(items)-1].ID, nil
	}
	return items, "", err
}

// walk calls found with the files after a path, in the paths' order, and looks
// into no folder that has none.
func (f *folder) walk(ctx context.Context, under, after string, found func(name string, d fs.DirEntry) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(f.path, under))
	if err != nil {
		return err
	}
	// A folder is where its files' paths are: after those that go on with a
	// byte less than the slash.
	name := func(d fs.DirEntry) string {
		if d.IsDir() {
			return d.Name() + "/"
		}
		return d.Name()
	}
	sort.Slice(entries, func(i, j int) bool { return name(entries[i]) < name(entries[j]) })
	for _, d := range entries {
		p := under + name(d)
		switch {
		case d.IsDir():
			if p > after || strings.HasPrefix(after, p) {
				if err := f.walk(ctx, p, after, found); err != nil {
					return err
				}
			}
		case d.Type().IsRegular() && p > after:
			if err := found(p, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// rows are those of a query. The first column is an item's id, and an item is
// an object of all columns. A position is how many were read; another order,
// or rows that come and go, are made up for by the next pass.
type rows struct {
	db    *sql.DB
	query string
}

func (r *rows) Steady() bool { return false }
func (r *rows) Close() error { return r.db.Close() }

func (r *rows) Page(ctx context.Context, position string, most int) (items []Item, next string, err error) {
	at, err := offset(position)
	if err != nil {
		return nil, "", err
	}
	found, err := r.db.QueryContext(ctx, "SELECT * FROM ("+strings.TrimRight(strings.TrimSpace(r.query), ";")+") LIMIT ? OFFSET ?", most, at)
	if err != nil {
		return nil, "", fmt.Errorf("the query: %w", err)
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	columns, err := found.Columns()
	if err != nil {
		return nil, "", err
	}
	for found.Next() {
		values := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := found.Scan(into...); err != nil {
			return nil, "", err
		}
		item := map[string]any{}
		for i, c := range columns {
			item[c] = values[i]
		}
		value, err := json.Marshal(item)
		if err != nil {
			return nil, "", err
		}
		id := fmt.Sprint(values[0])
		if b, ok := values[0].([]byte); ok {
			id = string(b)
		}
		items = append(items, Item{ID: id, Value: value})
	}
	if err := found.Err(); err != nil {
		return nil, "", err
	}
	if len(items) < most {
		return items, "", nil
	}
	return items, strconv.FormatInt(at+int64(len(items)), 10), nil
}
