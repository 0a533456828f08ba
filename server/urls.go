package server

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/hearth-faas/hearth/apigateway"
	"github.com/hearth-faas/hearth/gateway"
)

// The URLs that are told to clients: each is told one that it reaches, by the way
// on which it came.

// functionURL is where the function with the URL of that id is served, for whoever
// asks by r.
func (s *Server) functionURL(r *http.Request, id string) string {
	if base := reached(r); base != "" {
		return base + "/lambda-url/" + id + "/"
	}
	return s.local(gateway.Host(id, s.cfg.Region, "localhost")) + "/"
}

// httpAPI is where the HTTP API of that id is served, for whoever asks by r; nil
// is whoever is on this machine.
func (s *Server) httpAPI(r *http.Request, id string) string {
	if base := reached(r); base != "" {
		return base + "/execute-api/" + id
	}
	return s.local(apigateway.Host(id, s.cfg.Region, "localhost"))
}

// local is a name under localhost at the plain listener: browsers and most
// resolvers take every such name for this machine.
func (s *Server) local(name string) string {
	_, port, err := net.SplitHostPort(s.Addr().String())
	if err != nil {
		panic(err) // the address of a TCP listener has a port
	}
	return "http://" + net.JoinHostPort(name, port)
}

// reached is scheme and host by which the server was reached, under TLS, or by a
// proxy that says that it speaks it; "" if that was by the plain listener and by
// this machine's own names, which are no good elsewhere.
func reached(r *http.Request) string {
	if r == nil || r.Host == "" {
		return ""
	}
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		return "https://" + r.Host
	}
	if ownMachine(r.Host) {
		return ""
	}
	return "http://" + r.Host
}

// ownMachine tells whether a request's Host, with its port or without, is a name
// or address that each machine has for itself.
func ownMachine(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if at, err := netip.ParseAddr(host); err == nil {
		return at.Unmap().IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// Public is where other machines reach the API, as far as that is known;
// "" if nothing listens for them under TLS.
func (s *Server) Public() string {
	at := s.TLSAddr()
	if at == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(s.cfg.TLSListen)
	if ip, ierr := netip.ParseAddr(host); err != nil || host == "" || ierr == nil && ip.IsUnspecified() {
		host = ""
	}
	for _, names := range [][]string{s.certificateNames, s.cfg.ACMEDomains, s.cfg.OwnNames} {
		for _, name := range names {
			if !strings.Contains(name, "*") {
				host = name // the later ones are said by whoever runs the server
				break
			}
		}
	}
	if host == "" {
		return ""
	}
	_, port, err := net.SplitHostPort(at.String())
	if err != nil {
		panic(err) // the address of a TCP listener has a port
	}
	if port == "443" {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return "https://" + host
	}
	return "https://" + net.JoinHostPort(host, port)
}
