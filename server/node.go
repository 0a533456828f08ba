package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/archive"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/execution"
	"github.com/hearth-faas/hearth/fleet"
	"github.com/hearth-faas/hearth/internal/processors"
	"github.com/hearth-faas/hearth/meter"
	"github.com/hearth-faas/hearth/node"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/worker"
)

// NodeConfig is what a node can be told: of Config what is of its machine, and
// whom it joins.
type NodeConfig struct {
	Config
	// Join is the HOST:PORT at which the server takes nodes in, and TokenFile
	// the secret that they share.
	Join, TokenFile string
	// Name is what people call the node; "" is the machine's name.
	Name string
}

// DefaultNodeConfig is of a node that was told nothing, but for Join,
// TokenFile and DataDir.
func DefaultNodeConfig() NodeConfig {
	c := DefaultConfig()
	c.Listen = "127.0.0.1:0"
	return NodeConfig{Config: c}
}

// Validate reports every setting that can't be, each by the name of its flag,
// in one error.
func (c NodeConfig) Validate() error {
	err := c.Config.Validate()
	if _, _, jerr := net.SplitHostPort(c.Join); jerr != nil {
		err = errors.Join(err, fmt.Errorf("join: %q is no HOST:PORT, such as 10.0.0.1:9071", c.Join))
	}
	if c.TokenFile == "" {
		err = errors.Join(err, errors.New("token-file: none is named; it is "+NodeTokenName+" in the server's data folder"))
	}
	if strings.ContainsAny(c.Name, "/ \n\t") || len(c.Name) > 128 {
		err = errors.Join(err, fmt.Errorf("name: %q is no name: up to 128 characters, without slashes and spaces", c.Name))
	}
	return err
}

// Node is a machine's capacity for a server elsewhere: a manager with its
// worker, in a process of its own. NewNode opens everything and joins, Serve
// serves until its context ends. A Node serves once.
type Node struct {
	*Server
	cfg     NodeConfig
	token   node.Token
	info    fleet.Info
	home    *node.Home
	records *node.Records
	handler *node.Handler
	welcome node.Welcome

	stopping atomic.Bool
}

// nodeIDFile has a node's id, which it keeps as long as its data folder.
const nodeIDFile = "node.id"

// NewNode opens the data folder, starts the sandboxes' machinery, listens and
// joins. On an error everything is closed again.
func NewNode(ctx context.Context, cfg NodeConfig) (_ *Node, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, Server: &Server{
		cfg: cfg.Config, log: cfg.Logger(), clock: clock.System(), ready: make(chan struct{}), registered: make(chan struct{}), metrics: prometheus.NewRegistry(), load: processors.New(),
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	for _, open := range []func(context.Context) error{
		n.openHere, n.listen, n.openHome, n.openRuntimes, n.openSandboxes, n.openStore, n.openNodeWorker, n.openNodeManager, n.serveNode, n.join,
	} {
		if err := open(ctx); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// openHere opens the data folder and finds out who this is.
func (n *Node) openHere(context.Context) error {
	folder, err := store.OpenFolder(n.cfg.DataDir)
	if err != nil {
		return err
	}
	n.opened("data folder", folder.Close)
	n.Server.cfg.DataDir = folder.Path
	if n.token, err = node.ReadToken(n.cfg.TokenFile); err != nil {
		return fmt.Errorf("token-file: %w", err)
	}
	mib, err := n.Server.cfg.FunctionMiB()
	if err != nil {
		return err
	}
	name := n.cfg.Name
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return fmt.Errorf("name: this machine does not say what it is called, so say it with --name: %w", err)
		}
	}
	n.info = fleet.Info{Name: name, Fleet: n.cfg.Fleet, MemoryMiB: mib, Version: n.cfg.Version}
	n.info.ID, err = n.identify(filepath.Join(folder.Path, nodeIDFile))
	return err
}

// identify reads the node's id, or makes it.
func (n *Node) identify(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", store.Explain(n.cfg.DataDir, err)
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand crashes the program instead
	text := "n-" + hex.EncodeToString(id[:])
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		return "", store.Explain(n.cfg.DataDir, err)
	}
	return text, nil
}

