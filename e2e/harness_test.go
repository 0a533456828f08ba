// Package e2e tests the whole of Hearth: the program as it is released, in a
// process of its own, through the clients that people have.
package e2e

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	_ "github.com/aws/aws-sdk-go-v2/config" // testdata/caller is built with it; go mod tidy does not look there
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/hearth-faas/hearth/internal/sdkhttp"
)

// hearthBinary is the program under test, built once for all tests.
var hearthBinary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "hearth-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil { // other users run it too
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		hearthBinary = filepath.Join(dir, "hearth")
		build := exec.Command("make", "-C", "..", "build", "BIN="+hearthBinary)
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build:", err)
			return 1
		}
		scratch = dir
		if err := fourAtOnce(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer printFigures(os.Stdout)
		return m.Run()
	}())
}

// fourAtOnce has four tests run at once, however many processors there are,
// unless -parallel says otherwise: they wait more than they compute, and each
// has servers of its own, of which each takes the machine for its own.
func fourAtOnce() error {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if asked {
		return nil
	}
	return flag.Set("test.parallel", "4")
}

// scratch is a folder that lives as long as the test run.
var scratch string

// server is a running hearth up.
type server struct {
	t        testing.TB
	cmd      *exec.Cmd
	dir      string
	endpoint string
	env      []string // what a client needs
	log      *lockedBuffer
	stopped  chan struct{}
	err      error // of Wait, once stopped is closed
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// cleanEnv is the environment that every child gets: the little that programs
// need, and nothing that happens to be set here.
func cleanEnv(more ...string) []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8",
		"PYENV_ROOT=" + os.Getenv("PYENV_ROOT"),
		"GOFLAGS=" + os.Getenv("GOFLAGS"), "GOPROXY=" + os.Getenv("GOPROXY"),
	}, more...)
}

// start runs hearth up with a data folder of its own until the test ends.
func start(t testing.TB, args ...string) *server {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "data-")
	if err != nil {
		t.Fatal(err)
	}
	return startIn(t, dir, args...)
}

// startIn is start in a given data folder, which may have been used before.
func startIn(t testing.TB, dir string, args ...string) *server {
	t.Helper()
	return startAs(t, dir, func(*exec.Cmd) {}, args...)
}

// startAs is startIn with something about the process changed.
func startAs(t testing.TB, dir string, change func(*exec.Cmd), args ...string) *server {
	t.Helper()
	s, ready := launch(t, dir, change, args...)
	s.awaitReady(ready)
	return s
}

// launch is startAs without waiting until the server is ready.
func launch(t testing.TB, dir string, change func(*exec.Cmd), args ...string) (s *server, ready <-chan struct{}) {
	t.Helper()
	s = &server{t: t, dir: dir, log: &lockedBuffer{}, stopped: make(chan struct{})}
	s.cmd = exec.Command(hearthBinary, append([]string{"up", "--listen", "127.0.0.1:0", "--data", dir}, args...)...)
	s.cmd.Env = cleanEnv()
	s.cmd.Stderr = s.log
	// A process that was just being made when the server was killed may hold its
	// log open until the next start ends it.
	s.cmd.WaitDelay = 10 * time.Second
	change(s.cmd)
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(chan struct{})
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		once := sync.OnceFunc(func() { close(said) })
		sc := bufio.NewScanner(stdout)
		for sc.Scan() {
			fmt.Fprintln(s.log, sc.Text())
			once() // the first line is the ready line
		}
	}()
	go func() {
		<-drained
		s.err = s.cmd.Wait()
		close(s.stopped)
	}()
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("server log:\n%s", tail(s.log.String(), 8000))
		}
	})
	return s, said
}

// lacking ends a test for which this machine lacks something: it is left out,
// except in CI, where nothing may be.
func lacking(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why + "; in CI this fails")
}

// awaitReady waits until the server says that it is ready.
func (s *server) awaitReady(ready <-chan struct{}) {
	t := s.t
	t.Helper()
	select {
	case <-ready:
	case <-s.stopped:
		t.Fatalf("hearth up ended: %v\n%s", s.err, s.log)
	case <-time.After(patience):
		t.Fatalf("hearth up is not ready after %v\n%s", patience, s.log)
	}
	out, err := s.hearth("env", "--format", "json")
	if err != nil {
		t.Fatalf("hearth env: %v\n%s", err, out)
	}
	vars := map[string]string{}
	if err := json.Unmarshal([]byte(out), &vars); err != nil {
		t.Fatalf("hearth env: %v in %q", err, out)
	}
	for k, v := range vars {
		s.env = append(s.env, k+"="+v)
	}
	s.endpoint = vars["AWS_ENDPOINT_URL"]
}

// stop ends the server as an operator would, and demands that it ends well.
func (s *server) stop() {
	s.t.Helper()
	select {
	case <-s.stopped:
		return
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Error(err)
	}
	s.awaitStop()
}

// awaitStop demands that the server, which was told to stop, ends well.
func (s *server) awaitStop() {
	s.t.Helper()
	select {
	case <-s.stopped:
		if s.err != nil {
			s.t.Errorf("hearth up after SIGTERM: %v", s.err)
		}
	case <-time.After(patience):
		s.t.Errorf("hearth up does not stop")
		_ = s.cmd.Process.Kill()
		<-s.stopped
	}
}

// kill9 ends the server as a power cut would.
func (s *server) kill9() {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	<-s.stopped
}

// hearth runs the command line against this server and returns its standard
// output; an error has its standard error.
func (s *server) hearth(args ...string) (string, error) {
	cmd := exec.Command(hearthBinary, append(args, "--data", s.dir)...)
	cmd.Env = cleanEnv()
	return output(cmd)
}

