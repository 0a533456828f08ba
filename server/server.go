// Package server puts the parts together into one process: what listens, what
// stores, what decides and what runs. It holds no logic of its own beyond the
// order in which things start and stop.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/archive"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/decision"
	"github.com/hearth-faas/hearth/frontend"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/lambda"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/runtimes"
	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/sandbox/egress"
	"github.com/hearth-faas/hearth/sandbox/namespace"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/files"
	"github.com/hearth-faas/hearth/store/sqlite"
	"github.com/hearth-faas/hearth/worker"
	"github.com/hearth-faas/hearth/worker/logs"
)

// Server is a whole Hearth in one process. New opens everything and listens,
// Serve serves until its context ends and then puts everything away. A Server
// serves once.
type Server struct {
	cfg      Config
	log      *slog.Logger
	clock    hearth.Clock
	listener net.Listener
	ready    chan struct{}
	metrics  *prometheus.Registry

	authority *identity.Authority
	registry  *registry.Registry
	runtimes  *runtimes.Set
	network   *egress.Network
	driver    sandbox.Driver
	worker    *worker.Worker
	manager   *manager.Manager
	frontend  *frontend.Frontend
	decisions *decision.Recorder
	logs      *logs.Store

	outside *http.Server // for clients
	inside  *http.Server // for functions
	closers []closer     // in the order in which they were opened
}

type closer struct {
	what  string
	close func() error
}

