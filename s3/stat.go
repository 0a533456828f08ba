package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// Object is what can be told of an object without reading it.
type Object struct {
	Exists bool
	// Tag is another for another content: version, ETag, time and size, or what
	// a file has of these.
	Tag string
	// Changed is when it changed last, if the Tag has nothing better to tell one
	// content from the next than that; else it is zero.
	Changed time.Time
	Size    int64 // in bytes
}

// Stat asks about an object. That it does not exist is no error.
func (b *Bucket) Stat(ctx context.Context, bucket, key string) (Object, error) {
	switch b.base.Scheme {
	case "":
		return Object{}, hearth.Errorf(hearth.InvalidParameter, "Hearth has been given no S3 endpoint (s3-endpoint).")
	case "file":
		return b.statFile(bucket, key)
	}
	r, err := b.request(ctx, http.MethodHead, bucket, key, "")
	if err != nil {
		return Object{}, err
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return Object{}, err
	}
	defer answer.Body.Close() // of an answer to HEAD there is nothing to read
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return Object{}, nil
	default:
		return Object{}, fmt.Errorf("the S3 server answers %s", answer.Status)
	}
	h := answer.Header
	if h.Get("Etag") == "" {
		return Object{}, errors.New("the S3 server tells no ETag")
	}
	return Object{Exists: true, Tag: strings.Join([]string{h.Get("X-Amz-Version-Id"), h.Get("Etag"), h.Get("Last-Modified"), h.Get("Content-Length")}, " "), Size: answer.ContentLength}, nil
}

func (b *Bucket) statFile(bucket, key string) (Object, error) {
	if bucket == "." || bucket == ".." || strings.HasPrefix(key, "/") || path.Clean(key) != key {
		return Object{}, nil // no file can have that name
	}
	top, err := os.OpenRoot(b.base.Path)
	if err != nil {
		return Object{}, err
	}
	defer top.Close() // only read
	info, err := top.Stat(path.Join(bucket, key))
	if errors.Is(err, fs.ErrNotExist) {
		return Object{}, nil
	}
	if err != nil {
		return Object{}, err
	}
	tag, changed := FileTag(info)
	return Object{Exists: true, Tag: tag, Changed: changed, Size: info.Size()}, nil
}

// FileTag is what tells a file's content from another without reading it, and
// when it changed last, which is later than it may say of itself (mtime).
func FileTag(info fs.FileInfo) (tag string, changed time.Time) {
	tag = fmt.Sprintf("%v %d %d", info.Mode(), info.Size(), info.ModTime().UnixNano())
	changed = info.ModTime()
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		changed = time.Unix(st.Ctim.Unix())
		tag += fmt.Sprintf(" %d %d", st.Ino, changed.UnixNano())
	}
	return tag, changed
}

// CloseIdle closes the connections that are kept for the next request.
func (b *Bucket) CloseIdle() { b.client.CloseIdleConnections() }
