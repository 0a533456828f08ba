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

// imageRef is an image that an instance holds.
type imageRef struct {
	image   Image
	release func()
}

func isImage(f *hearth.Function) bool { return f.Image != nil }

// choice is what runs f in this instance.
func (in *instance) choice(ctx context.Context, f *hearth.Function) (runtimes.Choice, error) {
	if !isImage(f) {
		return in.w.cfg.Runtimes.For(f.Runtime)
	}
	i, err := in.image(ctx, f)
	return runtimes.ForImage(i.Run), err
}

// image is f's image, which the instance holds until it is destroyed.
func (in *instance) image(ctx context.Context, f *hearth.Function) (Image, error) {
	digest := f.Package.SHA256
	in.mu.Lock()
	ref, ok := in.images[digest]
	in.mu.Unlock()
	if ok {
		return ref.image, nil
	}
	i, release, err := in.w.cfg.Images.Acquire(ctx, f)
	if err != nil {
		return Image{}, err
	}
	in.mu.Lock()
	_, had := in.images[digest]
	destroyed := in.destroyed
	if !had && !destroyed {
		if in.images == nil {
			in.images = map[string]imageRef{}
		}
		in.images[digest] = imageRef{i, release}
	}
	in.mu.Unlock()
	switch {
	case destroyed:
		release()
		return Image{}, in.gone(nil)
	case had: // by another container, at the same time
		release()
	}
	return i, nil
}
