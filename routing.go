package hearth

import (
	"errors"
	"fmt"
)

// RoutingPolicy is how nodes are chosen for a function (S02), where there are
// several.
type RoutingPolicy struct {
	// Mode is "auto", the default: the fleet goes by how often the function is
	// called; "low" or "high": it is that fleet; "local": the server's own node;
	// or "random": any node, which is there to compare the fleets with.
	Mode string `json:"mode,omitempty"`
	// WindowSeconds is over which time invocations are counted; 0 is as the
	// server has it, and so with HighCount.
	WindowSeconds float64 `json:"windowSeconds,omitempty"`
	// HighCount is how many invocations in a window make it one that is often
	// called, LowCount below how many it is seldom called again; 0 is half of
	// HighCount.
	HighCount float64 `json:"highCount,omitempty"`
	LowCount  float64 `json:"lowCount,omitempty"`
	// Trend is by how many times a quarter of the window must exceed what
	// HighCount asks for, for it to be often called before the window is full;
	// 0 is 2.
	Trend float64 `json:"trend,omitempty"`
	// IdleSeconds is without a call for how long it is seldom called, whatever
	// was counted; 0 is that only the count decides.
	IdleSeconds float64 `json:"idleSeconds,omitempty"`
	// LargeMiB is from how much memory on it is treated as often called; 0 is
	// never.
	LargeMiB int `json:"largeMiB,omitempty"`
}

// Local reports whether it stays on the server's own node.
func (p *RoutingPolicy) Local() bool { return p != nil && p.Mode == "local" }

// Random reports whether it runs on any node.
func (p *RoutingPolicy) Random() bool { return p != nil && p.Mode == "random" }

// Check tells what is wrong.
func (p *RoutingPolicy) Check() error {
	var order error
	if p.HighCount > 0 && p.LowCount > p.HighCount {
		order = fmt.Errorf("lowCount %v is more than highCount %v", p.LowCount, p.HighCount)
	}
	return errors.Join(oneOf("mode", p.Mode, "auto", "low", "high", "local", "random"), between("windowSeconds", p.WindowSeconds, 0, 86400),
		between("highCount", p.HighCount, 0, 1e9), between("lowCount", p.LowCount, 0, 1e9), between("trend", p.Trend, 0, 1e6),
		between("idleSeconds", p.IdleSeconds, 0, 86400), between("largeMiB", p.LargeMiB, 0, MaxMemoryMiB), order)
}
