package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/door"
	"github.com/hearth-faas/hearth/store"
)

// checkDoor tells what is wrong with the settings of who may come in, and how.
func (c *Config) checkDoor(refuse func(bad bool, format string, args ...any)) {
	if c.TLSListen != "" {
		_, port, err := net.SplitHostPort(c.TLSListen)
		n, perr := strconv.Atoi(port)
		refuse(err != nil || perr != nil || n < 0 || n > 65535, "tls-listen: %q is no HOST:PORT, such as 0.0.0.0:443", c.TLSListen)
	}
	files := len(c.TLSCert)+len(c.TLSKey) > 0
	acme := len(c.ACMEDomains) > 0
	refuse(c.TLSListen != "" && !files && !acme, "tls-listen: there is no certificate: add --tls-cert and --tls-key, or --acme-domains")
	refuse(c.TLSListen == "" && (files || acme), "tls-cert, acme-domains: nothing listens with it: add --tls-listen HOST:PORT")
	refuse(files && acme, "tls-cert, acme-domains: a certificate is in files or had by ACME: give one of them")
	refuse(len(c.TLSCert) != len(c.TLSKey), "tls-cert, tls-key: a certificate and its key go together: give as many of both, in the same order")
	refuse(c.ACMEHostNames && !acme, "acme-host-names: certificates are not had by ACME: add --acme-domains")
	for name, paths := range map[string][]string{"tls-cert": c.TLSCert, "tls-key": c.TLSKey, "acme-roots": {c.ACMERoots}} {
		for _, path := range paths {
			refuse(path != "" && !filepath.IsAbs(path), "%s: %q is no absolute path", name, path)
		}
	}
	for _, name := range c.ACMEDomains {
		refuse(!strings.Contains(name, ".") || strings.ContainsAny(name, "*:/ ") || net.ParseIP(name) != nil, "acme-domains: %q is no host name that a certificate can be had for so", name)
	}
	if c.ACMEDirectory != "" {
		u, err := url.Parse(c.ACMEDirectory)
		refuse(err != nil || u.Scheme != "https" || u.Host == "", "acme-directory: %q is no https URL", c.ACMEDirectory)
	}
	refuse(c.MaxConnections < 16, "max-connections: %d is less than 16", c.MaxConnections)
	refuse(c.SourceConnections < 0, "source-connections: %d is less than none; 0 is a quarter of all", c.SourceConnections)
	refuse(c.SourceRate < 0, "source-rate: %d is no rate; 0 is no limit", c.SourceRate)
	for _, proxy := range c.TrustedProxies {
		n, err := network(proxy)
		refuse(err != nil, "trusted-proxies: %q is neither an address nor a network, such as 10.0.0.0/24", proxy)
		refuse(err == nil && n.Bits() == 0, "trusted-proxies: %q is everybody, who could each say to be another", proxy)
	}
	refuse(!slices.Contains(ForwardedHeaders, c.ForwardedHeader), "forwarded-header: %q is none of %s", c.ForwardedHeader, strings.Join(ForwardedHeaders, ", "))
}

// ForwardedHeaders are those by which a proxy may say whom it asks for.
var ForwardedHeaders = []string{"x-forwarded-for", "forwarded"}

// network reads a network, or an address, which is one of its own.
func network(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap().WithZone("")
		return a.Prefix(a.BitLen())
	}
	return netip.ParsePrefix(text)
}

// trusted are the proxies whose word is taken.
func (c *Config) trusted() *door.Proxies {
	p := &door.Proxies{Standard: c.ForwardedHeader == ForwardedHeaders[1]}
	for _, text := range c.TrustedProxies {
		n, err := network(text)
		if err != nil {
			panic(err) // checkDoor has read it
		}
		p.Networks = append(p.Networks, n)
	}
	return p
}

// checkListener refuses to be reached by other machines in plain text, unless
// told to.
func (s *Server) checkListener() error {
	each := s.cfg.SourceConnections
	if each == 0 {
		each = s.cfg.MaxConnections / 4
	}
	s.conns = door.NewConns(s.cfg.MaxConnections, each)
	s.conns.Spare = s.cfg.trusted().Trust
	addr, ok := s.listener.Addr().(*net.TCPAddr)
	if ok && (addr.IP.IsLoopback() || s.cfg.InsecureListen) {
		return nil
	}
	return fmt.Errorf("other machines reach %s, and what they say there would go in plain text, signatures and secrets among it: use --tls-listen %s with a certificate, or say --insecure-listen if something in front of it speaks TLS", s.cfg.Listen, s.cfg.Listen)
}

// openDoor makes the server of requests from outside, which next answers.
func (s *Server) openDoor(next http.Handler) {
	s.door = &door.Handler{Rate: s.cfg.SourceRate, Next: newBudget(outsideBodies(), next)}
	s.outside = s.httpServer(s.door, access.FromNetwork)
	s.outside.Handler = s.cfg.trusted().Over(s.outside.Handler)
	s.outside.ConnState = s.conns.State
}

// listenTLS opens the listener for other machines.
func (s *Server) listenTLS(ctx context.Context) error {
	if s.cfg.TLSListen == "" {
		return nil
	}
	var config *tls.Config
	if len(s.cfg.TLSCert) > 0 {
		files, err := door.OpenSeveral(s.cfg.TLSCert, s.cfg.TLSKey, s.log)
		if err != nil {
			return fmt.Errorf("the certificate: %w", err)
		}
		config, s.certificateNames = door.TLS(files.Certificate), files[0].Names()
	} else {
		var others func(string) (string, bool)
		if s.cfg.ACMEHostNames {
			others = func(host string) (string, bool) {
				account, ok := s.apis.OwnerOf(host)
				return string(account), ok
			}
		}
		var err error
		config, s.certificates, err = door.ACME{
			Domains: s.cfg.ACMEDomains, Others: others, Email: s.cfg.ACMEEmail, Directory: s.cfg.ACMEDirectory, Roots: s.cfg.ACMERoots, Dir: s.dir("acme"), Key: s.authority.Key(),
		}.Open()
		if err != nil {
			return errors.Join(errors.New("certificates by ACME"), store.Explain(s.cfg.DataDir, err))
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.cfg.TLSListen)
	if err != nil {
		return err
	}
	// http.Server speaks HTTP/2 on connections of a listener of package tls
	// whose configuration offers it.
	s.secure = tls.NewListener(s.conns.Listener(l), config)
	s.opened("TLS listener", s.secure.Close)
	return nil
}

// TLSAddr is where the server listens under TLS; nil is nowhere.
func (s *Server) TLSAddr() net.Addr {
	if s.secure == nil {
		return nil
	}
	return s.secure.Addr()
}
