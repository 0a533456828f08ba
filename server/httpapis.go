package server

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/apigateway"
	buswire "github.com/hearth-faas/hearth/bus/wire"
	"github.com/hearth-faas/hearth/outside"
	sqswire "github.com/hearth-faas/hearth/sqs/wire"
)

// openHTTPAPIs opens the HTTP APIs.
func (s *Server) openHTTPAPIs(ctx context.Context) (err error) {
	s.apis, err = apigateway.Open(ctx, apigateway.Config{
		Store: s.records, Clock: s.clock, Region: s.cfg.Region, Log: s.log, Metrics: s.metrics,
		Invoker: s.frontend, Done: s.frontend.Done, Credentials: s.authority, Within: s.within, Logs: s.logs,
		Authorize: s.authorize, Guard: &s.guard,
		Sockets: s.cfg.MaxConnections / 2, Own: s.ownNames(), Endpoint: func(id string) string { return s.httpAPI(nil, id) }, Refuses: outside.Opened(s.cfg.HTTPBackends), Issuers: s.issuers,
		Services: (&apiServices{s, sqswire.New(s.queues), buswire.New(s.buses)}).do,
		Role: func(account hearth.Account, role, of string) error {
			return s.roles.PassToService(account, role, "apigateway.amazonaws.com", of)
		},
	})
	return err
}

// ownNames are the host names by which clients reach this server, as far as
// that is known.
func (s *Server) ownNames() (names []string) {
	for _, listen := range []string{s.cfg.Listen, s.cfg.TLSListen} {
		if host, _, err := net.SplitHostPort(listen); err == nil && host != "" {
			names = append(names, strings.ToLower(host))
		}
	}
	if host, err := os.Hostname(); err == nil {
		names = append(names, strings.ToLower(host))
	}
	for _, n := range slices.Concat(s.cfg.OwnNames, s.cfg.ACMEDomains) {
		names = append(names, strings.ToLower(n))
	}
	return names
}

// httpAPIsOf are the ids of an account's HTTP APIs, and its host names.
func (s *Server) httpAPIsOf(_ context.Context, a hearth.Account) (all []string, _ error) {
	apis, _ := s.apis.APIs(a, apigateway.Page{})
	for _, api := range apis {
		all = append(all, api.ID)
	}
	names, _ := s.apis.Domains(a, apigateway.Page{})
	for _, n := range names {
		all = append(all, n.Name)
	}
	return all, nil
}