// New opens the data folder, starts the sandboxes' machinery and listens. On
// an error, which is a sentence for whoever started the server, everything is
// closed again.
func New(ctx context.Context, cfg Config) (_ *Server, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Logger(), clock: clock.System(), ready: make(chan struct{}), metrics: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, open := range []func(context.Context) error{
		s.openFolder,
		s.listen, // before anything slow: a port in use is a likely mistake
		s.openRecords,
		s.openRuntimes,
		s.openSandboxes,
		s.openWorker,
		s.openManager,
		s.openRegistry,
		s.openFrontend,
	} {
		if err := open(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// opened notes what has to be closed, after everything that is opened later.
func (s *Server) opened(what string, close func() error) {
	s.closers = append(s.closers, closer{what, close})
}

// close closes what was opened, the last first.
func (s *Server) close() error {
	var errs []error
	for len(s.closers) > 0 {
		c := s.closers[len(s.closers)-1]
		s.closers = s.closers[:len(s.closers)-1]
		if err := c.close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close %s: %w", c.what, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Server) listen(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return err
	}
	s.listener = l
	s.opened("listener", l.Close)
	return nil
}

func (s *Server) openFolder(context.Context) error {
	folder, err := store.OpenFolder(s.cfg.DataDir)
	if err != nil {
		return err
	}
	s.opened("data folder", folder.Close)
	s.cfg.DataDir = folder.Path
	s.authority, err = identity.LoadOrCreate(identity.Config{
		Dir: folder.Path, Account: s.cfg.Account, Region: s.cfg.Region, Clock: s.clock, Log: s.log,
	})
	if err != nil {
		return store.Explain(folder.Path, err)
	}
	s.cfg.Account, s.cfg.Region = s.authority.Root().Account, s.authority.Root().Region
	return nil
}

func (s *Server) dir(name ...string) string {
	return filepath.Join(append([]string{s.cfg.DataDir}, name...)...)
}

// openRecords opens what keeps the decisions and the functions' logs.
func (s *Server) openRecords(context.Context) (err error) {
	s.decisions, err = decision.Open(decision.Config{
		Clock: s.clock, Log: s.log, Keep: s.cfg.Decisions,
		Dir: s.dir("decisions"), MaxBytes: int64(s.cfg.DecisionLogMiB) << 20,
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("decisions", s.decisions.Close)
	s.logs, err = logs.Open(logs.Options{
		Dir: s.dir("logs"), Clock: s.clock, Log: s.log,
		MaxBytes: int64(s.cfg.LogMiB) << 20, Retention: s.cfg.LogRetention,
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("logs", s.logs.Close)
	return nil
}

func (s *Server) openRuntimes(ctx context.Context) (err error) {
	files := s.dir("runtimes")
	if s.runtimes, err = discover(ctx, s.cfg, files); err != nil {
		return err
	}
	return s.runtimes.Install(ctx)
}

// discover finds this machine's interpreters; files is where the runtime
// clients will be.
func discover(ctx context.Context, cfg Config, files string) (*runtimes.Set, error) {
	return runtimes.Discover(ctx, runtimes.Options{
		Files: files, Dirs: cfg.Interpreters, Path: os.Getenv("PATH"), Home: os.Getenv("HOME"),
		Cache: filepath.Join(cfg.DataDir, "interpreters.json"), Strict: cfg.StrictRuntimes,
	})
}

func (s *Server) openSandboxes(ctx context.Context) (err error) {
	s.network, err = egress.New(egress.Config{Clock: s.clock, Log: s.log})
	if err != nil {
		return fmt.Errorf("the sandboxes' network: %w", err)
	}
	s.opened("network", s.network.Close)
	program := "/proc/self/exe"
	if len(s.cfg.SandboxProgram) > 0 {
		if program, err = namespace.Unpack(s.cfg.DataDir, s.cfg.SandboxProgram); err != nil {
			return store.Explain(s.cfg.DataDir, err)
		}
	}
	s.driver, err = namespace.New(ctx, namespace.Config{
		Program: program, DataDir: s.cfg.DataDir, Network: s.network, Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("the sandboxes: %w", err)
	}
	s.opened("sandboxes", s.driver.Close)
	for _, c := range s.driver.Report().Checks {
		if !c.OK {
			s.log.Warn("not enforced on this machine: "+c.Name, "because", c.Detail, "fix", c.Fix)
		}
	}
	return nil
}

func (s *Server) openWorker(context.Context) (err error) {
	s.worker, err = worker.New(worker.Config{
		Driver: s.driver, Runtimes: s.runtimes, Logs: s.logs, Clock: s.clock, Log: s.log,
		Packages: packages{s},
		Unpack: func(ctx context.Context, r io.ReaderAt, size int64, dir string) error {
			return archive.Unpack(ctx, r, size, dir, archive.Lambda)
		},
		Session:  s.authority.Mint,
		Endpoint: "http://" + s.network.Guest().API.String(),
		DataDir:  s.cfg.DataDir,
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	return nil
}

// packages lets the worker, which is opened first, read from the registry.
type packages struct{ s *Server }

func (p packages) OpenPackage(ctx context.Context, sha256 string) (io.ReadSeekCloser, int64, error) {
	return p.s.registry.OpenPackage(ctx, sha256)
}

func (s *Server) openManager(context.Context) (err error) {
	mib, err := s.cfg.promisedMiB()
	if err != nil {
		return err
	}
	least := map[hearth.Boot]int{"": 2}
	for _, boot := range s.runtimes.Boots() {
		least[boot] = 1
	}
	s.manager, err = manager.New(manager.Config{
		Worker: s.worker, Clock: s.clock, Recorder: s.decisions, Log: s.log, Seed: uint64(s.clock.Now().UnixNano()),
		MachineMiB: mib + s.cfg.PoolMiB, Overcommit: s.cfg.Overcommit, InstanceMiB: s.cfg.InstanceMiB,
		PoolBudgetMiB: float64(s.cfg.PoolMiB), PoolMin: least,
		Life: manager.IdleLife{Min: s.cfg.IdleMin, Max: s.cfg.IdleMax},
	})
	if err != nil {
		return err
	}
	s.opened("pools", func() error {
		// Whoever may wait for invocations has waited: what still runs ends now.
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.manager.Drain(ended); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	s.metrics.MustRegister(poolMetrics{s.manager, s.decisions})
	return nil
}

func (s *Server) openRegistry(ctx context.Context) error {
	records, err := sqlite.Open(ctx, s.cfg.DataDir)
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("records", records.Close)
	blobs, err := files.Open(s.dir("blobs"))
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.registry, err = registry.Open(ctx, registry.Config{
		Store: records, Blobs: blobs, Clock: s.clock, Region: s.cfg.Region, Log: s.log, Secrets: s.authority.Key(),
		Prepare: s.worker.Prepare, Changed: s.manager.Changed,
	})
	if err != nil {
		return err
	}
	s.opened("registry", s.registry.Close)
	return nil
}

func (s *Server) openFrontend(context.Context) (err error) {
	s.frontend, err = frontend.New(frontend.Config{
		Functions: s.registry, Manager: s.manager, Clock: s.clock, Recorder: s.decisions,
		Concurrency: s.cfg.Concurrency, Metrics: s.metrics,
	})
	if err != nil {
		return err
	}
	api := lambda.New(lambda.Config{
		Registry: s.registry, Invoker: s.frontend, Done: s.frontend.Done,
		Credentials: s.authority, Clock: s.clock, Region: s.cfg.Region, Log: s.log,
		Logs: s.logs, Concurrency: s.cfg.Concurrency,
	})
	s.outside = s.httpServer(s.routes(api))
	s.inside = s.httpServer(newInsideMeter(api))
	return nil
}

// httpServer bounds what a client can make the server hold.
func (s *Server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Ready is closed once requests are answered.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Serve answers requests until ctx ends, then lets what runs end (for at most
// Config.ShutdownGrace) and puts everything away.
func (s *Server) Serve(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, s.close()) }()
	failed := make(chan error, 2)
	serve := func(h *http.Server, l net.Listener) {
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}
	go serve(s.outside, s.listener)
	go serve(s.inside, s.network.APIListener())
	err = control.WriteRunning(s.cfg.DataDir, control.Running{
		PID: os.Getpid(), Endpoint: "http://" + s.Addr().String(), Account: s.cfg.Account, Region: s.cfg.Region,
		Version: s.cfg.Version, Started: s.clock.Now(),
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("server.json", func() error { return control.RemoveRunning(s.cfg.DataDir) })
	close(s.ready)
	debug.FreeOSMemory() // what starting took and serving does not need
	select {
	case <-ctx.Done():
	case err = <-failed:
		s.log.Error("stopped serving", "err", err)
	}
	s.log.Info("stopping", "invocations", s.frontend.InFlight(), "grace", s.cfg.ShutdownGrace)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.ShutdownGrace)
	defer cancel()
	// Invocations first: while they end, their callers' connections and the
	// functions' own calls still work.
	if derr := s.frontend.Drain(grace); derr != nil {
		s.log.Warn("invocations were still running when the grace ended", "invocations", s.frontend.InFlight())
	}
	for _, h := range []*http.Server{s.outside, s.inside} {
		if serr := h.Shutdown(grace); serr != nil {
			_ = h.Close() // what did not end by itself is cut off
		}
	}
	return err
}
