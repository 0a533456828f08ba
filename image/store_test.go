package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ocilayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/hearth-faas/hearth"
)

// tarOf makes a tar of headers; content is by name.
func tarOf(t testing.TB, content map[string]string, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		text := ""
		if h.Typeflag == tar.TypeReg {
			text = content[h.Name]
		}
		h.Size = int64(len(text))
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func layerOf(t testing.TB, files map[string]string) v1.Layer {
	t.Helper()
	var headers []tar.Header
	for name := range files {
		headers = append(headers, tar.Header{Name: name, Typeflag: tar.TypeReg})
	}
	raw := tarOf(t, files, headers...)
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func imageOf(t testing.TB, architecture string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	config.Config = v1.Config{Entrypoint: []string{"/run"}, Cmd: []string{"it"}, Env: []string{"A=b"}, WorkingDir: "/w", User: "1000"}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// newRegistry is a registry on loopback that break may stand before.
func newRegistry(t testing.TB, before func(http.Handler) http.Handler) string {
	t.Helper()
	var h http.Handler = registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if before != nil {
		h = before(h)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func push(t testing.TB, uri string, img v1.Image) {
	t.Helper()
	ref, err := name.ParseReference(uri)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
}

func openStore(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "images")
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func wantError(t *testing.T, err error, kind hearth.Kind, text string) {
	t.Helper()
	e, ok := errors.AsType[*hearth.Error](err)
	if !ok || e.Kind != kind || !strings.Contains(e.Message, text) {
		t.Errorf("error %v\nwant %s: %s", err, kind, text)
	}
}

func TestImagesComeFromEveryPlaceAndEachLayerIsUnpackedOnce(t *testing.T) {
	base := layerOf(t, map[string]string{"etc/base": "base"})
	img := imageOf(t, "amd64", base, layerOf(t, map[string]string{"run": "program"}))
	dir := t.TempDir()
	host := newRegistry(t, nil)
	push(t, host+"/app:v1", img)

	l, err := ocilayout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"v1", "v2"} {
		if err := l.AppendImage(img, ocilayout.WithAnnotations(map[string]string{refName: tag})); err != nil {
			t.Fatal(err)
		}
	}
	archive, err := os.Create(filepath.Join(dir, "oci.tar"))
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(archive)
	if err := errors.Join(w.AddFS(os.DirFS(filepath.Join(dir, "layout"))), w.Close(), archive.Close()); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(filepath.Join(dir, "docker.tar"), tag, img); err != nil {
		t.Fatal(err)
	}

	s := openStore(t, Config{Paths: []string{dir}})
	for _, uri := range []string{
		host + "/app:v1", "oci://" + dir + "/layout:v1", "oci-archive://" + dir + "/oci.tar:v2",
		"docker-archive://" + dir + "/docker.tar:app:v1", "docker-archive://" + dir + "/docker.tar",
	} {
		pinned, digest, err := s.Resolve(t.Context(), uri, "x86_64")
		if err != nil {
			t.Fatalf("%s: %v", uri, err)
		}
		if !strings.HasSuffix(pinned, "@sha256:"+digest) || strings.Contains(pinned, ":v") {
			t.Errorf("%s is pinned to %s", uri, pinned)
		}
		got, release, err := s.Acquire(t.Context(), pinned, digest, "x86_64")
		if err != nil {
			t.Fatalf("%s: %v", pinned, err)
		}
		defer release()
		if len(got.Layers) != 2 || fmt.Sprint(got.EntryPoint, got.Command, got.Env, got.WorkingDirectory) != "[/run] [it] [A=b]/w" {
			t.Errorf("%s: %+v", uri, got)
		}
		for i, file := range []string{"etc/base", "run"} {
			if _, err := os.Stat(filepath.Join(got.Layers[i], file)); err != nil {
				t.Errorf("%s: %v", uri, err)
			}
		}
	}
	if n := s.Unpacked(); n != 2 {
		t.Errorf("two layers were unpacked %d times", n)
	}
}

func TestAnIndexHasAnImageForEachArchitecture(t *testing.T) {
	host := newRegistry(t, nil)
	var index v1.ImageIndex = empty.Index
	digests := map[string]v1.Hash{}
	for _, arch := range []string{"amd64", "arm64"} {
		img := imageOf(t, arch, layerOf(t, map[string]string{"arch": arch}))
		d, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests[arch] = d
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	ref, err := name.ParseReference(host + "/multi:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := ocilayout.Write(dir+"/layout", empty.Index); err != nil {
		t.Fatal(err)
	}
	if err := ocilayout.Path(dir + "/layout").AppendIndex(index); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, Config{Paths: []string{dir}})
	for _, uri := range []string{host + "/multi:v1", "oci://" + dir + "/layout"} {
		for architecture, arch := range map[string]string{"x86_64": "amd64", "arm64": "arm64"} {
			pinned, digest, err := s.Resolve(t.Context(), uri, architecture)
			if err != nil {
				t.Fatal(err)
			}
			if digest != digests[arch].Hex {
				t.Errorf("%s of %s is %s", architecture, uri, digest)
			}
			_, release, err := s.Acquire(t.Context(), pinned, digest, architecture)
			if err != nil {
				t.Fatal(err)
			}
			release()
		}
	}
}

func TestWhatCannotBeTakenIsRefusedInTheServicesWords(t *testing.T) {
	img := imageOf(t, "amd64", layerOf(t, map[string]string{"run": "x"}))
	host := newRegistry(t, nil)
	push(t, host+"/app:v1", img)
	push(t, host+"/empty:v1", imageOf(t, "amd64"))
	closed := newRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "me" || password != "pass" {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	credentials := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(credentials, fmt.Appendf(nil, `{"auths": {%q: {"auth": "bWU6cGFzcw=="}}}`, closed), 0o600); err != nil {
		t.Fatal(err)
	}
	s, trusted := openStore(t, Config{Paths: []string{t.TempDir()}}), openStore(t, Config{Credentials: credentials})
	bound := openStore(t, Config{Registries: []string{"registry.lan", "*.example.com"}, Paths: s.cfg.Paths})
	down := httptest.NewServer(http.NotFoundHandler())
	downHost := strings.TrimPrefix(down.URL, "http://")
	down.Close()
	for _, c := range []struct {
		s         *Store
		uri, arch string
		kind      hearth.Kind
		text      string
	}{
		{s, "UPPER/case:x", "x86_64", hearth.InvalidParameter, "Source image UPPER/case:x is not valid. Provide a valid source image."},
		{s, host + "/app:v2", "x86_64", hearth.InvalidParameter, "Source image " + host + "/app:v2 does not exist. Provide a valid source image."},
		{s, host + "/none:v1", "x86_64", hearth.InvalidParameter, "does not exist. Provide a valid source image."},
		{s, host + "/app:v1", "arm64", hearth.InvalidParameter, "it is for amd64, and the function is for arm64"},
		{s, host + "/empty:v1", "x86_64", hearth.InvalidParameter, "it has no layers"},
		{s, closed + "/app:v1", "x86_64", hearth.AccessDenied, "Lambda does not have permission to access the ECR image. Check the ECR permissions."},
		{trusted, closed + "/app:v1", "x86_64", hearth.InvalidParameter, "does not exist"},
		{bound, host + "/app:v1", "x86_64", hearth.InvalidParameter, "Source image " + host + "/app:v1 is not allowed: images may be taken from registry.lan, *.example.com only, and not from " + host + " (hearth up --image-registries, or HEARTH_IMAGE_REGISTRIES)."},
		{bound, "app:v1", "x86_64", hearth.InvalidParameter, "and not from index.docker.io"},
		{bound, "oci://" + s.cfg.Paths[0] + "/none", "x86_64", hearth.InvalidParameter, "does not exist"},
		{s, downHost + "/app:v1", "x86_64", hearth.Service, "does not answer"},
		{s, "oci:///etc/x", "x86_64", hearth.InvalidParameter, "is in no folder that images may be taken from: start Hearth with image-paths"},
		{s, "oci://" + s.cfg.Paths[0] + "/none", "x86_64", hearth.InvalidParameter, "does not exist"},
		{s, "oci://" + s.cfg.Paths[0] + "/../x", "x86_64", hearth.InvalidParameter, "is not valid"},
		{s, "ftp://x/y", "x86_64", hearth.InvalidParameter, "is not valid"},
	} {
		_, _, err := c.s.Resolve(t.Context(), c.uri, c.arch)
		wantError(t, err, c.kind, c.text)
	}
}

func TestOnlyTheRegistriesThatWereNamedAreAllowed(t *testing.T) {
	allowed := registries{"registry.lan", "10.0.0.1:5000", "*.dkr.ecr.us-east-1.amazonaws.com", "docker.io"}
	for image, want := range map[string]bool{
		"registry.lan/app": true, "registry.lan:5000/app": true, "10.0.0.1:5000/app": true, "app": true, "docker.io/me/app": true,
		"000000000000.dkr.ecr.us-east-1.amazonaws.com/app:v1": true,
		"10.0.0.1/app": false, "10.0.0.1:5001/app": false, "dkr.ecr.us-east-1.amazonaws.com/app": false, "ghcr.io/app": false,
		"evil.com/registry.lan/app": false, "xregistry.lan/app": false, "xdkr.ecr.us-east-1.amazonaws.com/app": false,
	} {
		ref, err := name.ParseReference(image)
		if err != nil {
			t.Fatal(err)
		}
		if got := allowed.allow(ref.Context().Registry); (got == nil) != want {
			t.Errorf("%s: %v", image, got)
		}
		if err := registries(nil).allow(ref.Context().Registry); err != nil {
			t.Errorf("with none named: %v", err)
		}
	}
	for s, want := range map[string]bool{
		"registry.lan": true, "registry.lan:5000": true, "*.example.com": true, "127.0.0.1:5000": true, "docker.io": true,
		"": false, "*.": false, "*": false, "https://registry.lan": false, "registry.lan/app": false, "a.*.com": false,
	} {
		if err := CheckRegistry(s); (err == nil) != want {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// What was brought stays when a registry is not allowed any more; nothing new
// comes from it.
func TestWhatWasAllowedWhenItWasBroughtIsNotBroughtAgain(t *testing.T) {
	host := newRegistry(t, nil)
	push(t, host+"/app:v1", imageOf(t, "amd64", layerOf(t, map[string]string{"run": "x"})))
	s := openStore(t, Config{})
	pinned, digest, err := s.Resolve(t.Context(), host+"/app:v1", "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.Registries = []string{"registry.lan"}
	_, _, err = s.Acquire(t.Context(), pinned, digest, "x86_64")
	wantError(t, err, hearth.ImageAccessDenied, "is not allowed: images may be taken from registry.lan only")
}

func TestNothingIsAskedWithoutTLSThatWasNotAllowed(t *testing.T) {
	g := newTransport([]string{"10.0.0.1:5000", "registry.lan"}).(*guarded)
	for host, want := range map[string]bool{
		"127.0.0.1:5000": true, "[::1]:5000": true, "localhost:1": true, "10.0.0.1:5000": true, "registry.lan:80": true,
		"10.0.0.1": false, "10.0.0.2:5000": false, "192.168.1.1": false, "example.com": false, "localhost.example.com": false,
	} {
		if got := g.allowed(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}

func TestContentThatIsNotItsDigestsIsRefusedAndNothingIsLeft(t *testing.T) {
	dir := t.TempDir()
	img := imageOf(t, "amd64", layerOf(t, map[string]string{"run": "x"}))
	l, err := ocilayout.Write(dir+"/layout", empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, Config{Paths: []string{dir}})
	pinned, digest, err := s.Resolve(t.Context(), "oci://"+dir+"/layout", "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	blob, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	other, err := layerOf(t, map[string]string{"run": "y"}).Compressed()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/layout/"+blobName(blob), content, 0o644); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Acquire(t.Context(), pinned, digest, "x86_64")
	wantError(t, err, hearth.InvalidImage, "has other content than its digest says")
	manifest := dir + "/layout/" + blobName(v1.Hash{Algorithm: "sha256", Hex: digest})
	if err := os.WriteFile(manifest, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Acquire(t.Context(), pinned, digest, "x86_64")
	wantError(t, err, hearth.InvalidImage, "has other content than its digest says")
	if err := os.Remove(manifest); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Acquire(t.Context(), pinned, digest, "x86_64")
	wantError(t, err, hearth.ImageDeleted, "does not exist")
	if left := storeFiles(t, s); len(left) > 0 {
		t.Errorf("there is left %v", left)
	}
}

// storeFiles are the records and the layers that a store has on disk, and
// whatever else is there.
func storeFiles(t *testing.T, s *Store) (all []string) {
	t.Helper()
	for _, pattern := range []string{"images/*", "layers/*", "*-*"} {
		found, err := filepath.Glob(s.path(pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

func TestLayersGoWithTheLastImageThatHasThem(t *testing.T) {
	host := newRegistry(t, nil)
	base := layerOf(t, map[string]string{"base": "x"})
	dir := filepath.Join(t.TempDir(), "images")
	s := openStore(t, Config{Dir: dir})
	acquire := func(uri string) (digest string, release func()) {
		t.Helper()
		pinned, digest, err := s.Resolve(t.Context(), uri, "x86_64")
		if err != nil {
			t.Fatal(err)
		}
		_, release, err = s.Acquire(t.Context(), pinned, digest, "x86_64")
		if err != nil {
			t.Fatal(err)
		}
		return digest, release
	}
	push(t, host+"/one", imageOf(t, "amd64", base, layerOf(t, map[string]string{"one": "x"})))
	push(t, host+"/two", imageOf(t, "amd64", base, layerOf(t, map[string]string{"two": "x"})))
	one, releaseOne := acquire(host + "/one")
	two, releaseTwo := acquire(host + "/two")
	releaseTwo()
	if n := len(storeFiles(t, s)); n != 2+3 || s.Unpacked() != 3 {
		t.Errorf("%d files, %d layers unpacked", n, s.Unpacked())
	}
	s.Forget(one) // and it is held
	if n := len(storeFiles(t, s)); n != 2+3 {
		t.Errorf("a held image has gone: %d files", n)
	}
	releaseOne()
	if n := len(storeFiles(t, s)); n != 1+2 {
		t.Errorf("after the first has gone: %v", storeFiles(t, s))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// What a crash may leave, and what must not be taken for whole.
	for _, name := range []string{"new-1", "old-1-x", "layers/" + strings.Repeat("a", 64)} {
		if err := os.MkdirAll(filepath.Join(dir, name, "deep"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	record := fmt.Appendf(nil, `{"layers":[%q]}`, strings.Repeat("b", 64))
	if err := os.WriteFile(filepath.Join(dir, "images", strings.Repeat("c", 64)+".json"), record, 0o600); err != nil {
		t.Fatal(err)
	}
	again := openStore(t, Config{Dir: dir})
	if left := storeFiles(t, again); len(left) != 1+2 {
		t.Errorf("after the next start: %v", left)
	}
	_, release, err := again.Acquire(t.Context(), "nowhere.invalid/two@sha256:"+two, two, "x86_64") // the registry is not needed
	if err != nil {
		t.Fatal(err)
	}
	release()
	again.Keep(func(string) bool { return false })
	again.work.Wait()
	if left := storeFiles(t, again); len(left) != 0 {
		t.Errorf("after nothing is needed: %v", left)
	}
}

func TestAcquiredByManyAtOnceItIsBroughtOnce(t *testing.T) {
	host := newRegistry(t, nil)
	base := layerOf(t, map[string]string{"base": strings.Repeat("x", 100_000)})
	s := openStore(t, Config{})
	var all sync.WaitGroup
	for i := range 4 {
		uri := fmt.Sprintf("%s/app%d", host, i%2)
		if i < 2 {
			push(t, uri, imageOf(t, "amd64", base, layerOf(t, map[string]string{"one": fmt.Sprint(i)})))
		}
	}
	for i := range 16 {
		all.Go(func() {
			pinned, digest, err := s.Resolve(t.Context(), fmt.Sprintf("%s/app%d", host, i%2), "x86_64")
			if err != nil {
				t.Error(err)
				return
			}
			got, release, err := s.Acquire(t.Context(), pinned, digest, "x86_64")
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.Stat(filepath.Join(got.Layers[0], "base")); err != nil {
				t.Error(err)
			}
			release()
		})
	}
	all.Wait()
	if n := s.Unpacked(); n != 3 {
		t.Errorf("three layers were unpacked %d times", n)
	}
}

func TestAnImageThatIsTooLargeIsRefused(t *testing.T) {
	host := newRegistry(t, nil)
	push(t, host+"/app", imageOf(t, "amd64", layerOf(t, map[string]string{"a": strings.Repeat("a", 600)}), layerOf(t, map[string]string{"b": strings.Repeat("b", 600)})))
	s := openStore(t, Config{MaxBytes: 1000})
	pinned, digest, err := s.Resolve(t.Context(), host+"/app", "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Acquire(t.Context(), pinned, digest, "x86_64")
	wantError(t, err, hearth.InvalidImage, "it is larger than an image may be")
	if left := storeFiles(t, s); len(left) > 0 {
		t.Errorf("there is left %v", left)
	}
}
