package fleet

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// bucket holds what each router has counted, by its name, the account and the
// function: a router writes its own records only, and adds up everybody's.
const bucket = "routing-history"

// HistoryConfig is what a History is made of. Router, Clock and Criteria are
// needed.
type HistoryConfig struct {
	Store store.Store // nil: nothing is kept, nor shared
	// Router is this router's name, which no other has that uses the Store.
	Router string
	Clock  hearth.Clock
	Log    *slog.Logger
	// Criteria tells by what a function is judged, now.
	Criteria func(account hearth.Account, function string) Criteria
	// Changed hears of each change of a class, with no lock held. Nil is nobody.
	Changed func(account hearth.Account, function string, v Verdict)
	// Every is how often counts go to the store and are read from it, and
	// classes are looked at; 0 is 5 s.
	Every time.Duration
	// Limit bounds the functions that are known; beyond it those called
	// longest ago are forgotten. 0 is 10,000.
	Limit int
}

// History knows how often each function was called lately, of all routers that
// share a store, and so its class. Safe for concurrent use.
type History struct {
	cfg   HistoryConfig
	known [64]shard
	timer hearth.Timer
	sync  sync.Mutex // of Sync

	mu     sync.Mutex
	closed bool
}

type shard struct {
	mu sync.RWMutex
	of map[owner]*Code
}

type owner struct {
	account  hearth.Account
	function string
}

// Code is what is known of one function. Safe for concurrent use.
type Code struct {
	owner
	h *History

	mu      sync.Mutex
	record  record
	others  []record // of the other routers, as last read
	memory  int
	looked  time.Time
	dirty   bool
	verdict Verdict
	home    *home // where it is kept warm while it is low-volume
}

// record is what one router has counted of a function, in JSON.
type record struct {
	Window Window    `json:"window"`
	Last   time.Time `json:"last"`
	High   bool      `json:"high,omitempty"`
	Since  time.Time `json:"since,omitzero"`
}

// OpenHistory reads what the store has.
func OpenHistory(ctx context.Context, cfg HistoryConfig) (*History, error) {
	if cfg.Router == "" || cfg.Clock == nil || cfg.Criteria == nil || strings.Contains(cfg.Router, "/") {
		return nil, errors.New("fleet: HistoryConfig needs a Router without a slash, a Clock and Criteria")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Every = cmp.Or(cfg.Every, 5*time.Second)
	cfg.Limit = cmp.Or(cfg.Limit, 10_000)
	h := &History{cfg: cfg}
	for i := range h.known {
		h.known[i].of = map[owner]*Code{}
	}
	if cfg.Store != nil {
		if err := h.read(ctx, true); err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	h.timer = cfg.Clock.AfterFunc(cfg.Every, h.tick)
	h.mu.Unlock()
	return h, nil
}

func (o owner) hash() uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for _, s := range [...]string{string(o.account), "/", o.function} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
	}
	return h
}

// Of is what is known of the function, begun if there is nothing.
func (h *History) Of(account hearth.Account, function string) *Code {
	o := owner{account, function}
	s := &h.known[o.hash()%uint64(len(h.known))]
	s.mu.RLock()
	c := s.of[o]
	s.mu.RUnlock()
	if c != nil {
		return c
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c = s.of[o]; c == nil {
		if len(s.of) >= max(h.cfg.Limit/len(h.known), 1) {
			s.forgetSome()
		}
		c = &Code{owner: o, h: h}
		s.of[o] = c
	}
	return c
}

// Find is what is known of the function, or nil.
func (h *History) Find(account hearth.Account, function string) *Code {
	o := owner{account, function}
	s := &h.known[o.hash()%uint64(len(h.known))]
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.of[o]
}

// forgetSome makes room: the eighth that was called longest ago goes. mu is
// held.
func (s *shard) forgetSome() {
	all := make([]*Code, 0, len(s.of))
	for _, c := range s.of {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *Code) int { return a.last().Compare(b.last()) })
	for _, c := range all[:max(len(all)/8, 1)] {
		c.leaveHome()
		delete(s.of, c.owner)
	}
}

