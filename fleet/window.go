package fleet

import "time"

// slots is in how many parts a window is counted: what is counted slides by a
// sixteenth of it.
const slots = 16

// Window counts invocations over the last Width, sliding. Counts of the same
// Width that several routers made add up, since their parts begin at the same
// times of the wall clock. The zero value counts nothing; set Width before
// use. Not safe for concurrent use.
type Window struct {
	Width time.Duration `json:"width"`
	// Newest is the number of the part that was counted in last, since 1970.
	Newest int64 `json:"newest"`
	// Counts holds part n at n % len(Counts): the last sixteen, and the one
	// before, of which what has not slid out counts.
	Counts [slots + 1]uint32 `json:"counts"`
}

func (w *Window) part() int64 { return max(int64(w.Width)/slots, 1) }

// forward makes n the newest part. What is older than a window is forgotten.
func (w *Window) forward(n int64) {
	if n <= w.Newest {
		return // a wall clock that was set back counts in the newest part
	}
	for i := max(w.Newest+1, n-slots); i <= n; i++ {
		w.Counts[i%(slots+1)] = 0
	}
	w.Newest = n
}

// Add counts an invocation.
func (w *Window) Add(at time.Time) {
	w.forward(at.UnixNano() / w.part())
	if c := &w.Counts[w.Newest%(slots+1)]; *c < 1<<31 {
		*c++
	}
}

// Count is how many there were in the last share of the window, which is 1 for
// all of it. The part that is sliding out counts by what is left of it.
func (w *Window) Count(at time.Time, share float64) float64 {
	now, part := at.UnixNano(), w.part()
	n := now / part
	whole := max(int64(share*slots), 1)
	sum := 0.0
	for i := n; i >= n-whole; i-- {
		if i > w.Newest || i <= w.Newest-(slots+1) || i < 0 {
			continue
		}
		c := float64(w.Counts[i%(slots+1)])
		if i == n-whole {
			c *= 1 - float64(now%part)/float64(part)
		}
		sum += c
	}
	return sum
}

// Empty tells whether nothing of it is within a window of at any more.
func (w *Window) Empty(at time.Time) bool { return w.Count(at, 1) == 0 }
