package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/hearth-faas/hearth/control"
)

// The tests of this file carry the names of bugs that other systems had.

// pySleeper names its process by MARK, so that the test finds it from outside.
const pySleeper = `import os, time
if os.environ.get("MARK"):
    with open("/proc/self/comm", "w") as f:
        f.write(os.environ["MARK"])
def handler(event, context):
    time.sleep(event.get("sleep", 0))
    return event
`

func TestTimedOutInvocationsFreeTheirSlots(t *testing.T) {
	t.Parallel()
	s := start(t, "--memory", "1024") // room for four of them
	s.deploy(function{name: "sleeper", runtime: "python3.11", memory: 256, timeout: 1, files: map[string]string{"index.py": pySleeper}})
	parallel(t, 12, func(i int) error {
		a, err := s.invoke("sleeper", `{"sleep": 30}`)
		if err != nil {
			return err
		}
		if a.functionError == "" || !strings.Contains(a.payload, "timed out after 1.00 seconds") {
			return fmt.Errorf("a timeout answers %q %s", a.functionError, a.payload)
		}
		return nil
	})
	parallel(t, 4, func(i int) error { _, err := s.invoke("sleeper", `{}`); return err })
	const rounds = 3 // at most: a machine that does something else meanwhile decides one
	var took []time.Duration
	for range rounds {
		began := time.Now()
		for range 20 {
			s.mustInvoke("sleeper", `{"n": 1}`)
		}
		if took = append(took, time.Since(began)); took[len(took)-1] <= 2*time.Second {
			break
		}
	}
	if slices.Min(took) > 2*time.Second {
		t.Errorf("20 ordinary invocations after the time-outs took %v", took)
	}
	if snap := s.ps(); snap.CommittedMiB > 1024 {
		t.Errorf("%d MiB committed of 1024", snap.CommittedMiB)
	}
}

func TestKilledIdleContainerDoesNotMakeTheNextCallerWait(t *testing.T) {
	t.Parallel()
	s := start(t)
	mark := "e2e-victim"
	s.deploy(function{name: "victim", runtime: "python3.11", timeout: 60, files: map[string]string{"index.py": pySleeper}, env: map[string]string{"MARK": mark}})
	for range 3 {
		s.mustInvoke("victim", `{}`)
		pids := processesNamed(mark)
		if len(pids) == 0 {
			t.Fatal("the function's process is not to be found")
		}
		time.Sleep(300 * time.Millisecond) // let it be frozen: the state is not observable from outside but by ps
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				t.Fatal(err)
			}
		}
		for deadline := time.Now().Add(patience); len(processesNamed(mark)) > 0; {
			if time.Now().After(deadline) {
				t.Fatal("the killed process does not end")
			}
		}
		began := time.Now()
		s.mustInvoke("victim", `{}`)
		if d := time.Since(began); d > 30*time.Second { // half of its timeout
			t.Errorf("the call after the kill took %v", d)
		}
	}
}

func TestSixteenFirstInvokesAtOnceAreNotServedOneAfterAnother(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "slowinit", runtime: "python3.11", memory: 128, timeout: 30, files: map[string]string{
		"index.py": "import time\ntime.sleep(2)\ndef handler(event, context):\n    return event\n"}})
	began := time.Now()
	parallel(t, 16, func(i int) error { _, err := s.invoke("slowinit", `{}`); return err })
	if d := time.Since(began); d > 24*time.Second { // one after another: 32 s, and what making them takes
		t.Errorf("16 at once took %v", d)
	}
}

func TestAfterAnUpdateHasBecomeSuccessfulNoInvokeSeesTheOldCode(t *testing.T) {
	t.Parallel()
	s := start(t)
	code := func(v int) map[string]string {
		return map[string]string{"index.py": fmt.Sprintf("import os\ndef handler(event, context):\n    return '%d-' + os.environ['VER']\n", v)}
	}
	s.deploy(function{name: "updated", runtime: "python3.11", files: code(0), env: map[string]string{"VER": "0"}})
	c, ctx := s.client(), context.Background()
	stop := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() { // traffic during the updates: it must not fail
		for {
			select {
			case <-stop:
				return
			default:
			}
			if a, err := s.invoke("updated", `{}`); err != nil || a.functionError != "" {
				t.Errorf("during an update: %v %s", err, a.payload)
				return
			}
		}
	})
	name := "updated"
	for v := 1; v <= 4; v++ {
		if _, err := c.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: zipOf(t, code(v))}); err != nil {
			t.Fatal(err)
		}
		s.waitActive(name)
		if _, err := c.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
			FunctionName: &name, Environment: &types.Environment{Variables: map[string]string{"VER": strconv.Itoa(v)}}}); err != nil {
			t.Fatal(err)
		}
		s.waitActive(name)
		want := fmt.Sprintf(`"%d-%d"`, v, v)
		parallel(t, 40, func(int) error {
			a, err := s.invoke(name, `{}`)
			if err == nil && a.payload != want {
				err = fmt.Errorf("got %s after the update to %s was successful", a.payload, want)
			}
			return err
		})
	}
	close(stop)
	background.Wait()
}