func output(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, stderr.String())
	}
	return string(out), err
}

// client is the real SDK, pointed at the server.
func (s *server) client() *lambda.Client { return lambda.NewFromConfig(s.config()) }

// config is what an SDK's client of the server is made with.
func (s *server) config() aws.Config {
	get := func(k string) string {
		for _, kv := range s.env {
			if v, ok := strings.CutPrefix(kv, k+"="); ok {
				return v
			}
		}
		s.t.Fatalf("no %s in hearth env", k)
		return ""
	}
	return aws.Config{
		BaseEndpoint:     aws.String(s.endpoint),
		Region:           get("AWS_REGION"),
		Credentials:      credentials.NewStaticCredentialsProvider(get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY"), ""),
		RetryMaxAttempts: 1,
		HTTPClient:       sdkhttp.Client{},
	}
}

// function describes a function to deploy; zero fields have defaults.
type function struct {
	name, runtime, handler string
	files                  map[string]string // path in the zip → text
	zip                    []byte            // instead of files
	memory, timeout        int32
	env                    map[string]string
}

// deploy creates the function and waits until it is active.
func (s *server) deploy(f function) {
	s.t.Helper()
	c := s.client()
	if f.memory == 0 {
		f.memory = 256
	}
	if f.timeout == 0 {
		f.timeout = 10
	}
	if f.handler == "" {
		f.handler = "index.handler"
	}
	if f.zip == nil {
		f.zip = zipOf(s.t, f.files)
	}
	in := &lambda.CreateFunctionInput{
		FunctionName: &f.name, Runtime: types.Runtime(f.runtime), Handler: &f.handler,
		Role: aws.String("arn:aws:iam::000000000000:role/test"),
		Code: &types.FunctionCode{ZipFile: f.zip}, MemorySize: &f.memory, Timeout: &f.timeout,
	}
	if f.env != nil {
		in.Environment = &types.Environment{Variables: f.env}
	}
	if _, err := c.CreateFunction(context.Background(), in); err != nil {
		s.t.Fatalf("create %s: %v", f.name, err)
	}
	s.waitActive(f.name)
}

func (s *server) waitActive(name string) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		out, err := s.client().GetFunctionConfiguration(context.Background(), &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		if err != nil {
			s.t.Fatal(err)
		}
		if out.State == types.StateActive && out.LastUpdateStatus == types.LastUpdateStatusSuccessful {
			return
		}
		if out.State == types.StateFailed || out.LastUpdateStatus == types.LastUpdateStatusFailed {
			s.t.Fatalf("%s: %s: %s", name, out.State, aws.ToString(out.StateReason)+aws.ToString(out.LastUpdateStatusReason))
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s is still %s, %s", name, out.State, out.LastUpdateStatus)
		}
		time.Sleep(20 * time.Millisecond) // the API offers nothing but polling, as the SDK's own waiters do
	}
}

// promptly has an SDK's waiter look again sooner than it would by itself.
func promptly(o *lambda.FunctionActiveV2WaiterOptions) { o.MinDelay = 20 * time.Millisecond }

// answer is what an invocation came to.
type answer struct {
	payload, functionError, log, version string
}

// invoke runs the function once through the SDK.
func (s *server) invoke(name, payload string) (answer, error) {
	out, err := s.client().Invoke(context.Background(), &lambda.InvokeInput{
		FunctionName: &name, Payload: []byte(payload), LogType: types.LogTypeTail,
	})
	if err != nil {
		return answer{}, err
	}
	return answer{
		payload: string(out.Payload), functionError: aws.ToString(out.FunctionError),
		log: aws.ToString(out.LogResult), version: aws.ToString(out.ExecutedVersion),
	}, nil
}

// mustInvoke is invoke where neither an error nor a function error will do.
func (s *server) mustInvoke(name, payload string) answer {
	s.t.Helper()
	a, err := s.invoke(name, payload)
	if err != nil {
		s.t.Fatalf("invoke %s: %v", name, err)
	}
	if a.functionError != "" {
		s.t.Fatalf("invoke %s: %s: %s", name, a.functionError, a.payload)
	}
	return a
}

// zipOf makes a function's package; files are executable, as a bootstrap must
// be.
func zipOf(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	for name, text := range files {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(0o755)
		w, err := zw.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

var goFunctions sync.Map // directory → func() ([]byte, error)

// goZip is goProgram of a Go function, as the bootstrap in a zip.
func goZip(t testing.TB, name string) []byte {
	t.Helper()
	return zipOf(t, map[string]string{"bootstrap": goProgram(t, name)})
}

// goProgram builds testdata/NAME as a static program.
func goProgram(t testing.TB, name string) string {
	t.Helper()
	build, _ := goFunctions.LoadOrStore(name, sync.OnceValues(func() ([]byte, error) {
		out := filepath.Join(scratch, "go-"+name)
		cmd := exec.Command("go", "build", "-ldflags=-s -w", "-tags", "lambda.norpc", "-o", out, "./testdata/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if msg, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", name, err, msg)
		}
		return os.ReadFile(out)
	}))
	bin, err := build.(func() ([]byte, error))()
	if err != nil {
		t.Fatal(err)
	}
	return string(bin)
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// lambdaCode is the SDK's name for a package, which clashes with none of ours.
type lambdaCode = types.FunctionCode

func ptr(s string) *string { return &s }

// noise is text of n bytes that does not compress.
func noise(n, seed int) string {
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}
