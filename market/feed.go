package market

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
)

// FeedConfig is what a Feed is made of. Source, Clock and Changed are needed.
type FeedConfig struct {
	// Source is the absolute path of a file, or an http or https URL.
	Source string
	// Every is how often it is read. 0 is 250 ms for a file, 5 s for a URL.
	Every time.Duration
	// Stale is how long what it said last is gone by while it says nothing that
	// can be read. 0 is a minute.
	Stale time.Duration
	Clock hearth.Clock
	// Changed is told of each change of what is known, by one goroutine at a
	// time.
	Changed func(State)
	Log     *slog.Logger // nil: nothing is logged
}

// Feed reads a source of quotes again and again.
//
// What can't be read, or is no quote, changes nothing until what was said last
// is stale; then no work is started by it any more. A source that names the
// time of its quotes is stale when that is too long ago, however often it says
// the same. Nothing that runs is ever ended because a feed is silent.
type Feed struct {
	cfg    FeedConfig
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu    sync.Mutex
	state State
	good  time.Time // when what is known was so
	timer hearth.Timer
}

// CheckSource tells whether a source can be one.
func CheckSource(source string) error {
	if strings.Contains(source, "://") {
		u, err := url.Parse(source)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("%q is neither http://HOST/PATH, https://HOST/PATH nor the path of a file", source)
		}
		return nil
	}
	if !filepath.IsAbs(source) {
		return fmt.Errorf("%q is no absolute path", source)
	}
	return nil
}

// NewFeed makes a Feed, which has read its source once.
func NewFeed(cfg FeedConfig) (*Feed, error) {
	if err := CheckSource(cfg.Source); err != nil {
		return nil, err
	}
	if cfg.Clock == nil || cfg.Changed == nil {
		return nil, errors.New("market: FeedConfig needs a Clock and Changed")
	}
	if cfg.Every == 0 {
		cfg.Every = 250 * time.Millisecond
		if isURL(cfg.Source) {
			cfg.Every = 5 * time.Second
		}
	}
	cfg.Stale = or(cfg.Stale, time.Minute)
	cfg.Log = or(cfg.Log, slog.New(slog.DiscardHandler))
	f := &Feed{cfg: cfg, state: State{Why: "it has not said anything yet"}}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.read()
	return f, nil
}

func isURL(source string) bool { return strings.Contains(source, "://") }

// State is what is known.
func (f *Feed) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// Source is what is read.
func (f *Feed) Source() string { return f.cfg.Source }

// Close ends the reading. Changed is not called after it.
func (f *Feed) Close() error {
	f.cancel()
	f.mu.Lock()
	if f.timer != nil {
		f.timer.Stop()
	}
	f.mu.Unlock()
	f.done.Wait()
	return nil
}

// read reads the source once, and arranges for the next time.
func (f *Feed) read() {
	q, err := f.fetch()
	if f.ctx.Err() != nil {
		return
	}
	f.take(q, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		return
	}
	f.timer = f.cfg.Clock.AfterFunc(f.cfg.Every, func() {
		f.mu.Lock()
		over := f.ctx.Err() != nil
		if !over {
			f.done.Add(1)
		}
		f.mu.Unlock()
		if !over {
			defer f.done.Done()
			f.read()
		}
	})
}

// take makes of one reading what is known, and tells of a change.
func (f *Feed) take(q Quote, err error) {
	now := f.cfg.Clock.Now()
	f.mu.Lock()
	was := f.state
	s := was
	if err == nil {
		if q.At.IsZero() || q.At.After(now) { // a clock that is ahead makes nothing fresher
			q.At = now
		}
		s.Quote, s.Known, s.Why, f.good = q, true, "", q.At
	} else {
		s.Why = err.Error()
	}
	s.Fresh = s.Known && now.Sub(f.good) <= f.cfg.Stale
	if s.Known && !s.Fresh && s.Why == "" {
		s.Why = fmt.Sprintf("what it says is of %v ago", now.Sub(f.good).Round(time.Second))
	}
	f.state = s
	f.mu.Unlock()
	if s.Why != "" && was.Why != s.Why || s.Fresh != was.Fresh {
		level := slog.LevelWarn
		if s.Why == "" {
			level = slog.LevelInfo
		}
		f.cfg.Log.Log(f.ctx, level, "the feed of variable capacity", "source", f.cfg.Source, "price", s.Price, "fresh", s.Fresh, "error", s.Why)
	}
	if !same(s, was) {
		f.cfg.Changed(s)
	}
}

// same tells whether nothing changed but the time.
func same(a, b State) bool {
	a.At, b.At = time.Time{}, time.Time{}
	return a == b
}

// fetchTimeout bounds one request of a URL.
const fetchTimeout = 5 * time.Second

// fetch reads the source once.
func (f *Feed) fetch() (Quote, error) {
	if !isURL(f.cfg.Source) {
		file, err := os.Open(f.cfg.Source)
		if err != nil {
			return Quote{}, err
		}
		defer file.Close()
		return parse(file)
	}
	ctx, cancel := context.WithTimeout(f.ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.cfg.Source, nil)
	if err != nil {
		return Quote{}, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return Quote{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Quote{}, fmt.Errorf("it answered %s", resp.Status)
	}
	return parse(resp.Body)
}

func parse(r io.Reader) (Quote, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxQuote+1))
	if err != nil {
		return Quote{}, err
	}
	return Parse(data)
}
