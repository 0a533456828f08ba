package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/sandbox"
)

func initWithin(d time.Duration) func(*Config) { return func(c *Config) { c.InitTimeout = d } }

// inTurn is a program that does another thing each time that it is started, and
// the last one from then on.
func inTurn(programs ...program) program {
	var n atomic.Int64
	return func(p *process) { programs[min(int(n.Add(1)), len(programs))-1](p) }
}

// The ways in which an init can fail, with what the log says of it.
var badInits = map[string]struct {
	run    program
	output []string // lines
	status string   // of INIT_REPORT
	fault  []string // lines of an invocation that fails so
	body   string   // its answer
	report string   // of its REPORT
}{
	"exits": {
		func(p *process) {
			p.print("no luck\n")
			p.exitWith(5)
		},
		[]string{"no luck"}, "error Error Type: Runtime.ExitError",
		[]string{"RequestId: #1 Error: Runtime exited with error: exit status 5", "Runtime.ExitError"},
		`{"errorType":"Runtime.ExitError","errorMessage":"RequestId: # Error: Runtime exited with error: exit status 5"}`,
		"Status: error Error Type: Runtime.ExitError",
	},
	"runs out of memory": {
		func(p *process) { p.bomb() },
		nil, "error Error Type: Runtime.OutOfMemory",
		[]string{"RequestId: #1 Error: Runtime exited with error: signal: killed", "Runtime.OutOfMemory"},
		`{"errorType":"Runtime.OutOfMemory","errorMessage":"RequestId: # Error: Runtime exited with error: signal: killed"}`,
		"Status: error Error Type: Runtime.OutOfMemory",
	},
	"reports an error": {
		func(p *process) {
			p.initError("Runtime.ImportModuleError", `{"errorMessage":"no module","errorType":"Runtime.ImportModuleError"}`)
			p.hang()
		},
		nil, "error Error Type: Runtime.ImportModuleError", nil,
		`{"errorMessage":"no module","errorType":"Runtime.ImportModuleError"}`,
		"Status: error Error Type: Runtime.ImportModuleError",
	},
	"reports an error and exits": {
		func(p *process) {
			p.print("a trace\n")
			p.initError("Runtime.ImportModuleError", `{"errorMessage":"no module","errorType":"Runtime.ImportModuleError"}`)
			p.exitWith(1)
		},
		[]string{"a trace"}, "error Error Type: Runtime.ImportModuleError", nil,
		`{"errorMessage":"no module","errorType":"Runtime.ImportModuleError"}`,
		"Status: error Error Type: Runtime.ImportModuleError",
	},
}

// initReportLine is the INIT_REPORT of a phase.
func initReportLine(phase, status string) string {
	return fmt.Sprintf("INIT_REPORT Init Duration: t Phase: %s Status: %s", phase, status)
}

func lines(parts ...any) (all []string) {
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			all = append(all, p)
		case []string:
			all = append(all, p...)
		}
	}
	return all
}

func TestAnInitThatFailedIsRunAgainInAFreshEnvironmentAndServes(t *testing.T) {
	for name, bad := range badInits {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			c, first := h.started(inTurn(bad.run, echo))
			h.serves(c)
			h.serves(c)
			if n := len(h.d.containers()); n != 2 {
				t.Errorf("%d environments were made, want 2", n)
			}
			if !first.destroyed {
				t.Error("the first environment is still there")
			}
			h.wantLog(c, lines(initStart, bad.output, initReportLine("init", bad.status),
				startLine(1), initStart, endLine(1), reportLine(1, ""),
				startLine(2), endLine(2), reportLine(2, ""))...)
		})
	}
}

func TestAnInitThatFailsTwiceIsReportedToTheCaller(t *testing.T) {
	for name, bad := range badInits {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			c, _ := h.started(bad.run)
			r, reusable := h.invoke(c, `{}`)
			if reusable {
				t.Error("it is reusable")
			}
			h.wantFunctionError(r, bad.body)
			h.wantLog(c, lines(initStart, bad.output, initReportLine("init", bad.status),
				startLine(1), initStart, bad.output, initReportLine("invoke", bad.status), bad.fault, endLine(1), reportLine(1, bad.report))...)
		})
	}
}

