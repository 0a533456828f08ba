package worker

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimeapi"
	"github.com/hearth-faas/hearth/sandbox"
)

func TestAProcessThatEndsAmidAnInvocationIsToldFromAnswers(t *testing.T) {
	const failed = "Init Duration: t Status: error Error Type: "
	for name, c := range map[string]struct {
		end    func(p *process, e event)
		body   string
		log    []string // between START and END
		report string
	}{
		"exit status": {
			func(p *process, _ event) { p.exitWith(3) },
			`{"errorType":"Runtime.ExitError","errorMessage":"RequestId: # Error: Runtime exited with error: exit status 3"}`,
			[]string{"RequestId: #1 Error: Runtime exited with error: exit status 3", "Runtime.ExitError"},
			failed + "Runtime.ExitError",
		},
		"exit status 0": {
			func(p *process, _ event) { p.exitWith(0) },
			`{"errorType":"Runtime.ExitError","errorMessage":"RequestId: # Error: Runtime exited without providing a reason"}`,
			[]string{"RequestId: #1 Error: Runtime exited without providing a reason", "Runtime.ExitError"},
			failed + "Runtime.ExitError",
		},
		"signal": {
			func(p *process, _ event) { p.signal("segmentation fault") },
			`{"errorType":"Runtime.ExitError","errorMessage":"RequestId: # Error: Runtime exited with error: signal: segmentation fault"}`,
			[]string{"RequestId: #1 Error: Runtime exited with error: signal: segmentation fault", "Runtime.ExitError"},
			failed + "Runtime.ExitError",
		},
		"out of memory": {
			func(p *process, _ event) { p.bomb() },
			`{"errorType":"Runtime.OutOfMemory","errorMessage":"RequestId: # Error: Runtime exited with error: signal: killed"}`,
			[]string{"RequestId: #1 Error: Runtime exited with error: signal: killed", "Runtime.OutOfMemory"},
			failed + "Runtime.OutOfMemory",
		},
		"killed, with memory left": {
			func(p *process, _ event) { p.signal("killed") },
			`{"errorType":"Runtime.ExitError","errorMessage":"RequestId: # Error: Runtime exited with error: signal: killed"}`,
			[]string{"RequestId: #1 Error: Runtime exited with error: signal: killed", "Runtime.ExitError"},
			failed + "Runtime.ExitError",
		},
		"a child was out of memory, then it ended itself": {
			func(p *process, _ event) {
				p.c.mu.Lock()
				p.c.oom++
				p.c.mu.Unlock()
				p.exitWith(1)
			},
			`{"errorType":"Runtime.ExitError","errorMessage":"RequestId: # Error: Runtime exited with error: exit status 1"}`,
			[]string{"RequestId: #1 Error: Runtime exited with error: exit status 1", "Runtime.ExitError"},
			failed + "Runtime.ExitError",
		},
		"its last words are kept": {
			func(p *process, _ event) {
				p.print("first\nlast, without an end")
				p.exitWith(1)
			},
			`{"errorType":"Runtime.ExitError","errorMessage":"RequestId: # Error: Runtime exited with error: exit status 1"}`,
			[]string{"first", "last, without an end", "RequestId: #1 Error: Runtime exited with error: exit status 1", "Runtime.ExitError"},
			failed + "Runtime.ExitError",
		},
		"halfway through its response": {
			func(p *process, e event) {
				r, w := io.Pipe()
				go func() {
					io.WriteString(w, "half")
					p.c.end(sandbox.Exit{Code: 9})
					<-p.dead.Done()
					w.CloseWithError(io.ErrUnexpectedEOF)
				}()
				p.ask("POST", "invocation/"+e.id+"/response", nil, r)
			},
			`{"errorType":"Runtime.ExitError","errorMessage":"RequestId: # Error: Runtime exited with error: exit status 9"}`,
			[]string{"RequestId: #1 Error: Runtime exited with error: exit status 9", "Runtime.ExitError"},
			failed + "Runtime.ExitError",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			con, _ := h.started(func(p *process) { c.end(p, p.next()) })
			r, reusable := h.invoke(con, `{}`)
			if reusable {
				t.Error("it is reusable")
			}
			h.wantFunctionError(r, c.body)
			h.wantLog(con, append(append([]string{initStart, startLine(1)}, c.log...), endLine(1), reportLine(1, c.report))...)
		})
	}
}

