package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/hearth-faas/hearth/bench/rawhttp"
)

// How many functions registered measures with, and how many of them have been
// invoked, so that something was learned of them.
const (
	registeredFunctions = 100_000
	invokedFunctions    = 10_000
)

// registered: what very many functions cost: a start, memory, and the choice
// for an invocation. The floor is the same server with one function.
func registered(b *bench) ([]row, error) {
	c := &bench{binary: b.binary, rounds: b.rounds, bootstrap: b.bootstrap}
	var err error
	if c.dir, err = os.MkdirTemp("", "hearth-bench-"); err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.startServer(); err != nil {
		return nil, err
	}
	files, err := c.goFiles()
	if err != nil {
		return nil, err
	}
	if err := c.deploy("one", "provided.al2023", "bootstrap", wholeCPU, files); err != nil {
		return nil, err
	}
	startOne, err := c.restart()
	if err != nil {
		return nil, err
	}
	warmOne, memoryOne, err := c.warmOne()
	if err != nil {
		return nil, err
	}
	name := func(i int) string { return fmt.Sprintf("many-%06d", i) }
	code, err := archived(map[string][]byte{"index.py": []byte(pythonHandler)})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := each(registeredFunctions, func(i int) error {
		return c.deployZip(name(i), "python3.11", "index.handler", 128, code)
	}); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "%d functions registered: %v\n", registeredFunctions, time.Since(began).Round(time.Second))
	began = time.Now()
	if err := each(invokedFunctions, func(i int) error {
		function := name(i)
		out, err := c.client.Invoke(context.Background(), &lambda.InvokeInput{FunctionName: &function, Payload: payload})
		if err == nil && out.FunctionError != nil {
			err = fmt.Errorf("%s: %s", *out.FunctionError, out.Payload)
		}
		return err
	}); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "%d of them invoked: %v\n", invokedFunctions, time.Since(began).Round(time.Second))
	startMany, err := c.restart()
	if err != nil {
		return nil, err
	}
	warmMany, memoryMany, err := c.warmOne()
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("%d functions registered, %d with history: ", registeredFunctions, invokedFunctions)
	return []row{{
		Name: what + "start", Floor: startOne.Round(time.Millisecond).String(), Hearth: startMany.Round(time.Millisecond).String(),
		Value: startMany.Seconds(), Unit: "s", Aim: 2, AtMost: true,
	}, {
		Name: what + "memory of each", Floor: fmt.Sprintf("%.0f MiB", memoryOne), Hearth: fmt.Sprintf("%.0f MiB", memoryMany),
		Value: (memoryMany - memoryOne) * 1024 / registeredFunctions, Unit: "KiB", Aim: 8, AtMost: true,
	}, ratio(what+"warm invoke", warmOne, warmMany, 1.2)}, nil
}

// each does n things, as many at once as makes the server's disk busy.
func each(n int, do func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, 32)
	for w := range errs {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[w] == nil; i = int(next.Add(1)) - 1 {
				errs[w] = do(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// restart ends the server as an operator would and starts it on the same data;
// it returns how long it took until it listened, the median of three.
func (b *bench) restart() (time.Duration, error) {
	var took times
	for range 3 {
		if err := b.stopServer(); err != nil {
			return 0, err
		}
		began := time.Now()
		if err := b.startServer(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	return took.median(), nil
}

// warmOne is the time of warm invocations of the function "one", and the
// server's memory after them.
func (b *bench) warmOne() (t times, mib float64, err error) {
	addr, req, err := b.signedInvoke("one")
	if err != nil {
		return nil, 0, err
	}
	conn, err := rawhttp.Dial(addr, req)
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close()
	if t, err = measure(nil, 5000, conn.RoundTrip); err != nil {
		return nil, 0, err
	}
	mib, err = status(b.server.Process.Pid, "VmRSS:")
	return t, mib, err
}
