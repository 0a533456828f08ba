package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/bench/rawhttp"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/files"
	"github.com/hearth-faas/hearth/store/sqlite"
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
	began := time.Now()
	if err := c.stopServer(); err != nil {
		return nil, err
	}
	if err := c.register(registeredFunctions, name); err != nil {
		return nil, err
	}
	if err := c.startServer(); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "%d functions registered: %v\n", registeredFunctions, time.Since(began).Round(time.Second))
	began = time.Now()
	if err := each(invokedFunctions, 32, func(i int) error {
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

// register registers n functions in the data folder of a server that does not
// run, by the code by which it registers them, without a request for each.
func (b *bench) register(n int, name func(i int) string) (err error) {
	ctx := context.Background()
	folder, err := store.OpenFolder(filepath.Join(b.dir, "data"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	authority, err := identity.LoadOrCreate(identity.Config{Dir: folder.Path, Clock: clock.System()})
	if err != nil {
		return err
	}
	records, err := sqlite.Open(ctx, folder.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	blobs, err := files.Open(filepath.Join(folder.Path, "blobs"))
	if err != nil {
		return err
	}
	root := authority.Root()
	// A function is registered when it is active, which Changed tells.
	var active sync.WaitGroup
	active.Add(n)
	functions, err := registry.Open(ctx, registry.Config{
		Store: records, Blobs: once{blobs}, Secrets: authority.Key(), Clock: clock.System(), Region: root.Region,
		Changed: func(old, _ *hearth.Function) {
			if old == nil {
				active.Done()
			}
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, functions.Close()) }()
	code, err := archived(map[string][]byte{"index.py": []byte(pythonHandler)})
	if err != nil {
		return err
	}
	if err := each(n, 1024, func(i int) error {
		_, err := functions.Create(ctx, registry.Create{Zip: code, Function: hearth.Function{
			Account: root.Account, Name: name(i), Runtime: "python3.11", Handler: "index.handler",
			Role: "arn:aws:iam::000000000000:role/bench", MemoryMiB: 128, Timeout: 30 * time.Second, TmpMiB: 512,
			Architectures: []string{"x86_64"},
		}})
		return err
	}); err != nil {
		return err
	}
	active.Wait()
	return nil
}

// once are blobs of which one that is there is not put again: that would be
// two syncs for each function.
type once struct{ store.Blobs }

func (b once) Put(ctx context.Context, sum string, r io.Reader) error {
	if _, err := b.Stat(ctx, sum); !errors.Is(err, store.ErrNoBlob) {
		return err
	}
	return b.Blobs.Put(ctx, sum, r)
}

// each does n things, so many at once.
func each(n, atOnce int, do func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, atOnce)
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
