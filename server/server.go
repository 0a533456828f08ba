// Package server puts the parts together into one process: what listens, what
// stores, what decides and what runs. It holds no logic of its own beyond the
// order in which things start and stop.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/account"
	"github.com/hearth-faas/hearth/apigateway"
	"github.com/hearth-faas/hearth/async"
	"github.com/hearth-faas/hearth/audit"
	"github.com/hearth-faas/hearth/backfill"
	"github.com/hearth-faas/hearth/bus"
	"github.com/hearth-faas/hearth/capacity"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/deadline"
	"github.com/hearth-faas/hearth/decision"
	"github.com/hearth-faas/hearth/delivery"
	"github.com/hearth-faas/hearth/door"
	"github.com/hearth-faas/hearth/durable"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/source"
	"github.com/hearth-faas/hearth/execution"
	"github.com/hearth-faas/hearth/frontend"
	"github.com/hearth-faas/hearth/gateway"
	"github.com/hearth-faas/hearth/guard"
	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/idempotent"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/image"
	"github.com/hearth-faas/hearth/internal/processors"
	"github.com/hearth-faas/hearth/jwt"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/market"
	"github.com/hearth-faas/hearth/meter"
	"github.com/hearth-faas/hearth/prediction"
	"github.com/hearth-faas/hearth/proxy"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/runtimes"
	"github.com/hearth-faas/hearth/s3"
	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/sandbox/egress"
	"github.com/hearth-faas/hearth/schedule"
	"github.com/hearth-faas/hearth/share"
	"github.com/hearth-faas/hearth/signing"
	"github.com/hearth-faas/hearth/sqs"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/taskset"
	"github.com/hearth-faas/hearth/worker"
	"github.com/hearth-faas/hearth/worker/logs"
)

