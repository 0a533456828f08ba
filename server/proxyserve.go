package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/lambda/sigv4"
	"github.com/hearth-faas/hearth/store"
)

// ProxyConfig is what a process of proxy endpoints alone can be told: of Config
// what is not of running code.
type ProxyConfig struct {
	Config
	// CallbackHosts (IP:PORT) may be sent results though they are not public.
	CallbackHosts []string
}

// DefaultProxyConfig is of one that was told nothing, but for DataDir and
// Execution.
func DefaultProxyConfig() ProxyConfig {
	c := DefaultConfig()
	c.Listen = "127.0.0.1:9080"
	return ProxyConfig{Config: c}
}

// Validate reports every setting that can't be, each by the name of its flag, in
// one error.
func (c ProxyConfig) Validate() error {
	err := errors.Join(c.Config.Validate(), checkHosts("callback-hosts", c.CallbackHosts))
	if c.Execution.Endpoint == "" {
		err = errors.Join(err, errors.New("execution-endpoint: none is given; it is the URL of the service that runs the functions"))
	}
	return err
}

// Proxy is proxy endpoints in a process of their own, whose functions are run by a
// code execution service elsewhere. NewProxy opens everything and listens, Serve
// serves until its context ends. A Proxy serves once.
type Proxy struct {
	*Server
	cfg ProxyConfig
}

// NewProxy opens the data folder and listens. On an error everything is closed
// again.
func NewProxy(ctx context.Context, cfg ProxyConfig) (_ *Proxy, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Proxy{cfg: cfg, Server: &Server{
		cfg: cfg.Config, log: cfg.Logger(), clock: clock.System(), ready: make(chan struct{}), taken: make(chan error, 1), resealing: resealing{due: make(chan struct{}, 1)}, metrics: prometheus.NewRegistry(),
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	p.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, open := range []func(context.Context) error{p.openFolder, p.listen, p.openRecords, p.openAudit, p.openStore, p.joinKeys, p.openEndpoints} {
		if err := open(ctx); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// proxyPaths are the paths of the control API that are served beside /proxy/.
var proxyPaths = []string{"/decisions", "/audit", "/audit/verify", "/key", "/key/rotate", "/openapi.json"}

func (p *Proxy) openEndpoints(ctx context.Context) error {
	if err := p.openProxiesFor(ctx, refusesCallback(p.cfg.CallbackHosts), nil); err != nil {
		return err
	}
	verifier := sigv4.New(p.authority, p.clock, p.Server.cfg.Region, control.SigningService)
	verifier.Guard = &p.guard
	own := &control.Handler{
		Authenticate: func(r *http.Request, body []byte) (hearth.Identity, error) {
			claim, err := verifier.Verify(r, body)
			return claim.Identity, err
		},
		Decisions: decisions{p.decisions}, Proxies: p.proxies, Audits: audits{p.Server}, MasterKey: masterKey{p.Server}, Audit: p.audit, Operator: p.Server.cfg.Account, Region: p.Server.cfg.Region, Log: p.log,
		Serves: func(path string) bool {
			return strings.HasPrefix(path, "/proxy/") || slices.Contains(proxyPaths, path)
		},
	}
	metrics := promhttp.HandlerFor(p.metrics, promhttp.HandlerOpts{})
	p.openDoor(p.proxies.Over(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case path == control.HealthPath:
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = io.WriteString(w, "ok\n") // a prober that left needs no answer
		case path == "/metrics" && p.cfg.Metrics:
			metrics.ServeHTTP(w, r)
		default:
			own.ServeHTTP(w, r)
		}
	})))
	return nil
}

// Serve answers requests until ctx ends, then lets the calls that run end (for at
// most Config.ShutdownGrace) and puts everything away.
func (p *Proxy) Serve(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, p.close()) }()
	failed := make(chan error, 1)
	go func() {
		if err := p.outside.Serve(p.conns.Listener(p.listener)); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}()
	err = control.WriteRunning(p.Server.cfg.DataDir, control.Running{
		PID: os.Getpid(), Endpoint: "http://" + p.Addr().String(), Account: p.Server.cfg.Account, Region: p.Server.cfg.Region,
		Version: p.cfg.Version, Started: p.clock.Now(),
	})
	if err != nil {
		return store.Explain(p.Server.cfg.DataDir, err)
	}
	p.opened("server.json", func() error { return control.RemoveRunning(p.Server.cfg.DataDir) })
	p.startResealing()
	p.proxies.Start()
	close(p.ready)
	select {
	case <-ctx.Done():
	case err = <-failed:
		p.log.Error("stopped serving", "err", err)
	case err = <-p.taken:
		p.log.Error("stopped serving", "err", err)
		p.cfg.ShutdownGrace = 0 // nothing that ends from now on can be stored
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(p.cfg.ShutdownGrace, time.Millisecond))
	defer cancel()
	if serr := p.outside.Shutdown(grace); serr != nil {
		p.log.Warn("calls were still running when the grace ended", "error", serr)
		_ = p.outside.Close() // what did not end by itself is cut off
	}
	p.proxies.Stop()
	return err
}
