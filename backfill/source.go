package backfill

import (
	"context"
	"encoding/json"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/s3"
)

// Item is one item of a data set. ID is what its source calls it: the same
// whenever it is listed, and no other item's.
type Item struct {
	ID       string
	Value    json.RawMessage // what the function is given
	Modified time.Time       // zero if the source does not say
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

// Dated is a Source whose items say when they were modified.
type Dated interface {
	Source
	// Since has the listing leave out, as far as that spares work, what was not
	// modified since a time.
	Since(time.Time)
}

// Objects are those of an S3 server; see s3.Bucket.
type Objects interface {
	List(ctx context.Context, bucket, prefix, token, after string, most int) ([]s3.Listed, string, error)
	Open(ctx context.Context, bucket, key, tag string, from int64) (io.ReadCloser, string, error)
	Stat(ctx context.Context, bucket, key string) (s3.Object, error)
}

// sources says what URLs name; it is the end of errors.
const sources = "lines:///FILE, csv:///FILE, json:///FILE (an array), chunks:///FILE?size=BYTES, the same of an object as in lines+s3://BUCKET/KEY, folder:///FOLDER, s3://BUCKET/PREFIX, sqlite:///FILE, source:///NAME (a registered PostgreSQL) and sqs:///QUEUE"

// OpenSource opens what a spec's URL names: all but queues and registered
// sources. Errors: InvalidParameter.
func OpenSource(spec Spec, objects Objects) (Source, error) {
	u, err := url.Parse(spec.Source)
	if err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The source %q is no URL: %v", spec.Source, err)
	}
	if u.Fragment != "" {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The source %q goes on after a #, which is written %%23 in a path.", spec.Source)
	}
	form, where, remote := strings.Cut(u.Scheme, "+")
	if u.Scheme == "s3" {
		form, where, remote = "s3", "s3", true
	}
	if !slices.Contains([]string{"lines", "csv", "json", "chunks", "folder", "sqlite", "s3"}, form) || remote && (where != "s3" || form == "folder" || form == "sqlite") {
		return nil, hearth.Errorf(hearth.InvalidParameter, "There is no source %q; there are %s.", u.Scheme, sources)
	}
	records := form == "lines" || form == "csv" || form == "json"
	if err := spec.databaseOnly(form == "sqlite", records); err != nil {
		return nil, err
	}
	size, err := chunkSize(form, u)
	if err != nil {
		return nil, err
	}
	key := strings.TrimPrefix(u.Path, "/")
	switch {
	case remote && objects == nil:
		return nil, hearth.Errorf(hearth.InvalidParameter, "There are no objects here to take %s from.", spec.Source)
	case remote && u.Host == "":
		return nil, hearth.Errorf(hearth.InvalidParameter, "The source %q must name a bucket, as in %s://BUCKET/KEY.", spec.Source, u.Scheme)
	case form == "s3":
		return &bucket{objects: objects, name: u.Host, prefix: key}, nil
	case remote && key == "":
		return nil, hearth.Errorf(hearth.InvalidParameter, "The source %q must name an object, as in %s://BUCKET/KEY.", spec.Source, u.Scheme)
	case remote:
		return newText(form, &object{objects: objects, bucket: u.Host, key: key}, size, spec.Key), nil
	case u.Host != "" || !strings.HasPrefix(u.Path, "/"):
		return nil, hearth.Errorf(hearth.InvalidParameter, "The source %q must have an absolute path, such as %s:///srv/data.", spec.Source, u.Scheme)
	}
	if _, err := os.Stat(u.Path); err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The source %s can't be read on the server's machine: %w", spec.Source, err)
	}
	switch form {
	case "folder":
		return &folder{path: u.Path}, nil
	case "sqlite":
		return openSQLite(u.Path, spec)
	}
	return newText(form, file(u.Path), size, spec.Key), nil
}

// databaseOnly checks what is only said of databases, and of records.
func (s *Spec) databaseOnly(database, records bool) error {
	switch {
	case database && s.Query == "":
		return hearth.Errorf(hearth.InvalidParameter, "A database needs a query that lists its items: add --query SQL.")
	case !database && s.Query != "":
		return hearth.Errorf(hearth.InvalidParameter, "A query goes with a database (sqlite:///FILE or source:///NAME), and only with that.")
	case !database && s.Modified != "":
		return hearth.Errorf(hearth.InvalidParameter, "The column of when a row was modified goes with a database's query, and only with that.")
	case !database && !records && s.Key != "":
		return hearth.Errorf(hearth.InvalidParameter, "The items of %s have names of their own: leave out the key.", s.Source)
	}
	return nil
}

// maxChunk bounds the size that a function is asked to read, in bytes.
const maxChunk = 5 << 30

func chunkSize(form string, u *url.URL) (int64, error) {
	size := u.Query().Get("size")
	if form != "chunks" {
		if u.RawQuery != "" {
			return 0, hearth.Errorf(hearth.InvalidParameter, "The source %q has parameters; a ? in a path is written %%3F.", u)
		}
		return 0, nil
	}
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || n < 1 || n > maxChunk {
		return 0, hearth.Errorf(hearth.InvalidParameter, "The source %q must say how large a chunk is: ?size=BYTES, from 1 to %d.", u, int64(maxChunk))
	}
	return n, nil
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

// stamp is how a value says when an item was modified.
const stamp = "2006-01-02T15:04:05.000Z"
