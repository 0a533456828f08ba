package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/fleet"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/worker/logs"
)

func insecure() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
}

// fakeServer is what a HomeHandler serves.
type fakeServer struct {
	mu        sync.Mutex
	archives  map[string][]byte
	opened    int
	lines     []string
	decisions []hearth.Decision
	refuse    bool // what is logged
}

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

func (s *fakeServer) OpenPackage(_ context.Context, sum string) (io.ReadSeekCloser, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	b, ok := s.archives[sum]
	if !ok {
		return nil, 0, hearth.Errorf(hearth.NotFound, "The code package does not exist.")
	}
	return blob{bytes.NewReader(b)}, int64(len(b)), nil
}

type line struct {
	s    *fakeServer
	name string
}

func (s *fakeServer) Appender(account hearth.Account, group, name string) logs.Appender {
	return line{s, string(account) + " " + group + " " + name}
}

func (l line) Append(_ time.Time, request string, message []byte) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.s.lines = append(l.s.lines, l.name+" "+request+" "+string(message))
}

func (s *fakeServer) Record(d *hearth.Decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decisions = append(s.decisions, *d)
}

func home(t *testing.T, s *fakeServer, api http.Handler) *Home {
	t.Helper()
	tok, l := token(t), listen(t)
	h := &HomeHandler{
		Join: func(_ context.Context, i fleet.Info) (Welcome, error) {
			if i.Name == "twice" {
				return Welcome{}, hearth.Errorf(hearth.Conflict, "There is a node called %s already.", i.Name)
			}
			return Welcome{Region: i.Address, HeartbeatEvery: time.Second}, nil
		},
		Heartbeat: func(id string, l fleet.Load) bool { return id == "known" && l.InFlightMiB["1"] == 3 },
		Drain:     func(string) error { return nil }, Leave: func(string) {},
		Packages: s, Logs: s, Recorder: s, API: api, Log: slog.New(slog.DiscardHandler),
		Session: func(account hearth.Account, function, role string, ttl time.Duration) (identity.Session, error) {
			if function == "broken" {
				return identity.Session{}, errors.New("no")
			}
			return identity.Session{AccessKeyID: "ASIA" + function, SecretAccessKey: identity.NewSecret(role), SessionToken: identity.NewSecret(ttl.String())}, nil
		},
	}
	go func() { _ = h.Serve(gate{l, s}, tok) }() // it ends with the listener
	home, err := NewHome(l.Addr().String(), tok, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(home.Close)
	return home
}

// gate closes what comes while the server refuses.
type gate struct {
	net.Listener
	s *fakeServer
}

func (g gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g.s.mu.Lock()
		refuse := g.s.refuse
		g.s.mu.Unlock()
		if !refuse {
			return c, nil
		}
		c.Close()
	}
}

func TestANodeJoinsAndIsHeardOf(t *testing.T) {
	h, ctx := home(t, &fakeServer{}, nil), context.Background()
	w, err := h.Join(ctx, fleet.Info{Name: "n", Address: "0.0.0.0:7"})
	if err != nil || w.Region != "127.0.0.1:7" {
		t.Errorf("welcomed with %+v, %v", w, err)
	}
	if _, err := h.Join(ctx, fleet.Info{Name: "twice"}); hearth.KindOf(err) != hearth.Conflict {
		t.Errorf("joined: %v", err)
	}
	if err := h.Heartbeat(ctx, "known", fleet.Load{InFlightMiB: map[string]int{"1": 3}}); err != nil {
		t.Error(err)
	}
	if err := h.Heartbeat(ctx, "forgotten", fleet.Load{}); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("a forgotten node is told %v", err)
	}
}

func TestASessionIsMadeByTheServer(t *testing.T) {
	h := home(t, &fakeServer{}, nil)
	s, err := h.Session("1", "f", "role", time.Hour)
	if err != nil || s.AccessKeyID != "ASIAf" || s.SecretAccessKey.Reveal() != "role" || s.SessionToken.Reveal() != "1h0m0s" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := h.Session("1", "broken", "", 0); err == nil {
		t.Error("there is a session of what has none")
	}
}

