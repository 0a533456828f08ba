package market

import (
	"cmp"
	"slices"
	"time"
)

// Prices remember what variable capacity cost lately, so that what is cheap can
// be told from what is dear. Its zero value remembers nothing. Not safe for
// concurrent use.
type Prices struct {
	kept []priced // in the order of time
	// sorted is kept ordered by price, as it was at a time; nil after a change.
	sorted []priced
	at     time.Time
	total  time.Duration
}

// priced is a price, and how long it held: the last one's is not known yet.
type priced struct {
	price float64
	from  time.Time
	held  time.Duration
}

// Prices are remembered for a day, and never more than maxPrices of them.
const (
	priceWindow = 24 * time.Hour
	maxPrices   = 1024
	sortEvery   = time.Second
)

// Note says what the price is from now on.
func (p *Prices) Note(now time.Time, price float64) {
	p.sorted = nil
	if n := len(p.kept); n > 0 {
		last := &p.kept[n-1]
		last.held = max(now.Sub(last.from), 0)
		if last.price == price {
			return
		}
	}
	p.kept = append(p.kept, priced{price: price, from: now})
	for len(p.kept) > maxPrices || len(p.kept) > 1 && now.Sub(p.kept[1].from) > priceWindow {
		p.kept = slices.Delete(p.kept, 0, 1)
	}
}

// Quantile is the price below which it was for a share q of the time that is
// remembered; false if nothing is.
func (p *Prices) Quantile(now time.Time, q float64) (float64, bool) {
	n := len(p.kept)
	if n == 0 {
		return 0, false
	}
	if p.sorted == nil || now.Sub(p.at) >= sortEvery {
		p.kept[n-1].held = max(now.Sub(p.kept[n-1].from), 0)
		p.sorted = slices.Clone(p.kept)
		p.total, p.at = 0, now
		for _, k := range p.sorted {
			p.total += k.held
		}
		slices.SortFunc(p.sorted, func(a, b priced) int { return cmp.Compare(a.price, b.price) })
	}
	want, sum := time.Duration(q*float64(p.total)), time.Duration(0)
	for _, k := range p.sorted {
		if sum += k.held; sum >= want {
			return k.price, true
		}
	}
	return p.sorted[n-1].price, true
}

// Known is how long prices have been seen for.
func (p *Prices) Known(now time.Time) time.Duration {
	if len(p.kept) == 0 {
		return 0
	}
	return now.Sub(p.kept[0].from)
}
