package door

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"golang.org/x/crypto/acme/autocert"
	"golang.org/x/net/dns/dnsmessage"
)

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

type sealer struct{}

func (sealer) Seal(plain, associated []byte) ([]byte, error) {
	b := append(append([]byte("sealed:"), associated...), 0)
	for _, c := range plain {
		b = append(b, c^0x55)
	}
	return b, nil
}

func (sealer) Open(sealed, associated []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(sealed, append(append([]byte("sealed:"), associated...), 0))
	if !ok {
		return nil, errors.New("it does not open")
	}
	var plain []byte
	for _, c := range rest {
		plain = append(plain, c^0x55)
	}
	return plain, nil
}

// everywhereHere is a name server by which every name is of this machine.
func everywhereHere(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var size [2]byte
				for {
					if _, err := io.ReadFull(c, size[:]); err != nil {
						return
					}
					buf := make([]byte, binary.BigEndian.Uint16(size[:]))
					if _, err := io.ReadFull(c, buf); err != nil {
						return
					}
					out, err := answerHere(buf)
					if err != nil {
						return
					}
					if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func answerHere(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	for _, q := range m.Questions {
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
			})
		}
	}
	return m.Pack()
}

// A certificate is had from a real ACME server (Pebble, the test server of
// Let's Encrypt's makers), which checks for itself who holds the name; it is
// kept sealed, and found again by the next process.
func TestACertificateIsHadByACME(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an ACME server")
	}
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	tlsPort, _ := strconv.Atoi(port)
	logger := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	authority := ca.New(logger, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "default", ValidityPeriod: 3600 * 24 * 90}})
	front := wfe.New(logger, store, va.New(logger, 1, tlsPort, true, everywhereHere(t), store), authority, []string{"ca.example"}, true, false, 1, 1)
	var orders atomic.Int64
	handler := front.Handler()
	pebble := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/order-plz" {
			orders.Add(1)
		}
		handler.ServeHTTP(w, r)
	}))
	defer pebble.Close()
	roots := filepath.Join(dir, "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pebble.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() *tls.Config {
		config, _, err := ACME{
			Domains: []string{"functions.hearth.example"}, Others: func(host string) (string, bool) { return "an account", host == "shop.example" }, Email: "ops@hearth.example", Directory: pebble.URL + wfe.DirectoryPath, Roots: roots, Dir: filepath.Join(dir, "acme"), Key: sealer{},
		}.Open()
		if err != nil {
			t.Fatal(err)
		}
		return config
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "over "+r.Proto) }), TLSConfig: open(), ErrorLog: logger}
	defer server.Close()
	go server.ServeTLS(l, "", "")

	trusted := x509.NewCertPool()
	trusted.AddCert(authority.GetRootCert(0).Cert)
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: trusted, ServerName: "functions.hearth.example"},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
		},
	}}
	resp, err := client.Get("https://functions.hearth.example/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "over HTTP/2.0" {
		t.Errorf("%q, %v", b, err)
	}
	shop := client.Transport.(*http.Transport).Clone()
	shop.TLSClientConfig.ServerName = "shop.example"
	shopper, err := (&http.Client{Timeout: time.Minute, Transport: shop}).Get("https://shop.example/")
	if err != nil {
		t.Fatal(err)
	}
	defer shopper.Body.Close()
	if names := shopper.TLS.PeerCertificates[0].DNSNames; len(names) != 1 || names[0] != "shop.example" {
		t.Errorf("another's host name is shown a certificate of %v", names)
	}
	had := orders.Load()
	if had == 0 {
		t.Error("nothing was ordered")
	}
	files, err := filepath.Glob(filepath.Join(dir, "acme", "*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("kept: %v, %v", files, err)
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("PRIVATE KEY")) || bytes.Contains(b, []byte("BEGIN")) {
			t.Errorf("%s is not sealed", path)
		}
	}
	// Another process: nothing is ordered anew.
	again := open()
	c, err := again.GetCertificate(&tls.ClientHelloInfo{ServerName: "functions.hearth.example", SupportedVersions: []uint16{tls.VersionTLS13}, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256}})
	if err != nil || c == nil || orders.Load() != had {
		t.Errorf("%v, %d orders", err, orders.Load())
	}
	// Another name is not asked for.
	if _, err := again.GetCertificate(&tls.ClientHelloInfo{ServerName: "other.example"}); err == nil {
		t.Error("a certificate for another name")
	}
	if err := (&Certificates{dir: filepath.Join(dir, "acme"), key: sealer{}}).Delete(t.Context(), "none"); err != nil {
		t.Error(err)
	}
	if _, err := (&Certificates{dir: filepath.Join(dir, "acme"), key: sealer{}}).Get(t.Context(), "../key"); !errors.Is(err, autocert.ErrCacheMiss) {
		t.Error(err)
	}
}

// Authorities take only so many orders: one owner's names must not use them up.
func TestAnOwnersCertificatesAreOrderedAtABoundedRate(t *testing.T) {
	may := ACME{Domains: []string{"own.example"}, Others: func(host string) (string, bool) {
		owner, _, _ := strings.Cut(host, "-")
		return owner, host != "nobodys.example"
	}}.policy()
	for i := range 2 * othersAtOnce {
		err := may(t.Context(), fmt.Sprintf("a-%d.example", i))
		if (err == nil) != (i < othersAtOnce) || err != nil && !strings.Contains(err.Error(), "10m") {
			t.Errorf("certificate %d: %v", i, err)
		}
	}
	if err := errors.Join(may(t.Context(), "b-1.example"), may(t.Context(), "own.example")); err != nil {
		t.Errorf("others and the server itself: %v", err)
	}
	if may(t.Context(), "nobodys.example") == nil {
		t.Error("a certificate for a name that is nobody's")
	}
}
