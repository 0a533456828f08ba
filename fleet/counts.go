package fleet

// Counts is what a Router has done.
type Counts struct {
	Low, High              uint64 // invocations, by their code's class
	Home, Spread, Fallback uint64 // and by how their node was chosen
	Waited, Refused        uint64
	Gone                   uint64 // attempts at nodes that were not there any more
	ToLow, ToHigh          uint64 // changes of class
	Waiting                [2]int // now, by class
	Functions              int    // of which something is known
}

// Counts tells what was done.
func (r *Router) Counts() Counts {
	c := &r.count
	n := Counts{
		Low: c.class[Low].Load(), High: c.class[High].Load(), Home: c.home.Load(), Spread: c.spread.Load(), Fallback: c.fallback.Load(),
		Waited: c.waits.Load(), Refused: c.refused.Load(), Gone: c.gone.Load(), ToLow: c.changes[Low].Load(), ToHigh: c.changes[High].Load(),
		Waiting: [2]int{int(r.queues[Low].n.Load()), int(r.queues[High].n.Load())},
	}
	r.History.Each(func(*Code) { n.Functions++ })
	return n
}
