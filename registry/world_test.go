package registry_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/store/files"
	"github.com/hearth-faas/hearth/store/sqlite"
)

const (
	account = hearth.Account("111111111111")
	role    = "arn:aws:iam::111111111111:role/r"
	arn     = "arn:aws:lambda:us-east-1:111111111111:function:"
)

var (
	ctx   = context.Background()
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// tester is what testing and rapid have in common.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// world is a registry on a data folder that can be opened again.
type world struct {
	*registry.Registry
	t     tester
	dir   string
	cfg   registry.Config
	clock *clock.Fake
	close func()
	keys  *identity.Authority
}

func newWorld(t tester, dir string, edit func(*registry.Config)) *world {
	t.Helper()
	w := &world{t: t, dir: dir, clock: clock.NewFake(start)}
	w.cfg = registry.Config{Clock: w.clock, Region: "us-east-1", Rand: rand.Reader, Log: slog.New(slog.DiscardHandler)}
	if edit != nil {
		edit(&w.cfg)
	}
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	keys, err := identity.LoadOrCreate(identity.Config{Dir: w.dir, Clock: w.clock})
	w.must(err)
	w.cfg.Secrets, w.keys = keys.Key(), keys
	records, err := sqlite.Open(ctx, w.dir)
	w.must(err)
	blobs, err := files.Open(filepath.Join(w.dir, "blobs"))
	w.must(err)
	w.cfg.Store, w.cfg.Blobs = records, blobs
	w.Registry, err = registry.Open(ctx, w.cfg)
	w.must(err)
	w.close = func() { w.must(errors.Join(w.Close(), records.Close())) }
}

func (w *world) reopen() { w.close(); w.open() }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// got fails the test on an error.
func (w *world) got(f *hearth.Function, err error) *hearth.Function {
	w.t.Helper()
	w.must(err)
	return f
}

// settled waits until nothing of the function is in progress. Its jobs give
// no event to wait on but the state itself.
func (w *world) settled(name string) *hearth.Function {
	w.t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		fs, _, err := w.Versions(ctx, account, name, "", 50)
		w.must(err)
		busy := false
		for _, f := range fs {
			busy = busy || f.State == hearth.Pending || f.UpdateStatus == hearth.UpdateInProgress
		}
		if !busy {
			return fs[0]
		}
	}
	w.t.Fatalf("%s does not settle", name)
	return nil
}

func function(name string) hearth.Function {
	return hearth.Function{
		Account: account, Name: name, Runtime: "python3.12", Handler: "index.handler", Role: role,
		MemoryMiB: 128, Timeout: 3 * time.Second, TmpMiB: 512, Architectures: []string{"x86_64"},
		Env: map[string]string{"MODE": "test"},
	}
}

// code is an archive with the text in it.
func code(text string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	f, err := z.Create("index.py")
	if err == nil {
		_, err = f.Write([]byte(text))
	}
	if err = errors.Join(err, z.Close()); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func (w *world) create(name string) *hearth.Function {
	w.t.Helper()
	w.got(w.Create(ctx, registry.Create{Function: function(name), Zip: code(name)}))
	return w.settled(name)
}

// blobs waits until want packages are stored, and gives how many there are. A
// job's package is held a moment longer than the job's function is Pending.
func (w *world) blobs(want int) (n int) {
	w.t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		if n = w.stored(); n == want {
			break
		}
	}
	return n
}

// stored counts the packages.
func (w *world) stored() (n int) {
	w.t.Helper()
	for _, err := range w.cfg.Blobs.All(ctx) {
		w.must(err)
		n++
	}
	return n
}

func wantError(t testing.TB, err error, kind hearth.Kind, message string) {
	t.Helper()
	if e, ok := errors.AsType[*hearth.Error](err); !ok || e.Kind != kind || e.Message != message {
		t.Errorf("the error is %v\nwant %s: %s", err, kind, message)
	}
}

// gate is a Prepare that waits to be let through.
type gate struct {
	entered chan *hearth.Function
	leave   chan error
}

func newGate() *gate {
	return &gate{entered: make(chan *hearth.Function, 100), leave: make(chan error, 100)}
}

func (g *gate) prepare(ctx context.Context, f *hearth.Function) error {
	g.entered <- f
	select {
	case err := <-g.leave:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func describe(f *hearth.Function) string {
	if f == nil {
		return "nil"
	}
	return fmt.Sprintf("%s:%s %s/%s", f.Name, f.Version, f.State, f.UpdateStatus)
}
