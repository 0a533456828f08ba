package door

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth/guard"
)

// fakeConn is a connection from an address.
type fakeConn struct {
	net.Conn
	from   string
	closed atomic.Bool
}

func (f *fakeConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(mustAddrPort(f.from))
}

func (f *fakeConn) Close() error { f.closed.Store(true); return nil }

// Whatever connections come, do and end, there are never more than there may
// be, none with a request under way is ended, and the counts are true.
func TestConnectionsKeepTheirBounds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		most, each := rapid.IntRange(1, 12).Draw(rt, "max"), rapid.IntRange(1, 6).Draw(rt, "each")
		c := NewConns(most, each)
		now := time.Unix(1_800_000_000, 0)
		c.now = func() time.Time { return now }
		var open []*conn
		active := map[*conn]bool{}
		for range rapid.IntRange(1, 80).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(rt, "ms")) * time.Millisecond)
			switch what := rapid.IntRange(0, 4).Draw(rt, "what"); {
			case what <= 1 || len(open) == 0:
				if n := c.admit(&fakeConn{from: fmt.Sprintf("192.0.2.%d:%d", rapid.IntRange(1, 4).Draw(rt, "from"), 1)}); n != nil {
					open = append(open, n)
				}
			default:
				n := open[rapid.IntRange(0, len(open)-1).Draw(rt, "which")]
				switch {
				case n.closed.Load():
				case what == 2:
					c.State(n, http.StateActive)
					active[n] = true
				case what == 3 && active[n]:
					c.State(n, http.StateIdle)
					delete(active, n)
				case what == 4:
					c.State(n, http.StateClosed)
					_ = n.Close()
					delete(active, n)
				}
			}
			alive, by := 0, map[string]int{}
			for _, n := range open {
				if !n.closed.Load() {
					alive++
					by[n.source]++
				}
			}
			if alive != c.Stats().Open || alive > most || len(by) != len(c.sources) {
				rt.Fatalf("%d open, %d counted, %d may be; %d addresses, %d counted", alive, c.Stats().Open, most, len(by), len(c.sources))
			}
			for from, n := range by {
				if n > each || c.sources[from].all != n {
					rt.Fatalf("%s has %d", from, n)
				}
			}
			for n := range active {
				if n.closed.Load() {
					rt.Fatal("one with a request under way was ended")
				}
			}
		}
	})
}

func TestHalfOpenConnectionsGoFirstAndThoseOfTheGreatest(t *testing.T) {
	c := NewConns(5, 4)
	now := time.Unix(1_800_000_000, 0)
	c.now = func() time.Time { return now }
	add := func(from string) *fakeConn {
		f := &fakeConn{from: from}
		if c.admit(f) == nil {
			return nil
		}
		now = now.Add(time.Second)
		return f
	}
	idle := func(f *fakeConn) {
		for e := c.fresh.Front(); e != nil; e = e.Next() {
			if n := e.Value.(*conn); n.Conn == net.Conn(f) {
				c.State(n, http.StateActive)
				c.State(n, http.StateIdle)
				return
			}
		}
		t.Fatal("not fresh")
	}
	polite := add("192.0.2.1:1")
	idle(polite)
	greedy := []*fakeConn{add("192.0.2.2:1"), add("192.0.2.2:2"), add("192.0.2.2:3"), add("192.0.2.2:4")}
	idle(greedy[0])
	idle(greedy[1])
	idle(greedy[2])
	if add("192.0.2.3:1") == nil || !greedy[3].closed.Load() {
		t.Error("the half-open one is kept")
	}
	idle(func() *fakeConn { return c.fresh.Front().Value.(*conn).Conn.(*fakeConn) }())
	if add("192.0.2.4:1") == nil || !greedy[0].closed.Load() || polite.closed.Load() {
		t.Error("the longest idle of the one who has the most is not what goes")
	}
}

// serve serves handler behind the door, as the server does.
func serve(t *testing.T, c *Conns, handler http.Handler, config *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handler, ConnState: c.State, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), TLSConfig: config,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 10}}
	t.Cleanup(func() { s.Close() })
	if config != nil {
		go s.ServeTLS(c.Listener(l), "", "")
	} else {
		go s.Serve(c.Listener(l))
	}
	return l.Addr().String()
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain for " + what)
		}
	}
}

func TestAFloodOfHalfOpenConnectionsKeepsNobodyOut(t *testing.T) {
	c := NewConns(20, 20)
	addr := serve(t, c, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }), nil)
	for range 20 {
		n, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
	}
	eventually(t, "the flood to be in", func() bool { return c.Stats().Open == 20 })
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, "an answer", func() bool { // at once, but that none is young any more
		resp, err := client.Post("http://"+addr, "text/plain", strings.NewReader("hello"))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return err == nil && string(b) == "hello"
	})
	if c.Stats().Evicted == 0 {
		t.Error("none of the flood was ended")
	}
}

// controlled is a response whose deadlines are the test's.
type controlled struct {
	*httptest.ResponseRecorder
	deadline time.Time
	set      int
}