func TestAnInitThatTakesTooLongIsRunAgainUnderTheFunctionsTimeout(t *testing.T) {
	h := newHarness(t, initWithin(20*time.Millisecond))
	c, _ := h.started(inTurn((*process).hang, func(p *process) {
		time.Sleep(60 * time.Millisecond) // more than init has, less than the function
		echo(p)
	}), timeout(soon))
	h.serves(c)
	h.wantLog(c, initStart, initReportLine("init", "timeout"), startLine(1), initStart, endLine(1), reportLine(1, ""))
}

func TestAnInitThatNeverEndsTimesOutWithTheInvocation(t *testing.T) {
	h := newHarness(t, initWithin(20*time.Millisecond))
	c, _ := h.started((*process).hang, timeout(50*time.Millisecond))
	r, reusable := h.invoke(c, `{}`)
	if reusable {
		t.Error("it is reusable")
	}
	h.wantFunctionError(r, `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: # Error: Task timed out after 0.05 seconds"}`)
	h.wantLog(c, initStart, initReportLine("init", "timeout"), startLine(1), initStart, initReportLine("invoke", "timeout"),
		"#1 Task timed out after 0.05 seconds", "", endLine(1), reportLine(1, "Status: timeout"))
}

func TestWhatAFailedInitSaysLastIsInTheLog(t *testing.T) {
	h := newHarness(t)
	say := make(chan struct{})
	c, _ := h.started(inTurn(func(p *process) {
		p.initError("Runtime.Bad", `{}`)
		p.wait(say)
		p.print("last words\n")
		p.hang()
	}, echo))
	h.d.hook("Destroy", func(*fakeContainer) error { // of the first environment
		select {
		case <-say:
		default:
			close(say)
			time.Sleep(5 * time.Millisecond)
		}
		return nil
	})
	h.serves(c)
	h.wantLog(c, initStart, initReportLine("init", "error Error Type: Runtime.Bad"), startLine(1), "last words", initStart, endLine(1), reportLine(1, ""))
}

// The processes of a failed init are of no use: neither do they run on without
// work, nor does their end end the container.
func TestAnIdleContainerWhoseInitFailedRunsNothingAndServesLater(t *testing.T) {
	for name, run := range map[string]program{
		"reported": badInits["reports an error"].run,
		"exited":   badInits["exits"].run,
		"too slow": (*process).hang,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, initWithin(20*time.Millisecond), freezesSoon)
			c, sb := h.started(inTurn(run, echo))
			c.Idle()
			await(t, "nothing runs", sb.exited)
			eventually(t, "its watcher has seen it", func() bool { return c.env.api.Failure() != nil })
			time.Sleep(2 * time.Millisecond)
			if isDone(c) {
				t.Fatal("the container has ended, though its next invocation makes a new environment")
			}
			h.serves(c)
		})
	}
}

