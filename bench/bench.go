package main

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/hearth-faas/hearth/bench/rawhttp"
	"github.com/hearth-faas/hearth/control"
)

// bench is a running server, the floor's processes, and what is measured with
// them.
type bench struct {
	dir    string
	binary string
	rounds int

	server *exec.Cmd
	log    bytes.Buffer
	env    map[string]string
	client *lambda.Client

	floor, echo string // addresses
	bootstrap   string // path of the built Go echo function
	children    []*exec.Cmd
	closeOnce   sync.Once
}

func newBench(binary string, rounds int) (_ *bench, err error) {
	binary, err = filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	b := &bench{binary: binary, rounds: rounds}
	if b.dir, err = os.MkdirTemp("", "hearth-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	b.bootstrap = filepath.Join(b.dir, "bootstrap")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-tags", "lambda.norpc", "-o", b.bootstrap, "./e2e/testdata/echo")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the echo function: %w\n%s", err, out)
	}
	if err := b.startServer(); err != nil {
		return nil, err
	}
	if b.echo, err = b.startFloor(floorEcho); err != nil {
		return nil, err
	}
	b.floor, err = b.startFloor(floorProxy, b.echo)
	return b, err
}

func cleanEnv() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
}

func (b *bench) startServer() error {
	data := filepath.Join(b.dir, "data")
	b.server = exec.Command(b.binary, "up", "--listen", "127.0.0.1:0", "--data", data, "--log-level", "warn", "--api-rate", "0")
	b.server.Env = cleanEnv()
	b.server.Stderr = &b.log
	line, err := startAndRead(b.server)
	if err != nil {
		return fmt.Errorf("hearth up: %w\n%s", err, b.log.String())
	}
	b.children = append(b.children, b.server)
	fmt.Fprintln(os.Stderr, line)
	env := exec.Command(b.binary, "env", "--format", "json", "--data", data)
	env.Env = cleanEnv()
	out, err := env.Output()
	if err != nil {
		return fmt.Errorf("hearth env: %w", err)
	}
	if err := json.Unmarshal(out, &b.env); err != nil {
		return fmt.Errorf("hearth env: %w", err)
	}
	b.client = lambda.New(lambda.Options{
		BaseEndpoint: aws.String(b.env["AWS_ENDPOINT_URL"]), Region: b.env["AWS_REGION"], RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(b.env["AWS_ACCESS_KEY_ID"], b.env["AWS_SECRET_ACCESS_KEY"], ""),
	})
	return nil
}

// stopServer ends the server as an operator would.
func (b *bench) stopServer() error {
	b.children = slices.DeleteFunc(b.children, func(c *exec.Cmd) bool { return c == b.server })
	if err := b.server.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return b.server.Wait()
}

// startAndRead starts cmd and returns the first line of its output; the rest
// is thrown away.
func startAndRead(cmd *exec.Cmd) (string, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	if err != nil {
		return "", errors.Join(err, cmd.Wait())
	}
	go io.Copy(io.Discard, r)
	return strings.TrimSpace(line), nil
}

func (b *bench) startFloor(args ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(self, args...)
	if _, err := cmd.StdinPipe(); err != nil { // it ends when this does
		return "", err
	}
	addr, err := startAndRead(cmd)
	if err == nil {
		b.children = append(b.children, cmd)
	}
	return addr, err
}

func (b *bench) serverLog() string { return b.log.String() }

// close ends what was started, the server as an operator would.
func (b *bench) close() {
	b.closeOnce.Do(func() {
		for _, c := range b.children {
			_ = c.Process.Signal(syscall.SIGTERM) // it may have ended
		}
		for _, c := range b.children {
			_ = c.Wait()
		}
		_ = os.RemoveAll(b.dir)
	})
}

// deploy makes a function and waits until it is active.
func (b *bench) deploy(name, runtime, handler string, memory int32, files map[string][]byte) error {
	code, err := archived(files)
	if err != nil {
		return err
	}
	return b.deployZip(name, runtime, handler, memory, code)
}

