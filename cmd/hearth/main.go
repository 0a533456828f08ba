// Hearth is on-demand code execution that you run yourself. This program is
// both its server (hearth up) and its command line, which is a client of the
// server's public APIs and of nothing else.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/hearth-faas/hearth/sandbox/namespace"
	"github.com/hearth-faas/hearth/server"
)

func main() {
	// This executable may have been started as the sandbox program: see
	// libexec.go. That comes before everything else, and does not return.
	namespace.Main()
	// The second signal finds the default handling restored, and ends the
	// program at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	a := newApp()
	a.newServer = func(ctx context.Context, cfg server.Config) (runner, error) {
		s, err := server.New(ctx, cfg)
		if err != nil {
			return nil, err // not a typed nil
		}
		return s, nil
	}
	a.newNode = func(ctx context.Context, cfg server.NodeConfig) (nodeRunner, error) {
		n, err := server.NewNode(ctx, cfg)
		if err != nil {
			return nil, err // not a typed nil
		}
		return n, nil
	}
	a.newProxy = func(ctx context.Context, cfg server.ProxyConfig) (proxyRunner, error) {
		p, err := server.NewProxy(ctx, cfg)
		if err != nil {
			return nil, err // not a typed nil
		}
		return p, nil
	}
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
