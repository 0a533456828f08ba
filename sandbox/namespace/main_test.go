package namespace

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/sandbox"
)

// What the tests run: the sandbox program, and probes that act from inside.
var (
	programPath string
	probeDir    string
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir := os.Getenv(ordinaryEnv)
	built := dir != ""
	if !built {
		var err error
		if dir, err = os.MkdirTemp("", "hearth-namespace"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil {
			panic(err)
		}
	}
	programPath = filepath.Join(dir, "hearth-sandbox")
	probeDir = filepath.Join(dir, "probe")
	if !built {
		build(programPath, "github.com/hearth-faas/hearth/cmd/hearth-sandbox")
		build(filepath.Join(probeDir, "probe"), "./testdata/probe")
	}
	if dir := os.Getenv(doomedEnv); dir != "" {
		fmt.Fprintln(os.Stderr, runDoomed(dir))
		return 1
	}
	return m.Run()
}

// background is the context of what a test does not bound.
var background = context.Background()

func build(out, pkg string) {
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("building %s: %v\n%s", pkg, err, text))
	}
}

// newDriver makes a driver over a data folder of the test's own, and fails
// the test if it leaves anything behind.
func newDriver(t testing.TB, network sandbox.Network) *Driver {
	t.Helper()
	return newDriverIn(t, t.TempDir(), network)
}

func newDriverIn(t testing.TB, dir string, network sandbox.Network) *Driver {
	t.Helper()
	d, err := New(t.Context(), Config{
		Program: programPath, DataDir: dir, Network: network,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("closing the driver: %v", err)
		}
		for _, parent := range append(d.groups.all(), d.groups.server) {
			if _, err := os.Stat(parent); parent != "" && err == nil {
				t.Errorf("the cgroup %s is left", parent)
			}
		}
		if left := diskLeft(t, dir); len(left) > 0 {
			t.Errorf("of containers' disks there are left %v", left)
		}
	})
	return d
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

var ids atomic.Int64

func newID(kind string) string { return fmt.Sprintf("%s-%d", kind, ids.Add(1)) }

func newInstance(t testing.TB, d *Driver) sandbox.Instance {
	t.Helper()
	in, err := d.NewInstance(t.Context(), newID("i"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Destroy(); err != nil {
			t.Errorf("destroying instance %s: %v", in.ID(), err)
		}
	})
	return in
}

// box is a container with what its processes write.
type box struct {
	sandbox.Container
	t      testing.TB
	output *output
}

// output collects what is written to a pipe.
type output struct {
	write *os.File
	done  chan struct{}
	text  bytes.Buffer
}

func newOutput(t testing.TB) *output {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	o := &output{write: w, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		_, _ = io.Copy(&o.text, r)
		_ = r.Close()
	}()
	return o
}

// all waits until nobody can write any more.
func (o *output) all() string {
	_ = o.write.Close()
	<-o.done
	return o.text.String()
}

func newBox(t testing.TB, in sandbox.Instance, spec sandbox.ContainerSpec) *box {
	t.Helper()
	if spec.ID == "" {
		spec.ID = newID("c")
	}
	o := newOutput(t)
	spec.Output = o.write
	c, err := in.NewContainer(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	b := &box{c, t, o}
	t.Cleanup(func() {
		if err := c.Destroy(); err != nil {
			t.Errorf("destroying container %s: %v", c.ID(), err)
		}
		_ = o.write.Close()
	})
	return b
}

// start runs a command of the base system.
func (b *box) start(argv ...string) {
	b.t.Helper()
	err := b.Start(b.t.Context(), sandbox.Process{Argv: argv, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/"})
	if err != nil {
		b.t.Fatal(err)
	}
}

// wait gives the exit and all output of a container whose process ends by
// itself.
func (b *box) wait() (sandbox.Exit, string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Minute)
	defer cancel()
	select {
	case <-b.Exited():
	case <-ctx.Done():
		b.t.Fatalf("container %s does not end", b.ID())
	}
	if err := b.Destroy(); err != nil {
		b.t.Fatal(err)
	}
	return b.Exit(), b.output.all()
}

// shell runs a script as the main process of a new container of a new
// instance.
func shell(t testing.TB, d *Driver, script string) (sandbox.Exit, string) {
	t.Helper()
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{})
	b.start("/bin/sh", "-c", script)
	return b.wait()
}