// archived is a zip of the files.
func archived(files map[string][]byte) ([]byte, error) {
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	for path, data := range files {
		h := &zip.FileHeader{Name: path, Method: zip.Deflate}
		h.SetMode(0o755)
		w, err := zw.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// deployZip is deploy with a package that was made before.
func (b *bench) deployZip(name, runtime, handler string, memory int32, code []byte) error {
	ctx := context.Background()
	_, err := b.client.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: &name, Runtime: types.Runtime(runtime), Handler: &handler, MemorySize: &memory,
		Role: aws.String("arn:aws:iam::000000000000:role/bench"), Timeout: aws.Int32(30),
		Code: &types.FunctionCode{ZipFile: code},
	})
	if err != nil {
		return err
	}
	w := lambda.NewFunctionActiveV2Waiter(b.client, func(o *lambda.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 100*time.Millisecond
	})
	return w.Wait(ctx, &lambda.GetFunctionInput{FunctionName: &name}, time.Minute)
}

func (b *bench) remove(name string) error {
	_, err := b.client.DeleteFunction(context.Background(), &lambda.DeleteFunctionInput{FunctionName: &name})
	return err
}

func (b *bench) goFiles() (map[string][]byte, error) {
	bin, err := os.ReadFile(b.bootstrap)
	return map[string][]byte{"bootstrap": bin}, err
}

// payload is 1 KB of JSON.
var payload = []byte(`{"pad":"` + strings.Repeat("x", 1024-10) + `"}`)

// signedInvoke is a whole signed request as bytes.
func (b *bench) signedInvoke(function string) (addr string, request []byte, err error) {
	creds := aws.Credentials{AccessKeyID: b.env["AWS_ACCESS_KEY_ID"], SecretAccessKey: b.env["AWS_SECRET_ACCESS_KEY"]}
	return rawhttp.Invoke(b.env["AWS_ENDPOINT_URL"], b.env["AWS_REGION"], creds, function, payload)
}

func floorRequest() []byte {
	return fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: floor\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(payload), payload)
}

// ps asks the server what it holds.
func (b *bench) ps() (s control.Snapshot, err error) {
	cmd := exec.Command(b.binary, "ps", "--json", "--data", filepath.Join(b.dir, "data"))
	cmd.Env = cleanEnv()
	out, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("hearth ps: %w", err)
	}
	return s, json.Unmarshal(out, &s)
}

// awaitPool waits until the warming pool holds n ready slots of the boot that
// runs what the name says, and has stopped growing.
func (b *bench) awaitPool(boot string, n int) error {
	for deadline := time.Now().Add(20 * time.Second); ; {
		s, err := b.ps()
		if err != nil {
			return err
		}
		ready := 0
		for _, in := range s.Instances {
			for _, c := range in.Containers {
				if in.Account == "" && c.State == control.StateReady && (boot == "" && c.Boot == "" || boot != "" && strings.HasPrefix(string(c.Boot), boot)) {
					ready++
				}
			}
		}
		if ready >= n {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the pool has %d ready slots %q, not %d, after 20 s", ready, boot, n)
		}
	}
}

// times is a set of measurements.
type times []time.Duration

func (t times) at(q float64) time.Duration {
	s := slices.Clone(t)
	slices.Sort(s)
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

func (t times) median() time.Duration { return t.at(0.5) }

func (t times) String() string {
	round := time.Microsecond
	if t.median() < 100*time.Microsecond {
		round = 100 * time.Nanosecond
	}
	return fmt.Sprintf("%v / %v", t.median().Round(round), t.at(0.99).Round(round))
}

func ratio(name string, floor, hearth times, aim float64) row {
	return row{
		Name: name, Floor: floor.String(), Hearth: hearth.String(), Unit: "×", Aim: aim, AtMost: true,
		Value: float64(hearth.median()) / float64(floor.median()),
	}
}
