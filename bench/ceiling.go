package main

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hearth-faas/hearth/runtimeapi"
)

// functionsAlone is how many events a second copies of the function take when
// nothing stands before them: no server, no sandbox, no signature, no client;
// only the Runtime API, which the function itself speaks. It is what a server
// could reach at most, if it cost nothing.
func functionsAlone(bootstrap string, copies int, d time.Duration) (float64, error) {
	var g errgroup.Group
	var total atomic.Int64
	for range copies {
		g.Go(func() error {
			n, err := functionAlone(bootstrap, d)
			total.Add(n)
			return err
		})
	}
	err := g.Wait()
	return float64(total.Load()) / d.Seconds(), err
}

func functionAlone(bootstrap string, d time.Duration) (n int64, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	env := runtimeapi.Serve(l, runtimeapi.Options{})
	defer env.Close()
	cmd := exec.Command(bootstrap)
	cmd.Env = []string{"AWS_LAMBDA_RUNTIME_API=" + l.Addr().String()}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	<-env.Ready()
	event := &runtimeapi.Event{
		RequestID: "00000000-0000-4000-8000-000000000000", ARN: "arn:aws:lambda:us-east-1:000000000000:function:echo",
		Deadline: time.Now().Add(time.Minute), TraceID: "Root=1-00000000-000000000000000000000000", Payload: payload,
	}
	for began := time.Now(); time.Since(began) < d; n++ {
		if r, err := env.Invoke(context.Background(), event); err != nil || r.ErrorType != "" {
			return n, fmt.Errorf("the function alone: %w %s\n%s", err, r.ErrorType, said.String())
		}
	}
	return n, nil
}
