package server

import (
	"context"
	"net"
	"os"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/apigateway"
)

// openHTTPAPIs opens the HTTP APIs.
func (s *Server) openHTTPAPIs(ctx context.Context) (err error) {
	s.apis, err = apigateway.Open(ctx, apigateway.Config{
		Store: s.records, Clock: s.clock, Region: s.cfg.Region, Log: s.log,
		Invoker: s.frontend, Done: s.frontend.Done, Credentials: s.authority, Within: s.within, Logs: s.logs,
		Own: s.ownNames(), Endpoint: s.httpAPI, Refuses: apigateway.Opened(s.cfg.HTTPBackends),
		Role: func(account hearth.Account, role, of string) error {
			return s.roles.PassToService(account, role, "apigateway.amazonaws.com", of)
		},
	})
	return err
}

// ownNames are the host names by which clients reach this server, as far as
// that is known.
func (s *Server) ownNames() (names []string) {
	if host, _, err := net.SplitHostPort(s.cfg.Listen); err == nil {
		names = append(names, strings.ToLower(host))
	}
	if host, err := os.Hostname(); err == nil {
		names = append(names, strings.ToLower(host))
	}
	for _, n := range s.cfg.OwnNames {
		names = append(names, strings.ToLower(n))
	}
	return names
}

// httpAPI is where the HTTP API of that id is served; see functionURL.
func (s *Server) httpAPI(id string) string {
	_, port, err := net.SplitHostPort(s.Addr().String())
	if err != nil {
		panic(err) // the address of a TCP listener has a port
	}
	return "http://" + net.JoinHostPort(apigateway.Host(id, s.cfg.Region, "localhost"), port)
}