// A process that exits tells the watcher of its container and, by way of the
// runtime API, Load, in any order.
func TestAnInitThatExitsNeverLosesTheContainer(t *testing.T) {
	h := newHarness(t)
	for range 50 {
		f := h.function(inTurn(func(p *process) { p.exitWith(1) }, echo))
		c, _ := h.load(f)
		h.serves(c)
		if err := c.in.Destroy(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAProcessThatEndsRightAfterItsInitEndsTheContainer(t *testing.T) {
	h := newHarness(t)
	c, sb := h.slot("")
	leave := make(chan struct{})
	f := h.function(func(p *process) {
		go func() {
			<-leave
			p.kill(sandbox.Exit{Code: 4})
		}()
		p.next()
	})
	// The limits are set after the init.
	h.d.hook("SetLimits", func(sb *fakeContainer) error {
		if sb.limits.MemoryBytes == 0 {
			return nil // before
		}
		close(leave)
		<-sb.exited
		eventually(t, "its watcher has seen it", func() bool { return c.env.api.Failure() != nil })
		time.Sleep(2 * time.Millisecond)
		return nil
	})
	err := c.Load(context.Background(), f, &hearth.Timeline{})
	await(t, "the process ends", sb.exited)
	await(t, "the container is done", c.Done())
	if err != nil && hearth.KindOf(err) != hearth.ContainerGone {
		t.Errorf("got %v", err)
	}
}

func TestABadEntrypointIsReportedByTheInvocation(t *testing.T) {
	const noBootstrap = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
	for name, c := range map[string]struct {
		prepare func(h *harness) *hearth.Function
		reason  string
	}{
		"no bootstrap": {func(h *harness) *hearth.Function {
			return h.function(echo, func(f *hearth.Function) { f.Package = packageOf("bad") })
		}, noBootstrap},
		"cannot be executed": {func(h *harness) *hearth.Function {
			h.d.hook("Start", func(*fakeContainer) error { return fmt.Errorf("start: %w", syscall.ENOEXEC) })
			return h.function(echo)
		}, "fork/exec /var/task/bootstrap: exec format error"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			con, _ := h.load(c.prepare(h))
			r, reusable := h.invoke(con, `{}`)
			if reusable {
				t.Error("it is reusable")
			}
			h.wantFunctionError(r, fmt.Sprintf(`{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: # Error: %s"}`, c.reason))
			const status = "error Error Type: Runtime.InvalidEntrypoint"
			h.wantLog(con, initStart, initReportLine("init", status), startLine(1), initStart, initReportLine("invoke", status),
				"RequestId: #1 Error: "+c.reason, "Runtime.InvalidEntrypoint", endLine(1), reportLine(1, "Status: "+status))
		})
	}
}

// What goes wrong on the server's side while an init is run again is no fault
// of the caller's, nor of the function's.
func TestAFreshEnvironmentThatCannotBeMadeIsTheServersError(t *testing.T) {
	for _, method := range []string{"NewContainer", "Attach", "SetLimits", "Start"} {
		t.Run(method, func(t *testing.T) {
			h := newHarness(t)
			c, _ := h.started(badInits["exits"].run)
			h.d.fail(method, errTest)
			r, reusable, err := c.Invoke(context.Background(), h.invocation(c, `{}`))
			if r != nil || reusable || hearth.KindOf(err) != hearth.Service || !isDone(c) {
				t.Errorf("%+v, reusable %v, %v", r, reusable, err)
			}
			if log := h.log(c); !strings.Contains(log, "Status: error\tError Type: Sandbox.Failure") || strings.Contains(log, "Disconnected") {
				t.Errorf("the log is\n%s", log)
			}
		})
	}
}

func TestALoadWhoseCallerHasGoneIsGivenUp(t *testing.T) {
	h := newHarness(t)
	c, _ := h.slot("")
	started := make(chan struct{})
	f := h.function(func(p *process) {
		close(started)
		p.hang()
	})
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		<-started
		cancel(errTest)
	}()
	if err := c.Load(ctx, f, &hearth.Timeline{}); hearth.KindOf(err) != hearth.Service || !errors.Is(err, errTest) {
		t.Errorf("got %v", err)
	}
	if !isDone(c) {
		t.Error("the container is not over")
	}
}

func TestInitRunAgainHasFreshCredentials(t *testing.T) {
	var minted atomic.Int64
	keys := make(chan string, 2)
	h := newHarness(t, func(c *Config) {
		c.Session = func(hearth.Account, string, string, time.Duration) (identity.Session, error) {
			return identity.Session{
				AccessKeyID: fmt.Sprint("key", minted.Add(1)), SecretAccessKey: identity.NewSecret("s"), SessionToken: identity.NewSecret("t"),
			}, nil
		}
	})
	c, _ := h.started(inTurn(func(p *process) {
		keys <- p.env["AWS_ACCESS_KEY_ID"]
		p.exitWith(1)
	}, func(p *process) {
		keys <- p.env["AWS_ACCESS_KEY_ID"]
		echo(p)
	}))
	h.clock.advance(containerLife + time.Hour)
	h.serves(c) // is not refused for the age of the first ones
	if a, b := <-keys, <-keys; a != "key1" || b != "key2" {
		t.Errorf("got %s and %s", a, b)
	}
}
