package market

import (
	"fmt"
	"time"
)

// Delay decides when work that is not time-sensitive is started: in a period
// in which capacity is cheap or idle, and never later than its limit (S07.8,
// S07.10).
//
// What counts as cheap is a quantile of the prices that were seen lately. It
// rises as the limit comes nearer: at first only the best tenth of the time is
// good enough, in the end any price is. So work waits for a trough if there are
// troughs, takes a fair price if there are none, and is not left for the last
// moment together with everything else.
type Delay struct {
	// Cheapest is the share of the time that is good enough at first. 0 is
	// 0.1.
	Cheapest float64
	// Idle is the share of fixed capacity that may be in use for it to count as
	// idle. 0 is 0.5.
	Idle float64
	// Learn is how long prices must have been seen for before what is cheap is
	// told from them. 0 is a minute.
	Learn time.Duration
}

// Waiting is what Delay sees of the work, and of what there is.
type Waiting struct {
	Accepted, Latest time.Time // when it was accepted, and is to be started at the latest
	// Variable says that it would run on variable capacity, at MaxPrice at most
	// (0 is any). Below is a price that is cheap in any case; 0 is none.
	Variable        bool
	MaxPrice, Below float64
	// Running of its function are at work now; Room are as many as its kind of
	// capacity can hold.
	Running, Room int
	// FixedUse is the share of fixed capacity that is in use.
	FixedUse float64
}

// Start is what Delay decided.
type Start struct {
	Now bool
	// Fixed has it run on fixed capacity, whatever its policy says: it must not
	// wait any longer.
	Fixed bool
	// Again is when it is looked at anew unless something changes before; only
	// if it is not to start now.
	Again time.Time
	Why   string
}

// again is how often what waits is looked at although no price has changed.
const again = time.Second

// Decide tells whether w is to start at now.
func (d Delay) Decide(w Waiting, s State, p *Prices, now time.Time) Start {
	whole := w.Latest.Sub(w.Accepted)
	// What is started must still find its container in time.
	margin := min(whole/10, 2*time.Second)
	suits, why := true, ""
	if w.Variable {
		suits, why = s.Suits(w.MaxPrice)
	}
	if last := w.Latest.Add(-margin); !now.Before(last) {
		st := Start{Now: true, Why: "it is not to start later"}
		if !suits || w.Variable && w.Running >= w.Room {
			st.Fixed = true
			st.Why += ", and takes fixed capacity: " + or(why, "variable capacity has no room for more of it")
		}
		return st
	}
	later := Start{Again: minTime(now.Add(again), w.Latest.Add(-margin))}
	switch {
	case !suits:
		later.Why = why
		return later
	case w.Running >= w.Room:
		later.Why = "as many of it run as its capacity holds"
		return later
	case !w.Variable:
		if w.FixedUse <= or(d.Idle, 0.5) {
			return Start{Now: true, Why: fmt.Sprintf("capacity is idle: %.0f %% of it is in use", w.FixedUse*100)}
		}
		later.Why = fmt.Sprintf("%.0f %% of the capacity is in use, which is more than %.0f", w.FixedUse*100, or(d.Idle, 0.5)*100)
		return later
	case w.Below > 0 && s.Price <= w.Below:
		return Start{Now: true, Why: fmt.Sprintf("the price %v is what its policy calls cheap", s.Price)}
	}
	if p.Known(now) < or(d.Learn, time.Minute) {
		later.Why = "it is not known yet what is cheap"
		return later
	}
	passed := float64(now.Sub(w.Accepted)) / float64(max(whole-margin, 1))
	cheapest := or(d.Cheapest, 0.1)
	passed = min(max(passed, 0), 1)
	// By the third power: it is patient for the better half of its time.
	share := cheapest + (1-cheapest)*passed*passed*passed
	limit, _ := p.Quantile(now, share)
	if s.Price <= limit {
		return Start{Now: true, Why: fmt.Sprintf("the price %v is among the lowest for %.0f %% of the time lately", s.Price, share*100)}
	}
	later.Why = fmt.Sprintf("the price %v is above %v, below which it was for %.0f %% of the time lately", s.Price, limit, share*100)
	return later
}

// Wait decides when an asynchronous invocation that waits for variable capacity
// takes the manager's time: when that suits and has room, and at the latest when
// the event is too old for it, whatever comes of it then.
func Wait(w Waiting, s State, now time.Time) Start {
	ok, why := s.Suits(w.MaxPrice)
	switch {
	case !now.Before(w.Latest):
		return Start{Now: true, Why: "it has waited for as long as an event is kept"}
	case !ok:
		return Start{Again: minTime(now.Add(again), w.Latest), Why: why}
	case w.Running >= w.Room:
		return Start{Again: minTime(now.Add(again), w.Latest), Why: "as many of it run as its capacity holds"}
	}
	return Start{Now: true, Why: fmt.Sprintf("the price %v suits its policy", s.Price)}
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// or returns v, or standard if v is the zero value.
func or[T comparable](v, standard T) T {
	var zero T
	if v == zero {
		return standard
	}
	return v
}