// Each calls look with all that is known, in no order.
func (h *History) Each(look func(*Code)) {
	for i := range h.known {
		s := &h.known[i]
		s.mu.RLock()
		all := make([]*Code, 0, len(s.of))
		for _, c := range s.of {
			all = append(all, c)
		}
		s.mu.RUnlock()
		for _, c := range all {
			look(c)
		}
	}
}

func (c *Code) last() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.latest()
}

// latest is when it was last called, of all routers. mu is held.
func (c *Code) latest() time.Time {
	at := c.record.Last
	for i := range c.others {
		if o := c.others[i].Last; o.After(at) {
			at = o
		}
	}
	return at
}

// Note counts an invocation of f and tells the class of its code.
func (c *Code) Note(f *hearth.Function, now time.Time) Verdict {
	crit := c.h.cfg.Criteria(c.account, c.function)
	c.mu.Lock()
	if c.record.Window.Width != crit.Window {
		c.record.Window = Window{Width: crit.Window} // of another width they do not add up
	}
	c.record.Window.Add(now)
	c.record.Last, c.memory, c.dirty = now, f.MemoryMiB, true
	return c.decide(crit, now)
}

// Class tells the class now.
func (c *Code) Class(now time.Time) Verdict {
	crit := c.h.cfg.Criteria(c.account, c.function)
	c.mu.Lock()
	return c.decide(crit, now)
}

// decide is called with mu held, and lets go of it.
func (c *Code) decide(crit Criteria, now time.Time) Verdict {
	was := c.verdict
	// A count moves little in a quarter of a part.
	if ago := now.Sub(c.looked); was.Why != "" && ago >= 0 && ago < crit.Window/(4*slots) && crit.Fixed == "" {
		c.mu.Unlock()
		return was
	}
	c.looked = now
	v := crit.Decide(was, now, c.seen(crit, now))
	changed := v.Class != was.Class
	if changed {
		c.dirty = true
		c.record.High, c.record.Since = v.Class == High, v.Since
	}
	c.verdict = v
	c.mu.Unlock()
	if changed && c.h.cfg.Changed != nil {
		c.h.cfg.Changed(c.account, c.function, v)
	}
	return v
}

// seen adds up what all routers counted. mu is held.
func (c *Code) seen(crit Criteria, now time.Time) Seen {
	s := Seen{Last: c.latest(), MemoryMiB: c.memory}
	add := func(w *Window) {
		if w.Width == crit.Window {
			s.Count += w.Count(now, 1)
			s.Quarter += w.Count(now, 0.25)
		}
	}
	add(&c.record.Window)
	for i := range c.others {
		add(&c.others[i].Window)
	}
	return s
}

// Seen is what was counted of it, by all routers.
func (c *Code) Seen(now time.Time) Seen {
	crit := c.h.cfg.Criteria(c.account, c.function)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen(crit, now)
}

// tick looks at the classes, also of what is not called any more, and has the
// routers know of each other.
func (h *History) tick() {
	if err := h.Sync(context.Background()); err != nil && !errors.Is(err, store.ErrClosed) {
		h.cfg.Log.Warn("what was counted of functions can't be kept or shared", "error", err)
	}
	now := h.cfg.Clock.Now()
	h.Each(func(c *Code) {
		if v := c.Class(now); v.Class == Low {
			c.mu.Lock()
			quiet := c.record.Window.Empty(now)
			c.mu.Unlock()
			if quiet {
				c.leaveHome() // its place is another's
			}
		}
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.timer.Reset(h.cfg.Every)
	}
}

// Close keeps what was counted and ends the counting.
func (h *History) Close() error {
	h.mu.Lock()
	h.closed = true
	h.timer.Stop()
	h.mu.Unlock()
	return h.Sync(context.Background())
}
