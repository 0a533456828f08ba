// Package guard bounds two things that strangers do at the door: trying
// signatures and tokens (Guard), and sending a signed call once more (Seen).
// Both keep a bounded amount in memory, and nothing on disk: a restart
// forgets, which costs an attacker more than it gives.
package guard

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// What a Guard allows.
const (
	// free is how many wrong tries nothing follows.
	free = 10
	// hold is how long is waited after the next; it doubles with each, up to
	// most.
	hold = time.Second
	most = 5 * time.Minute
	// forget is after how long without a wrong try all is forgotten.
	forget = 15 * time.Minute
	// perSource times as many wrong tries may come from one address in all,
	// whatever keys they are with.
	perSource = 10
	// maxEntries bounds what is kept, about 200 bytes each.
	maxEntries = 16384
)

// Guard holds off who gives wrong signatures or keys again and again. What is
// counted is the pair of address and access key, and the address alone with a
// greater allowance: a key is never held off from an address that did nothing
// wrong, so that nobody can lock others out by guessing at their key. An IPv6
// address counts by its /64. The zero Guard is ready. Safe for concurrent use:
// while nobody is counted, it costs one load.
type Guard struct {
	// Recorder is told when somebody begins to be held off; nil is nobody.
	Recorder hearth.Recorder
	// Account is whom those decisions are shown to.
	Account hearth.Account

	counted atomic.Int64 // entries
	wrong   atomic.Uint64
	heldOff atomic.Uint64

	mu      sync.Mutex
	entries map[pair]*entry
}

// pair is an address and a key; of the address alone the key is "".
type pair struct{ source, key string }

type entry struct {
	wrong int
	last  time.Time // the last wrong try
	until time.Time // nothing is tried before
}

// Source is what an address counts as.
func Source(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host // a function's container
	}
	if ip = ip.Unmap().WithZone(""); ip.Is6() {
		p, err := ip.Prefix(64)
		if err == nil {
			return p.String()
		}
	}
	return ip.String()
}

// Allow is an error of kind TooManyRequests if nothing more is tried for now
// from the remote address with the access key.
func (g *Guard) Allow(remote, key string, now time.Time) error {
	if g.counted.Load() == 0 {
		return nil
	}
	source := Source(remote)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range [...]pair{{source, key}, {source, ""}} {
		e := g.entries[p]
		if e == nil || !now.Before(e.until) {
			continue
		}
		g.heldOff.Add(1)
		wait := e.until.Sub(now)
		return &hearth.Error{
			Op: "guard.Allow", Kind: hearth.TooManyRequests, Reason: hearth.ReasonCaller, RetryAfter: wait,
			Message: fmt.Sprintf("Too many requests with wrong credentials came from %s. It may try again in %s, with the right ones.", source, (wait + time.Second).Truncate(time.Second)),
		}
	}
	return nil
}

// Tried tells what came of a try. A right one clears what is held against the
// pair, not what is held against the address.
func (g *Guard) Tried(remote, key string, right bool, now time.Time) {
	if right && g.counted.Load() == 0 {
		return
	}
	source := Source(remote)
	g.mu.Lock()
	defer g.mu.Unlock()
	if right {
		if _, ok := g.entries[pair{source, key}]; ok {
			delete(g.entries, pair{source, key})
			g.counted.Store(int64(len(g.entries)))
		}
		return
	}
	g.wrong.Add(1)
	g.count(pair{source, key}, free, now)
	g.count(pair{source, ""}, free*perSource, now)
	g.counted.Store(int64(len(g.entries)))
}

// count counts a wrong try. Called with mu held.
func (g *Guard) count(p pair, allowed int, now time.Time) {
	e := g.entries[p]
	if e == nil {
		if g.entries == nil {
			g.entries = map[pair]*entry{}
		}
		if len(g.entries) >= maxEntries {
			g.sweep(now)
		}
		e = &entry{}
		g.entries[p] = e
	}
	if now.Sub(e.last) > forget {
		e.wrong = 0
	}
	e.wrong++
	e.last = now
	over := e.wrong - allowed
	if over <= 0 {
		return
	}
	wait := most
	if over < 10 {
		wait = min(most, hold<<(over-1))
	}
	e.until = now.Add(wait)
	if over == 1 && g.Recorder != nil {
		who := "the address " + p.source
		if p.key != "" {
			who += " with the access key " + printable(p.key)
		}
		g.Recorder.Record(&hearth.Decision{
			Kind: hearth.DecisionRefuse, Account: g.Account, Chosen: "hold-off", Outcome: string(hearth.TooManyRequests),
			Why: fmt.Sprintf("%s came with wrong credentials %d times: it is held off for %v, and twice as long after each further time", who, e.wrong, wait),
		})
	}
}

// printable is an access key as a record may have it: it is what a stranger
// sent.
func printable(key string) string {
	b := []byte(key[:min(len(key), 32)])
	for i, c := range b {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			b[i] = '?'
		}
	}
	return string(b)
}

// sweep makes room: what is forgotten goes, and if that is not enough, half of
// those that are not held off. Called with mu held.
func (g *Guard) sweep(now time.Time) {
	for p, e := range g.entries {
		if now.Sub(e.last) > forget {
			delete(g.entries, p)
		}
	}
	for p, e := range g.entries {
		if len(g.entries) <= maxEntries/2 {
			return
		}
		if !now.Before(e.until) {
			delete(g.entries, p)
		}
	}
	for p := range g.entries { // everybody is held off: whom it hits is chance
		if len(g.entries) <= maxEntries*3/4 {
			return
		}
		delete(g.entries, p)
	}
}

// Stats are counts since the start, and how many addresses and pairs are kept.
type Stats struct {
	Wrong, HeldOff uint64
	Kept           int
}

// Stats returns them.
func (g *Guard) Stats() Stats {
	return Stats{Wrong: g.wrong.Load(), HeldOff: g.heldOff.Load(), Kept: int(g.counted.Load())}
}