func TestTwoConcurrentInvokesNeverMix(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "go", runtime: "provided.al2023", handler: "bootstrap", zip: goZip(t, "echo")})
	s.deploy(function{name: "py", runtime: "python3.11", files: map[string]string{"index.py": pySleeper}})
	s.deploy(function{name: "node", runtime: "nodejs20.x", files: map[string]string{"index.js": "exports.handler = async (e) => e;\n"}})
	for _, name := range []string{"go", "py", "node"} {
		var n atomic.Int64
		parallel(t, 12, func(i int) error {
			for range 60 {
				id := n.Add(1)
				want := fmt.Sprintf(`{"id":%d,"pad":"%s"}`, id, strings.Repeat(strconv.FormatInt(id%10, 10), int(id%2000)))
				a, err := s.invoke(name, want)
				if err != nil {
					return err
				}
				if !sameJSON(a.payload, want) {
					return fmt.Errorf("%s: asked with %.60s, answered %.60s", name, want, a.payload)
				}
			}
			return nil
		})
		if busy := s.busiest(name); busy > 12 {
			t.Errorf("%s: %d environments for 12 callers", name, busy)
		}
	}
}

func TestInvokesDuringFreezeAndShutdownSucceed(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "f", runtime: "nodejs20.x", files: map[string]string{"index.js": "exports.handler = async (e) => { await new Promise(r => setTimeout(r, e.ms || 0)); return e; };\n"}})
	for i := range 60 { // across the moment at which an idle container freezes
		time.Sleep(time.Duration(i*5) * time.Millisecond)
		s.mustInvoke("f", `{}`)
	}
	results := make(chan error, 8)
	for range 8 {
		go func() {
			a, err := s.invoke("f", `{"ms": 5000}`)
			if err == nil && !sameJSON(a.payload, `{"ms":5000}`) {
				err = errors.New(a.payload)
			}
			results <- err
		}()
	}
	for deadline := time.Now().Add(patience); s.busiest("f") < 8; {
		if time.Now().After(deadline) {
			t.Fatal("eight invocations never ran at once")
		}
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		if err := <-results; err != nil {
			t.Errorf("an invocation that was running at shutdown: %v", err)
		}
	}
	s.awaitStop()
}

func TestTransientFailureDoesNotMultiplyEnvironments(t *testing.T) {
	t.Parallel()
	s := start(t)
	const callers = 10
	mark := "e2e-burst"
	s.deploy(function{name: "burst", runtime: "python3.11", memory: 128, timeout: 20, files: map[string]string{"index.py": pySleeper}, env: map[string]string{"MARK": mark}})
	parallel(t, callers, func(i int) error { _, err := s.invoke("burst", `{"sleep": 0.2}`); return err })
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range callers {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				// One whose container is killed under it fails; no other may.
				_, _ = s.invoke("burst", `{"sleep": 0.02}`)
			}
		})
	}
	for range 3 {
		if pids := processesNamed(mark); len(pids) > 0 {
			_ = syscall.Kill(pids[0], syscall.SIGKILL)
		}
		for range 10 {
			if n := s.busiest("burst"); n > callers {
				t.Errorf("%d environments for %d callers", n, callers)
			}
		}
	}
	close(stop)
	wg.Wait()
}

// busiest is how many containers hold the function now, beside those that
// are being removed.
func (s *server) busiest(name string) (n int) {
	for _, in := range s.ps().Instances {
		for _, c := range in.Containers {
			if c.Function == name && c.State != "ending" {
				n++
			}
		}
	}
	return n
}

func (s *server) ps() control.Snapshot {
	s.t.Helper()
	out, err := s.hearth("ps", "--json")
	if err != nil {
		s.t.Fatal(err)
	}
	var snap control.Snapshot
	if err := json.Unmarshal([]byte(out), &snap); err != nil {
		s.t.Fatalf("hearth ps --json: %v in %s", err, out)
	}
	return snap
}

// parallel runs f n times at once and reports each error.
func parallel(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := f(i); err != nil {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// processesNamed finds the processes of this machine with the given name.
func processesNamed(name string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, path := range files {
		comm, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(comm)) != name {
			continue // it has ended, or is another
		}
		if stat, err := os.ReadFile(filepath.Join(filepath.Dir(path), "stat")); err != nil || strings.Contains(string(stat), ") Z ") {
			continue // it has ended, and nobody has looked yet
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		pids = append(pids, pid)
	}
	return pids
}

func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return string(p) == string(q)
}