// Server is a whole Hearth in one process. New opens everything and listens,
// Serve serves until its context ends and then puts everything away. A Server
// serves once.
type Server struct {
	cfg        Config
	log        *slog.Logger
	clock      hearth.Clock
	listener   net.Listener
	ready      chan struct{}
	registered chan struct{} // closed once registry is set
	metrics    *prometheus.Registry

	authority  *identity.Authority
	records    store.Store
	taken      chan error // by another server: the database
	accounts   *account.Directory
	policies   *execution.Policies
	roles      *iam.Directory
	judge      *access.Judge
	registry   *registry.Registry
	mappings   *event.Mappings
	sources    *source.Sources
	poller     *poll.Poller
	signing    *signing.Configs
	runtimes   *runtimes.Set
	network    *egress.Network
	driver     sandbox.Driver
	worker     *worker.Worker
	manager    *manager.Manager
	limits     *frontend.Limits
	gate       *frontend.Gate // nil: whoever comes first begins
	load       *processors.Load
	predictor  *prediction.Predictor
	avoider    *idempotent.Avoider
	frontend   *frontend.Frontend
	capacity   *capacity.Providers
	durable    *durable.Executions
	calls      *deadline.Calls
	async      *async.Queue
	queues     *sqs.Service
	feed       *market.Feed // of variable capacity; nil without any
	timing     market.Timing
	buses      *bus.Buses
	schedules  *schedule.Schedules
	timers     *schedule.Timers
	deliveries *delivery.Queue
	backfills  *backfill.Jobs
	proxies    *proxy.Service
	apis       *apigateway.Service
	issuers    *jwt.Issuers // of tokens, for both
	decisions  *decision.Recorder
	audit      *audit.Log
	guard      guard.Guard
	seen       guard.Seen
	logs       *logs.Store
	shares     *share.Shares
	objects    *s3.Bucket
	images     *image.Store
	nodes      nodes
	meter      *meter.Meter
	tasks      *taskset.Sets

	urls    gateway.Index
	outside *http.Server // for clients
	secure  net.Listener // for clients, under TLS; nil: none

	certificates     *door.Certificates // had by ACME
	certificateNames []string           // that the certificate in files is for
	resealing        resealing
	conns            *door.Conns // from outside
	door             *door.Handler
	inside           *http.Server // for functions
	closers          []closer     // in the order in which they were opened
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
	s := &Server{cfg: cfg, log: cfg.Logger(), clock: clock.System(), ready: make(chan struct{}), registered: make(chan struct{}), taken: make(chan error, 1), resealing: resealing{due: make(chan struct{}, 1)}, metrics: prometheus.NewRegistry(), load: processors.New()}
	if cfg.Fair {
		s.gate = frontend.NewGate(s.load)
		s.gate.Weight = s.weight
		s.gate.Contest = s.contest
	}
	s.limits = frontend.NewLimits(cfg.Concurrency, cfg.Rate)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, open := range []func(context.Context) error{
		s.openFolder,
		s.listen, // before anything slow: a port in use is a likely mistake
		s.listenTLS,
		s.openRecords,
		s.openAudit,
		s.watchDoor,
		s.openRuntimes,
		s.openSandboxes,
		s.openImages,
		s.openWorker,
		s.openStore,
		s.joinKeys,
		s.openMeter,
		s.openAccounts,
		s.openPolicies,
		s.openManager,
		s.openFleets,
		s.openRoles,
		s.openRegistry,
		s.openShares,
		s.openTasks,
		s.openObjects,
		s.openPrediction,
		s.openIdempotent,
		s.openFrontend,
		s.openDeadline,
		s.openCapacity,
		s.openDurable,
		s.openQueues,
		s.openEvents,
		s.openAsync,
		s.openFeed,
		s.openBackfills,
		s.openProxies,
		s.openHTTPAPIs,
		s.openAPI,
		s.openNodes,
		s.awaitLogs,
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
	return s.checkListener()
}

// mayLoop tells whether fn's recursion configuration allows loops.
func (s *Server) mayLoop(fn *hearth.Function) bool {
	settings, err := s.registry.Settings(context.Background(), fn.Account, fn.Name, "")
	return err == nil && settings.Recursion == "Allow"
}

// httpServer bounds what a client can make the server hold. origin tells how
// requests come to it, for those who judge them.
func (s *Server) httpServer(h http.Handler, origin func(*http.Request) access.Origin) *http.Server {
	return &http.Server{
		Handler:           access.Noting(h, origin),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 128},
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
	failed := make(chan error, 4)
	serve := func(h *http.Server, l net.Listener) {
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}
	go serve(s.outside, s.conns.Listener(s.listener))
	if s.secure != nil {
		go serve(s.outside, s.secure)
	}
	go serve(s.inside, s.network.APIListener())
	go s.serveNodes(failed)
	err = control.WriteRunning(s.cfg.DataDir, control.Running{
		PID: os.Getpid(), Endpoint: "http://" + s.Addr().String(), Account: s.cfg.Account, Region: s.cfg.Region,
		Version: s.cfg.Version, Started: s.clock.Now(), Public: s.Public(),
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("server.json", func() error { return control.RemoveRunning(s.cfg.DataDir) })
	if err := s.publishKeys(ctx); err != nil {
		return err
	}
	s.startResealing()
	s.meter.Start()
	s.durable.Run()
	s.async.Start()
	s.deliveries.Start()
	s.timers.Start()
	s.poller.Start()
	s.backfills.Run()
	s.proxies.Start()
	s.accounts.Continue()
	goFirst(s.log)
	close(s.ready)
	debug.FreeOSMemory() // what starting took and serving does not need
	if err := releaseProgram(); err != nil {
		s.log.Warn("the program's memory is not given back", "error", err)
	}
	select {
	case <-ctx.Done():
	case err = <-failed:
		s.log.Error("stopped serving", "err", err)
	case err = <-s.taken:
		s.log.Error("stopped serving", "err", err)
		s.cfg.ShutdownGrace = 0 // nothing that ends from now on can be stored
	}
	s.log.Info("stopping", "invocations", s.frontend.InFlight(), "grace", s.cfg.ShutdownGrace)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.ShutdownGrace)
	defer cancel()
	// Durable executions stop where they are, and go on in the next process.
	s.durable.Drain()
	s.async.Hold()
	s.calls.Hasten()
	s.timers.Stop()
	s.deliveries.Stop(grace)
	s.mappings.Hold()
	s.backfills.Hold()
	s.proxies.Stop()
	if derr := s.apis.Drain(grace); derr != nil {
		s.log.Warn("WebSockets were still open when the grace ended", "error", derr)
	}
	// Invocations first: while they end, their callers' connections and the
	// functions' own calls still work.
	if derr := s.frontend.Drain(grace); derr != nil {
		s.log.Warn("invocations were still running when the grace ended", "invocations", s.frontend.InFlight())
	}
	s.async.Stop(grace)
	s.mappings.Stop(grace)
	s.queues.Hold()
	for _, h := range []*http.Server{s.outside, s.inside} {
		if serr := h.Shutdown(grace); serr != nil {
			_ = h.Close() // what did not end by itself is cut off
		}
	}
	return err
}
