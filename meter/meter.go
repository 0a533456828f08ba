// Package meter keeps what each account has used, hour by hour, and makes bills
// of it.
//
// What is used is told as differences (hearth.Metered) by those who look at the
// kernel's counters; it is kept in memory until the next write, seconds later,
// and added to the records in one transaction. A process that is killed loses
// what it had not written, at most Config.Every and the time of a write, and
// nothing is ever counted twice.
//
// The account that pays is the function's, which for a shared run is the
// caller's: the owner of the code finds such runs as revenue, and not among its
// own use.
package meter

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// Config is what a Meter is made of. Store and Clock are needed.
type Config struct {
	Store store.Store
	Clock hearth.Clock
	Log   *slog.Logger // nil is slog.Default
	// Settle has those who count tell what they have not told; nil is nobody.
	Settle func(ctx context.Context)
	// Every is how long what was told waits to be written; zero is
	// DefaultEvery.
	Every time.Duration
	// Keep is how long the records of an hour are kept; zero is DefaultKeep.
	Keep time.Duration
}

// Defaults of Config.
const (
	DefaultEvery = 5 * time.Second
	DefaultKeep  = 400 * 24 * time.Hour // more than a year of bills
)

// Key is what is counted apart from other things.
type Key struct {
	Hour     Hour           `json:"hour"`
	Account  hearth.Account `json:"account"` // that pays; Nobody is the machine's own
	Function string         `json:"function,omitempty"`
	// Owner is whose code ran, if it is another account's; then Markup is what
	// that account asks for each run on top, as a share of its price.
	Owner  hearth.Account `json:"owner,omitempty"`
	Markup float64        `json:"markup,omitempty"`
	// OwnerFunction is what the owner calls it: Function is the caller's own name,
	// which is none of the owner's business.
	OwnerFunction string `json:"ownerFunction,omitempty"`
	// API and Stage are those of the task API that it was called through, "" if
	// through none.
	API   string `json:"api,omitempty"`
	Stage string `json:"stage,omitempty"`
}

// Nobody pays for what belongs to no account: what the warming pool boots.
const Nobody hearth.Account = "nobody"

// Meter is the hearth.Meter of a server. Safe for concurrent use.
type Meter struct {
	cfg     Config
	log     *slog.Logger
	prices  *priceLists
	metrics *metrics

	mu      sync.Mutex
	pending map[Key]*hearth.Metered // told, and not written
	timer   hearth.Timer
	closed  bool

	writing sync.Mutex // one write at a time; before mu
	pruned  Hour       // when records were last thrown away
}

var _ hearth.Meter = (*Meter)(nil)

// Open makes a Meter over the records that there are.
func Open(ctx context.Context, cfg Config) (*Meter, error) {
	if cfg.Every == 0 {
		cfg.Every = DefaultEvery
	}
	if cfg.Keep == 0 {
		cfg.Keep = DefaultKeep
	}
	m := &Meter{cfg: cfg, log: cmp.Or(cfg.Log, slog.Default()), pending: map[Key]*hearth.Metered{}, metrics: newMetrics()}
	var err error
	if m.prices, err = openPrices(ctx, cfg.Store); err != nil {
		return nil, err
	}
	return m, nil
}

// Start begins to write every few seconds.
func (m *Meter) Start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed && m.timer == nil {
		m.timer = m.cfg.Clock.AfterFunc(m.cfg.Every, m.tick)
	}
}

func (m *Meter) tick() {
	if err := m.Flush(context.Background()); err != nil {
		m.log.Error("what was used can't be written, and is kept until it can", "error", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.timer.Reset(m.cfg.Every)
	}
}

// Used implements hearth.Meter.
func (m *Meter) Used(f *hearth.Function, u *hearth.Metered) {
	k := keyOf(f)
	k.Hour = hourOf(m.cfg.Clock.Now())
	m.metrics.add(k.Account, u)
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pending[k]
	if p == nil {
		p = &hearth.Metered{}
		m.pending[k] = p
	}
	p.Add(u)
}

func keyOf(f *hearth.Function) Key {
	if f == nil {
		return Key{Account: Nobody}
	}
	k := Key{Account: f.Account, Function: f.Name}
	if s := f.Shared; s != nil {
		k.Owner, k.OwnerFunction, k.Markup, k.API, k.Stage = s.Owner, s.OwnerFunction, s.Markup, s.API, s.Stage
	}
	return k
}

// Flush has everything told, and writes it. What can't be written stays to be
// written by the next.
func (m *Meter) Flush(ctx context.Context) error {
	if m.cfg.Settle != nil {
		m.cfg.Settle(ctx)
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	m.mu.Lock()
	batch := m.pending
	m.pending = map[Key]*hearth.Metered{}
	m.mu.Unlock()
	if len(batch) > 0 {
		if err := m.write(ctx, batch); err != nil {
			m.mu.Lock()
			for k, u := range batch {
				if p := m.pending[k]; p != nil {
					u.Add(p)
				}
				m.pending[k] = u
			}
			m.mu.Unlock()
			return fmt.Errorf("meter: %w", err)
		}
	}
	return m.prune(ctx)
}

// write adds a batch to the records, all or nothing.
func (m *Meter) write(ctx context.Context, batch map[Key]*hearth.Metered) error {
	keys := make([]Key, 0, len(batch))
	for k := range batch {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b Key) int { return cmp.Compare(a.record(), b.record()) })
	return m.cfg.Store.Update(ctx, func(tx store.Tx) error {
		for _, k := range keys {
			name := k.record()
			sum := *batch[k]
			was, ok, err := tx.Get(bucket, name)
			if err != nil {
				return err
			}
			if ok {
				r, err := decodeRow(name, was)
				if err != nil {
					return err
				}
				sum.Add(&r.Used)
			}
			value := encodeRow(&Row{Key: k, Used: sum})
			if err := tx.Put(bucket, name, value); err != nil {
				return err
			}
			if k.Owner == "" {
				continue
			}
			if err := tx.Put(revenueBucket, k.revenueRecord(), value); err != nil {
				return err
			}
		}
		return nil
	})
}

// pruneBatch bounds how many records are thrown away in one transaction.
const pruneBatch = 2000

// prune throws away what is older than it is kept, once a day.
func (m *Meter) prune(ctx context.Context) error {
	now := m.cfg.Clock.Now()
	if hour := hourOf(now); m.pruned != "" && hour.day() == m.pruned.day() {
		return nil
	}
	oldest := hourOf(now.Add(-m.cfg.Keep))
	for _, b := range []string{bucket, revenueBucket} {
		var old []string
		err := m.cfg.Store.View(ctx, func(r store.Reader) error {
			old = old[:0]
			for rec, err := range r.Scan(b, "", "") {
				if err != nil {
					return err
				}
				if hourIn(rec.Key) < oldest {
					old = append(old, rec.Key)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for some := range slices.Chunk(old, pruneBatch) {
			err := m.cfg.Store.Update(ctx, func(tx store.Tx) error {
				for _, name := range some {
					if err := tx.Delete(b, name); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	m.pruned = hourOf(now)
	return nil
}

// Close writes what was told. Nothing may be told after it.
func (m *Meter) Close() error {
	m.mu.Lock()
	m.closed = true
	if m.timer != nil {
		m.timer.Stop()
	}
	m.mu.Unlock()
	return m.Flush(context.Background())
}
