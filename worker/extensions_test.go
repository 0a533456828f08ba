package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimeapi/extension"
	"github.com/hearth-faas/hearth/sandbox"
)

// withExtensions is a change of a function: a layer with external extensions.
func withExtensions(names ...string) func(*hearth.Function) {
	return func(f *hearth.Function) {
		f.Layers = []hearth.Layer{{ARN: "arn:layer:1", Package: packageOf("ext-" + strings.Join(names, "_"))}}
	}
}

// unpackExtensions is unpackBootstrap, which also knows those layers.
func unpackExtensions(c *Config) {
	c.Unpack = func(ctx context.Context, r io.ReaderAt, size int64, dir string) error {
		text := make([]byte, size)
		if _, err := r.ReadAt(text, 0); err != nil {
			return err
		}
		names, ok := strings.CutPrefix(string(text), "ext-")
		if !ok {
			return unpackBootstrap(ctx, r, size, dir)
		}
		if err := os.MkdirAll(filepath.Join(dir, "extensions", "folder"), 0o755); err != nil {
			return err
		}
		for _, name := range strings.Split(names, "_") {
			if err := os.WriteFile(filepath.Join(dir, "extensions", name), nil, 0o755); err != nil {
				return err
			}
		}
		return nil
	}
}

// call makes a request of the extensions or telemetry API.
func (p *process) call(method, path, body string, header ...string) (*http.Response, string) {
	p.syscall()
	defer p.syscall()
	req, err := http.NewRequestWithContext(p.dead, method, "http://runtime"+path, strings.NewReader(body))
	if err != nil {
		p.exitWith(111)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := p.client.Do(req)
	if err != nil {
		p.syscall()
		p.exitWith(112)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		p.syscall()
		p.exitWith(113)
	}
	return resp, string(answer)
}

// register registers an extension and returns its identifier.
func (p *process) register(name string, events ...string) string {
	list, _ := json.Marshal(append([]string{}, events...))
	resp, _ := p.call("POST", "/2020-01-01/extension/register", `{"events":`+string(list)+`}`, "Lambda-Extension-Name", name)
	if resp.StatusCode != http.StatusOK {
		p.exitWith(114)
	}
	return resp.Header.Get("Lambda-Extension-Identifier")
}

// lifeEvent is what an extension gets.
type lifeEvent struct {
	Type   string `json:"eventType"`
	ID     string `json:"requestId"`
	Reason string `json:"shutdownReason"`
}

func (p *process) nextEvent(id string) (e lifeEvent) {
	resp, body := p.call("GET", "/2020-01-01/extension/event/next", "", "Lambda-Extension-Identifier", id)
	if resp.StatusCode != http.StatusOK || json.Unmarshal([]byte(body), &e) != nil {
		p.exitWith(115)
	}
	return e
}

// report posts an error.
func (p *process) extensionError(path, id, own string) {
	p.call("POST", "/2020-01-01/extension/"+path, "{}", "Lambda-Extension-Identifier", id, "Lambda-Extension-Function-Error-Type", own)
}

// diary is what extensions of a test have seen.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) write(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, requests.ReplaceAllString(fmt.Sprintf(format, args...), "#$1"))
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, ", ")
}

// attend makes an extension that notes each event and works on it.
func (d *diary) attend(name string, work func(p *process, e lifeEvent), events ...string) program {
	return func(p *process) {
		id := p.register(name, events...)
		for {
			e := p.nextEvent(id)
			d.write("%s %s %s%s", name, e.Type, e.ID, e.Reason)
			if work != nil {
				work(p, e)
			}
			if e.Type == "SHUTDOWN" {
				return
			}
		}
	}
}

const extensionLine = "EXTENSION Name: %s State: Ready Events: [INVOKE, SHUTDOWN]"

func settle(t testing.TB, c *container) {
	t.Helper()
	if s := c.Settled(); s != nil {
		await(t, "the extensions have done", s)
	}
}

