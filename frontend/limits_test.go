package frontend_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/frontend"
)

// named resolves a function and version by the invocation's own words.
type named struct{}

func (named) Resolve(_ context.Context, a hearth.Account, name, version string) (*hearth.Function, error) {
	f := newFunction()
	f.Account, f.Name, f.Version = a, name, version
	return f, nil
}

// held is a manager in which invocations stay until they are let go.
type held struct {
	mu    sync.Mutex
	goOns []chan struct{}
}

func (h *held) invoke(context.Context, *hearth.Invocation) (*hearth.Result, error) {
	goOn := make(chan struct{})
	h.mu.Lock()
	h.goOns = append(h.goOns, goOn)
	h.mu.Unlock()
	<-goOn
	return &hearth.Result{}, nil
}

// release lets n of them go, oldest first, and says how many there are.
func (h *held) release(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n = min(n, len(h.goOns))
	for _, c := range h.goOns[:n] {
		close(c)
	}
	h.goOns = h.goOns[n:]
}

func reasonOf(err error) string {
	if e, ok := err.(*hearth.Error); ok && e.Kind == hearth.TooManyRequests {
		return e.Reason
	}
	return fmt.Sprint(err)
}

// try starts an invocation and reports "" if it was admitted, else the reason.
func try(f *frontend.Frontend, name, version string) string {
	inv := request()
	inv.Name, inv.Qualifier = name, version
	done := make(chan string, 1)
	go func() {
		_, err := f.Invoke(context.Background(), inv)
		if err != nil {
			done <- reasonOf(err)
		}
	}()
	synctest.Wait()
	select {
	case why := <-done:
		return why
	default:
		return ""
	}
}

// Whatever is reserved, provisioned and invoked: an account never has more at
// once than it may, a function with a reservation exactly what is reserved, and
// nobody is refused while a place that it may take is free.
func TestAdmissionIsTheCountsOfAModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) [4]int {
			return [4]int{rapid.IntRange(0, 5).Draw(t, "what"), rapid.IntRange(0, 2).Draw(t, "function"),
				rapid.IntRange(0, 3).Draw(t, "n"), rapid.IntRange(1, 2).Draw(t, "version")}
		}), 1, 40).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) {
			const limit = 8
			l, h := frontend.NewLimits(limit, -1), &held{}
			f := newFrontend(t, h.invoke, func(c *frontend.Config) { c.Limits, c.Functions = l, named{} })
			type own struct {
				reserved    int // -1: none
				provisioned [3]int
			}
			model := [3]own{{reserved: -1}, {reserved: -1}, {reserved: -1}}
			claimed := func() (n int) {
				for _, o := range model {
					if o.reserved >= 0 {
						n += o.reserved
					} else {
						n += o.provisioned[1] + o.provisioned[2]
					}
				}
				return n
			}
			set := func(i int) {
				c := &hearth.Concurrency{Account: hearth.DefaultAccount, Function: fmt.Sprint("f", i)}
				if model[i].reserved >= 0 {
					c.Reserved = new(model[i].reserved)
				}
				for v := 1; v <= 2; v++ {
					if n := model[i].provisioned[v]; n > 0 {
						c.Provisions = append(c.Provisions, hearth.Provision{Qualifier: "q", Version: fmt.Sprint(v), Count: n})
					}
				}
				l.Set(c)
			}
			shared, reserved, provisioned := 0, [3]int{}, [3][3]int{}
			drain := func() {
				h.release(1 << 20)
				synctest.Wait()
				shared, reserved, provisioned = 0, [3]int{}, [3][3]int{}
			}
			for _, s := range steps {
				what, i, n, v := s[0], s[1], s[2], s[3]
				switch what {
				case 0, 1, 2:
					for range n + 1 {
						got := try(f, fmt.Sprint("f", i), fmt.Sprint(v))
						o, want := &model[i], ""
						switch {
						case o.reserved >= 0 && reserved[i] < o.reserved:
							reserved[i]++
						case o.reserved >= 0:
							want = hearth.ReasonReservedConcurrency
						case provisioned[i][v] < o.provisioned[v]:
							provisioned[i][v]++
						case shared < limit-claimed():
							shared++
						default:
							want = hearth.ReasonConcurrency
						}
						if got != want {
							rt.Fatalf("f%d:%d was told %q, expected %q", i, v, got, want)
						}
					}
				case 3:
					drain()
				case 4: // a change finds nothing running, so that the model need not follow each place
					drain()
					if had := model[i].reserved; claimed()-max(had, 0)+n <= limit {
						model[i].reserved = n - 1
						if claimed() > limit {
							model[i].reserved = had
						}
						set(i)
					}
				case 5:
					drain()
					had := model[i].provisioned[v]
					model[i].provisioned[v] = n
					if claimed() > limit {
						model[i].provisioned[v] = had
					}
					set(i)
				}
			}
			drain()
			if n := f.InFlight(); n != 0 {
				rt.Fatalf("%d in flight at the end", n)
			}
		})
	})
}

