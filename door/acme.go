package door

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACME is how certificates are had from an authority that speaks ACME (RFC
// 8555). Control over the names is shown on the TLS port itself (tls-alpn-01),
// which the authority must reach as port 443.
type ACME struct {
	Domains   []string
	Email     string // whom the authority may write to; "" is nobody
	Directory string // its URL; "" is Let's Encrypt's
	// Roots is a file of PEM with the authority's own roots, for one that is not
	// of the public ones; "" is the system's.
	Roots string
	// Dir keeps the account's key and the certificates, sealed by Key.
	Dir string
	Key Sealer
}

// Sealer seals what is kept on disk; identity.Key is one.
type Sealer interface {
	Seal(plain, associated []byte) ([]byte, error)
	Open(sealed, associated []byte) ([]byte, error)
}

// Open makes the TLS configuration. A name's certificate is asked for with the
// first connection that names it, and renewed before it ends.
func (a ACME) Open() (*tls.Config, error) {
	client := &acme.Client{DirectoryURL: a.Directory, UserAgent: "hearth"}
	if a.Roots != "" {
		pem, err := os.ReadFile(a.Roots)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in it", a.Roots)
		}
		client.HTTPClient = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		}}
	}
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return nil, err
	}
	m := &autocert.Manager{
		Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist(a.Domains...), Cache: cache{a.Dir, a.Key}, Email: a.Email, Client: client,
	}
	return TLS(m.GetCertificate, acme.ALPNProto), nil
}

// cache keeps what must outlive the process: private keys among it, so that
// all of it is sealed.
type cache struct {
	dir string
	key Sealer
}

func (c cache) path(name string) string {
	// Names have slashes and plus signs in them, and are of others' making.
	return filepath.Join(c.dir, base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(name)))
}

func (c cache) sealedTo(name string) []byte { return []byte("acme " + name) }

// Get implements autocert.Cache.
func (c cache) Get(_ context.Context, name string) ([]byte, error) {
	sealed, err := os.ReadFile(c.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, autocert.ErrCacheMiss
	}
	if err != nil {
		return nil, err
	}
	return c.key.Open(sealed, c.sealedTo(name))
}

// Put implements autocert.Cache.
func (c cache) Put(_ context.Context, name string, data []byte) error {
	sealed, err := c.key.Seal(data, c.sealedTo(name))
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(c.dir, ".new-") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(sealed)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), c.path(name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// Delete implements autocert.Cache.
func (c cache) Delete(_ context.Context, name string) error {
	if err := os.Remove(c.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
