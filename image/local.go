package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// open finds an image.
func (s *Store) open(ctx context.Context, ref reference, architecture string) (*source, error) {
	src, err := s.find(ctx, ref, architecture)
	if err != nil {
		return nil, err
	}
	if ref.digest != "" && ref.place != inRegistry && src.digest.String() != ref.digest {
		src.close()
		return nil, fs.ErrNotExist
	}
	if err := src.fits(architecture); err != nil {
		src.close()
		return nil, err
	}
	return src, nil
}

func (s *Store) find(ctx context.Context, ref reference, architecture string) (*source, error) {
	if ref.place == inRegistry {
		if err := registries(s.cfg.Registries).allow(ref.remote.Context().Registry); err != nil {
			return nil, err
		}
		remote, err := s.named(ref.remote)
		if err != nil {
			return nil, err
		}
		ref.remote = remote
		return s.openRemote(ctx, ref, architecture)
	}
	root, rel, err := s.within(ref)
	if err != nil {
		return nil, err
	}
	switch ref.place {
	case inLayout:
		defer root.Close() // only read
		dir, err := root.OpenRoot(rel)
		if err != nil {
			return nil, err
		}
		return openLayout(&folder{dir}, ref, architecture, func() { dir.Close() })
	case inOCIArchive:
		defer root.Close() // only read
		f, err := openRegular(root, rel)
		if err != nil {
			return nil, err
		}
		members, err := index(f)
		if err != nil {
			f.Close()
			return nil, err
		}
		return openLayout(members, ref, architecture, func() { f.Close() })
	}
	return openDockerSaved(root, rel, ref)
}

// within opens the allowed folder that a path lies in: through it no link
// leads out.
func (s *Store) within(ref reference) (root *os.Root, rel string, err error) {
	for _, allowed := range s.cfg.Paths {
		rel, err := filepath.Rel(allowed, ref.path)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			continue
		}
		root, err := os.OpenRoot(allowed)
		return root, rel, err
	}
	return nil, "", &barred{ref.path + " is in no folder that images may be taken from: start Hearth with image-paths set to one (hearth up --image-paths FOLDER, or HEARTH_IMAGE_PATHS)"}
}

// openRegular opens a file, and waits for nobody if it is something else.
func openRegular(root *os.Root, rel string) (*os.File, error) {
	f, err := root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = broken("%s is no file", path.Base(rel))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// files are those of a layout.
type files interface {
	open(name string) (io.ReadCloser, error)
}

type folder struct{ root *os.Root }

func (f *folder) open(name string) (io.ReadCloser, error) { return openRegular(f.root, name) }

// members are the files in a tar, found once and read in place.
type members struct {
	f  *os.File
	at map[string][2]int64 // offset and length
}

func (m *members) open(name string) (io.ReadCloser, error) {
	at, ok := m.at[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(io.NewSectionReader(m.f, at[0], at[1])), nil
}

// index finds the files of a tar.
func index(f *os.File) (*members, error) {
	m := &members{f: f, at: map[string][2]int64{}}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return nil, broken("the archive is no tar: %v", err)
		}
		if h.Typeflag != tar.TypeReg || len(m.at) > 10*maxLayers {
			continue
		}
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		m.at[strings.TrimPrefix(path.Clean(h.Name), "/")] = [2]int64{at, h.Size}
	}
}

// refName is the annotation that has a layout's tags.
const refName = "org.opencontainers.image.ref.name"

// openLayout finds an image in an OCI layout.
func openLayout(files files, ref reference, architecture string, close func()) (_ *source, err error) {
	defer func() {
		if err != nil {
			close()
		}
	}()
	l := layout{files}
	top, err := l.read("index.json")
	if err != nil {
		return nil, err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(top))
	if err != nil {
		return nil, broken("its index.json can't be read: %v", err)
	}
	chosen, err := l.pick(index.Manifests, ref, architecture)
	if err != nil {
		return nil, err
	}
	for range 2 {
		if !chosen.MediaType.IsIndex() {
			break
		}
		raw, err := l.blob(chosen.Digest)
		if err != nil {
			return nil, err
		}
		if index, err = v1.ParseIndexManifest(bytes.NewReader(raw)); err != nil {
			return nil, broken("its index can't be read: %v", err)
		}
		if chosen, err = choose(index.Manifests, architecture); err != nil {
			return nil, err
		}
	}
	if !isManifest(chosen.MediaType) {
		return nil, &unsupported{string(chosen.MediaType)}
	}
	core := &layoutImage{layout: l, desc: chosen}
	if core.raw, err = l.blob(chosen.Digest); err != nil {
		return nil, err
	}
	if core.manifest, err = v1.ParseManifest(bytes.NewReader(core.raw)); err != nil {
		return nil, broken("its manifest can't be read: %v", err)
	}
	img, err := partial.CompressedToImage(core)
	if err != nil {
		return nil, err
	}
	return newSource(img, chosen.Digest, close)
}