func TestEachLimitHasItsReasonAndItsDecision(t *testing.T) {
	for _, c := range []struct {
		name                  string
		limits                *frontend.Limits
		reserved              *int
		atOnce, inTurn        int // invocations before the refused one
		reason, why, otherWay string
	}{
		{"account's concurrency", frontend.NewLimits(2, -1), nil, 2, 0, hearth.ReasonConcurrency, "the account had as many invocations at once", "g"},
		{"reserved concurrency", frontend.NewLimits(200, -1), new(2), 2, 0, hearth.ReasonReservedConcurrency, "reserved for it", ""},
		{"nothing reserved", frontend.NewLimits(200, -1), new(0), 0, 0, hearth.ReasonReservedConcurrency, "reserved for it", ""},
		{"account's rate", frontend.NewLimits(2, 10), nil, 0, 20, hearth.ReasonRate, "within a second", "g"},
		{"reserved rate", frontend.NewLimits(200, 10), new(1), 0, 10, hearth.ReasonReservedRate, "its reserved concurrency allows", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, rec := &held{}, &recorder{}
				f := newFrontend(t, h.invoke, func(cfg *frontend.Config) { cfg.Limits, cfg.Functions, cfg.Recorder = c.limits, named{}, rec })
				c.limits.Set(&hearth.Concurrency{Account: hearth.DefaultAccount, Function: "f", Reserved: c.reserved})
				for range c.atOnce + c.inTurn {
					if why := try(f, "f", "1"); why != "" {
						t.Fatalf("refused with %s", why)
					}
					if c.inTurn > 0 {
						h.release(1)
						synctest.Wait()
					}
				}
				inv := request()
				inv.Name = "f"
				_, err := f.Invoke(context.Background(), inv)
				f.Done(inv)
				if got := reasonOf(err); got != c.reason {
					t.Errorf("the reason was %q, want %q", got, c.reason)
				}
				if d := rec.all[len(rec.all)-1]; d.Kind != hearth.DecisionRefuse || !strings.Contains(d.Why, c.why) {
					t.Errorf("recorded as %+v", d)
				}
				// Another function is refused too where the limit is the account's.
				if got := try(f, "g", "1"); (got != "") != (c.otherWay == "g") {
					t.Errorf("another function was told %q", got)
				}
				h.release(1 << 20)
				time.Sleep(time.Second)
				if got := try(f, "f", "1"); (got != "") != (c.reserved != nil && *c.reserved == 0) {
					t.Errorf("a second later: %q", got)
				}
				h.release(1 << 20)
			})
		})
	}
}

