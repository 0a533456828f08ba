package worker

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimes"
	"github.com/hearth-faas/hearth/sandbox"
)

// layered gives a function layers.
func layered(n ...int) func(*hearth.Function) {
	return func(f *hearth.Function) {
		for _, n := range n {
			f.Layers = append(f.Layers, hearth.Layer{Package: pkg(n)})
		}
	}
}

func TestCodeIsFetchedOnceForAllContainersOfAnInstance(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.CodeCacheBytes = 1 }) // nothing is kept that is not used
	in := h.instance("")
	f := h.function(echo, layered(900, 901))
	var containers []*container
	var wg sync.WaitGroup
	for range 8 {
		s, err := in.NewSlot(context.Background(), "")
		if err != nil {
			t.Fatal(err)
		}
		c := s.(*container)
		containers = append(containers, c)
		wg.Go(func() {
			if err := c.Load(context.Background(), f, &hearth.Timeline{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, c := range containers {
		h.serves(c)
	}
	if n := h.w.Fetches(); n != 3 {
		t.Errorf("%d packages were fetched, want 3", n)
	}
	at := containers[0].env.sb.(*fakeContainer).attached
	if filepath.Base(at.Task) != f.Package.SHA256 || len(at.Layers) != 2 || filepath.Base(at.Layers[1]) != pkg(901).SHA256 {
		t.Errorf("attached %+v", at)
	}
	// It stays as long as any of them does.
	for i, c := range containers {
		for _, dir := range append([]string{at.Task}, at.Layers...) {
			if _, err := os.Stat(dir); err != nil {
				t.Errorf("with %d of %d containers, their code has gone: %v", len(containers)-i, len(containers), err)
			}
		}
		if err := c.Destroy(); err != nil {
			t.Error(err)
		}
	}
	if used := h.w.code.Used(); used != 0 {
		t.Errorf("after the last container %d bytes are still held", used)
	}
}

// An account that is always busy keeps its instance: what that has run must not
// add up.
func TestAnInstanceThatLivesOnLetsGoOfTheCodeThatItHasRun(t *testing.T) {
	images := &fakeImages{dir: t.TempDir()}
	h := newHarness(t, func(c *Config) {
		c.CodeCacheBytes, c.Images = 1, images // nothing is kept that is not used
	})
	in := h.instance("")
	var last *container
	for n := range 20 { // versions, each made while the one before is still there
		s, err := in.NewSlot(context.Background(), "")
		if err != nil {
			t.Fatal(err)
		}
		c := s.(*container)
		f := h.function(echo, layered(900+n))
		if n%2 == 1 {
			f.Image, f.Layers = &hearth.Image{}, nil
		}
		if err := c.Load(context.Background(), f, &hearth.Timeline{}); err != nil {
			t.Fatal(err)
		}
		h.serves(c)
		if last != nil {
			if err := last.Destroy(); err != nil {
				t.Error(err)
			}
		}
		last = c
		if used, n := h.w.code.Used(), images.held.Load(); used > 2*pkg(0).Unpacked || n > 1 {
			t.Fatalf("%d bytes of packages and %d images are held by one container", used, n)
		}
	}
}

// fakeImages are all the same empty folder.
type fakeImages struct {
	dir  string
	held atomic.Int64
}

func (i *fakeImages) Acquire(context.Context, *hearth.Function) (Image, func(), error) {
	i.held.Add(1)
	return Image{Layers: []string{i.dir}, Run: runtimes.Image{EntryPoint: []string{"/main"}}}, func() { i.held.Add(-1) }, nil
}

func TestPrepareMakesCodeReadyAndHoldsNothing(t *testing.T) {
	h := newHarness(t)
	f := h.function(echo, layered(900))
	if err := h.w.Prepare(context.Background(), f); err != nil || h.w.Fetches() != 2 {
		t.Fatalf("%d fetches, %v", h.w.Fetches(), err)
	}
	c, _ := h.load(f)
	h.serves(c)
	if h.w.Fetches() != 2 {
		t.Errorf("%d fetches after a load, want 2", h.w.Fetches())
	}
	h.packages.fail.Store(true)
	if err := h.w.Prepare(context.Background(), h.function(echo)); err == nil {
		t.Error("a package that is not there could be prepared")
	}
}

func TestADestroyedInstanceGivesNoSlots(t *testing.T) {
	h := newHarness(t)
	in := h.instance("")
	if err := in.Destroy(); err != nil {
		t.Fatal(err)
	}
	if !isDone(in.FirstSlot()) {
		t.Error("its first slot lives on")
	}
	if c, err := in.NewSlot(context.Background(), ""); err == nil || c != nil {
		t.Errorf("got %v, %v", c, err)
	}
	if err := in.FirstSlot().Load(context.Background(), h.function(echo), &hearth.Timeline{}); hearth.KindOf(err) != hearth.ContainerGone {
		t.Errorf("got %v", err)
	}
}

// The driver may make a container before, and the instance end after.
func TestASlotMadeWhileItsInstanceEndsIsDestroyed(t *testing.T) {
	h := newHarness(t)
	in, err := h.w.NewInstance(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	h.d.hook("Usage", func(*fakeContainer) error { // when the slot is whole
		h.d.hook("Destroy", func(*fakeContainer) error { return errTest })
		if err := in.Destroy(); !errors.Is(err, errTest) {
			t.Errorf("got %v", err)
		}
		return nil
	})
	c, err := in.NewSlot(context.Background(), "")
	if c != nil || hearth.KindOf(err) != hearth.ContainerGone || !errors.Is(err, errTest) {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestALoadWhoseInstanceEndsHoldsNoCode(t *testing.T) {
	h := newHarness(t, func(c *Config) {
		c.CodeCacheBytes = 1
	})
	c, _ := h.slot("")
	unpack := h.w.code.unpack
	h.w.code.unpack = func(ctx context.Context, r io.ReaderAt, size int64, dir string) error {
		return errors.Join(c.in.Destroy(), unpack(ctx, r, size, dir))
	}
	if err := c.Load(context.Background(), h.function(echo), &hearth.Timeline{}); hearth.KindOf(err) != hearth.ContainerGone {
		t.Errorf("got %v", err)
	}
	if h.d.count("Attach") != 0 {
		t.Error("code that is not held was attached")
	}
	if used := h.w.code.Used(); used != 0 {
		t.Errorf("%d bytes are still held", used)
	}
}

func TestWhatCannotBeDestroyedIsSaidAndTheRestIs(t *testing.T) {
	h := newHarness(t)
	in, err := h.w.NewInstance(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := in.NewSlot(context.Background(), ""); err != nil {
			t.Fatal(err)
		}
	}
	h.d.fail("Destroy", errTest)
	if err := in.Destroy(); !errors.Is(err, errTest) {
		t.Errorf("got %v", err)
	}
	if n := h.d.live.Load(); n != 0 {
		t.Errorf("%d containers are left", n)
	}
}

// The moments at which a container may be destroyed. Each function brings one
// about, calls now, and returns when all of its own has come to an end.
var moments = map[string]func(h *harness, c *container, now func()){
	"slot": func(_ *harness, _ *container, now func()) { now() },
	"attaching": func(h *harness, c *container, now func()) {
		h.d.hook("Attach", func(*fakeContainer) error { now(); return nil })
		h.loses(c, echo)
	},
	"starting": func(h *harness, c *container, now func()) {
		h.d.hook("Start", func(*fakeContainer) error { now(); return nil })
		h.loses(c, echo)
	},
	"initialising": func(h *harness, c *container, now func()) {
		h.loses(c, func(p *process) { go now(); p.hang() })
	},
	"setting limits": func(h *harness, c *container, now func()) {
		h.d.hook("SetLimits", func(sb *fakeContainer) error {
			if sb.limits.MemoryBytes != 0 {
				now()
			}
			return nil
		})
		h.loses(c, echo)
	},
	"idle": func(h *harness, c *container, now func()) {
		h.loads(c, echo)
		h.serves(c)
		c.Idle()
		now()
	},
	"freezing": func(h *harness, c *container, now func()) {
		h.loads(c, echo)
		freezing := make(chan struct{})
		h.d.hook("Freeze", func(*fakeContainer) error {
			close(freezing)
			time.Sleep(time.Millisecond)
			return nil
		})
		var wg sync.WaitGroup
		wg.Go(c.freezeNow)
		<-freezing
		now()
		wg.Wait()
	},
	"frozen": func(h *harness, c *container, now func()) {
		h.loads(c, echo)
		c.freezeNow()
		if !c.Frozen() {
			h.Error("it is not frozen")
		}
		now()
	},
	"about to freeze": func(h *harness, c *container, now func()) {
		h.loads(c, echo)
		c.Idle()
		now()
		c.freezeNow() // a timer that could not be stopped any more
	},
	"thawing": func(h *harness, c *container, now func()) {
		h.loads(c, func(p *process) { p.next(); p.hang() })
		c.freezeNow()
		var wg sync.WaitGroup
		h.d.hook("Thaw", func(*fakeContainer) error { wg.Go(now); return nil })
		h.mayFail(c)
		wg.Wait()
	},
	"running": func(h *harness, c *container, now func()) {
		handed := make(chan struct{})
		h.loads(c, func(p *process) { p.next(); close(handed); p.hang() })
		var wg sync.WaitGroup
		wg.Go(func() { h.mayFail(c) })
		<-handed
		now()
		wg.Wait()
	},
	"streaming": func(h *harness, c *container, now func()) {
		h.loads(c, func(p *process) {
			r, w := io.Pipe()
			go func() {
				io.WriteString(w, "a beginning")
				<-p.dead.Done()
				w.CloseWithError(io.ErrUnexpectedEOF)
			}()
			p.stream(p.next(), r)
		})
		inv, to := h.invocation(c, `{}`), &receiver{takes: 100}
		inv.Stream = to
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, reusable, _ := c.Invoke(context.Background(), inv); reusable {
				h.Error("it is reusable")
			}
		})
		eventually(h, "the stream begins", func() bool {
			to.mu.Lock()
			defer to.mu.Unlock()
			return to.got.Len() > 0
		})
		now()
		wg.Wait()
	},
	"timing out": func(h *harness, c *container, now func()) {
		h.loads(c, func(p *process) { p.next(); p.hang() }, timeout(10*time.Millisecond))
		var wg sync.WaitGroup
		h.d.hook("Kill", func(*fakeContainer) error { wg.Go(now); return nil })
		h.mayFail(c)
		wg.Wait()
	},
	"making another environment": func(h *harness, c *container, now func()) {
		h.loads(c, badInits["exits"].run)
		h.d.hook("NewContainer", func(*fakeContainer) error { now(); return nil })
		h.mayFail(c)
	},
	"initialising again": func(h *harness, c *container, now func()) {
		var wg sync.WaitGroup
		h.loads(c, inTurn(badInits["exits"].run, func(p *process) { wg.Go(now); p.hang() }))
		h.mayFail(c)
		wg.Wait()
	},
	"dead": func(h *harness, c *container, now func()) {
		h.loads(c, echo)
		c.env.sb.(*fakeContainer).end(sandbox.Exit{Code: 1})
		<-c.Done()
		now()
	},
}

func TestDestroyAtAnyMomentLeavesNothing(t *testing.T) {
	for name, moment := range moments {
		for what, destroy := range map[string]func(c *container) error{
			"container": (*container).Destroy,
			"instance":  func(c *container) error { return c.in.Destroy() },
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				h := newHarness(t)
				c, _ := h.slot("")
				moment(h, c, func() {
					for range 2 { // two at once, and then again
						var wg sync.WaitGroup
						for range 2 {
							wg.Go(func() {
								if err := destroy(c); err != nil {
									t.Error(err)
								}
							})
						}
						wg.Wait()
					}
					if !isDone(c) || c.Usage() != (hearth.Usage{}) {
						t.Error("destroyed, and not over")
					}
				})
				if n := h.d.live.Load(); n != 0 {
					t.Errorf("%d containers are left", n)
				}
				if r, reusable, err := c.Invoke(context.Background(), h.invocation(c, `{}`)); hearth.KindOf(err) != hearth.ContainerGone || reusable {
					t.Errorf("a destroyed container answers %+v, reusable %v, %v", r, reusable, err)
				}
			})
		}
	}
}

func TestDestroyBesideEveryOtherCallLeavesNothing(t *testing.T) {
	h := newHarness(t, freezesSoon)
	f := h.function(echo)
	for range 40 {
		in := h.instance("")
		c := in.FirstSlot().(*container)
		var wg sync.WaitGroup
		wg.Go(func() {
			if c.Load(context.Background(), f, &hearth.Timeline{}) == nil {
				_, _, _ = c.Invoke(context.Background(), h.invocation(c, `{}`))
				c.Idle()
			}
		})
		wg.Go(func() {
			if s, err := in.NewSlot(context.Background(), ""); err == nil {
				_ = s.Load(context.Background(), f, &hearth.Timeline{})
			}
		})
		wg.Go(func() { c.Usage(); c.Frozen() })
		wg.Go(func() {
			if err := c.Destroy(); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := in.Destroy(); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if n := h.d.live.Load(); n != 0 {
			t.Fatalf("%d containers are left", n)
		}
	}
}

func (h *harness) loads(c *container, p program, change ...func(*hearth.Function)) {
	h.Helper()
	if err := c.Load(context.Background(), h.function(p, change...), &hearth.Timeline{}); err != nil {
		h.Fatal(err)
	}
}

// loses loads a container that is destroyed meanwhile.
func (h *harness) loses(c *container, p program) {
	h.Helper()
	if err := c.Load(context.Background(), h.function(p), &hearth.Timeline{}); hearth.KindOf(err) != hearth.ContainerGone {
		h.Errorf("Load: %v", err)
	}
}

// mayFail invokes a container that is destroyed meanwhile.
func (h *harness) mayFail(c *container) {
	h.Helper()
	if r, reusable, _ := c.Invoke(context.Background(), h.invocation(c, `{}`)); reusable || r != nil && r.FunctionError == "" {
		h.Errorf("%+v, reusable %v", r, reusable)
	}
}
