package meter

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// Prices are what use costs. The zero Prices are that it costs nothing, which is
// what there is until an operator sets some.
type Prices struct {
	// From is the hour from which on they hold.
	From Hour `json:"from,omitempty"`
	// Currency is printed beside amounts, such as EUR.
	Currency string `json:"currency,omitempty"`
	// CPUSecond is for a second of a processor, GiBSecond for a GiB of allotted
	// memory for a second of run time, NetworkGB for 10^9 bytes in or out, and
	// Call for an invocation.
	CPUSecond float64 `json:"cpuSecond,omitempty"`
	GiBSecond float64 `json:"gibSecond,omitempty"`
	NetworkGB float64 `json:"networkGB,omitempty"`
	Call      float64 `json:"call,omitempty"`
}

// Of is what use costs.
func (p Prices) Of(u *hearth.Metered) float64 {
	return p.CPUSecond*u.CPU.Seconds() + p.GiBSecond*u.Allotted/1024 + p.NetworkGB*float64(u.NetworkIn+u.NetworkOut)/1e9 + p.Call*float64(u.Calls)
}

// any reports whether anything costs anything.
func (p Prices) any() bool {
	p.From, p.Currency = "", ""
	return p != Prices{}
}

// check tells what is wrong with prices.
func (p Prices) check() error {
	for _, f := range []struct {
		name  string
		value float64
	}{{"cpuSecond", p.CPUSecond}, {"gibSecond", p.GiBSecond}, {"networkGB", p.NetworkGB}, {"call", p.Call}} {
		if !(f.value >= 0) || math.IsInf(f.value, 0) || f.value > 1e9 {
			return hearth.Errorf(hearth.InvalidParameter, "%s: %v is no price: it takes a number from 0 to 10^9.", f.name, f.value)
		}
	}
	if len(p.Currency) > 8 {
		return hearth.Errorf(hearth.InvalidParameter, "currency: %q is longer than 8 letters.", p.Currency)
	}
	return nil
}

const (
	pricesBucket = "meter.prices"
	pricesKey    = "lists"
)

// storedPrices is the record of all price lists, the oldest first.
type storedPrices struct {
	Version int      `json:"v"`
	Lists   []Prices `json:"lists"`
}

// priceLists are the prices of all times.
type priceLists struct {
	store store.Store

	changing sync.Mutex // one change at a time
	mu       sync.Mutex
	lists    []Prices // by From, which differ
}

func openPrices(ctx context.Context, s store.Store) (*priceLists, error) {
	p := &priceLists{store: s}
	return p, s.View(ctx, func(r store.Reader) error {
		value, ok, err := r.Get(pricesBucket, pricesKey)
		if err != nil || !ok {
			return err
		}
		var v storedPrices
		if err := json.Unmarshal(value, &v); err != nil {
			return fmt.Errorf("meter: the record of the prices is damaged: %w", err)
		}
		if v.Version != rowVersion {
			return fmt.Errorf("meter: the record of the prices is of version %d, and this Hearth knows %d: it was written by a newer one", v.Version, rowVersion)
		}
		p.lists = v.Lists
		return nil
	})
}

// at are the prices of an hour.
func (p *priceLists) at(h Hour) Prices {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range slices.Backward(p.lists) {
		if l.From <= h {
			return l
		}
	}
	return Prices{}
}

// currency is what an hour's amounts are in: prices that name none are in that of
// those before.
func (p *priceLists) currency(h Hour) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range slices.Backward(p.lists) {
		if l.From <= h && l.Currency != "" {
			return l.Currency
		}
	}
	return ""
}

func (p *priceLists) all() []Prices {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lists)
}

// set has prices hold from their hour on. What was said from that hour on, or
// later, is replaced.
func (p *priceLists) set(ctx context.Context, n Prices) error {
	p.changing.Lock()
	defer p.changing.Unlock()
	lists := slices.DeleteFunc(p.all(), func(l Prices) bool { return l.From >= n.From })
	lists = append(lists, n)
	value, err := json.Marshal(storedPrices{rowVersion, lists})
	if err != nil {
		return err
	}
	if err := p.store.Update(ctx, func(tx store.Tx) error { return tx.Put(pricesBucket, pricesKey, value) }); err != nil {
		return err
	}
	p.mu.Lock()
	p.lists = lists
	p.mu.Unlock()
	return nil
}

// Prices are all price lists, the oldest first; each holds until the next.
func (m *Meter) Prices() []Prices { return m.prices.all() }

// SetPrices has prices hold from the hour on that runs now: what was used
// before keeps its price. Errors: InvalidParameterValue.
func (m *Meter) SetPrices(ctx context.Context, p Prices) error {
	if err := p.check(); err != nil {
		return err
	}
	p.From = hourOf(m.cfg.Clock.Now())
	return m.prices.set(ctx, p)
}
