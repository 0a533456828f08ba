package manager

import "time"

// Prior is what is expected of a function that has shown little: how the idle
// times of all functions are distributed. Each function counts once, however
// often it is called. Nil is no expectation. It does not change; safe for
// concurrent use.
type Prior struct {
	// beyond is the share of idle times that reach a bin: of the first level,
	// and of all others.
	beyond [2][gapBins + 1]float64
	weight [2]float64
}

// priorWeight is for how many idle times of a function's own those of all
// others count.
const priorWeight = 2

// PriorPeriod is how often it is worth to gather a Prior.
const PriorPeriod = 10 * time.Minute

// Pool gathers a Prior. The zero value is empty.
type Pool struct {
	counts    [2][gapBins]float64
	functions [2]float64
}

// Add takes in what one function has shown.
func (p *Pool) Add(h *IdleHistory) {
	for c, g := range h.classes {
		if g == nil || g.n == 0 {
			continue
		}
		// Of many, each tells little more than the last.
		w := 1 / float64(g.n+4)
		c = min(c, 1)
		p.functions[c] += w * float64(g.n)
		for b := range g.ended {
			p.counts[c][b] += w * float64(g.ended[b]+g.cut[b])
		}
	}
}

// Prior is what was gathered.
func (p *Pool) Prior() *Prior {
	q := &Prior{}
	for c, n := range p.functions {
		if n == 0 {
			continue
		}
		q.weight[c] = priorWeight * n / (n + 3)
		for b := gapBins - 1; b >= 0; b-- {
			q.beyond[c][b] = q.beyond[c][b+1] + p.counts[c][b]/n
		}
	}
	return q
}

// of is the distribution for a class of levels.
func (p *Prior) of(class int) (*[gapBins + 1]float64, float64) {
	if p == nil {
		return &noPrior, 0
	}
	class = min(class, 1)
	return &p.beyond[class], p.weight[class]
}

var noPrior [gapBins + 1]float64