func (c *controlled) SetReadDeadline(t time.Time) error { c.deadline = t; c.set++; return nil }

// trickle is a body of so many bytes a second, in small pieces, whose reads
// end by the deadline.
type trickle struct {
	w         *controlled
	perSecond int
	left      int
}

func (s *trickle) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), s.left, 512)
	took := time.Duration(n) * time.Second / time.Duration(s.perSecond)
	if until := time.Until(s.w.deadline); until < took {
		time.Sleep(max(until, 0))
		return 0, os.ErrDeadlineExceeded
	}
	time.Sleep(took)
	s.left -= n
	return n, nil
}

func (s *trickle) Close() error { return nil }

func TestABodyMustComeAtALeastRate(t *testing.T) {
	for _, c := range []struct {
		perSecond, size int
		ok              bool
	}{
		{100, 100 << 10, false}, {4 << 10, 1 << 20, false}, {100, 500, true}, {32 << 10, 4 << 20, true}, {10 << 20, 60 << 20, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &controlled{ResponseRecorder: httptest.NewRecorder()}
			var n int64
			var err error
			h := &Handler{Next: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { n, err = io.Copy(io.Discard, r.Body) })}
			r := httptest.NewRequest("POST", "/", nil)
			r.ContentLength, r.Body = int64(c.size), &trickle{w, c.perSecond, c.size}
			began := time.Now()
			h.ServeHTTP(w, r)
			took := time.Since(began)
			if c.ok && (err != nil || n != int64(c.size) || !w.deadline.IsZero()) {
				t.Errorf("%d bytes at %d/s: %d came, %v, deadline %v", c.size, c.perSecond, n, err, w.deadline)
			}
			if !c.ok && (!errors.Is(err, os.ErrDeadlineExceeded) || took > time.Minute || h.Slow() != 1) {
				t.Errorf("%d bytes at %d/s: %v after %v", c.size, c.perSecond, err, took)
			}
			if w.set > c.size/step+3 {
				t.Errorf("the deadline was set %d times", w.set)
			}
		})
	}
}

// Who has sent much quickly may not rest on it.
func TestCreditForAQuickStartIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &controlled{ResponseRecorder: httptest.NewRecorder()}
		h := &Handler{Next: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })}
		r := httptest.NewRequest("POST", "/", nil)
		quick := &trickle{w, 100 << 20, 50 << 20}
		r.ContentLength, r.Body = 60<<20, struct {
			io.Reader
			io.Closer
		}{io.MultiReader(quick, &trickle{w, 1, 10 << 20}), quick}
		began := time.Now()
		h.ServeHTTP(w, r)
		if took := time.Since(began); took > 2*credit || h.Slow() != 1 {
			t.Errorf("ended after %v", took)
		}
	})
}

