package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// openRemote finds an image in a registry.
func (s *Store) openRemote(ctx context.Context, ref reference, architecture string) (*source, error) {
	options := []remote.Option{
		remote.WithContext(ctx), remote.WithTransport(s.transport), remote.WithAuthFromKeychain(keychain(s.cfg.Credentials)),
		remote.WithUserAgent("hearth"),
	}
	desc, err := remote.Get(ref.remote, options...)
	if err != nil {
		return nil, err
	}
	if desc.MediaType.IsIndex() {
		index, err := v1.ParseIndexManifest(strings.NewReader(string(desc.Manifest)))
		if err != nil {
			return nil, broken("its index can't be read: %v", err)
		}
		chosen, err := choose(index.Manifests, architecture)
		if err != nil {
			return nil, err
		}
		if desc, err = remote.Get(ref.remote.Context().Digest(chosen.Digest.String()), options...); err != nil {
			return nil, err
		}
	}
	if !isManifest(desc.MediaType) {
		return nil, &unsupported{string(desc.MediaType)}
	}
	img, err := desc.Image()
	if err != nil {
		return nil, err
	}
	return newSource(img, desc.Digest, nil)
}

func isManifest(m types.MediaType) bool {
	return m == types.OCIManifestSchema1 || m == types.DockerManifestSchema2
}

// newTransport is how registries are asked: with TLS, or without where that
// was allowed.
func newTransport(insecure []string) http.RoundTripper {
	return &guarded{insecure: insecure, next: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		IdleConnTimeout:       30 * time.Second,
		ForceAttemptHTTP2:     true,
	}}
}

// guarded refuses to send anything without TLS where that wasn't allowed. The
// library would do so for every address of a private network.
type guarded struct {
	insecure []string
	next     *http.Transport
}

func (g *guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.allowed(r.URL.Host) {
		return nil, fmt.Errorf("%s speaks no TLS, and was not said to be trusted without (image-insecure)", r.URL.Host)
	}
	return g.next.RoundTrip(r)
}

func (g *guarded) allowed(host string) bool {
	bare := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		bare = h
	}
	if slices.Contains(g.insecure, host) || slices.Contains(g.insecure, bare) || bare == "localhost" {
		return true
	}
	ip := net.ParseIP(strings.Trim(bare, "[]"))
	return ip != nil && ip.IsLoopback()
}

// named has the library try a registry without TLS where that is allowed.
func (s *Store) named(ref name.Reference) (name.Reference, error) {
	if !slices.Contains(s.cfg.Insecure, ref.Context().RegistryStr()) {
		return ref, nil
	}
	return name.ParseReference(ref.Name(), name.Insecure)
}

// keychain finds a registry's credentials in a file as docker login writes it.
// Helper programs that such a file may name are not run: what runs as the
// server is the operator's to start.
type keychain string

// Resolve implements authn.Keychain.
func (k keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	if k == "" {
		return authn.Anonymous, nil
	}
	data, err := os.ReadFile(string(k))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("image-credentials: %w", err)
	}
	if err != nil {
		return nil, err
	}
	var file struct {
		Auths map[string]authn.AuthConfig `json:"auths"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("image-credentials: %s is no configuration of docker's", string(k)) // without what is in it
	}
	names := []string{target.String(), target.RegistryStr(), "https://" + target.RegistryStr(), "https://" + target.RegistryStr() + "/v2/"}
	if target.RegistryStr() == name.DefaultRegistry {
		names = append(names, authn.DefaultAuthKey)
	}
	for _, n := range names {
		if c, ok := file.Auths[n]; ok {
			return authn.FromConfig(c), nil
		}
	}
	return authn.Anonymous, nil
}
