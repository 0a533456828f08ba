package prediction

import (
	"fmt"
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
)

// Calls are what the runs of a function are followed by, the likeliest first.
// They are copies.
func (p *Predictor) Calls(account hearth.Account, function string) (links []Link) {
	e := p.calls.learned.Find(owner{account, function}.key())
	if e == nil {
		return nil
	}
	e.View(func(pr *Profile) {
		for _, l := range pr.likely() {
			c := *l
			c.Delays = slices.Clone(l.Delays)
			links = append(links, c)
		}
	})
	return links
}

// Hints are the hints of the account that are not over, by id.
func (p *Predictor) Hints(account hearth.Account) []Hint { return p.hintsOf(account) }

// Response is what is known of how a function is invoked after a trigger; ok is
// false if nothing is.
func (p *Predictor) Response(t *Trigger, function string) (r Response, ok bool) {
	e := p.responses.Find(t.responseKey(function))
	if e == nil {
		return r, false
	}
	e.View(func(known *Response) {
		r = *known
		r.open = nil
	})
	return r, true
}

// Learned tells in sentences what is known of a function, and what would be
// made ready for it next, or after it: for hearth explain.
func (p *Predictor) Learned(account hearth.Account, function string) (calls, triggers []string) {
	policy := p.cfg.Policy(account, function)
	threshold := policy.Prediction.Threshold
	if threshold == 0 {
		threshold = defaultThreshold
	}
	if policy.Prediction.Mode == "off" {
		calls = append(calls, "what it calls is not made ready: prediction.mode is off")
	}
	for _, l := range p.Calls(account, function) {
		next := "nothing is made ready"
		switch like := l.Likelihood(); {
		case policy.Prediction.Mode == "off":
		case like >= threshold:
			next = "a container is made ready"
		case like >= codeAt*threshold:
			next = "its code is made ready"
		case like >= machineAt*threshold:
			next = "a machine is made ready"
		}
		calls = append(calls, fmt.Sprintf("%.0f %% of its runs are followed by %s, %v later in the middle: %s (%d foretold, %d of them came, %d came that were not; %d containers made, %d used, %.0f MiB-seconds wasted)",
			100*l.Likelihood(), named(l.Function, l.Qualifier), l.Delay(0.5).Round(time.Millisecond), next, l.Predicted, l.True, l.Missed, l.Made, l.Hit, l.WastedMiBSeconds))
	}
	if policy.PreTrigger.Mode == "off" {
		triggers = append(triggers, "triggers are not heeded: preTrigger.mode is off")
	}
	for _, t := range p.Triggers(account) {
		if !slices.Contains(t.Functions, function) {
			continue
		}
		from := "notices"
		if t.Run != "" {
			from = "runs of " + t.Run
		}
		r, _ := p.Response(&t, function)
		triggers = append(triggers, fmt.Sprintf("the trigger %s (%s) is followed by %.1f invocations within %v, as seen after %.0f lately (%d containers made, %d used, %.0f MiB-seconds wasted)",
			t.Name, from, r.Mean(), r.lagAt(0.99, true).Round(time.Millisecond), r.Events, r.Made, r.Hit, r.WastedMiBSeconds))
	}
	for _, h := range p.hintsOf(account) {
		if h.Function == function {
			triggers = append(triggers, fmt.Sprintf("a hint says that %d invocations come at %s", h.Count, h.At.Format(time.RFC3339)))
		}
	}
	return calls, triggers
}

func named(function, qualifier string) string {
	if qualifier == "" {
		return function
	}
	return function + ":" + qualifier
}