func TestExternalExtensionsLiveBesideTheFunction(t *testing.T) {
	for _, boot := range []hearth.Boot{"", testBoot} {
		t.Run("boot "+string(boot), func(t *testing.T) {
			h := newHarness(t, unpackExtensions)
			var d diary
			h.d.run("outer", d.attend("outer", func(p *process, e lifeEvent) { p.print("saw %s\n", e.Type) }, "INVOKE", "SHUTDOWN"))
			change := []func(*hearth.Function){withExtensions("outer")}
			if boot != "" {
				change = append(change, booted)
			}
			c, sb := h.slot(boot)
			f := h.function(func(p *process) {
				d.write("runtime, registered %v", c.env.ext.set.Infos()[0].State >= extension.Registered)
				echo(p)
			}, change...)
			if err := c.Load(context.Background(), f, &hearth.Timeline{}); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				h.serves(c)
				settle(t, c)
			}
			if err := c.Destroy(); err != nil {
				t.Fatal(err)
			}
			if got, want := d.String(), "runtime, registered true, outer INVOKE #1, outer INVOKE #2, outer SHUTDOWN spindown"; got != want {
				t.Errorf("it went\n%s, want\n%s", got, want)
			}
			if n := h.d.count("Signal terminated"); n != 1 {
				t.Errorf("the runtime was told %d times to end", n)
			}
			if n := h.d.count("Signal killed"); n != 0 {
				t.Error("a runtime that had ended was killed")
			}
			env := sb.further[0].env
			for key, want := range map[string]string{"AWS_LAMBDA_FUNCTION_NAME": f.Name, "AWS_ACCESS_KEY_ID": "ASIATEST", "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
				"_HANDLER": "", "AWS_EXECUTION_ENV": "", "LAMBDA_TASK_ROOT": "", "AWS_LAMBDA_LOG_STREAM_NAME": "", "_LAMBDA_TELEMETRY_LOG_FD": ""} {
				if env[key] != want {
					t.Errorf("the extension has %s=%q, want %q", key, env[key], want)
				}
			}
			// What an extension writes is a process's own: it may come before
			// the report or after it.
			log := strings.ReplaceAll(h.log(c), "\t", " ")
			for _, want := range []string{fmt.Sprintf(extensionLine, "outer"), "saw INVOKE\n", "saw SHUTDOWN\n", endLine(2), reportLine(2, "")} {
				if !strings.Contains(log, want) {
					t.Errorf("the log has no %q:\n%s", want, log)
				}
			}
		})
	}
}

func TestTheCallerIsAnsweredWhileExtensionsWork(t *testing.T) {
	h := newHarness(t, unpackExtensions)
	var d diary
	work := make(chan struct{})
	h.d.run("outer", d.attend("outer", func(p *process, e lifeEvent) {
		if e.Type == "INVOKE" {
			p.wait(work)
		}
	}, "INVOKE", "SHUTDOWN"))
	c, _ := h.started(func(p *process) {
		p.serve(func(e event) string {
			p.print("word of %s\n", e.payload)
			return string(e.payload)
		})
	}, withExtensions("outer"))
	if r, _ := h.invoke(c, "1"); !strings.HasSuffix(string(r.LogTail), "word of 1\n") {
		t.Errorf("the tail is %q", r.LogTail)
	}
	settled := c.Settled()
	if settled == nil {
		t.Fatal("the container counts as settled")
	}
	c.freezeNow()
	if c.Frozen() {
		t.Error("it froze under its extension")
	}
	eventually(t, "the event is there", func() bool { return strings.Contains(d.String(), "INVOKE") })
	if log := h.log(c); strings.Contains(log, "REPORT") {
		t.Errorf("reported before it was over:\n%s", log)
	}
	close(work)
	await(t, "the extension has done", settled)
	if log := h.log(c); !strings.Contains(log, "REPORT") {
		t.Errorf("not reported:\n%s", log)
	}
	h.serves(c) // without waiting for what came before, it still is served in turn
	h.serves(c)
	settle(t, c)
	c.Idle()
	c.freezeNow()
	if !c.Frozen() {
		t.Error("it does not freeze although all wait")
	}
	if err := c.Destroy(); err != nil { // thawed, to end well
		t.Fatal(err)
	}
	if !strings.HasSuffix(d.String(), "outer SHUTDOWN spindown") {
		t.Errorf("it went %v", &d)
	}
}

