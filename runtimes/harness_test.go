package runtimes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimeapi"
	"github.com/hearth-faas/hearth/sandbox"
)

// here is the set of this machine, found once and laid out for all tests.
var here = sync.OnceValues(func() (*Set, error) {
	dir, err := os.MkdirTemp("", "hearth-runtimes-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	laidOut = dir
	s, err := Discover(context.Background(), Options{
		Files: dir, Path: os.Getenv("PATH"), Home: os.Getenv("HOME"),
		Dirs: filepath.SplitList(os.Getenv("HEARTH_TEST_INTERPRETERS")), // more versions to test
	})
	if err != nil {
		return nil, err
	}
	return s, s.Install(context.Background())
})

var laidOut string

func TestMain(m *testing.M) {
	code := m.Run()
	if laidOut != "" {
		os.RemoveAll(laidOut)
	}
	os.Exit(code)
}

func machine(t testing.TB) *Set {
	t.Helper()
	s, err := here()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// choices are those of all interpreters of a language. There is at least one.
func choices(t testing.TB, language Language) []Choice {
	t.Helper()
	var list []Choice
	for _, boot := range machine(t).Boots() {
		c, err := machine(t).ForBoot(boot)
		if err != nil {
			t.Fatal(err)
		}
		if c.interpreter.Language == language {
			// As a function of that very version would have it.
			for _, id := range IDs() {
				if exact, err := machine(t).For(id); err == nil && exact.Boot() == boot && exact.exact {
					c = exact
				}
			}
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		t.Fatalf("no %s interpreter on this machine: install one to test its client", program(language))
	}
	return list
}

// scene makes the paths of a sandbox in a mount namespace of the child's own:
// its arguments are the client's folder, the package, the layer, then the
// program.
const scene = `set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /var
mkdir -p /var/runtime /var/task
mount --bind "$1" /var/runtime
mount -t tmpfs -o mode=755 tmpfs /opt
mkdir -p /var/task/lib /opt/lib
[ -z "$2" ] || mount --bind "$2" /var/task
[ -z "$3" ] || mount --bind "$3" /opt
shift 3
cd "$HEARTH_TEST_DIR"
exec env -u HEARTH_TEST_DIR "$@"`

// given says what a child runs.
type given struct {
	runtime  string            // by default of the choice
	files    map[string]string // the package
	layer    map[string]string
	task     string // a folder to use instead of files
	handler  string
	env      map[string]string
	logging  hearth.Logging
	extra    []string
	unbooted bool
	framed   bool
	late     bool // attach the package and the layer only before load
}

// child is a client that runs as a process of its own.
type child struct {
	t       testing.TB
	api     *runtimeapi.Environment
	cmd     *exec.Cmd
	control *os.File
	message []byte
	late    [][2]string // what to attach, and where
	output  syncBuffer
	exited  chan struct{}
	state   *os.ProcessState
	next    int
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// boot starts a child as far as it gets without its function.
func boot(t testing.TB, c Choice, g given) *child {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ch := &child{t: t, exited: make(chan struct{})}
	ch.api = runtimeapi.Serve(l, runtimeapi.Options{})

	f := &hearth.Function{
		Account: hearth.DefaultAccount, Region: hearth.DefaultRegion, Name: "f", Version: hearth.Latest,
		Runtime: g.runtime, Handler: g.handler, MemoryMiB: 128, Env: g.env, Logging: g.logging,
	}
	if f.Runtime == "" {
		f.Runtime = c.runtime.id
	}
	address := "AWS_LAMBDA_RUNTIME_API=" + l.Addr().String()
	extra := append([]string{address, "AWS_LAMBDA_LOG_STREAM_NAME=2024/01/01/[$LATEST]0123"}, g.extra...)
	if g.framed {
		extra = append(extra, "_LAMBDA_TELEMETRY_LOG_FD=1")
	}
	env := c.Environ(f, extra)
	ch.message = c.LoadMessage(f, env)

	task := g.task
	if task == "" {
		task = folder(t, g.files)
	}
	layer := ""
	if g.layer != nil {
		layer = folder(t, g.layer)
	}
	p := sandbox.Process{}
	if g.unbooted {
		if p, err = c.StartProcess(f, env, sandbox.Attachment{Task: task}); err != nil {
			t.Fatal(err)
		}
	} else {
		p = c.BootProcess()
		p.Env = append(p.Env, address)
	}
	if g.late {
		ch.late = [][2]string{{task, sandbox.TaskDir}}
		if layer != "" {
			ch.late = append(ch.late, [2]string{layer, sandbox.LayerDir})
		}
		task, layer = "", ""
	}
	argv := append([]string{"-c", scene, "scene", filepath.Join(laidOut, clientDir), task, layer}, p.Argv...)
	ch.cmd = exec.Command("/bin/sh", argv...)
	// The shell is not to be disturbed by what the function's loader obeys.
	ch.cmd.Env = append(slices.DeleteFunc(slices.Clone(p.Env), func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }), "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HEARTH_TEST_DIR="+p.Dir)
	ch.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		ch.cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		ch.cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		ch.cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	ch.cmd.Stdout, ch.cmd.Stderr = &ch.output, &ch.output
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "control")
	ch.control = os.NewFile(uintptr(fds[0]), "control")
	ch.cmd.ExtraFiles = []*os.File{theirs}
	if err := ch.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	go func() {
		// An exit status is no error here; other errors would show as an
		// output that misses something.
		_ = ch.cmd.Wait()
		ch.state = ch.cmd.ProcessState
		close(ch.exited)
		ch.api.Fail(runtimeapi.Exited("id", ch.state.ExitCode(), ""))
	}()
	t.Cleanup(ch.end)
	if !g.unbooted {
		var ready [1]byte
		if _, err := ch.control.Read(ready[:]); err != nil || ready[0] != Ready {
			t.Fatalf("not ready: %v %q", err, ch.output.String())
		}
	}
	return ch
}

func (ch *child) load() {
	ch.t.Helper()
	for _, at := range ch.late {
		enter := []string{"--target", fmt.Sprint(ch.cmd.Process.Pid), "--mount", "--user", "--preserve-credentials", "mount", "--bind", at[0], at[1]}
		if os.Geteuid() == 0 {
			enter = slices.DeleteFunc(enter, func(s string) bool { return s == "--user" || s == "--preserve-credentials" })
		}
		if out, err := exec.Command("nsenter", enter...).CombinedOutput(); err != nil {
			ch.t.Fatalf("nsenter: %v %s", err, out)
		}
	}
	if _, err := ch.control.Write(ch.message); err != nil {
		ch.t.Fatal(err)
	}
}

// start starts a child with its function.
func start(t testing.TB, c Choice, g given) *child {
	t.Helper()
	ch := boot(t, c, g)
	if !g.unbooted {
		ch.load()
	}
	return ch
}

func (ch *child) end() {
	ch.cmd.Process.Kill()
	<-ch.exited
	ch.control.Close()
	ch.api.Close()
}

// answer is what came of an invocation.
type answer struct {
	runtimeapi.Response
	err error
}

func (a answer) String() string {
	if a.err != nil {
		return "error: " + a.err.Error()
	}
	return string(a.Payload)
}

// failure reads an error report.
func (a answer) failure(t testing.TB) (f struct {
	ErrorType, ErrorMessage, RequestID string
	Trace, StackTrace                  []string
	Cause                              *struct{ ErrorType, ErrorMessage string }
}) {
	t.Helper()
	payload := a.Payload
	if fe, ok := a.err.(*runtimeapi.FunctionError); ok {
		payload = fe.Body
	}
	if err := json.Unmarshal(payload, &f); err != nil {
		t.Fatalf("no error report: %v: %s", err, a)
	}
	return f
}

func (ch *child) invoke(payload string, change ...func(*runtimeapi.Event)) answer {
	ch.t.Helper()
	ch.next++
	ev := &runtimeapi.Event{
		RequestID: "8476a536-e9f4-11e8-9739-2dfe598c3f" + string("0123456789"[ch.next/10%10]) + string("0123456789"[ch.next%10]),
		Deadline:  time.Now().Add(2 * time.Minute),
		ARN:       "arn:aws:lambda:us-east-1:000000000000:function:f",
		TraceID:   "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0",
		Payload:   []byte(payload),
	}
	for _, f := range change {
		f(ev)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	select {
	case <-ch.api.Ready():
	case <-ctx.Done():
		ch.t.Fatalf("never ready: %s", ch.output.String())
	}
	if fe := ch.api.InitError(); fe != nil {
		return answer{err: fe}
	}
	r, err := ch.api.Invoke(ctx, ev)
	return answer{r, err}
}

// waitLog waits until the output has the text: it comes by a pipe of its own
// and may be later than the answer.
func (ch *child) waitLog(text string) {
	ch.t.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(ch.output.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			ch.t.Fatalf("the log lacks %q:\n%s", text, ch.output.String())
		}
	}
}

// waitExit waits for the child's end.
func (ch *child) waitExit() *os.ProcessState {
	ch.t.Helper()
	select {
	case <-ch.exited:
		return ch.state
	case <-time.After(time.Minute):
		ch.t.Fatalf("still alive: %s", ch.output.String())
		return nil
	}
}
