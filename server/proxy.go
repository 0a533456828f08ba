package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/jwt"
	"github.com/hearth-faas/hearth/outside"
	"github.com/hearth-faas/hearth/proxy"
	"github.com/hearth-faas/hearth/store"
)

// ExecutionConfig says which code execution service runs the functions of proxy
// APIs.
type ExecutionConfig struct {
	// Endpoint is its URL; "" is this server, by its own address.
	Endpoint string
	// Region is what requests to it are signed for; "" is the server's.
	Region string
	// Credentials is a file as the AWS tools have it: the profile that is called
	// as the account signs that account's calls, and default those of the
	// server's own. "" is that the own server's accounts sign for themselves.
	Credentials string
}

func (c ExecutionConfig) check() error {
	var errs []error
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
			errs = append(errs, fmt.Errorf("execution-endpoint: %q is no URL such as http://10.0.0.7:9070", c.Endpoint))
		}
		if c.Credentials == "" {
			errs = append(errs, errors.New("execution-credentials: the service elsewhere needs a file of AWS credentials"))
		}
	} else if c.Credentials != "" {
		errs = append(errs, errors.New("execution-credentials: they are for a service elsewhere, and no --execution-endpoint is given"))
	}
	if c.Region != "" && !regionPattern.MatchString(c.Region) {
		errs = append(errs, fmt.Errorf("execution-region: %q is no region, such as us-east-1", c.Region))
	}
	if c.Credentials != "" && !filepath.IsAbs(c.Credentials) {
		errs = append(errs, fmt.Errorf("execution-credentials: %q is no absolute path", c.Credentials))
	}
	return errors.Join(errs...)
}

// openProxies opens the proxy APIs.
func (s *Server) openProxies(ctx context.Context) error {
	return s.openProxiesFor(ctx, s.refusesDependency, func(ctx context.Context, caller hearth.Identity, action, resource string) error {
		parts := strings.SplitN(resource, ":", 6) // arn:aws:hearth:REGION:ACCOUNT:proxy/API
		return s.judge.Check(ctx, &access.Request{Caller: caller, Action: action, Resource: resource, Account: hearth.Account(parts[4])})
	})
}

// openProxiesFor opens proxy APIs whose results are not sent to what is refused,
// and which are called by whom authorize lets in; nil is their own account.
func (s *Server) openProxiesFor(ctx context.Context, refuses func(string) string, authorize func(context.Context, hearth.Identity, string, string) error) (err error) {
	e := s.cfg.Execution
	execution := &proxy.Execution{Endpoint: e.Endpoint, Region: e.Region, Clock: s.clock}
	if execution.Region == "" {
		execution.Region = s.cfg.Region
	}
	if e.Endpoint == "" {
		execution.Endpoint = s.ownEndpoint()
		execution.Credentials = (&ownCredentials{authority: s.authority, clock: s.clock}).of
	} else {
		execution.Credentials = fileCredentials{e.Credentials, s.cfg.Account}.of
		if _, err := execution.Credentials(ctx, s.cfg.Account); err != nil {
			return fmt.Errorf("execution-credentials: %w", err)
		}
	}
	s.issuers = jwt.NewIssuers(s.clock, outside.NewClient(outside.Opened(s.cfg.HTTPBackends)))
	s.proxies, err = proxy.Open(ctx, proxy.Config{
		Store: s.records, Execution: execution, Credentials: s.authority, Clock: s.clock, Region: s.cfg.Region,
		Issuers: s.issuers, Guard: &s.guard, Refuses: refuses, Authorize: authorize, Recorder: s.decisions, Metrics: s.metrics, Log: s.log,
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("proxy APIs", func() error { s.proxies.Stop(); return nil })
	return nil
}

// ownEndpoint is where this server reaches itself.
func (s *Server) ownEndpoint() string {
	at, err := netip.ParseAddrPort(s.Addr().String())
	if err != nil {
		panic(err) // the address of a TCP listener is one
	}
	host := at.Addr()
	if host.IsUnspecified() {
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return "http://" + netip.AddrPortFrom(host, at.Port()).String()
}

// sessionLife is how long the sessions last with which the server calls itself,
// and sessionLeft how much of that must be left for one to be used.
const (
	sessionLife = time.Hour
	sessionLeft = 10 * time.Minute
)

// ownCredentials are sessions of the accounts whose APIs are called.
type ownCredentials struct {
	authority *identity.Authority
	clock     hearth.Clock

	mu       sync.Mutex
	sessions map[hearth.Account]identity.Session
}

func (o *ownCredentials) of(_ context.Context, account hearth.Account) (aws.Credentials, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, ok := o.sessions[account]
	if !ok || s.Expires.Sub(o.clock.Now()) < sessionLeft {
		var err error
		if s, err = o.authority.Mint(identity.Grant{Account: account}, sessionLife); err != nil {
			return aws.Credentials{}, err
		}
		if o.sessions == nil {
			o.sessions = map[hearth.Account]identity.Session{}
		}
		o.sessions[account] = s
	}
	return aws.Credentials{AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey.Reveal(), SessionToken: s.SessionToken.Reveal()}, nil
}

// fileCredentials are those of a file, read anew for each call so that they can be
// rotated.
type fileCredentials struct {
	file string
	own  hearth.Account
}

func (f fileCredentials) of(ctx context.Context, account hearth.Account) (aws.Credentials, error) {
	for _, profile := range []string{string(account), "default"} {
		if profile == "default" && account != f.own {
			break // no account's calls are signed as another's
		}
		p, err := config.LoadSharedConfigProfile(ctx, profile, func(o *config.LoadSharedConfigOptions) {
			o.CredentialsFiles, o.ConfigFiles = []string{f.file}, []string{}
		})
		if _, none := errors.AsType[config.SharedConfigProfileNotExistError](err); none {
			continue
		}
		if err != nil {
			return aws.Credentials{}, err
		}
		if p.Credentials.HasKeys() {
			return p.Credentials, nil
		}
	}
	return aws.Credentials{}, fmt.Errorf("%s has no profile %s with aws_access_key_id and aws_secret_access_key", f.file, account)
}

// proxiesOf names what an account has of proxies.
func (s *Server) proxiesOf(_ context.Context, a hearth.Account) (all []string, _ error) {
	for _, api := range s.proxies.APIs(a) {
		all = append(all, "API "+api.ID)
	}
	for _, r := range s.proxies.Resources(a, "") {
		all = append(all, "resource "+r.ID)
	}
	return all, nil
}

// refusesCallback refuses where results are sent that is not public, unless hosts
// (IP:PORT) has it.
func refusesCallback(hosts []string) func(string) string {
	return func(address string) string {
		if slices.Contains(hosts, address) {
			return ""
		}
		return proxy.RefusesInner(address)
	}
}

func checkHosts(flag string, hosts []string) error {
	var errs []error
	for _, h := range hosts {
		if _, err := netip.ParseAddrPort(h); err != nil {
			errs = append(errs, fmt.Errorf("%s: %q is not IP:PORT", flag, h))
		}
	}
	return errors.Join(errs...)
}
