package lambda

import (
	"context"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/archive"
)

// Objects fetches code from S3. Safe for concurrent use.
type Objects interface {
	// Fetch gives an object's bytes, at most limit of them, which are there
	// until release is called. version is "" for the newest. Its errors are
	// what the caller is told.
	Fetch(ctx context.Context, bucket, key, version string, limit int64) (object []byte, release func(), err error)
}

// noObjects is where there is no S3.
type noObjects struct{}

func (noObjects) Fetch(_ context.Context, bucket, key, _ string, _ int64) ([]byte, func(), error) {
	return nil, nil, hearth.Errorf(hearth.InvalidParameter, "There is no S3 to take %s/%s from: send the code as ZipFile.", bucket, key)
}

// source is where a request says that its archive is: in it, or in S3.
type source struct {
	zip                  []byte
	bucket, key, version *string
}

// object tells whether it is in S3, and empty whether it is nowhere.
func (s source) object() bool { return s.bucket != nil || s.key != nil || s.version != nil }
func (s source) empty() bool  { return len(s.zip) == 0 && !s.object() }

// archive gives a source's archive, of functions and of layers alike. It is
// there until release is called.
func (h *Handler) archive(ctx context.Context, s source) (zip []byte, release func(), err error) {
	object := s.object()
	switch {
	case len(s.zip) > 0 && object:
		return nil, nil, hearth.Errorf(hearth.InvalidParameter, "Please do not provide other FunctionCode parameters when providing a ZipFile.")
	case len(s.zip) > codeSizeZipped:
		return nil, nil, hearth.Errorf(hearth.EntityTooLarge, "Zipped size must be smaller than %d bytes", codeSizeZipped)
	case len(s.zip) > 0:
		return s.zip, func() {}, nil
	case !object:
		return nil, nil, hearth.Errorf(hearth.InvalidParameter, "Please provide a source for function code.")
	case s.bucket == nil || s.key == nil:
		return nil, nil, hearth.Errorf(hearth.InvalidParameter, "Please provide both S3Bucket and S3Key as the source for function code.")
	}
	return h.Objects.Fetch(ctx, *s.bucket, *s.key, str(s.version), archive.Lambda.Zipped)
}