func TestAPackageIsFetchedFromWhereItIsSoughtTo(t *testing.T) {
	archive := bytes.Repeat([]byte("0123456789"), 100_000)
	s := &fakeServer{archives: map[string][]byte{"abc": archive}}
	h := home(t, s, nil)
	r, size, err := h.OpenPackage(context.Background(), "abc")
	if err != nil || size != int64(len(archive)) {
		t.Fatalf("%d bytes: %v", size, err)
	}
	defer r.Close()
	if got, err := io.ReadAll(io.LimitReader(r, 10)); err != nil || string(got) != "0123456789" {
		t.Errorf("%q, %v", got, err)
	}
	if at, err := r.Seek(999_995, io.SeekStart); err != nil || at != 999_995 {
		t.Errorf("at %d: %v", at, err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "56789" {
		t.Errorf("%q, %v", got, err)
	}
	if s.opened != 2 {
		t.Errorf("opened %d times", s.opened)
	}
	if _, _, err := h.OpenPackage(context.Background(), "none"); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("what is not there: %v", err)
	}
}

func TestLogsAndDecisionsArriveInOrderAlsoAfterAnOutage(t *testing.T) {
	s := &fakeServer{refuse: true}
	r := NewRecords(home(t, s, nil), "n1")
	a := r.Appender("111111111111", "/aws/lambda/f", "stream")
	a.Append(time.Now(), "r-1", []byte("one\xff"))
	r.Record(&hearth.Decision{Kind: hearth.DecisionEvict, Chosen: "end", Seq: 99})
	time.Sleep(2 * shipEvery) // for a try in vain; the test holds without, too
	s.mu.Lock()
	s.refuse = false
	s.mu.Unlock()
	a.Append(time.Now(), "r-1", []byte("two"))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if want := "111111111111 /aws/lambda/f stream r-1 one\xff|111111111111 /aws/lambda/f stream r-1 two"; strings.Join(s.lines, "|") != want {
		t.Errorf("logged %q", s.lines)
	}
	if len(s.decisions) != 1 || s.decisions[0].Node != "n1" || s.decisions[0].Seq != 0 || s.decisions[0].At.IsZero() {
		t.Errorf("decided %+v", s.decisions)
	}
}

func TestWhatWaitsForTheServerIsBoundedAndItsLossIsSaid(t *testing.T) {
	s := &fakeServer{refuse: true}
	r := NewRecords(home(t, s, nil), "n1")
	a := r.Appender("1", "g", "s")
	for range 2 * maxWaiting / (64 << 10) {
		a.Append(time.Now(), "", make([]byte, 64<<10))
	}
	r.mu.Lock()
	if r.bytes > maxWaiting || r.dropped == 0 {
		t.Errorf("%d bytes wait, %d were dropped", r.bytes, r.dropped)
	}
	r.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Close(ctx); err == nil {
		t.Error("that logs were lost is not said")
	}
}

// The call of a function's code gets to the server as it was signed.
func TestAFunctionsCallArrivesAsItWasSigned(t *testing.T) {
	var got *http.Request
	var body []byte
	h := home(t, &fakeServer{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
	}))
	api, err := h.API(func(sandbox string) (string, bool) { return "c-" + sandbox, true })
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodPost, "http://169.254.1.1:9001/2015-03-31/functions/f%2Fg/invocations?x=1", strings.NewReader("body"))
	req.RemoteAddr = "s-1:0"
	req.Header.Set("Authorization", "AWS4 …")
	req.Header.Set("X-Forwarded-For", "said by code")
	req.Header.Set(headerContainer, "c-forged")
	w := httptest.NewRecorder()
	api.ServeHTTP(w, req)
	if w.Code != http.StatusAccepted || string(body) != "body" {
		t.Fatalf("answered %d, with the body %q", w.Code, body)
	}
	container, ok := Container(got)
	if got.Host != "169.254.1.1:9001" || got.RequestURI != "/2015-03-31/functions/f%2Fg/invocations?x=1" || got.Header.Get("X-Forwarded-For") != "said by code" ||
		got.Header.Get("Authorization") != "AWS4 …" || !strings.HasPrefix(got.RemoteAddr, "s-1:") || !ok || container != "c-s-1" || got.Header.Get(headerContainer) != "" {
		t.Errorf("arrived as %s %s from %s of %q: %v", got.Host, got.RequestURI, got.RemoteAddr, container, got.Header)
	}
}