func TestTenantIsNamedWhereItMustAndNowhereElse(t *testing.T) {
	fn := newFunction()
	f := newFrontend(t, echo, func(c *frontend.Config) { c.Functions = functions{fn} })
	for _, c := range []struct {
		isolation, tenant, words string
	}{
		{"", "", ""},
		{"PER_TENANT", "blue", ""},
		{"PER_TENANT", "", "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again."},
		{"", "blue", "The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and try again."},
	} {
		fn.TenantIsolation = c.isolation
		inv := request()
		inv.TenantID = c.tenant
		_, err := f.Invoke(context.Background(), inv)
		e, _ := err.(*hearth.Error)
		if (e == nil) != (c.words == "") || e != nil && (e.Kind != hearth.InvalidParameter || e.Message != c.words) {
			t.Errorf("isolation %q, tenant %q: %v", c.isolation, c.tenant, err)
		}
	}
}

// Reservations change while invocations come and go; in the end every place
// was given back.
func TestHammerOfLimits(t *testing.T) {
	l := frontend.NewLimits(50, -1)
	f := newFrontend(t, echo, func(c *frontend.Config) { c.Limits, c.Functions = l, named{} })
	stop := make(chan struct{})
	var callers, changer sync.WaitGroup
	changer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			c := &hearth.Concurrency{Account: hearth.DefaultAccount, Function: fmt.Sprint("f", i%3)}
			switch i % 4 {
			case 0, 1:
				c.Reserved = new(i % 5)
			case 2:
				c.Provisions = []hearth.Provision{{Qualifier: "1", Version: "1", Count: 3}}
			}
			l.Set(c)
		}
	})
	for g := range 16 {
		callers.Go(func() {
			for i := range 500 {
				inv := request()
				inv.Name, inv.Qualifier = fmt.Sprint("f", (g+i)%3), "1"
				if _, err := f.Invoke(context.Background(), inv); err != nil && hearth.KindOf(err) != hearth.TooManyRequests {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	close(stop)
	changer.Wait()
	for i := range 3 {
		l.Set(&hearth.Concurrency{Account: hearth.DefaultAccount, Function: fmt.Sprint("f", i)})
	}
	// All fifty places are there.
	h := &held{}
	f2 := newFrontend(t, h.invoke, func(c *frontend.Config) { c.Limits, c.Functions = l, named{} })
	results := make(chan string, 51)
	for range 51 {
		go func() {
			inv := request()
			_, err := f2.Invoke(context.Background(), inv)
			results <- reasonOf(err)
		}()
	}
	if got := <-results; got != hearth.ReasonConcurrency { // the only one that ends
		t.Errorf("the first to end was told %q", got)
	}
	for done := 0; done < 50; {
		h.release(50)
		select {
		case got := <-results:
			if got != "<nil>" {
				t.Errorf("told %q", got)
			}
			done++
		case <-time.After(time.Millisecond):
		}
	}
}

// An account may have another bound than all: what runs already stays, and what
// functions have for themselves is taken from its own.
func TestAnAccountMayHaveABoundOfItsOwn(t *testing.T) {
	l := NewLimits(10, -1)
	now := time.Unix(1, 0)
	f, g := &hearth.Function{Account: "111122223333", Name: "f"}, &hearth.Function{Account: "444455556666", Name: "f"}
	fill := func(f *hearth.Function) (n int) {
		for {
			if _, refused := l.enter(f, now); refused != nil {
				return n
			}
			n++
		}
	}
	l.SetAccount(f.Account, 3)
	if a, b := fill(f), fill(g); a != 3 || b != 10 {
		t.Errorf("%d and %d run at once, want 3 and 10", a, b)
	}
	l.SetAccount(f.Account, 5)
	if n := fill(f); n != 2 {
		t.Errorf("%d more, want 2", n)
	}
	l.SetAccount(f.Account, 0)
	if n := fill(f); n != 5 {
		t.Errorf("%d more, want 5", n)
	}
	two := 2
	l.Set(&hearth.Concurrency{Account: "777788889999", Function: "own", Reserved: &two})
	l.SetAccount("777788889999", 6)
	if n := fill(&hearth.Function{Account: "777788889999", Name: "other"}); n != 4 {
		t.Errorf("%d, want 4 beside the 2 that are reserved", n)
	}
}
