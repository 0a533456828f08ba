package fleet

import (
	"fmt"
	"time"

	"github.com/hearth-faas/hearth"
)

// Class is how often code runs, and so which fleet runs it.
type Class uint8

// The classes. Code of which nothing is known is Low: one node that will have
// it warm costs less than many, and if it is called often that is known soon.
const (
	Low Class = iota
	High
)

// String returns "low" or "high".
func (c Class) String() string {
	if c == High {
		return "high"
	}
	return "low"
}

// Criteria decide a class. The zero value of a field leaves it out, but for
// Window and High, which are needed.
type Criteria struct {
	Window time.Duration
	// High is how many invocations in a window make code high-volume. It is
	// low-volume again below Low, and stays what it has become for at least a
	// window: both keep it from going to and fro.
	High, Low float64
	// Trend: code whose rate in the last quarter of the window is so many
	// times what High asks for is high-volume before the window is full.
	Trend float64
	// Idle: code that was not called for so long is low-volume, whatever its
	// count.
	Idle time.Duration
	// LargeMiB: code that needs as much memory is high-volume, however seldom
	// it is called: nowhere would there be room to keep much of it warm.
	LargeMiB int
	// Fixed is what somebody has said it is: "low", "high", or "" for nothing.
	Fixed string
}

// DefaultCriteria say what is high-volume code where nobody else did: what is
// called every other second.
var DefaultCriteria = Criteria{Window: 10 * time.Minute, High: 300, Low: 150, Trend: 2}

// With is c with what a policy says otherwise.
func (c Criteria) With(p *hearth.RoutingPolicy) Criteria {
	if p == nil {
		return c
	}
	if p.WindowSeconds > 0 {
		c.Window = time.Duration(p.WindowSeconds * float64(time.Second))
	}
	if p.HighCount > 0 {
		c.High, c.Low = p.HighCount, p.HighCount/2
	}
	if p.LowCount > 0 {
		c.Low = min(p.LowCount, c.High)
	}
	if p.Trend > 0 {
		c.Trend = p.Trend
	}
	if p.IdleSeconds > 0 {
		c.Idle = time.Duration(p.IdleSeconds * float64(time.Second))
	}
	if p.LargeMiB > 0 {
		c.LargeMiB = p.LargeMiB
	}
	if p.Mode == "low" || p.Mode == "high" {
		c.Fixed = p.Mode
	}
	return c
}

// Seen is what is known of code at a moment.
type Seen struct {
	Count, Quarter float64   // invocations in the last window, and in its last quarter
	Last           time.Time // the latest; zero is never
	MemoryMiB      int
}

// Verdict is a class and why it is that.
type Verdict struct {
	Class Class
	Since time.Time // when it became that; zero is from the beginning
	Why   string    // a sentence without the final period
}

// Decide tells the class of code at a moment, which was v before.
func (c Criteria) Decide(v Verdict, now time.Time, s Seen) Verdict {
	class, why := c.choose(v, now, s)
	if class != v.Class {
		return Verdict{Class: class, Since: now, Why: why}
	}
	v.Why = why
	return v
}

func (c Criteria) choose(v Verdict, now time.Time, s Seen) (Class, string) {
	switch {
	case c.Fixed == "low":
		return Low, "its execution policy says so"
	case c.Fixed == "high":
		return High, "its execution policy says so"
	case c.LargeMiB > 0 && s.MemoryMiB >= c.LargeMiB:
		return High, fmt.Sprintf("it has %d MiB, which is large", s.MemoryMiB)
	case !v.Since.IsZero() && now.Sub(v.Since) < c.Window:
		return v.Class, fmt.Sprintf("%s in %v, and it stays what it became %v ago for a window", invocations(s.Count), c.Window, now.Sub(v.Since).Round(time.Millisecond))
	}
	if v.Class == High {
		switch {
		case c.Idle > 0 && now.Sub(s.Last) >= c.Idle:
			return Low, fmt.Sprintf("it was not called for %v", now.Sub(s.Last).Round(time.Millisecond))
		case s.Count < c.Low:
			return Low, fmt.Sprintf("%s in %v, and below %.0f it is seldom called", invocations(s.Count), c.Window, c.Low)
		}
		return High, fmt.Sprintf("%s in %v", invocations(s.Count), c.Window)
	}
	switch {
	case s.Count >= c.High:
		return High, fmt.Sprintf("%s in %v, and from %.0f it is often called", invocations(s.Count), c.Window, c.High)
	case c.Trend > 0 && s.Quarter*4 >= c.Trend*c.High:
		return High, fmt.Sprintf("%s in the last quarter of %v alone: its rate rises", invocations(s.Quarter), c.Window)
	case s.Count == 0:
		return Low, "nothing is known of how often it is called"
	}
	return Low, fmt.Sprintf("%s in %v", invocations(s.Count), c.Window)
}

// invocations says how many there were; counts that fade have fractions.
func invocations(n float64) string {
	if text := fmt.Sprintf("%.0f", n); text != "1" {
		return text + " invocations"
	}
	return "1 invocation"
}
