package worker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/sandbox"
)

// booted makes f one that the booted slots of the tests serve.
func booted(f *hearth.Function) { f.Runtime = "nodejs22.x" }

func TestABootedSlotIsToldItsFunction(t *testing.T) {
	h := newHarness(t)
	f := h.function(echo, booted)
	if boot := h.w.BootOf(f); boot != testBoot {
		t.Fatalf("functions of %s want slots of boot %q", f.Runtime, boot)
	}
	c, sb := h.slot(testBoot)
	if err := c.Load(context.Background(), f, &hearth.Timeline{}); err != nil {
		t.Fatal(err)
	}
	h.serves(c)
	if h.d.count("Start") != 0 {
		t.Error("another process was started")
	}
	if env := sb.main.env; env["AWS_LAMBDA_FUNCTION_NAME"] != f.Name || env["AWS_SESSION_TOKEN"] != "token" || env["AWS_ENDPOINT_URL"] != "http://192.0.2.1:80" || env["AWS_LAMBDA_LOG_STREAM_NAME"] != c.name {
		t.Errorf("it was told %v", env)
	}
}

func TestAnUnbootedSlotServesWhatCouldBeBooted(t *testing.T) {
	h := newHarness(t)
	f := h.function(echo, booted, func(f *hearth.Function) { f.Env = map[string]string{"NODE_OPTIONS": "--no-warnings"} })
	if boot := h.w.BootOf(f); boot != "" {
		t.Fatalf("a function with NODE_OPTIONS wants boot %q", boot)
	}
	c, sb := h.load(f)
	h.serves(c)
	for _, m := range sb.spec.Mounts {
		if strings.HasPrefix(m.Guest, sandbox.TaskDir) || strings.HasPrefix(m.Guest, sandbox.LayerDir) {
			t.Errorf("%s is where the code comes", m.Guest)
		}
	}
	if !slices.ContainsFunc(sb.spec.Mounts, func(m sandbox.Mount) bool { return m.Guest == sandbox.RuntimeDir }) {
		t.Errorf("the runtime client is not among %v", sb.spec.Mounts)
	}
}

func TestABootedContainerWhoseInitFailedIsStartedAfresh(t *testing.T) {
	h := newHarness(t)
	c, _ := h.slot(testBoot)
	if err := c.Load(context.Background(), h.function(inTurn(badInits["exits"].run, echo), booted), &hearth.Timeline{}); err != nil {
		t.Fatal(err)
	}
	h.serves(c)
	if h.d.count("Start") != 1 {
		t.Errorf("%d processes were started, want 1", h.d.count("Start"))
	}
}

func TestAnInterpreterThatDoesNotBootIsAnError(t *testing.T) {
	for name, boot := range map[string]program{
		"ends":             func(p *process) { p.exitWith(1) },
		"says other words": func(p *process) { p.c.inside.Write([]byte("?")); p.hang() },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.d.boot = boot
			if in, err := h.w.NewInstance(context.Background(), testBoot); hearth.KindOf(err) != hearth.Service || in != nil {
				t.Errorf("got %v, %v", in, err)
			}
			in := h.instance("")
			if c, err := in.NewSlot(context.Background(), testBoot); hearth.KindOf(err) != hearth.Service || c != nil {
				t.Errorf("got %v, %v", c, err)
			}
		})
	}
}

