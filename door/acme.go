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
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
	"golang.org/x/time/rate"
)

// ACME is how certificates are had from an authority that speaks ACME (RFC
// 8555). Control over the names is shown on the TLS port itself (tls-alpn-01),
// which the authority must reach as port 443.
type ACME struct {
	Domains []string
	// Others tells of a host name that is none of Domains whether a certificate
	// is had for it too, and whose it is: an owner's are had at a bounded rate, for
	// authorities take only so many orders. nil is for no other.
	Others    func(host string) (owner string, ok bool)
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
func (a ACME) Open() (*tls.Config, *Certificates, error) {
	client := &acme.Client{DirectoryURL: a.Directory, UserAgent: "hearth"}
	if a.Roots != "" {
		pem, err := os.ReadFile(a.Roots)
		if err != nil {
			return nil, nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("%s has no certificate in it", a.Roots)
		}
		client.HTTPClient = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		}}
	}
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return nil, nil, err
	}
	kept := OpenCertificates(a.Dir, a.Key)
	m := &autocert.Manager{
		Prompt: autocert.AcceptTOS, HostPolicy: a.policy(), Cache: kept, Email: a.Email, Client: client,
	}
	return TLS(m.GetCertificate, acme.ALPNProto), kept, nil
}

// othersEach is how much time there is between two certificates that are asked
// for on behalf of one owner, after the first othersAtOnce. The policy is asked
// before each order alone, and after one that failed not for a minute.
const (
	othersEach   = 10 * time.Minute
	othersAtOnce = 10
)

// policy is for which host names a certificate is ordered.
func (a ACME) policy() autocert.HostPolicy {
	own := autocert.HostWhitelist(a.Domains...)
	var mu sync.Mutex
	bounds := map[string]*rate.Limiter{} // by owner
	return func(ctx context.Context, host string) error {
		err := own(ctx, host)
		if err == nil || a.Others == nil {
			return err
		}
		owner, ok := a.Others(host)
		if !ok {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if bounds[owner] == nil {
			bounds[owner] = rate.NewLimiter(rate.Every(othersEach), othersAtOnce)
		}
		if !bounds[owner].Allow() {
			return fmt.Errorf("no certificate for %s now: its account has asked for many, and may for one in %s", host, othersEach)
		}
		return nil
	}
}

// Certificates keeps what must outlive the process: private keys among it, so
// that all of it is sealed. Safe for concurrent use.
type Certificates struct {
	dir     string
	key     Sealer
	writing sync.Mutex // from sealing until it is on disk
}

// OpenCertificates is what is kept in the folder dir, which need not be there.
func OpenCertificates(dir string, key Sealer) *Certificates { return &Certificates{dir: dir, key: key} }

// encoding makes files' names of names that have slashes and plus signs in them,
// and are of others' making.
var encoding = base32.HexEncoding.WithPadding(base32.NoPadding)

func sealedTo(name string) []byte { return []byte("acme " + name) }

func (c *Certificates) path(name string) string {
	return filepath.Join(c.dir, encoding.EncodeToString([]byte(name)))
}

// Get implements autocert.Cache.
func (c *Certificates) Get(_ context.Context, name string) ([]byte, error) {
	sealed, err := os.ReadFile(c.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, autocert.ErrCacheMiss
	}
	if err != nil {
		return nil, err
	}
	return c.key.Open(sealed, sealedTo(name))
}

// Put implements autocert.Cache.
func (c *Certificates) Put(_ context.Context, name string, data []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	sealed, err := c.key.Seal(data, sealedTo(name))
	if err != nil {
		return err
	}
	return c.write(name, sealed)
}

func (c *Certificates) write(name string, sealed []byte) error {
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

// Reseal gives visit each of them as it is sealed, and puts what that returns in
// its place, unless it is nil.
func (c *Certificates) Reseal(ctx context.Context, visit func(sealed, associated []byte) ([]byte, error), _ func(context.Context) error) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	entries, err := os.ReadDir(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, err := encoding.DecodeString(e.Name())
		if err != nil {
			continue // one that a crash left while it was written
		}
		sealed, err := os.ReadFile(c.path(string(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		again, err := visit(sealed, sealedTo(string(name)))
		if err == nil && again != nil {
			err = c.write(string(name), again)
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements autocert.Cache.
func (c *Certificates) Delete(_ context.Context, name string) error {
	if err := os.Remove(c.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
