package node

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"strings"
	"time"
)

// Token is the secret that a server and its nodes share. Who has it is one of
// them: a node is given functions' code and environments, and a server tells a
// node what to run.
//
// It never crosses the wire. Both sides derive the same key from it, and each
// shows a certificate of that key to the other: TLS 1.3 in both directions,
// with nothing to set up but the token, and nothing in plain text, also on
// loopback.
type Token struct{ key ed25519.PrivateKey }

// Format keeps the token out of logs.
func (Token) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(node token)")) }

const tokenBytes = 32

// CreateToken reads the token in the file, which it makes, with mode 0600, if
// there is none.
func CreateToken(file string) (Token, error) {
	t, err := ReadToken(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return t, err
	}
	var secret [tokenBytes]byte
	_, _ = rand.Read(secret[:]) // never fails: crypto/rand crashes the program instead
	// Linked into its place whole, so that two who make it at once agree.
	tmp := fmt.Sprintf("%s.%d", file, os.Getpid())
	if err := os.WriteFile(tmp, []byte(hex.EncodeToString(secret[:])+"\n"), 0o600); err != nil {
		return Token{}, err
	}
	err = os.Link(tmp, file)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err = errors.Join(err, os.Remove(tmp)); err != nil {
		return Token{}, err
	}
	return ReadToken(file)
}

// ReadToken reads the token in the file, which nobody else may be able to read.
func ReadToken(file string) (Token, error) {
	info, err := os.Stat(file)
	if err != nil {
		return Token{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Token{}, fmt.Errorf("the node token %s can be read by others (mode %#o): chmod 600 it, or have the server make another", file, info.Mode().Perm())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return Token{}, err
	}
	t, err := ParseToken(strings.TrimSpace(string(text)))
	if err != nil {
		return Token{}, fmt.Errorf("%s: %w", file, err)
	}
	return t, nil
}

// ParseToken takes the text of a token.
func ParseToken(text string) (Token, error) {
	secret, err := hex.DecodeString(text)
	if err != nil || len(secret) != tokenBytes {
		return Token{}, fmt.Errorf("it is no node token: %d hexadecimal digits are", 2*tokenBytes)
	}
	seed, err := hkdf.Key(sha256.New, secret, nil, "hearth node key 1", ed25519.SeedSize)
	if err != nil {
		return Token{}, err
	}
	return Token{key: ed25519.NewKeyFromSeed(seed)}, nil
}

var errStranger = errors.New("the other side does not have the same node token")

// tlsConfig is of both sides. Names and dates of certificates say nothing here:
// the key is the whole of the proof.
func (t Token) tlsConfig() (*tls.Config, error) {
	if t.key == nil {
		return nil, errors.New("node: no token")
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hearth node"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	own := t.key.Public().(ed25519.PublicKey)
	der, err := x509.CreateCertificate(rand.Reader, template, template, own, t.key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: t.key}},
		ClientAuth:   tls.RequireAnyClientCert,
		// The chain is not looked at, but the key, below: also of a session
		// that is taken up again.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errStranger
			}
			key, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
			if !ok || !bytes.Equal(key, own) {
				return errStranger
			}
			return nil
		},
		NextProtos: []string{"http/1.1"},
	}, nil
}
