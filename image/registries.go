package image

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// registries are those that images may come from; none is any.
type registries []string

// CheckRegistry tells whether a name can stand for registries: HOST (on any
// port), HOST:PORT, or *.DOMAIN for every host below a domain.
func CheckRegistry(s string) error {
	host := strings.TrimPrefix(s, "*.")
	if _, err := name.NewRegistry(host); err != nil || host == "" || strings.ContainsAny(host, "*/") {
		return errors.New("it is no registry: HOST, HOST:PORT or *.DOMAIN, without a scheme or a path")
	}
	return nil
}

// allow refuses what comes from a registry that is none of them.
func (r registries) allow(from name.Registry) error {
	if len(r) == 0 {
		return nil
	}
	host := from.RegistryStr() // with what is left out filled in
	bare := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		bare = h
	}
	if slices.ContainsFunc(r, func(s string) bool {
		if domain, ok := strings.CutPrefix(s, "*"); ok {
			return strings.HasSuffix(bare, domain) && len(bare) > len(domain)
		}
		return s == host || s == bare || s == "docker.io" && host == name.DefaultRegistry
	}) {
		return nil
	}
	return &barred{fmt.Sprintf("images may be taken from %s only, and not from %s (hearth up --image-registries, or HEARTH_IMAGE_REGISTRIES)", strings.Join(r, ", "), host)}
}

// barred: the server's settings do not let images come from there.
type barred struct{ why string }

func (e *barred) Error() string { return e.why }
