package image

import (
	"errors"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// place is what sort of place an image is in.
type place string

// The places. An image in a registry is named as everywhere; the others are
// named by scheme and absolute path, which ends at the first colon or at sign:
//
//	oci:///srv/images/app:v1             a folder with an OCI layout
//	oci-archive:///srv/images/app.tar    the same in a tar
//	docker-archive:///srv/app.tar:app:v1 what docker save writes
const (
	inRegistry    place = ""
	inLayout      place = "oci"
	inOCIArchive  place = "oci-archive"
	inDockerSaved place = "docker-archive"
)

// reference is an image's name.
type reference struct {
	place  place
	remote name.Reference // in a registry
	path   string         // elsewhere; clean and absolute
	tag    string         // "" is the only one
	digest string         // sha256:…, "" if it isn't pinned
}

func parse(uri string) (reference, error) {
	scheme, rest, local := strings.Cut(uri, "://")
	if !local {
		ref, err := name.ParseReference(uri)
		if err != nil {
			return reference{}, err
		}
		r := reference{remote: ref}
		if d, ok := ref.(name.Digest); ok {
			r.digest = d.DigestStr()
		}
		return r, nil
	}
	r := reference{place: place(scheme)}
	switch r.place {
	case inLayout, inOCIArchive, inDockerSaved:
	default:
		return reference{}, errors.New("there is no scheme " + scheme)
	}
	if rest, r.digest, _ = strings.Cut(rest, "@"); strings.HasSuffix(uri, "@") {
		return reference{}, errors.New("an empty digest")
	}
	if r.digest != "" {
		if h, err := v1.NewHash(r.digest); err != nil || h.Algorithm != "sha256" || !isHex(h.Hex) {
			return reference{}, errors.New("the digest is none of SHA-256")
		}
	}
	r.path, r.tag, _ = strings.Cut(rest, ":")
	if !strings.HasPrefix(r.path, "/") || strings.ContainsRune(rest, 0) || path.Clean(r.path) != r.path || r.path == "/" {
		return reference{}, errors.New("the path is not a clean absolute one")
	}
	return r, nil
}

// pin is the reference with a digest in place of the tag.
func (r reference) pin(digest v1.Hash) string {
	if r.place == inRegistry {
		return r.remote.Context().Name() + "@" + digest.String()
	}
	return string(r.place) + "://" + r.path + "@" + digest.String()
}
