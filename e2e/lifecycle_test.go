package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

func TestStoppedServerLeavesNothing(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "py", runtime: "python3.11", files: map[string]string{"index.py": pySleeper}})
	s.deploy(function{name: "node", runtime: "nodejs20.x", files: map[string]string{"index.js": "exports.handler = async (e) => e;\n"}})
	parallel(t, 4, func(int) error { _, err := s.invoke("py", `{"sleep":0.2}`); return err })
	s.mustInvoke("node", `{}`)
	was := tracesOf(t, s.dir)
	s.stop()
	was.gone(t, s.dir)
}

func TestAfterKillTheNextStartCleansUpAndEveryAcknowledgedWriteIsThere(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "kept", runtime: "python3.11", files: map[string]string{"index.py": pySleeper}})
	s.mustInvoke("kept", `{}`)
	time.Sleep(300 * time.Millisecond) // frozen, so that it ignores signals where it can
	acknowledged, some := make(chan int, 1), make(chan struct{})
	go func() { // writes until it is cut off
		c, n := s.client(), 0
		for {
			name := fmt.Sprintf("f%d", n)
			_, err := c.CreateFunction(context.Background(), createInput(t, name))
			if err != nil {
				acknowledged <- n
				return
			}
			if n++; n == 20 {
				close(some)
			}
		}
	}()
	select {
	case <-some:
	case n := <-acknowledged:
		t.Fatalf("%d were written before anybody was killed", n)
	case <-time.After(patience):
		t.Fatal("hardly anything is written")
	}
	was := tracesOf(t, s.dir)
	s.kill9()
	n := <-acknowledged
	again := startIn(t, s.dir)
	for i := range n {
		name := fmt.Sprintf("f%d", i)
		if _, err := again.client().GetFunction(context.Background(), &lambda.GetFunctionInput{FunctionName: &name}); err != nil {
			t.Errorf("%s of %d acknowledged: %v", name, n, err)
		}
	}
	again.mustInvoke("kept", `{}`)
	again.stop()
	was.gone(t, s.dir)
}

func createInput(t testing.TB, name string) *lambda.CreateFunctionInput {
	return &lambda.CreateFunctionInput{
		FunctionName: &name, Runtime: "python3.11", Handler: ptr("index.handler"), Role: ptr("arn:aws:iam::000000000000:role/r"),
		Code: &lambdaCode{ZipFile: zipOf(t, map[string]string{"index.py": "def handler(e, c):\n    return e\n"})},
	}
}

func TestSecondServerOnAFolderSaysSo(t *testing.T) {
	t.Parallel()
	s := start(t)
	out := fails(t, "up", "--listen", "127.0.0.1:0", "--data", s.dir)
	if !strings.Contains(out, fmt.Sprint(s.cmd.Process.Pid)) {
		t.Errorf("it does not name the process that has it: %s", out)
	}
}

func TestPortInUseIsOneClearSentence(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out := fails(t, "up", "--listen", l.Addr().String(), "--data", t.TempDir())
	if !strings.Contains(out, l.Addr().String()) || !strings.Contains(out, "in use") {
		t.Errorf("got %s", out)
	}
}

func TestUnwritableFolderIsOneClearSentence(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out := fails(t, "up", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "below"))
	if !strings.Contains(out, dir) {
		t.Errorf("got %s", out)
	}
}

func TestFullDiskIsOneClearSentenceAndNothingIsLost(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("only root can mount the small file system that this test fills")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	s := startIn(t, dir, "--memory", "512", "--pool", "64") // of what the disk is to be full does not depend on the machine
	var made []string
	var refusal error
	for i := 0; refusal == nil && i < 200; i++ {
		name := fmt.Sprintf("f%d", i)
		in := createInput(t, name)
		in.Code.ZipFile = zipOf(t, map[string]string{"index.py": "def handler(e, c):\n    return e\n", "pad": noise(1<<20, i)})
		if _, refusal = s.client().CreateFunction(context.Background(), in); refusal == nil {
			made = append(made, name)
		}
	}
	if refusal == nil || !strings.Contains(refusal.Error(), "full") && !strings.Contains(refusal.Error(), "space") {
		t.Errorf("a full disk answers %v", refusal)
	}
	for _, name := range made {
		if _, err := s.client().GetFunction(context.Background(), &lambda.GetFunctionInput{FunctionName: &name}); err != nil {
			t.Errorf("%s was acknowledged: %v", name, err)
		}
	}
	s.stop()
}

func TestHealthAndMetricsAnswer(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "py", runtime: "python3.11", files: map[string]string{"index.py": pySleeper}})
	s.mustInvoke("py", `{}`)
	for path, want := range map[string]string{"/healthz": "", "/metrics": "hearth_"} {
		resp, err := http.Get(s.endpoint + path)
		if err != nil {
			t.Fatal(err)
		}
		sc, found := bufio.NewScanner(resp.Body), want == ""
		for sc.Scan() {
			found = found || strings.HasPrefix(sc.Text(), want)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || !found {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}

// fails runs hearth, demands that it fails with one line, and returns it.
func fails(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(hearthBinary, args...)
	cmd.Env = cleanEnv()
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("hearth %s succeeded: %s", strings.Join(args, " "), out)
	}
	text := strings.TrimSpace(string(out))
	if text == "" || strings.Count(text, "\n") > 1 {
		t.Errorf("not one clear sentence:\n%s", text)
	}
	return text
}

// traces is what a server's sandboxes have on the machine.
type traces struct {
	processes, cgroups []string
	mounts             int
}

// tracesOf finds the processes that run programs of the data folder, which
// those of sandboxes begin with, and the cgroups that these are in.
func tracesOf(t *testing.T, dir string) (tr traces) {
	t.Helper()
	exes, _ := filepath.Glob("/proc/[0-9]*/exe")
	groups := map[string]bool{}
	for _, path := range exes {
		exe, err := os.Readlink(path)
		if err != nil || !strings.HasPrefix(exe, dir) {
			continue // it has ended, or is another's
		}
		tr.processes = append(tr.processes, path+" → "+exe)
		b, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cgroup"))
		if err != nil {
			continue
		}
		for _, m := range regexp.MustCompile(`/(hearth-[^/\n]+)`).FindAllStringSubmatch(string(b), -1) {
			groups[m[1]] = true
		}
	}
	for name := range groups {
		tr.cgroups = append(tr.cgroups, name)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	tr.mounts = strings.Count(string(mounts), dir)
	return tr
}

// gone demands that nothing is left of what was there.
func (was traces) gone(t *testing.T, dir string) {
	t.Helper()
	if len(was.processes) == 0 {
		t.Error("no process of the server's sandboxes was seen while it ran")
	}
	now := tracesOf(t, dir)
	if len(now.processes) > 0 {
		t.Errorf("processes are left: %q", now.processes)
	}
	if now.mounts > 0 {
		t.Errorf("%d mounts are left", now.mounts)
	}
	for _, name := range was.cgroups {
		left, _ := filepath.Glob("/sys/fs/cgroup/*/" + name)
		more, _ := filepath.Glob("/sys/fs/cgroup/" + name)
		if left = append(left, more...); len(left) > 0 {
			t.Errorf("cgroups are left: %q", left)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "server.json")); err == nil {
		t.Error("server.json is left")
	}
}