func TestAnAddressMakesSoManyRequests(t *testing.T) {
	h := &Handler{Rate: 5, Next: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	now := time.Now()
	got := 0
	for range 100 {
		if h.wait("192.0.2.1:5", now) == 0 {
			got++
		}
	}
	if got != 10 || h.wait("192.0.2.2:5", now) != 0 {
		t.Errorf("%d of 100", got)
	}
	if h.wait("192.0.2.1:9", now.Add(250*time.Millisecond)) != 0 {
		t.Error("there is no other one after a while")
	}
	for i := range 3 * maxBuckets {
		h.wait(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255), now)
	}
	if len(h.buckets) > maxBuckets {
		t.Errorf("%d addresses are kept", len(h.buckets))
	}
	// Eleven, unless the machine is so busy that others are allowed meanwhile.
	w := httptest.NewRecorder()
	for n := 0; n < 1000 && w.Code == http.StatusOK; n++ {
		w = httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "192.0.2.77:1"
		h.ServeHTTP(w, r)
	}
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" || h.Fast() != 1 {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

// Who does not take the answer is dropped, and holds no handler for ever. The
// time is the connection's own, so it is told to be short here.
func TestAClientThatReadsNothingIsDropped(t *testing.T) {
	c := NewConns(10, 10)
	a, b := net.Pipe()
	defer b.Close()
	n := &conn{Conn: stuck{a}, conns: c, source: "x"}
	began := time.Now()
	if _, err := n.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	// A handler's own deadline counts instead.
	if err := n.SetWriteDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// stuck takes every deadline for a nearer one.
type stuck struct{ net.Conn }

func (s stuck) SetWriteDeadline(t time.Time) error {
	if until := time.Until(t); until < writeStall/2 || until > writeStall {
		return s.Conn.SetWriteDeadline(t)
	}
	return s.Conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
}

// certificate writes one for the names into dir.
func certificate(t testing.TB, dir string, serial int64, names ...string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		// One after the other, however coarse the kernel's stamps are.
		at := time.Now().Add(time.Duration(serial) * time.Second)
		if err := os.Chtimes(path+".new", at, at); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestACertificateIsReplacedWithoutDroppingAConnection(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir, 1, "hearth.example")
	f, err := OpenFiles(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f.every = 0
	addr := serve(t, NewConns(100, 100), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }), TLS(f.Certificate))
	dial := func() *tls.Conn {
		c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ServerName: "hearth.example"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	ask := func(c *tls.Conn) {
		t.Helper()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: hearth.example\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp.Status, err)
		}
	}
	serial := func(c *tls.Conn) int64 { return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64() }
	old := dial()
	ask(old)
	certificate(t, dir, 2, "hearth.example")
	if got := serial(dial()); serial(old) != 1 || got != 2 {
		t.Errorf("a new connection has certificate %d", got)
	}
	ask(old)
	// What can't be used is not.
	if err := os.WriteFile(cert, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(dial()); got != 2 {
		t.Errorf("a broken one has become %d", got)
	}
	ask(old)
}

func TestAConnectionGetsTheCertificateOfItsName(t *testing.T) {
	var certs, keys []string
	for i, name := range []string{"hearth.example", "shop.example", "*.wild.example"} {
		cert, key := certificate(t, t.TempDir(), int64(i+1), name)
		certs, keys = append(certs, cert), append(keys, key)
	}
	several, err := OpenSeveral(certs, keys, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	addr := serve(t, NewConns(100, 100), http.NotFoundHandler(), TLS(several.Certificate))
	for name, want := range map[string]int64{"hearth.example": 1, "shop.example": 2, "a.wild.example": 3, "other.example": 1, "": 1} {
		c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != want {
			t.Errorf("%q gets certificate %d, not %d", name, got, want)
		}
		c.Close()
	}
}

func TestTLSIsModern(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir, 1, "hearth.example")
	f, err := OpenFiles(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	addr := serve(t, NewConns(100, 100), http.NotFoundHandler(), TLS(f.Certificate))
	try := func(c *tls.Config) error {
		c.InsecureSkipVerify = true
		n, err := tls.Dial("tcp", addr, c)
		if err == nil {
			n.Close()
		}
		return err
	}
	if try(&tls.Config{MaxVersion: tls.VersionTLS11}) == nil {
		t.Error("TLS 1.1 is spoken")
	}
	if try(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}) == nil {
		t.Error("an old cipher is taken")
	}
	if err := errors.Join(try(&tls.Config{MaxVersion: tls.VersionTLS12}), try(&tls.Config{})); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFiles(cert, key, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "everybody may read it") {
		t.Errorf("a key that everybody may read: %v", err)
	}
}

// A client that opens streams and resets them at once (rapid reset) never has
// more handlers at work than streams it may have.
func TestRapidResetIsBounded(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir, 1, "hearth.example")
	f, err := OpenFiles(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var now, most atomic.Int64
	release := make(chan struct{})
	addr := serve(t, NewConns(100, 100), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-release // whatever becomes of the stream
		now.Add(-1)
	}), TLS(f.Certificate))
	defer close(release)
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.ConnectionState().NegotiatedProtocol != "h2" {
		t.Fatal("no HTTP/2")
	}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	fr := http2.NewFramer(c, c)
	if err := fr.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, c) }()
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "hearth.example"}, {":path", "/"}} {
		if err := enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			t.Fatal(err)
		}
	}
	ended := false
	for i := range 5000 {
		id := uint32(2*i + 1)
		err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true})
		if err == nil {
			err = fr.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		if err != nil {
			ended = true // the server has had enough
			break
		}
	}
	eventually(t, "a handler", func() bool { return most.Load() > 0 })
	if most.Load() > 10 {
		t.Errorf("%d handlers at once, the connection ended: %v", most.Load(), ended)
	}
}

func TestHammerConns(t *testing.T) {
	c := NewConns(16, 8)
	addr := serve(t, c, &Handler{Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })}, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			for i := range 50 {
				resp, err := client.Post("http://"+addr, "text/plain", strings.NewReader(strings.Repeat("x", i*1000)))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				if i%10 == 0 {
					client.CloseIdleConnections()
				}
			}
			client.CloseIdleConnections()
		})
	}
	wg.Wait()
	eventually(t, "all to be closed", func() bool { return c.Stats().Open == 0 })
}

func FuzzSource(f *testing.F) {
	f.Add("192.0.2.1:80")
	f.Add("[2001:db8::1%eth0]:80")
	f.Add("s-1:2")
	f.Fuzz(func(t *testing.T, s string) {
		if got := guard.Source(s); len(got) > len(s)+3 && !strings.Contains(got, "/64") {
			t.Errorf("%q becomes %q", s, got)
		}
	})
}

func BenchmarkHandler(b *testing.B) {
	h := &Handler{Next: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })}
	w := &controlled{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequest("POST", "/", nil).WithContext(context.Background())
	b.ReportAllocs()
	for b.Loop() {
		r.ContentLength, r.Body = 5, io.NopCloser(strings.NewReader("hello"))
		h.ServeHTTP(w, r)
	}
}