func TestAnErrorThatTheFunctionReportsIsItsAnswer(t *testing.T) {
	h := newHarness(t)
	c, _ := h.started(func(p *process) {
		p.report(p.next(), "Function.Oops", `{"errorMessage":"x","errorType":"Oops"}`)
		echo(p)
	})
	r, reusable := h.invoke(c, `{}`)
	h.wantFunctionError(r, `{"errorMessage":"x","errorType":"Oops"}`)
	if !reusable {
		t.Error("a container whose function threw is not reusable")
	}
	h.serves(c)
}

func TestAProcessThatEndsWhileItIsIdleEndsTheContainer(t *testing.T) {
	for name, frozen := range map[string]bool{"idle": false, "frozen": true} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, freezesSoon)
			c, sb := h.started(echo)
			h.serves(c)
			if frozen {
				c.Idle()
				eventually(t, "it is frozen", sb.isFrozen)
			}
			sb.end(sandbox.Exit{Code: 1})
			await(t, "the container is done", c.Done())
			r, reusable, err := c.Invoke(context.Background(), h.invocation(c, `{}`))
			if hearth.KindOf(err) != hearth.ContainerGone || r != nil || reusable {
				t.Errorf("%+v, reusable %v, %v", r, reusable, err)
			}
		})
	}
}

func TestASlotWhoseProcessEndsIsDone(t *testing.T) {
	h := newHarness(t)
	c, sb := h.slot(testBoot)
	sb.end(sandbox.Exit{Code: 1})
	await(t, "the slot is done", c.Done())
	if err := c.Load(context.Background(), h.function(echo), &hearth.Timeline{}); hearth.KindOf(err) != hearth.ContainerGone {
		t.Errorf("got %v", err)
	}
}

func TestAProcessThatEndsBeforeItSeesTheEventIsAnothersCase(t *testing.T) {
	h := newHarness(t)
	leave := make(chan struct{})
	c, _ := h.started(func(p *process) {
		p.respond(p.next(), `1`)
		p.wait(leave)
		p.exitWith(1)
	})
	h.invoke(c, `{}`)
	go func() {
		// Once the invocation has begun.
		eventually(t, "it runs", func() bool { return phaseOf(c) == phaseRunning })
		close(leave)
	}()
	r, reusable, err := c.Invoke(context.Background(), h.invocation(c, `{}`))
	if hearth.KindOf(err) != hearth.ContainerGone || r != nil || reusable || !isDone(c) {
		t.Errorf("%+v, reusable %v, done %v, %v", r, reusable, isDone(c), err)
	}
}

// What has ended after its response is found out by its watcher, whether that
// looks before or after the invocation has ended.
func TestAProcessThatEndsAfterItsResponseEndsTheContainer(t *testing.T) {
	h := newHarness(t)
	for range 30 {
		c, sb := h.started(func(p *process) {
			p.respond(p.next(), `1`)
			p.exitWith(0)
		})
		if r, _, err := c.Invoke(context.Background(), h.invocation(c, `{}`)); err != nil || r.FunctionError != "" {
			t.Fatalf("%+v %v", r, err)
		}
		await(t, "the process ends", sb.exited)
		await(t, "the container is done", c.Done())
	}
}

func TestAProcessThatEndsBetweenResponseAndRestEndsTheContainer(t *testing.T) {
	h := newHarness(t)
	c, sb := h.started(func(p *process) {
		p.respond(p.next(), `1`)
		p.exitWith(0)
	})
	inv := h.invocation(c, `{}`)
	// Usage is read for the REPORT, between the response and the rest.
	h.d.hook("Usage", func(*fakeContainer) error {
		await(t, "the process ends", sb.exited)
		eventually(t, "its watcher has seen it", func() bool { return c.env.api.Failure() != nil })
		time.Sleep(2 * time.Millisecond)
		return nil
	})
	r, _, err := c.Invoke(context.Background(), inv)
	if err != nil || r.FunctionError != "" {
		t.Fatalf("%+v %v", r, err)
	}
	await(t, "the container is done", c.Done())
}

