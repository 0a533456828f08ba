package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

// judgeAnswers: none failed, each has its own parameters, whichever code ran
// them, says truly which that was, and the new code is all there is once the
// update is successful.
func (s *server) judgeAnswers(t *testing.T, all []served, oldCode, newCode string, oldVersion, newVersion int, successful time.Time) {
	t.Helper()
	last := 0
	for _, r := range all {
		code := map[int]string{oldVersion: oldCode, newVersion: newCode}[r.Version]
		switch {
		case r.err != nil:
			t.Errorf("a request failed: %v", r.err)
		case r.N != r.n:
			t.Errorf("request %d was run with the parameters of %d", r.n, r.N)
		case code == "" || r.code != code || r.executed != "$LATEST":
			t.Errorf("version %d answered, and its headers say %.12s, %s", r.Version, r.code, r.executed)
		case r.began.After(successful) && r.Version != newVersion:
			t.Errorf("version %d answered a request that came after the update", r.Version)
		case r.began.After(successful):
			last++
		}
	}
	if last == 0 {
		t.Error("no request came after the update")
	}
}

// judgeSteps holds the records of the update against those of the invocations.
// It returns what was not as it should be and may be for the machine's sake.
func (s *server) judgeSteps(t *testing.T, name string) (wrong []string) {
	t.Helper()
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	await(t, patience, "the old code to be gone", func() bool { return len(chosen(s.judged(name, hearth.DecisionUpdate), "drained")) > 0 })
	steps, fetches, places := s.judged(name, hearth.DecisionUpdate), s.judged(name, hearth.DecisionFetch), s.judged(name, hearth.DecisionPlace)
	for _, word := range []string{"began", "complete", "drained"} {
		if n := len(chosen(steps, word)); n != 1 {
			t.Errorf("%d decisions %q", n, word)
		}
	}
	if again, fetched := chosen(fetches, "again"), chosen(fetches, "fetched"); len(again) == 0 || len(fetched) != 2 {
		t.Errorf("%d transfers were tried again, %d packages came", len(again), len(fetched))
	}
	ready, switched := chosen(steps, "ready"), chosen(steps, "switched")
	if len(ready) < 2 || len(switched) < 2 {
		say("%d containers of the new code were ready, %d instances switched: %+v", len(ready), len(switched), steps)
		return wrong
	}
	generation := ready[0].Generation
	had := map[string]string{} // instance → a container of the old code
	for _, d := range places {
		if d.Generation < generation {
			had[d.Instance] = d.Container
		}
	}
	for _, d := range ready {
		if had[d.Instance] == "" {
			t.Errorf("the new code's container %s is not beside one of the old", d.Container)
		}
	}
	for _, sw := range switched {
		if d := chosen(steps, "complete")[0]; sw.Mono > d.Mono || ready[0].Mono > sw.Mono {
			t.Errorf("instance %s switched at %v, between %v and %v", sw.Instance, sw.Mono, ready[0].Mono, d.Mono)
		}
		for _, d := range places {
			// When it was placed: it is recorded when it has ended. The rest is
			// for a machine that is busy.
			placed := d.Mono - d.Spent[hearth.StageRun] - d.Spent[hearth.StageAnswer]
			if d.Instance == sw.Instance && d.Generation < generation && placed > sw.Mono+time.Second {
				say("the old code was given an invocation in instance %s %v after that had switched", d.Instance, placed-sw.Mono)
			}
		}
	}
	paid := 0
	for _, d := range places {
		if d.Generation == generation && d.Chosen != string(hearth.PathReuse) {
			paid++
		}
	}
	// There are as many as were in use. More callers than that at once are
	// served as callers of any code are that come when all else is busy.
	if paid > max(s01Callers-len(ready), 0) {
		say("%d callers of the new code paid for a container; %d were ready", paid, len(ready))
	}
	for _, in := range s.ps().Instances {
		for _, c := range in.Containers {
			if c.Function == name && c.Generation != 0 && c.Generation < generation {
				t.Errorf("container %s has the old code still", c.ID)
			}
		}
	}
	return wrong
}
