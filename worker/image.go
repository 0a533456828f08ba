package worker

import (
	"context"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimes"
)

// Images brings functions' images to this machine.
type Images interface {
	// Acquire makes sure that f's image is here and unpacked, until release is
	// called. Equal requests at once unpack once. Errors: ImageDeleted,
	// ImageAccessDenied, InvalidImage.
	Acquire(ctx context.Context, f *hearth.Function) (i Image, release func(), err error)
}

// Image is an unpacked image.
type Image struct {
	Layers []string // folders as sandbox.Attachment has them
	Run    runtimes.Image
}

func isImage(f *hearth.Function) bool { return f.Image != nil }