func TestAnExtensionThatTakesTooLongEndsTheContainer(t *testing.T) {
	h := newHarness(t, unpackExtensions)
	h.w.patience.external = externalShutdown
	var d diary
	h.d.run("outer", d.attend("outer", func(p *process, e lifeEvent) {
		if e.Type == "INVOKE" {
			p.hang()
		}
	}, "INVOKE", "SHUTDOWN"))
	h.d.run("other", d.attend("other", nil, "SHUTDOWN"))
	c, _ := h.started(echo, withExtensions("outer", "other"), timeout(2*time.Second))
	h.serves(c)
	await(t, "the invocation is given up", c.Settled())
	await(t, "the container's end", c.Done())
	began := time.Now()
	if err := c.Destroy(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < externalShutdown {
		t.Errorf("one that hangs had %v to end", took)
	}
	if !strings.Contains(d.String(), "other SHUTDOWN timeout") {
		t.Errorf("it went %v", &d)
	}
	if log := h.log(c); !strings.Contains(log, "Task timed out after 2.00 seconds") || !strings.Contains(log, "Status: timeout") {
		t.Errorf("the log says\n%s", log)
	}
}

func TestExtensionsHearWhyTheFunctionEnded(t *testing.T) {
	for reason, c := range map[string]struct {
		run   program
		limit time.Duration
		body  string
	}{
		"timeout": {func(p *process) { p.next(); p.hang() }, time.Second, `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: # Error: Task timed out after 1.00 seconds"}`},
		"failure": {func(p *process) { p.next(); p.exitWith(3) }, soon, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: # Error: Runtime exited with error: exit status 3"}`},
	} {
		t.Run(reason, func(t *testing.T) {
			h := newHarness(t, unpackExtensions)
			var d diary
			h.d.run("outer", d.attend("outer", nil, "INVOKE", "SHUTDOWN"))
			h.d.run("mute", d.attend("mute", nil, "INVOKE"))
			con, _ := h.started(c.run, withExtensions("outer", "mute"), timeout(c.limit))
			r, reusable := h.invoke(con, "{}")
			if reusable {
				t.Error("it can serve on")
			}
			h.wantFunctionError(r, c.body)
			if strings.Contains(d.String(), "SHUTDOWN") {
				t.Error("the caller waited for the shutdown")
			}
			if err := con.Destroy(); err != nil {
				t.Fatal(err)
			}
			if got := d.String(); !strings.Contains(got, "outer SHUTDOWN "+reason) || strings.Contains(got, "mute SHUTDOWN") {
				t.Errorf("it went %s", got)
			}
		})
	}
}

func TestAnExtensionThatFailsFailsTheInit(t *testing.T) {
	for name, c := range map[string]struct {
		run               program
		errorType, reason string
		state             string // in the log
	}{
		"exits":       {func(p *process) { p.exitWith(0) }, "Extension.Crash", "exit code 0", "Exited Events: []"},
		"exits badly": {func(p *process) { p.register("outer", "INVOKE"); p.exitWith(7) }, "Extension.Crash", "exit status 7", "Exited Events: [INVOKE]"},
		"is killed":   {func(p *process) { p.signal("killed") }, "Extension.Crash", "signal: killed", "Exited Events: []"},
		"reports": {func(p *process) {
			p.extensionError("init/error", p.register("outer"), "Extension.NoConfig")
			p.exitWith(1)
		}, "Extension.InitError", "exit status 1", "InitError Events: [] Error Type: Extension.NoConfig"},
		"reports and stays": {func(p *process) {
			p.extensionError("exit/error", p.register("outer"), "Extension.Tired")
			p.hang()
		}, "Extension.ExitError", "Extension.Tired", "ExitError Events: [] Error Type: Extension.Tired"},
		"cannot be started": {nil, "Extension.LaunchError", "fork/exec /opt/extensions/outer: exec format error", "LaunchError Events: [] Error Type: UnknownError"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, unpackExtensions)
			if c.run != nil {
				h.d.run("outer", c.run)
			}
			if name == "reports and stays" {
				h.w.patience.report = 10 * time.Millisecond
			}
			con, _ := h.started(echo, withExtensions("outer"))
			r, reusable := h.invoke(con, "{}")
			if reusable {
				t.Error("it can serve on")
			}
			h.wantFunctionError(r, fmt.Sprintf(`{"errorType":%q,"errorMessage":"RequestId: # Error: %s"}`, c.errorType, c.reason))
			log := strings.ReplaceAll(h.log(con), "\t", " ")
			for _, want := range []string{
				"EXTENSION Name: outer State: " + c.state + "\n", initReportLine("init", "error Error Type: "+c.errorType) + "\n",
				initReportLine("invoke", "error Error Type: "+c.errorType) + "\n",
				"RequestId: #1 Error: " + c.reason + "\n" + c.errorType + "\n",
			} {
				if !strings.Contains(log, want) {
					t.Errorf("the log has no %q:\n%s", want, log)
				}
			}
		})
	}
}