func TestABootWhoseCallerHasGoneIsGivenUp(t *testing.T) {
	h := newHarness(t)
	booting := make(chan struct{}, 1)
	h.d.boot = func(p *process) {
		booting <- struct{}{}
		p.hang()
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	failed := make(chan error)
	go func() {
		_, err := h.w.NewInstance(ctx, testBoot)
		failed <- err
	}()
	await(t, "it boots", booting)
	cancel(errTest)
	select {
	case err := <-failed:
		if hearth.KindOf(err) != hearth.Service || !errors.Is(err, errTest) {
			t.Errorf("got %v", err)
		}
	case <-time.After(soon):
		t.Error("the boot is still waited for")
		for _, c := range h.d.containers() {
			c.end(sandbox.Exit{Code: 1})
		}
		<-failed
	}
}

func TestABootThatNothingHereHasIsAnError(t *testing.T) {
	h := newHarness(t)
	if in, err := h.w.NewInstance(context.Background(), "perl5"); hearth.KindOf(err) != hearth.Service || in != nil {
		t.Errorf("got %v, %v", in, err)
	}
}

// What a driver cannot do is an error of kind Service, or ContainerGone where
// the slot had died, and nothing is left behind.
func TestWhatTheDriverCannotDoLeavesNothing(t *testing.T) {
	for _, method := range []string{"NewInstance", "NewContainer"} {
		t.Run(method, func(t *testing.T) {
			h := newHarness(t)
			h.d.fail(method, errTest)
			if in, err := h.w.NewInstance(context.Background(), testBoot); hearth.KindOf(err) != hearth.Service || !errors.Is(err, errTest) || in != nil {
				t.Errorf("got %v, %v", in, err)
			}
			h.instance("")
		})
	}
	for _, boot := range []hearth.Boot{"", testBoot} {
		for _, method := range []string{"SetLimits", "Attach", "Start"} {
			if boot != "" && method == "Start" {
				continue
			}
			t.Run(method+" "+string(boot), func(t *testing.T) {
				h := newHarness(t)
				c, _ := h.slot(boot)
				h.d.fail(method, errTest)
				err := c.Load(context.Background(), h.function(echo, booted), &hearth.Timeline{})
				if hearth.KindOf(err) != hearth.Service || !errors.Is(err, errTest) || !isDone(c) {
					t.Errorf("got %v, done %v", err, isDone(c))
				}
			})
			t.Run(method+" of a dead slot "+string(boot), func(t *testing.T) {
				h := newHarness(t)
				h.w.patience.exit = soon
				c, _ := h.slot(boot)
				h.d.hook(method, func(c *fakeContainer) error {
					// Its end is known a little later than its silence.
					time.AfterFunc(5*time.Millisecond, func() { c.end(sandbox.Exit{Code: 1}) })
					return errTest
				})
				err := c.Load(context.Background(), h.function(echo, booted), &hearth.Timeline{})
				if hearth.KindOf(err) != hearth.ContainerGone || !isDone(c) {
					t.Errorf("got %v, done %v", err, isDone(c))
				}
			})
		}
	}
	t.Run("SetLimits after the init", func(t *testing.T) {
		h := newHarness(t)
		c, _ := h.slot("")
		h.d.hook("SetLimits", func(sb *fakeContainer) error {
			if sb.limits.MemoryBytes == 0 {
				return nil // before
			}
			return errTest
		})
		if err := c.Load(context.Background(), h.function(echo), &hearth.Timeline{}); !errors.Is(err, errTest) || !isDone(c) {
			t.Errorf("got %v, done %v", err, isDone(c))
		}
	})
	t.Run("credentials", func(t *testing.T) {
		h := newHarness(t, func(c *Config) {
			c.Session = func(hearth.Account, string, string, time.Duration) (identity.Session, error) {
				return identity.Session{}, errTest
			}
		})
		c, _ := h.slot("")
		if err := c.Load(context.Background(), h.function(echo), &hearth.Timeline{}); hearth.KindOf(err) != hearth.Service || !errors.Is(err, errTest) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("code", func(t *testing.T) {
		h := newHarness(t)
		h.packages.fail.Store(true)
		c, _ := h.slot("")
		if err := c.Load(context.Background(), h.function(echo), &hearth.Timeline{}); err == nil || !isDone(c) {
			t.Errorf("got %v, done %v", err, isDone(c))
		}
	})
	t.Run("Usage", func(t *testing.T) {
		h := newHarness(t)
		h.d.hook("Usage", func(*fakeContainer) error { return errTest })
		c, _ := h.started(echo)
		r, _ := h.invoke(c, `{}`)
		if !strings.Contains(string(r.LogTail), "Max Memory Used: 0 MB") {
			t.Errorf("%s", r.LogTail)
		}
	})
}

func TestWhatASlotCostsIsTheMostThatWasSeen(t *testing.T) {
	h := newHarness(t)
	if bare, booted := h.w.SlotMiB(""), h.w.SlotMiB(testBoot); bare != bareSlotMiB || booted != bootedSlotMiB {
		t.Errorf("estimates %v and %v", bare, booted)
	}
	h.slot("")
	h.slot(testBoot)
	if bare, booted := h.w.SlotMiB(""), h.w.SlotMiB(testBoot); bare != 3 || booted != 3 {
		t.Errorf("measured %v and %v, want 3", bare, booted)
	}
}

func TestAnUnknownRuntimeIsSaidByLoad(t *testing.T) {
	h := newHarness(t)
	f := h.function(echo, func(f *hearth.Function) { f.Runtime = "cobol85" })
	if boot := h.w.BootOf(f); boot != "" {
		t.Errorf("boot %q", boot)
	}
	c, _ := h.slot("")
	if err := c.Load(context.Background(), f, &hearth.Timeline{}); hearth.KindOf(err) != hearth.InvalidParameter || !isDone(c) {
		t.Errorf("got %v, done %v", err, isDone(c))
	}
	if err := h.w.Prepare(context.Background(), f); hearth.KindOf(err) != hearth.InvalidParameter {
		t.Errorf("got %v", err)
	}
}

func TestAContainerIsLoadedOnce(t *testing.T) {
	h := newHarness(t)
	c, _ := h.started(echo)
	if err := c.Load(context.Background(), h.function(echo), &hearth.Timeline{}); hearth.KindOf(err) != hearth.ContainerGone {
		t.Errorf("got %v", err)
	}
	h.serves(c)
}
