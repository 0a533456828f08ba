// Package image takes in container images: from a registry, an OCI layout or
// an archive. An image is pinned to a digest when a function gets it, and its
// layers are kept unpacked on disk, each once for all images that have it, for
// as long as a function has one of those.
//
// An image comes from outside and is trusted in nothing. What a digest says is
// verified, what an archive does is bounded, and everything is written through
// os.Root.
package image

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Config is what a Store works with.
type Config struct {
	// Dir is the Store's own folder, made if it is not there.
	Dir string
	// Paths are the folders in which layouts and archives may lie; none if
	// empty.
	Paths []string
	// Registries are those that images may come from, as CheckRegistry has
	// them; any if empty.
	Registries []string
	// Insecure are registries (HOST or HOST:PORT) that may be asked without
	// TLS, beside those on loopback.
	Insecure []string
	// Credentials is a file as docker login writes it (config.json); "" is
	// none. It is read each time, so that it may be renewed.
	Credentials string
	Log         *slog.Logger // nil is slog.Default
	// MaxBytes bounds an image's unpacked files; 0 is the service's 10 GiB.
	MaxBytes int64
}

// Limits of an image. The service publishes the bytes; the others are
// several times what is seen.
const (
	maxBytes   = 10 << 30
	maxEntries = 1_000_000
	maxLayers  = 127
	maxConfig  = 4 << 20
)

// Image is an image that lies unpacked on this machine.
type Image struct {
	// Layers are folders, the lowest first, to be merged by overlayfs with
	// userxattr.
	Layers []string
	// What the image says of how it is to be run.
	EntryPoint, Command, Env []string
	WorkingDirectory         string
}

// Resolve finds the image that uri names for an architecture (x86_64, arm64),
// and gives uri with its digest, and the digest in hexadecimal. Nothing of its
// layers is read. Errors are in the words of the Lambda service.
func (s *Store) Resolve(ctx context.Context, uri, architecture string) (pinned, digest string, err error) {
	ref, err := parse(uri)
	if err != nil {
		return "", "", notValid(uri, err)
	}
	src, err := s.open(ctx, ref, architecture)
	if err != nil {
		return "", "", refusal(uri, err)
	}
	defer src.close()
	if err := src.check(); err != nil {
		return "", "", refusal(uri, err)
	}
	return ref.pin(src.digest), src.digest.Hex, nil
}

// source is an image where it comes from, pinned.
type source struct {
	digest v1.Hash
	config *v1.ConfigFile
	layers []layerSource
	close  func()
}

// layerSource is a layer where it comes from.
type layerSource struct {
	diffID v1.Hash // of the tar
	open   func() (io.ReadCloser, error)
}

// newSource reads an image's description. digest is that which it is pinned
// to; the description has been verified to be of it.
func newSource(img v1.Image, digest v1.Hash, close func()) (*source, error) {
	if close == nil {
		close = func() {}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	src := &source{digest: digest, config: config, close: close}
	if len(layers) != len(config.RootFS.DiffIDs) {
		return nil, broken("%d layers, and %d in its configuration", len(layers), len(config.RootFS.DiffIDs))
	}
	for i, l := range layers {
		media, err := l.MediaType()
		if err != nil {
			return nil, err
		}
		if !media.IsLayer() || !media.IsDistributable() {
			return nil, &unsupported{string(media)}
		}
		src.layers = append(src.layers, layerSource{config.RootFS.DiffIDs[i], l.Uncompressed})
	}
	return src, nil
}

// check judges the description.
func (src *source) check() error {
	if n := len(src.layers); n > maxLayers {
		return broken("%d layers are more than %d", n, maxLayers)
	}
	if len(src.layers) == 0 {
		return broken("it has no layers")
	}
	for _, l := range src.layers {
		if l.diffID.Algorithm != "sha256" || !isHex(l.diffID.Hex) {
			return broken("the digest %s", l.diffID)
		}
	}
	if os := src.config.OS; os != "" && os != "linux" {
		return broken("it is for %s", os)
	}
	return nil
}

// fits refuses an image for another architecture.
func (src *source) fits(architecture string) error {
	if a := src.config.Architecture; a != "" && a != goarch(architecture) {
		return broken("it is for %s, and the function is for %s", a, architecture)
	}
	return nil
}

// goarch is what images call the API's architectures.
func goarch(architecture string) string {
	switch architecture {
	case "x86_64":
		return "amd64"
	case "":
		return runtime.GOARCH
	}
	return architecture
}

// choose finds the image for an architecture among those of an index.
func choose(manifests []v1.Descriptor, architecture string) (v1.Descriptor, error) {
	var has []string
	for _, d := range manifests {
		if d.Platform == nil {
			continue
		}
		if d.Platform.OS == "linux" && d.Platform.Architecture == goarch(architecture) {
			return d, nil
		}
		if d.Platform.OS != "unknown" { // an attestation's
			has = append(has, d.Platform.String())
		}
	}
	return v1.Descriptor{}, broken("it is for %s, and the function is for %s", strings.Join(has, ", "), architecture)
}

func isHex(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// invalidImage says what is wrong with an image; unsupported, that a part of
// it is of a sort that Hearth can't take.
type (
	invalidImage struct{ why string }
	unsupported  struct{ media string }
)

func (e *invalidImage) Error() string { return e.why }
func (e *unsupported) Error() string  { return "the media type " + e.media }

func broken(format string, args ...any) error {
	return &invalidImage{fmt.Sprintf(format, args...)}
}
