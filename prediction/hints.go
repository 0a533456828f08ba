package prediction

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// Hint is what somebody who knows says: so many invocations of a function at
// once are coming at a time (S15.9).
type Hint struct {
	ID        string         `json:"id"`
	Account   hearth.Account `json:"account"`
	Function  string         `json:"function"`
	Qualifier string         `json:"qualifier,omitempty"`
	Count     int            `json:"count"`
	At        time.Time      `json:"at"`
	// Until is when what was not used is released.
	Until time.Time `json:"until"`
}

func (h *Hint) key() string { return string(h.Account) + "/" + h.ID }

// The bounds of hints: how many an account may have at a time, for how many
// invocations each, how far ahead, and for how long.
const (
	maxHints     = 100
	maxHintCount = 1000
	maxHintAhead = 7 * 24 * time.Hour
	maxHintFor   = time.Hour
	// hintLead is how long before its time a hint is heeded at least.
	hintLead = 2 * time.Second
)

// Hint takes a hint and returns it with its ID. It is on disk when Hint
// returns, and is heeded after a restart too. Errors: InvalidParameterValue,
// TooManyRequests, and ResourceNotFound for a function that is not there.
func (p *Predictor) Hint(ctx context.Context, h Hint) (Hint, error) {
	now := p.cfg.Clock.Now()
	switch {
	case h.Count < 1 || h.Count > maxHintCount:
		return h, hearth.Errorf(hearth.InvalidParameter, "A hint is for 1 to %d invocations, not for %d.", maxHintCount, h.Count)
	case h.At.Sub(now) > maxHintAhead:
		return h, hearth.Errorf(hearth.InvalidParameter, "A hint is for the next %d days at most.", int(maxHintAhead.Hours()/24))
	case !h.Until.After(now) || !h.Until.After(h.At):
		return h, hearth.Errorf(hearth.InvalidParameter, "The time of the hint is over.")
	case h.Until.Sub(h.At) > maxHintFor:
		return h, hearth.Errorf(hearth.InvalidParameter, "What a hint is for is kept ready for %v at most.", maxHintFor)
	}
	if _, err := p.cfg.Functions.Resolve(ctx, h.Account, h.Function, h.Qualifier); err != nil {
		return h, err
	}
	if p.cfg.Policy(h.Account, h.Function).PreTrigger.Mode == "off" {
		return h, hearth.Errorf(hearth.InvalidParameter, "The execution policy of %s has preTrigger.mode off; hearth policy tells who said so.", h.Function)
	}
	p.mu.Lock()
	n := len(p.hintsOf(h.Account))
	p.mu.Unlock()
	if n >= maxHints {
		return h, hearth.Errorf(hearth.TooManyRequests, "The account has %d hints that are not over, which is as many as it may.", maxHints)
	}
	h.ID = strings.ToLower(rand.Text()[:10])
	h.At, h.Until = h.At.UTC().Round(0), h.Until.UTC().Round(0)
	if _, err := p.hints.Change(ctx, h.key(), func(*Hint) (*Hint, error) { return &h, nil }); err != nil {
		return h, err
	}
	p.arm(&h)
	return h, nil
}

// hintsOf are the hints of an account that are not over.
func (p *Predictor) hintsOf(account hearth.Account) (list []Hint) {
	for _, h := range p.hints.Scan(string(account)+"/", "") {
		list = append(list, *h)
	}
	return list
}

// arm has a hint heeded when it is time to, and forgotten when it is over.
func (p *Predictor) arm(h *Hint) {
	now := p.cfg.Clock.Now()
	lead := p.coldStart(h.Account, h.Function, h.Qualifier)
	p.arrange(&order{
		account: h.Account, function: h.Function, qualifier: h.Qualifier, count: h.Count,
		begin: h.At.Add(-max(lead+lead/4, hintLead)), until: h.Until, key: "hint " + h.ID,
		why:    invocations(h.Count) + " that a hint foretold",
		budget: p.cfg.Policy(h.Account, h.Function).PreTrigger.BudgetMiB,
	})
	p.cfg.Clock.AfterFunc(max(h.Until.Sub(now), 0), func() {
		p.mu.Lock()
		closed := p.closed
		p.mu.Unlock()
		if closed {
			return // the next start does it
		}
		if _, err := p.hints.Change(context.Background(), h.key(), func(*Hint) (*Hint, error) { return nil, nil }); err != nil {
			p.cfg.Log.Warn("a hint that is over can't be removed", "hint", h.ID, "error", err)
		}
	})
}

// rearm arms the hints that an earlier process has taken.
func (p *Predictor) rearm() {
	for _, h := range p.hints.Scan("", "") {
		p.arm(h)
	}
}

// invocations says how many there are.
func invocations(n int) string {
	if n == 1 {
		return "1 invocation"
	}
	return fmt.Sprintf("%d invocations", n)
}
