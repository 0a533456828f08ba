package prediction

import (
	"cmp"
	"slices"
	"time"
)

// Profile is what is known of one function's runs: which other functions they
// are followed by, how likely, and how soon (S11.1, S11.8).
type Profile struct {
	// Runs is how many runs there were, the older the less.
	Runs  float64 `json:"runs"`
	Links []*Link `json:"links,omitempty"`
}

// Link is what follows the runs of a function, directly or through others.
type Link struct {
	Function  string `json:"function"`
	Qualifier string `json:"qualifier,omitempty"`
	// Runs and Called are how many runs there were, and how many of them were
	// followed by the call, the older the less.
	Runs   float64 `json:"runs"`
	Called float64 `json:"called"`
	// Delays are the last ones from a run's request to its call's, in no order.
	Delays []time.Duration `json:"delays,omitempty"`
	Next   int             `json:"next,omitempty"` // of Delays, the one to replace

	// What became of predictions: how many there were, how many of those were
	// followed by the call, and how many calls nobody had foretold.
	Predicted uint64 `json:"predicted,omitempty"`
	True      uint64 `json:"true,omitempty"`
	Missed    uint64 `json:"missed,omitempty"`
	Made      uint64 `json:"made,omitempty"` // containers, of which
	Hit       uint64 `json:"hit,omitempty"`  // were used
	// WastedMiBSeconds is the memory-time of those that were not.
	WastedMiBSeconds float64 `json:"wastedMiBSeconds,omitempty"`
	// Wasted is the share of containers that were not, of the last ones.
	Wasted float64 `json:"wasted,omitempty"`
}

const (
	// decay is what a run weighs less with each further one. After a change of
	// flow a sure call is below a threshold of 0.5 after 23 runs.
	decay = 0.97
	// doubt is how many runs without the call are added to those that were seen,
	// so that the first few prove nothing.
	doubt     = 2
	maxLinks  = 8
	maxDelays = 16
)

// link returns the link to a function, made if there is none; one that is hardly
// ever called gives way.
func (p *Profile) link(function, qualifier string) *Link {
	for _, l := range p.Links {
		if l.Function == function && l.Qualifier == qualifier {
			return l
		}
	}
	l := &Link{Function: function, Qualifier: qualifier, Runs: p.Runs}
	if len(p.Links) < maxLinks {
		p.Links = append(p.Links, l)
		return l
	}
	least := 0
	for i, o := range p.Links {
		if o.Likelihood() < p.Links[least].Likelihood() {
			least = i
		}
	}
	p.Links[least] = l
	return l
}

// Likelihood is how likely a run is followed by the call.
func (l *Link) Likelihood() float64 { return l.Called / (l.Runs + doubt) }

// Ran says that one more run is over, and whether it was followed by the call.
func (l *Link) Ran(called bool) {
	l.Runs, l.Called = decay*l.Runs+1, decay*l.Called
	if called {
		l.Called++
	}
}

// Late says that a run that counted as one without the call was followed by it
// after all.
func (l *Link) Late() { l.Called = min(l.Called+1, l.Runs) }

// Came notes the delay of a call.
func (l *Link) Came(after time.Duration) {
	if len(l.Delays) < maxDelays {
		l.Delays = append(l.Delays, after)
		return
	}
	l.Delays[l.Next%maxDelays] = after
	l.Next = (l.Next + 1) % maxDelays
}

// Delay is the quantile q of the last delays; 0 if there are none.
func (l *Link) Delay(q float64) time.Duration {
	if len(l.Delays) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(l.Delays))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// Horizon is how long after a run its call is waited for before the run counts
// as one without.
func (l *Link) Horizon() time.Duration {
	return min(max(2*l.Delay(1)+100*time.Millisecond, 200*time.Millisecond), maxHorizon)
}

// maxHorizon bounds how long what was foretold is kept ready.
const maxHorizon = 15 * time.Minute

// probe is how rarely it is tried again to make ready for a call for which it
// was in vain nearly each time.
const probe = 8

// fated notes what became of a container.
func (l *Link) fated(hit bool, wastedMiBSeconds float64) {
	l.Made++
	l.Wasted *= 0.9
	if hit {
		l.Hit++
		return
	}
	l.Wasted += 0.1
	l.WastedMiBSeconds += wastedMiBSeconds
}

// vain reports whether nearly all that was made for the link was in vain, as
// where there is an idle container anyway when the call comes.
func (l *Link) vain() bool { return l.Wasted > 0.8 && l.Predicted%probe != 0 }

// likely are the links in the order of their likelihood.
func (p *Profile) likely() []*Link {
	return slices.SortedStableFunc(slices.Values(p.Links), func(a, b *Link) int { return cmp.Compare(b.Likelihood(), a.Likelihood()) })
}