func TestAnInitThatAnExtensionFailedIsRunAgain(t *testing.T) {
	h := newHarness(t, unpackExtensions)
	var d diary
	h.d.run("outer", inTurn(func(p *process) { p.exitWith(1) }, d.attend("outer", nil, "INVOKE")))
	c, _ := h.started(echo, withExtensions("outer"))
	h.serves(c)
	settle(t, c)
	h.serves(c)
}

func TestAnInitWaitsForExtensionsUpToItsTimeout(t *testing.T) {
	for name, run := range map[string]program{
		"that do not register": (*process).hang,
		"that do not ask":      func(p *process) { p.register("outer"); p.hang() },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, unpackExtensions, initWithin(50*time.Millisecond))
			h.d.run("outer", run)
			c, _ := h.started(echo, withExtensions("outer"), timeout(200*time.Millisecond))
			if log := h.log(c); !strings.Contains(log, "Status: timeout") {
				t.Errorf("the log says\n%s", log)
			}
			r, _ := h.invoke(c, "{}")
			h.wantFunctionError(r, `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: # Error: Task timed out after 0.20 seconds"}`)
		})
	}
}

func TestMoreThanTenExtensionsAreNotStarted(t *testing.T) {
	h := newHarness(t, unpackExtensions)
	var names []string
	for i := range 11 {
		names = append(names, fmt.Sprint("e", i))
	}
	c, _ := h.started(echo, withExtensions(names...))
	r, _ := h.invoke(c, "{}")
	h.wantFunctionError(r, `{"errorType":"Extension.LaunchError","errorMessage":"RequestId: # Error: Extension limit (10) reached"}`)
	if n := h.d.count("Run"); n != 0 {
		t.Errorf("%d were started", n)
	}
}

func TestAnExtensionThatDiesTakesTheContainerWithIt(t *testing.T) {
	dies := func(h *harness, when <-chan struct{}) {
		h.d.run("outer", func(p *process) {
			id := p.register("outer", "INVOKE")
			p.nextEvent(id)
			p.wait(when)
			p.exitWith(4)
		})
	}
	t.Run("under an invocation", func(t *testing.T) {
		h := newHarness(t, unpackExtensions)
		now := make(chan struct{})
		dies(h, now)
		c, _ := h.started(func(p *process) {
			p.next()
			close(now)
			p.hang()
		}, withExtensions("outer"))
		r, reusable := h.invoke(c, "{}")
		if reusable {
			t.Error("it can serve on")
		}
		h.wantFunctionError(r, `{"errorType":"Extension.Crash","errorMessage":"RequestId: # Error: exit status 4"}`)
	})
	t.Run("after the answer", func(t *testing.T) {
		h := newHarness(t, unpackExtensions)
		now := make(chan struct{})
		dies(h, now)
		c, _ := h.started(echo, withExtensions("outer"))
		h.serves(c)
		close(now)
		await(t, "the end", c.Done())
		settle(t, c)
		if log := h.log(c); !strings.Contains(log, "Extension.Crash") {
			t.Errorf("the log says\n%s", log)
		}
	})
	t.Run("while all is idle", func(t *testing.T) {
		h := newHarness(t, unpackExtensions)
		dies(h, nil)
		c, sb := h.started(echo, withExtensions("outer"))
		sb.further[0].kill(sandbox.Exit{Code: 9})
		await(t, "the end", c.Done())
	})
}