// logsGrace bounds how long a node that stops waits for its logs to get to the
// server.
const logsGrace = 10 * time.Second

func (n *Node) openHome(context.Context) (err error) {
	if n.home, err = node.NewHome(n.cfg.Join, n.token, n.log); err != nil {
		return err
	}
	n.opened("server", func() error { n.home.Close(); return nil })
	n.records = node.NewRecords(n.home, n.info.Name)
	n.opened("logs", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), logsGrace)
		defer cancel()
		return n.records.Close(ctx)
	})
	n.handler = node.NewHandler(node.HandlerConfig{Clock: n.clock, Log: n.log})
	return nil
}

// noImages refuses images, which the server keeps to its own node.
type noImages struct{}

func (noImages) Acquire(context.Context, *hearth.Function) (worker.Image, func(), error) {
	return worker.Image{}, nil, hearth.Errorf(hearth.Service, "This node does not run images.")
}

func (n *Node) openNodeWorker(context.Context) (err error) {
	n.worker, err = worker.New(worker.Config{
		Driver: n.driver, Runtimes: n.runtimes, Logs: n.records, Clock: n.clock, Log: n.log, Recorder: n.records, Meter: n.records,
		Packages: n.home, Images: noImages{},
		Unpack: func(ctx context.Context, r io.ReaderAt, size int64, dir string) error {
			return archive.Unpack(ctx, r, size, dir, archive.Lambda)
		},
		FullCPUMiB: n.cfg.CPUMiB, LinkBytesPerMiB: n.Server.cfg.linkBytesPerMiB(), Session: n.home.Session,
		Endpoint: "http://" + n.network.Guest().API.String(), DataDir: n.Server.cfg.DataDir, FetchRate: int64(n.cfg.FetchMbit) * 1e6 / 8,
	})
	if err != nil {
		return store.Explain(n.cfg.DataDir, err)
	}
	api, err := n.home.API(n.worker.ContainerOf)
	if err != nil {
		return err
	}
	n.inside = n.httpServer(newBudget(insideBodies, api), access.FromCode)
	go func() { _ = n.inside.Serve(n.network.APIListener()) }() // it ends with the network
	return nil
}

// policyOf is a function's policy, as the server has told it.
func (n *Node) policyOf(account hearth.Account, function string) *hearth.ExecutionPolicy {
	if p, ok := n.handler.Policy(account, function); ok {
		return p
	}
	return standardPolicy
}

var standardPolicy = execution.Default()

func (n *Node) openNodeManager(context.Context) error {
	if err := n.startManager(n.records, n.policyOf, n.handler.Weight); err != nil {
		return err
	}
	// Its containers' use is looked at as often as the server looks at its own.
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(meter.DefaultEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				n.worker.Settle()
			case <-stop:
				return
			}
		}
	}()
	n.opened("meter", func() error { close(stop); <-done; return nil })
	return nil
}

// joinedNode is the node as its server uses it.
type joinedNode struct {
	ownNode
	draining func() bool
}

// Invoke implements hearth.Node. What comes to a node that stops goes to
// another.
func (j joinedNode) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	if j.draining() {
		return nil, &hearth.Error{Op: "server.Node", Kind: hearth.NodeGone, Message: "the node stops"}
	}
	return j.ownNode.Invoke(ctx, inv)
}

// Overtake implements hearth.Node: the new code is fetched before containers of
// it are made, if there are any of the old.
func (j joinedNode) Overtake(ctx context.Context, old, now *hearth.Function) {
	if j.Has(old.Key()) && j.Prepare(ctx, now) == nil { // else whoever needs it fetches it, and hears why not
		j.ownNode.Overtake(ctx, old, now)
	}
}

// Ahead implements hearth.Node.
func (j joinedNode) Ahead(ctx context.Context, old, now *hearth.Function, share float64) {
	if j.Has(old.Key()) && j.Prepare(ctx, now) == nil {
		j.ownNode.Ahead(ctx, old, now, share)
	}
}

