package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/fleet"
	"github.com/hearth-faas/hearth/identity"
)

// Home is the server that a node has joined, as the node sees it. Safe for
// concurrent use.
type Home struct {
	http *http.Client
	base string
	url  string
	log  *slog.Logger
}

// NewHome makes a Home of the server at HOST:PORT; nothing is sent yet.
func NewHome(address string, t Token, log *slog.Logger) (*Home, error) {
	tr, err := transport(t)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	base := "https://" + address
	return &Home{http: &http.Client{Transport: tr}, base: base, url: base + prefix, log: log}, nil
}

// Close lets go of the connections.
func (h *Home) Close() { h.http.CloseIdleConnections() }

// Welcome is what a server tells a node that joins it.
type Welcome struct {
	Region string
	// HeartbeatEvery is how often the server wants to hear of the node.
	HeartbeatEvery time.Duration
	Version        string // of Hearth
}

// Join says that the node is there. The server has reached it when it answers.
func (h *Home) Join(ctx context.Context, info fleet.Info) (w Welcome, err error) {
	b, err := exchange(ctx, h.http, http.MethodPost, h.url+"/join", info)
	if err == nil {
		err = json.Unmarshal(b, &w)
	}
	return w, err
}

// beat is a heartbeat.
type beat struct {
	ID   string
	Load fleet.Load
}

// Heartbeat says that the node is there still. An error of kind
// ResourceNotFound means that it has to join anew.
func (h *Home) Heartbeat(ctx context.Context, id string, l fleet.Load) error {
	_, err := exchange(ctx, h.http, http.MethodPost, h.url+"/heartbeat", beat{id, l})
	return err
}

// Drain asks for nothing new, and Leave says that what there was has ended.
func (h *Home) Drain(ctx context.Context, id string) error {
	_, err := exchange(ctx, h.http, http.MethodPost, h.url+"/drain", beat{ID: id})
	return err
}

// Leave is told of under Drain.
func (h *Home) Leave(ctx context.Context, id string) error {
	_, err := exchange(ctx, h.http, http.MethodPost, h.url+"/leave", beat{ID: id})
	return err
}

// session is what identity.Session is on the wire, which does not show its
// secrets by itself.
type session struct{ AccessKeyID, SecretAccessKey, SessionToken string }

type grant struct {
	Account        hearth.Account
	Function, Role string
	TTL            time.Duration
}

// sessionWait bounds how long a container waits for its credentials.
const sessionWait = 10 * time.Second

// Session has the server make the credentials of a function's code.
func (h *Home) Session(account hearth.Account, function, role string, ttl time.Duration) (identity.Session, error) {
	ctx, cancel := context.WithTimeout(context.Background(), sessionWait)
	defer cancel()
	b, err := exchange(ctx, h.http, http.MethodPost, h.url+"/session", grant{account, function, role, ttl})
	var s session
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return identity.Session{}, fmt.Errorf("credentials of %s from the server: %w", function, err)
	}
	return identity.Session{AccessKeyID: s.AccessKeyID, SecretAccessKey: identity.NewSecret(s.SecretAccessKey), SessionToken: identity.NewSecret(s.SessionToken)}, nil
}

// OpenPackage opens a package's archive on the server; what is read is fetched
// from there, from wherever it is sought to.
func (h *Home) OpenPackage(ctx context.Context, sha256 string) (io.ReadSeekCloser, int64, error) {
	p := &remotePackage{h: h, ctx: ctx, sum: sha256}
	if err := p.open(); err != nil {
		return nil, 0, err
	}
	return p, p.size, nil
}

// remotePackage reads a package from an offset on.
type remotePackage struct {
	h    *Home
	ctx  context.Context
	sum  string
	at   int64
	size int64
	body io.ReadCloser // nil: to be opened at at
}

func (p *remotePackage) open() error {
	req, err := http.NewRequestWithContext(p.ctx, http.MethodGet, p.h.url+"/packages/"+url.PathEscape(p.sum), nil)
	if err != nil {
		return err
	}
	if p.at > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", p.at))
	}
	resp, err := p.h.http.Do(req)
	if err != nil {
		return err
	}
	size := resp.ContentLength
	switch {
	case resp.StatusCode == http.StatusOK && p.at == 0:
	case resp.StatusCode == http.StatusPartialContent && p.at > 0:
		size += p.at
	default:
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // what came of it will do
		return errors.Join(refusal(resp.StatusCode, b), resp.Body.Close())
	}
	p.body, p.size = resp.Body, size
	return nil
}

func (p *remotePackage) Read(b []byte) (int, error) {
	if p.at >= p.size {
		return 0, io.EOF
	}
	if p.body == nil {
		if err := p.open(); err != nil {
			return 0, err
		}
	}
	n, err := p.body.Read(b)
	p.at += int64(n)
	if errors.Is(err, io.EOF) && p.at < p.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (p *remotePackage) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += p.at
	case io.SeekEnd:
		offset += p.size
	}
	if offset < 0 {
		return 0, errors.New("node: a package is sought before its beginning")
	}
	if offset != p.at {
		if err := p.Close(); err != nil {
			return 0, err
		}
		p.at = offset
	}
	return offset, nil
}

func (p *remotePackage) Close() error {
	if p.body == nil {
		return nil
	}
	err := p.body.Close()
	p.body = nil
	return err
}

// The headers of a call that a function's code made, by the node to its
// server. What the code itself says by these names is taken away.
const (
	headerContainer = "Hearth-Node-Container"
	headerSandbox   = "Hearth-Node-Sandbox"
)

// API passes on what functions' code asks of Hearth's API, as it is, so that
// its signature holds. container names the container of a sandbox.
func (h *Home) API(container func(sandbox string) (id string, ok bool)) (http.Handler, error) {
	to, err := url.Parse(h.base)
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Transport: h.http.Transport, FlushInterval: -1, ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelWarn),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
			r.Out.Host = r.In.Host // it is signed
			// Rewrite takes these from what it forwards, and a signature may
			// be over them.
			for _, k := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if v, ok := r.In.Header[k]; ok {
					r.Out.Header[k] = v
				}
			}
			sandbox, _, _ := strings.Cut(r.In.RemoteAddr, ":")
			id, _ := container(sandbox)
			r.Out.Header.Set(headerSandbox, sandbox)
			r.Out.Header.Set(headerContainer, id)
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			h.log.Warn("a function's call did not get to the server", "path", r.URL.Path, "error", err)
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Amzn-Errortype", string(hearth.Service))
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, `{"Type":"Service","message":"The server of this node can't be reached."}`) // code that left needs no answer
		},
	}, nil
}
