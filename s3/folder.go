package s3

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
)

// open opens an object of a folder. No link leads out of the bucket: the
// folder may be one that others write to.
func (b *Bucket) open(bucket, key, version string) (io.ReadCloser, error) {
	if version != "" {
		return nil, refusal("NoSuchVersion") // a file has but one, without a name
	}
	top, err := os.OpenRoot(b.base.Path)
	if err != nil {
		return nil, unavailable(err)
	}
	defer top.Close() // only read
	if bucket == "." || bucket == ".." {
		return nil, refusal("NoSuchBucket")
	}
	folder, err := top.OpenRoot(bucket)
	if err != nil {
		return nil, missing(err, bucket, key, "NoSuchBucket")
	}
	defer folder.Close() // only read
	if strings.HasPrefix(key, "/") || path.Clean(key) != key {
		return nil, refusal("NoSuchKey") // no file can have that name
	}
	// Without waiting for the writer of a pipe.
	f, err := folder.OpenFile(key, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, missing(err, bucket, key, "NoSuchKey")
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		f.Close()
		if err != nil {
			return nil, unavailable(err)
		}
		return nil, refusal("NoSuchKey")
	}
	return f, nil
}

func missing(err error, bucket, key, code string) error {
	if errors.Is(err, fs.ErrPermission) {
		return denied(bucket, key, "AccessDenied", messages["AccessDenied"])
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return refusal(code) // not there, or behind a link that leads out
	}
	return unavailable(err)
}

func refusal(code string) error { return refused(code, messages[code]) }
