// Package jwttest is an issuer of tokens for tests.
package jwttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Issuer issues tokens, and publishes its keys. Safe for concurrent use.
type Issuer struct {
	URL   string
	Asked atomic.Int64 // for keys
	Down  atomic.Bool  // it answers with errors

	t testing.TB

	mu   sync.Mutex
	keys []jose.JSONWebKey
}

// New has an issuer listen on loopback until the test ends. It has no keys yet.
func New(t testing.TB) *Issuer {
	i := &Issuer{t: t}
	s := httptest.NewServer(i)
	t.Cleanup(s.Close)
	i.URL = s.URL
	return i
}

// ServeHTTP answers with its configuration, and its keys.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var answer any = map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/keys"}
	if r.URL.Path == "/keys" {
		i.Asked.Add(1)
		i.mu.Lock()
		set := jose.JSONWebKeySet{}
		for _, k := range i.keys {
			set.Keys = append(set.Keys, k.Public())
		}
		i.mu.Unlock()
		answer = set
	}
	if i.Down.Load() {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		i.t.Error(err)
	}
}

// Rotate makes a key, in place of those that there are.
func (i *Issuer) Rotate(kid string, alg jose.SignatureAlgorithm) jose.JSONWebKey {
	i.t.Helper()
	var key any
	var err error
	if strings.HasPrefix(string(alg), "ES") {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		i.t.Fatal(err)
	}
	k := jose.JSONWebKey{Key: key, KeyID: kid, Algorithm: string(alg), Use: "sig"}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = []jose.JSONWebKey{k}
	return k
}

// Token is one of the claims, signed by the key.
func (i *Issuer) Token(k jose.JSONWebKey, claims map[string]any) string {
	i.t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.Algorithm), Key: k}, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	b, err := json.Marshal(claims)
	if err != nil {
		i.t.Fatal(err)
	}
	signed, err := s.Sign(b)
	if err != nil {
		i.t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return text
}

// Claims are good ones, with some changed; nil removes.
func (i *Issuer) Claims(now time.Time, changed map[string]any) map[string]any {
	m := map[string]any{"iss": i.URL, "aud": "shop", "sub": "me", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "scope": "buy look", "list": []any{"a", 1}, "admin": true}
	for k, v := range changed {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
	return m
}

// Unsigned is a token that nobody has signed.
func Unsigned(header string, claims map[string]any) string {
	b, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(header)) + "." + enc(b) + "." + enc([]byte("x"))
}
