package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Profiles are the signing profiles that the server's owner registered: a
// folder with a certificate for each version of each. Who can write to the
// folder decides whose code is trusted, and nobody else.
type Profiles struct {
	Dir     string
	Account string
	Region  string
}

// FolderName is the profiles' folder in the data folder.
const FolderName = "signing-profiles"

var profileName = regexp.MustCompile(`^[a-zA-Z0-9_]{2,64}$`)

// version names a certificate: it is made from it, so that no other can take
// its place.
func version(der []byte) string {
	sum := sha256.Sum256(der)
	return base32.StdEncoding.EncodeToString(sum[:])[:10]
}

// ARN is that of a version of a profile.
func (p Profiles) ARN(name, version string) string {
	return "arn:aws:signer:" + p.Region + ":" + p.Account + ":/signing-profiles/" + name + "/" + version
}

func (p Profiles) path(name, version string) string {
	return filepath.Join(p.Dir, name+"-"+version+".pem")
}

// Add registers a certificate (PEM) as a version of the profile and returns
// the version's ARN. Adding it again is no error.
func (p Profiles) Add(name string, certificate []byte) (arn string, err error) {
	if !profileName.MatchString(name) {
		return "", fmt.Errorf("%q is no name for a signing profile: it has 2 to 64 letters, digits and underscores", name)
	}
	cert, err := parseCertificate(certificate)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return "", err
	}
	v := version(cert.Raw)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	f, err := os.CreateTemp(p.Dir, ".new-")
	if err != nil {
		return "", err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), p.path(name, v))
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return p.ARN(name, v), nil
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("there is no PEM certificate in it")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	return cert, usable(cert)
}

// Certificate is that of the profile's version. The error is ErrUntrusted if
// it is not registered.
func (p Profiles) Certificate(arn string) (*x509.Certificate, error) {
	rest, ok := strings.CutPrefix(arn, p.ARN("", "")[:len(p.ARN("", ""))-1])
	name, v, two := strings.Cut(rest, "/")
	if !ok || !two || !profileName.MatchString(name) || !profileName.MatchString(v) {
		return nil, ErrUntrusted
	}
	text, err := os.ReadFile(p.path(name, v))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrUntrusted
	}
	if err != nil {
		return nil, err
	}
	cert, err := parseCertificate(text)
	if err != nil {
		return nil, fmt.Errorf("the certificate of the signing profile %s: %w", name, err)
	}
	if version(cert.Raw) != v {
		return nil, ErrUntrusted
	}
	return cert, nil
}

// Remove takes back a version of a profile: what it signed is not trusted any
// more. That it is not registered is an error.
func (p Profiles) Remove(arn string) error {
	if _, err := p.Certificate(arn); err != nil {
		return err
	}
	parts := strings.Split(arn, "/")
	return os.Remove(p.path(parts[len(parts)-2], parts[len(parts)-1]))
}

// Registered is one version of a profile.
type Registered struct {
	ARN     string    `json:"profileVersionArn"`
	Subject string    `json:"subject"`
	Expires time.Time `json:"expires"` // the certificate
}

// List returns what is registered, in the order of the ARNs.
func (p Profiles) List() (all []Registered, err error) {
	entries, err := os.ReadDir(p.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), ".pem")
		i := strings.LastIndexByte(base, '-')
		if !ok || i < 0 {
			continue
		}
		arn := p.ARN(base[:i], base[i+1:])
		cert, err := p.Certificate(arn)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		all = append(all, Registered{arn, cert.Subject.String(), cert.NotAfter})
	}
	slices.SortFunc(all, func(a, b Registered) int { return strings.Compare(a.ARN, b.ARN) })
	return all, err
}

// NewKey makes a key and a certificate of it for a profile, both in PEM.
func NewKey(name string, now time.Time, valid time.Duration) (key, certificate []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	cert := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"Hearth code signing"}},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(valid),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, k.Public(), k)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// ParseKey reads a private key in PEM (PKCS#8, or SEC 1 of ECDSA).
func ParseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("there is no PEM key in it")
	}
	if k, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the key is not in PKCS#8")
	}
	signer, ok := k.(crypto.Signer)
	if !ok {
		return nil, errUsable
	}
	return signer, nil
}
