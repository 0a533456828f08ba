package node

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/fleet"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/worker/logs"
)

// Packages opens packages' archives by their SHA-256; the registry is one.
type Packages interface {
	OpenPackage(ctx context.Context, sha256 string) (archive io.ReadSeekCloser, size int64, err error)
}

// HomeHandler serves a server to its nodes. Its fields are set before the
// first request.
type HomeHandler struct {
	// Join takes a node in, once it has been reached; Heartbeat is false for
	// one that is not known.
	Join      func(ctx context.Context, info fleet.Info) (Welcome, error)
	Heartbeat func(id string, l fleet.Load) bool
	Drain     func(id string) error
	Leave     func(id string)
	Packages  Packages
	Session   func(account hearth.Account, function, role string, ttl time.Duration) (identity.Session, error)
	Logs      logs.Keeper
	Recorder  hearth.Recorder
	Meter     hearth.Meter // nil is nobody
	// API serves the calls of functions' code. The remote address of a request
	// begins with its sandbox, and Container tells its container.
	API http.Handler
	Log *slog.Logger

	seen usedSeen
}

// Serve serves whoever has the token, until l is closed.
func (h *HomeHandler) Serve(l net.Listener, t Token) error { return serve(l, t, h, h.Log) }

type containerKey struct{}

// Container is the container from whose code a request came through a node; ok
// is false for one that came otherwise.
func Container(r *http.Request) (id string, ok bool) {
	id, ok = r.Context().Value(containerKey{}).(string)
	return id, ok
}

// ServeHTTP implements http.Handler.
func (h *HomeHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if sandbox := r.Header.Get(headerSandbox); sandbox != "" {
		in := r.WithContext(context.WithValue(r.Context(), containerKey{}, r.Header.Get(headerContainer)))
		in.Header.Del(headerSandbox)
		in.Header.Del(headerContainer)
		in.RemoteAddr = sandbox + ":0"
		in.TLS = nil
		h.API.ServeHTTP(w, in)
		return
	}
	if sum, ok := strings.CutPrefix(r.URL.Path, prefix+"/packages/"); ok && r.Method == http.MethodGet {
		h.pack(w, r, sum)
		return
	}
	var v any = struct{}{}
	var err error
	switch r.Method + " " + r.URL.Path {
	case "POST " + prefix + "/join":
		var info fleet.Info
		if err = decodeBody(w, r, &info, maxHead); err == nil {
			info.Address = reachable(info.Address, r.RemoteAddr)
			v, err = h.Join(r.Context(), info)
		}
	case "POST " + prefix + "/heartbeat":
		var b beat
		if err = decodeBody(w, r, &b, maxHead); err == nil && !h.Heartbeat(b.ID, b.Load) {
			err = hearth.Errorf(hearth.NotFound, "The server does not know this node (any more): it has to join.")
		}
	case "POST " + prefix + "/drain":
		var b beat
		if err = decodeBody(w, r, &b, maxHead); err == nil {
			err = h.Drain(b.ID)
		}
	case "POST " + prefix + "/leave":
		var b beat
		if err = decodeBody(w, r, &b, maxHead); err == nil {
			h.Leave(b.ID)
		}
	case "POST " + prefix + "/session":
		var g grant
		if err = decodeBody(w, r, &g, maxHead); err == nil {
			var s identity.Session
			if s, err = h.Session(g.Account, g.Function, g.Role, g.TTL); err == nil {
				v = session{s.AccessKeyID, s.SecretAccessKey.Reveal(), s.SessionToken.Reveal()}
			}
		}
	case "POST " + prefix + "/records":
		err = h.records(w, r)
	default:
		err = hearth.Errorf(hearth.UnknownOperation, "This server does not know %s %s: the node and it are of different versions.", r.Method, r.URL.Path)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a node that is gone needs no answer
}

// reachable is where a node is reached that says an address without a host, as
// of all its interfaces: at the one that its request came from.
func reachable(address, remote string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return address
	}
	from, _, err := net.SplitHostPort(remote)
	if err != nil {
		return address
	}
	return net.JoinHostPort(from, port)
}

// pack sends a package, or what of it is asked for.
func (h *HomeHandler) pack(w http.ResponseWriter, r *http.Request, sum string) {
	archive, _, err := h.Packages.OpenPackage(r.Context(), sum)
	if err != nil {
		refuse(w, err)
		return
	}
	defer archive.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, archive)
}