// serveNode begins to answer the server, which asks before it lets the node
// join.
func (n *Node) serveNode(context.Context) error {
	served := joinedNode{ownNode{n.manager, n.worker}, n.stopping.Load}
	go func() {
		if err := n.handler.Serve(n.listener, n.token, served); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("the node does not answer its server any more", "error", err)
		}
	}()
	return nil
}

// join joins the server.
func (n *Node) join(ctx context.Context) (err error) {
	n.info.Address = n.listener.Addr().String()
	n.info.Runtimes = []string{}
	for _, r := range n.runtimes.List() {
		if r.Usable {
			n.info.Runtimes = append(n.info.Runtimes, r.Runtime)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*joinWait)
	defer cancel()
	if n.welcome, err = n.home.Join(ctx, n.info); err != nil {
		return fmt.Errorf("the server at %s does not take this node: %w", n.cfg.Join, err)
	}
	if n.welcome.HeartbeatEvery <= 0 {
		n.welcome.HeartbeatEvery = fleet.HeartbeatEvery
	}
	return nil
}

// load is what the server is told with each heartbeat.
func (n *Node) load() fleet.Load {
	stats := n.manager.Stats()
	return fleet.Load{Committed: stats.CommittedMiB, Containers: stats.Containers, InFlightMiB: n.handler.InFlightMiB()}
}

// Serve serves the server until ctx ends; then it asks for nothing new, lets
// what runs end (for at most Config.ShutdownGrace), and leaves. A server that
// is gone is waited for: the node joins it again when it is back.
func (n *Node) Serve(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, n.close()) }()
	goFirst(n.log)
	close(n.ready)
	debug.FreeOSMemory() // what starting took and serving does not need
	beats, stop := context.WithCancel(context.WithoutCancel(ctx))
	var beating sync.WaitGroup
	beating.Go(func() { n.beat(beats) })
	<-ctx.Done()
	n.log.Info("stopping", "invocations", n.manager.Stats().InFlight, "grace", n.cfg.ShutdownGrace)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.cfg.ShutdownGrace)
	defer cancel()
	if derr := n.home.Drain(grace, n.info.ID); derr != nil {
		n.log.Warn("the server was not told that this node stops", "error", derr)
	}
	n.stopping.Store(true)
	n.awaitIdle(grace)
	stop()
	beating.Wait()
	if lerr := n.home.Leave(grace, n.info.ID); lerr != nil {
		n.log.Warn("the server was not told that this node has stopped", "error", lerr)
	}
	if serr := n.inside.Shutdown(grace); serr != nil {
		_ = n.inside.Close() // what did not end by itself is cut off
	}
	return nil
}

// awaitIdle waits until nothing runs, or ctx ends.
func (n *Node) awaitIdle(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if n.handler.InFlight() == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			n.log.Warn("invocations were still running when the grace ended")
			return
		}
	}
}

// beat tells the server that the node is there, and joins it anew if it does
// not know.
func (n *Node) beat(ctx context.Context) {
	tick := time.NewTicker(n.welcome.HeartbeatEvery)
	defer tick.Stop()
	silent := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		once, cancel := context.WithTimeout(ctx, 5*n.welcome.HeartbeatEvery)
		err := n.home.Heartbeat(once, n.info.ID, n.load())
		if hearth.KindOf(err) == hearth.NotFound && !n.stopping.Load() {
			_, err = n.home.Join(once, n.info)
			if err == nil {
				n.log.Info("joined the server again", "server", n.cfg.Join)
			}
		}
		cancel()
		switch {
		case err != nil && !silent && ctx.Err() == nil:
			n.log.Warn("the server does not hear of this node, which goes on trying", "server", n.cfg.Join, "error", err)
		case err == nil && silent:
			n.log.Info("the server hears of this node again", "server", n.cfg.Join)
		}
		silent = err != nil
	}
}

// Name is what people call the node.
func (n *Node) Name() string { return n.info.Name }