func TestInternalExtensionsRegisterFromTheRuntime(t *testing.T) {
	h := newHarness(t)
	var d diary
	c, _ := h.started(func(p *process) {
		id := p.register("inner", "INVOKE")
		go func() {
			defer func() { recover() }() // the process ends under it
			for {
				e := p.nextEvent(id)
				d.write("inner %s %s", e.Type, e.ID)
			}
		}()
		echo(p)
	})
	for range 3 {
		h.serves(c)
		settle(t, c)
	}
	if got := d.String(); got != "inner INVOKE #1, inner INVOKE #2, inner INVOKE #3" {
		t.Errorf("it went %s", got)
	}
	if err := c.Destroy(); err != nil {
		t.Fatal(err)
	}
	if n := h.d.count("Signal terminated"); n != 1 {
		t.Errorf("the runtime was told %d times to end", n)
	}
}

func TestAContainerWithoutExtensionsIsDestroyedAtOnce(t *testing.T) {
	h := newHarness(t)
	c, _ := h.started(echo)
	h.serves(c)
	if c.Settled() != nil {
		t.Error("something is to be waited for")
	}
	if err := c.Destroy(); err != nil {
		t.Fatal(err)
	}
	if n := h.d.count("Signal terminated") + h.d.count("Signal killed"); n != 0 {
		t.Errorf("%d signals were sent", n)
	}
}

func TestTelemetryTellsAContainersLife(t *testing.T) {
	h := newHarness(t, unpackExtensions)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var kinds []string
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var batch []struct {
			Type   string
			Record any
		}
		if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, e := range batch {
			if s, ok := e.Record.(string); ok {
				e.Type += " " + strings.TrimSpace(s)
			}
			kinds = append(kinds, strings.TrimPrefix(e.Type, "platform."))
		}
	})}
	go server.Serve(l)
	defer server.Close()
	all := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(kinds)
	}
	h.d.run("outer", func(p *process) {
		id := p.register("outer", "INVOKE", "SHUTDOWN")
		resp, body := p.call("PUT", "/2022-07-01/telemetry", fmt.Sprintf(
			`{"schemaVersion":"2022-12-13","types":["platform","function","extension"],"buffering":{"timeoutMs":25},"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:%d/"}}`,
			l.Addr().(*net.TCPAddr).Port), "Lambda-Extension-Identifier", id)
		p.print("subscribed: %s %s\n", resp.Status, body)
		for p.nextEvent(id).Type != "SHUTDOWN" {
		}
		p.wait(waitFor(func() bool { return slices.Contains(all(), "report") }))
	})
	c, _ := h.started(func(p *process) {
		p.print("loading\n")
		p.serve(func(e event) string {
			p.print("event\n")
			return "{}"
		})
	}, withExtensions("outer"))
	if _, _, err := c.Invoke(context.Background(), h.invocation(c, "{}")); err != nil {
		t.Fatal(err)
	}
	settle(t, c)
	eventually(t, "the report has come", func() bool { return slices.Contains(all(), "report") })
	if err := c.Destroy(); err != nil {
		t.Fatal(err)
	}
	got := all()
	want := []string{"initStart", "function loading", "initRuntimeDone", "extension", "initReport", "start", "function event", "runtimeDone", "report"}
	at := 0
	for _, kind := range got {
		if at < len(want) && kind == want[at] {
			at++
		}
	}
	if at != len(want) || !slices.Contains(got, "telemetrySubscription") || !slices.Contains(got, `extension subscribed: 200 OK "OK"`) {
		t.Errorf("there came %q; missing from %q", got, want[at:])
	}
	if log := h.log(c); !strings.Contains(log, "TELEMETRY\tName: outer\tState: Subscribed\tTypes: [Platform, Function, Extension]\n") {
		t.Errorf("the log says\n%s", log)
	}
}

// waitFor is closed once ok is true.
func waitFor(ok func() bool) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for deadline := time.Now().Add(soon); !ok() && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}()
	return done
}
