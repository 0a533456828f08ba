package server

import (
	"context"
	"fmt"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

// learned asks each system that learns what it knows of a function.
type learned struct{ s *Server }

// systems are those that learn, in the order in which they are shown. Each
// returns nothing if it knows nothing.
func (l learned) systems() []func(hearth.Account, string) []control.Section {
	return []func(hearth.Account, string) []control.Section{l.routed, l.prepared, l.idling, l.sized, l.foretold, l.deferred, l.cost, l.avoided}
}

// Learned implements control.Learned.
func (l learned) Learned(ctx context.Context, account hearth.Account, function string) (all []control.Section, err error) {
	_, refused := l.s.tasks.Resolve(ctx, account, function, "")
	if refused != nil && (!l.s.claimed(account, function) || hearth.KindOf(refused) == hearth.NotFound) {
		return nil, refused
	}
	all = l.shared(account, function, refused)
	for _, of := range l.systems() {
		all = append(all, of(account, function)...)
	}
	return all, nil
}

func (l learned) foretold(account hearth.Account, function string) (all []control.Section) {
	calls, triggers := l.s.predictor.Learned(account, function)
	if len(calls) > 0 {
		all = append(all, control.Section{System: "calls", Says: calls})
	}
	if len(triggers) > 0 {
		all = append(all, control.Section{System: "triggers", Says: triggers})
	}
	return all
}

// latest is the function as an unqualified invocation finds it, or nil.
func (l learned) latest(account hearth.Account, function string) *hearth.Function {
	f, err := l.s.tasks.Resolve(context.Background(), account, function, "")
	if err != nil {
		return nil // deleted meanwhile, or withdrawn
	}
	return f
}

func (l learned) prepared(account hearth.Account, function string) []control.Section {
	f := l.latest(account, function)
	if f == nil {
		return nil
	}
	start, run := l.s.manager.ColdStart(f), l.s.manager.RunTime(f)
	if start == 0 && run == 0 {
		return nil
	}
	said := "no container was made of it lately"
	if start > 0 {
		said = fmt.Sprintf("a container of it took %v to start", start.Round(100*time.Microsecond))
	}
	if run > 0 {
		said += fmt.Sprintf(", and an invocation keeps one busy for %v", run.Round(100*time.Microsecond))
	}
	return []control.Section{{System: "starts", Says: []string{said}}}
}

// idling tells how long its idle containers are kept.
func (l learned) idling(account hearth.Account, function string) []control.Section {
	f := l.latest(account, function)
	if f == nil {
		return nil
	}
	i, ok := l.s.manager.Idling(f)
	if !ok {
		return nil
	}
	now := l.s.clock.Now()
	said := fmt.Sprintf("it was called last %v ago; %s idle, and of all that it has %s worth the memory now",
		now.Sub(i.Last).Round(time.Second), are(i.Idle), are(i.Keep))
	if i.Again.After(now) {
		said += fmt.Sprintf("; unless it is called, that is looked at anew in %v", i.Again.Sub(now).Round(time.Second))
	}
	says := []string{said}
	if i.Made > 0 {
		says = append(says, fmt.Sprintf("if fewer than %d were there, those would be made ready for the call that is expected", i.Made))
	}
	return []control.Section{{System: "idle life", Says: says}}
}

func are(n int) string {
	if n == 1 {
		return "one is"
	}
	return fmt.Sprintf("%d are", n)
}

// sized tells what its executions used.
func (l learned) sized(account hearth.Account, function string) []control.Section {
	var says []string
	for _, a := range l.s.manager.Advice(account, function) {
		if a.Evidence.Runs == 0 {
			continue
		}
		e := a.Evidence
		what := fmt.Sprintf("version %s has %d MiB, of which %d executions used %.0f at most and half of them %.0f", a.Version, a.SizeMiB, e.Runs, e.PeakMaxMiB, e.PeakMedianMiB)
		if a.Suggestion.MiB > 0 {
			what += fmt.Sprintf("; it should have %d: %s", a.Suggestion.MiB, a.Why)
		}
		says = append(says, what)
	}
	if says == nil {
		return nil
	}
	return []control.Section{{System: "memory", Says: says}}
}