func TestATimedOutInvocationIsKilledAndSaysSo(t *testing.T) {
	h := newHarness(t)
	c, sb := h.started(func(p *process) {
		p.next()
		p.print("before\nhalf a line")
		p.hang()
	}, timeout(2*time.Second)) // in which it gets so far, however busy the machine is
	began := time.Now()
	r, reusable := h.invoke(c, `{}`)
	if d := time.Since(began); d < 2*time.Second || d > 2*time.Second+soon {
		t.Errorf("it took %v", d)
	}
	if reusable {
		t.Error("it is reusable")
	}
	await(t, "the process has ended", sb.exited)
	h.wantFunctionError(r, `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: # Error: Task timed out after 2.00 seconds"}`)
	h.wantLog(c, initStart, startLine(1), "before", "half a line", "#1 Task timed out after 2.00 seconds", "",
		endLine(1), reportLine(1, "Init Duration: t Status: timeout"))
	if tail := string(r.LogTail); !strings.Contains(tail, "half a line") || !strings.Contains(tail, "Status: timeout") {
		t.Errorf("the tail is %q", tail)
	}
}

func TestATimeoutAmidAStreamIsKilledToo(t *testing.T) {
	h := newHarness(t)
	c, sb := h.started(func(p *process) {
		e := p.next()
		r, w := io.Pipe()
		go func() {
			io.WriteString(w, "the beginning")
			<-p.dead.Done()
			w.CloseWithError(io.ErrUnexpectedEOF)
		}()
		p.stream(e, r)
	}, timeout(2*time.Second)) // in which it gets so far, however busy the machine is
	inv, to := h.invocation(c, `{}`), &receiver{takes: 100}
	inv.Stream = to
	r, reusable, err := c.Invoke(context.Background(), inv)
	if err != nil || reusable || to.got.String() != "the beginning" {
		t.Fatalf("%+v %q, reusable %v, %v", r, to.got.String(), reusable, err)
	}
	await(t, "the process has ended", sb.exited)
	h.wantFunctionError(r, `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: # Error: Task timed out after 2.00 seconds"}`)
}

// A kill that fails is told to the operator; the caller is answered all the
// same, and nothing serves on in the container.
func TestATimeoutWhoseKillFailsIsAnsweredAllTheSame(t *testing.T) {
	h := newHarness(t)
	c, sb := h.started(func(p *process) {
		p.next()
		p.hang()
	}, timeout(20*time.Millisecond))
	h.d.hook("Kill", func(c *fakeContainer) error {
		c.end(sandbox.Exit{Code: -1, Signal: "killed"}) // so that the test need not wait
		return errTest
	})
	r, reusable := h.invoke(c, `{}`)
	if reusable || !strings.Contains(string(r.Payload), "Task timed out") {
		t.Errorf("%s, reusable %v", r.Payload, reusable)
	}
	await(t, "the process has ended", sb.exited)
	if !strings.Contains(h.told(), errTest.Error()) {
		t.Errorf("the operator was told %q", h.told())
	}
}

// The process may have ended before its watcher could know of the invocation
// that was about to begin.
func TestTheCallerIsToldItsOwnRequestID(t *testing.T) {
	h := newHarness(t)
	c, sb := h.started(echo)
	sb.end(sandbox.Exit{Code: 3})
	await(t, "the process has ended", sb.exited)
	fe := c.explain(context.Background(), "mine", runtimeapi.Exited("", 3, ""))
	if want := runtimeapi.Exited("mine", 3, ""); string(fe.Body) != string(want.Body) {
		t.Errorf("got %s, want %s", fe.Body, want.Body)
	}
}