// layout reads a layout's blobs.
type layout struct{ files files }

// pick finds what ref means among a layout's entries. A digest may be of an
// image within an index, too.
func (l layout) pick(all []v1.Descriptor, ref reference, architecture string) (v1.Descriptor, error) {
	if ref.digest != "" {
		for _, d := range all {
			if d.Digest.String() == ref.digest {
				return d, nil
			}
		}
		hash, err := v1.NewHash(ref.digest)
		if err != nil {
			return v1.Descriptor{}, err
		}
		for _, d := range all {
			if !d.MediaType.IsIndex() {
				continue
			}
			raw, err := l.blob(d.Digest)
			if err != nil {
				return v1.Descriptor{}, err
			}
			index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
			if err != nil {
				return v1.Descriptor{}, broken("its index can't be read: %v", err)
			}
			for _, d := range index.Manifests {
				if d.Digest == hash {
					return d, nil
				}
			}
		}
		return v1.Descriptor{}, fs.ErrNotExist
	}
	var tagged []v1.Descriptor
	for _, d := range all {
		if ref.tag == "" || d.Annotations[refName] == ref.tag {
			tagged = append(tagged, d)
		}
	}
	switch {
	case len(tagged) == 1:
		return tagged[0], nil
	case len(tagged) > 1 && tagged[0].Platform != nil:
		return choose(tagged, architecture)
	case len(tagged) > 1:
		return v1.Descriptor{}, broken("it has %d images: name one by its tag", len(tagged))
	}
	return v1.Descriptor{}, fs.ErrNotExist
}

// read reads a small file.
func (l layout) read(name string) ([]byte, error) {
	r, err := l.files.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close() // only read
	raw, err := io.ReadAll(io.LimitReader(r, maxConfig+1))
	if err == nil && len(raw) > maxConfig {
		err = broken("%s has more than %d bytes", name, maxConfig)
	}
	return raw, err
}

func blobName(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// blob reads a small blob and verifies it.
func (l layout) blob(h v1.Hash) ([]byte, error) {
	if h.Algorithm != "sha256" || !isHex(h.Hex) {
		return nil, broken("the digest %s", h)
	}
	raw, err := l.read(blobName(h))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != h.Hex {
		return nil, broken("%s has other content than its digest says", h)
	}
	return raw, nil
}

// layoutImage implements partial.CompressedImageCore.
type layoutImage struct {
	layout
	desc     v1.Descriptor
	raw      []byte
	manifest *v1.Manifest
}

func (i *layoutImage) RawManifest() ([]byte, error)        { return i.raw, nil }
func (i *layoutImage) MediaType() (types.MediaType, error) { return i.desc.MediaType, nil }
func (i *layoutImage) RawConfigFile() ([]byte, error)      { return i.blob(i.manifest.Config.Digest) }

func (i *layoutImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, d := range i.manifest.Layers {
		if d.Digest == h {
			if h.Algorithm != "sha256" || !isHex(h.Hex) {
				return nil, broken("the digest %s", h)
			}
			return &layoutLayer{i.layout, d}, nil
		}
	}
	return nil, fs.ErrNotExist
}

// layoutLayer implements partial.CompressedLayer. Its content is verified by
// what it is unpacked to.
type layoutLayer struct {
	layout
	desc v1.Descriptor
}

func (l *layoutLayer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l *layoutLayer) Size() (int64, error)                { return l.desc.Size, nil }
func (l *layoutLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l *layoutLayer) Compressed() (io.ReadCloser, error) {
	return l.files.open(blobName(l.desc.Digest))
}

// openDockerSaved finds an image in an archive of docker save. It is pinned to
// what Docker calls its id, the digest of its configuration: the archive has
// no manifest of a registry's.
func openDockerSaved(root *os.Root, rel string, ref reference) (_ *source, err error) {
	defer func() {
		if err != nil {
			root.Close()
		}
	}()
	var tag *name.Tag
	if ref.tag != "" {
		t, err := name.NewTag(ref.tag)
		if err != nil {
			return nil, broken("the tag %s", ref.tag)
		}
		tag = &t
	}
	opener := func() (io.ReadCloser, error) { return openRegular(root, rel) }
	if f, err := opener(); err != nil { // the library has no type for it
		return nil, err
	} else if err := f.Close(); err != nil {
		return nil, err
	}
	img, err := tarball.Image(opener, tag)
	if err != nil {
		return nil, broken("%v", err)
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		return nil, broken("%v", err)
	}
	if len(raw) > maxConfig {
		return nil, broken("a configuration of %d bytes", len(raw))
	}
	sum := sha256.Sum256(raw)
	src, err := newSource(img, v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, func() { root.Close() })
	if err != nil {
		return nil, broken("%v", err)
	}
	return src, nil
}
