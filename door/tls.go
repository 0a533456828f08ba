package door

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// TLS makes a configuration with modern defaults: TLS 1.2 with forward secrecy
// and authenticated encryption alone, 1.3, and HTTP/2 beside HTTP/1.1.
func TLS(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error), more ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{ // of 1.2; those of 1.3 can't be chosen, and need not be
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos:     append([]string{"h2", "http/1.1"}, more...),
		GetCertificate: certificate,
	}
}

// checkEvery is how long the files of a certificate are not looked at again.
const checkEvery = time.Second

// Files is a certificate in two files of PEM, which are read again when they
// change: new connections get the new certificate, those that there are go on.
// A change to what is no certificate, or has another key, is logged, and the
// old one stays. Safe for concurrent use.
type Files struct {
	cert, key string
	log       *slog.Logger
	every     time.Duration

	mu      sync.Mutex
	now     *tls.Certificate
	looked  time.Time
	stamp   string
	reloads int
}

// OpenFiles reads the certificate, with those between it and its root behind
// it, and its key.
func OpenFiles(cert, key string, log *slog.Logger) (*Files, error) {
	f := &Files{cert: cert, key: key, log: log, every: checkEvery}
	stamp, err := f.look()
	if err != nil {
		return nil, err
	}
	if err := f.read(stamp); err != nil {
		return nil, err
	}
	f.looked = time.Now()
	return f, nil
}

// look tells the files' state: sizes and times.
func (f *Files) look() (stamp string, err error) {
	for _, path := range []string{f.cert, f.key} {
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		if info.IsDir() {
			return "", fmt.Errorf("%s is a folder", path)
		}
		if path == f.key && info.Mode().Perm()&0o007 != 0 {
			return "", fmt.Errorf("%s is a private key, and everybody may read it (mode %#o): chmod o= it", path, info.Mode().Perm())
		}
		stamp += fmt.Sprint(info.Size(), info.ModTime().UnixNano(), " ")
	}
	return stamp, nil
}

// read takes the files in. Called with mu held, or by the only user.
func (f *Files) read(stamp string) error {
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", f.cert, f.key, err)
	}
	f.now, f.stamp = &c, stamp
	return nil
}

// Certificate is a tls.Config's GetCertificate.
func (f *Files) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.looked) >= f.every {
		f.looked = now
		stamp, err := f.look()
		if err == nil && stamp != f.stamp {
			if err = f.read(stamp); err == nil {
				f.reloads++
				f.log.Info("a new certificate is in use", "file", f.cert, "until", f.now.Leaf.NotAfter)
			}
		}
		if err != nil {
			f.log.Error("the certificate can't be read anew: the one of before stays in use", "error", err)
		}
	}
	if f.now == nil {
		return nil, errors.New("there is no certificate")
	}
	return f.now, nil
}

// Several are certificates for different host names. A connection gets the one
// for the name that it asks for, and the first if there is none.
type Several []*Files

// OpenSeveral reads certificates and their keys, as many of the one as of the
// other.
func OpenSeveral(certs, keys []string, log *slog.Logger) (s Several, err error) {
	for i := range certs {
		f, err := OpenFiles(certs[i], keys[i], log)
		if err != nil {
			return nil, err
		}
		s = append(s, f)
	}
	return s, nil
}

// Certificate is a tls.Config's GetCertificate.
func (s Several) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if len(s) > 1 {
		for _, f := range s {
			if c, err := f.Certificate(hello); err == nil && hello.SupportsCertificate(c) == nil {
				return c, nil
			}
		}
	}
	return s[0].Certificate(hello)
}

// Names are the host names, or if it has none the addresses, that the certificate
// is for.
func (f *Files) Names() (names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if names = f.now.Leaf.DNSNames; len(names) == 0 {
		for _, ip := range f.now.Leaf.IPAddresses {
			names = append(names, ip.String())
		}
	}
	return names
}

// Expires is when the certificate in use does.
func (f *Files) Expires() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now.Leaf.NotAfter
}
