package control

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// sharedDecisions are what was decided about one run of ours by theirs, and what
// the handler asks for.
type sharedDecisions struct {
	asked []DecisionQuery
	d     hearth.Decision
}

func (s *sharedDecisions) Query(_ context.Context, q DecisionQuery) ([]hearth.Decision, error) {
	s.asked = append(s.asked, q)
	if q.Kind != "" && q.Kind != s.d.Kind {
		return nil, nil
	}
	return []hearth.Decision{s.d}, nil
}

// The owner is told its side of a run and the caller its own, each without what
// is the other's.
func TestARunOfSharedCodeIsToldToEachSideAsItsOwn(t *testing.T) {
	s := &sharedDecisions{d: hearth.Decision{
		Seq: 7, At: noon, Kind: hearth.DecisionPlace, RequestID: "r", Account: theirs, Owner: ours, OwnerFunction: "owners-name", Terms: "offer o", Withheld: "owners-why",
		Function: "callers-name", Version: "3", Chosen: string(hearth.PathWarm), Why: "callers-why", Instance: "callers-instance", Container: "callers-container",
		Knew: hearth.Knowledge{Pool: 2}, Spent: [hearth.Stages]time.Duration{hearth.StageParse: 77_777, hearth.StageRun: 5, hearth.StageAnswer: 88_888}, Outcome: "error",
	}}
	h := &Handler{Decisions: s}
	tell := func(of answer, account hearth.Account, request string) string {
		t.Helper()
		v, err := of(t.Context(), ask{account: account, q: map[string][]string{"request": {request}}})
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	owner := tell(h.sharedRuns, ours, "r")
	for _, want := range []string{`"owners-name"`, `"3"`, `"offer o"`, `"owners-why"`, `"warm"`, `"error"`, `"run":5`, string(theirs)} {
		if !strings.Contains(owner, want) {
			t.Errorf("the owner is not told %s: %s", want, owner)
		}
	}
	for _, never := range []string{"callers", "77777", "88888", "pool"} {
		if strings.Contains(owner, never) {
			t.Errorf("the owner is told %s: %s", never, owner)
		}
	}
	for _, q := range s.asked {
		if q.Owner != ours || q.Account != "" || q.RequestID != "r" {
			t.Errorf("asked for %+v", q)
		}
	}
	caller := tell(h.decisions, theirs, "r")
	if strings.Contains(caller, "owners") || !strings.Contains(caller, "callers-name") {
		t.Errorf("the caller is told %s", caller)
	}
	// Whatever the decisions' keeper answers, nothing of others' comes out.
	if got := tell(h.sharedRuns, theirs, "r"); got != `{"runs":[]}` {
		t.Errorf("somebody else is told %s", got)
	}
	if got := tell(h.sharedRuns, ours, "another"); got != `{"runs":[]}` {
		t.Errorf("by another id: %s", got)
	}
	if _, err := h.sharedRuns(t.Context(), ask{account: ours}); hearth.KindOf(err) != hearth.InvalidParameter {
		t.Errorf("without an id there is a list: %v", err)
	}
	s.d.Kind, s.d.Chosen, s.d.Outcome = hearth.DecisionRefuse, "refuse", string(hearth.Service)
	if got := tell(h.sharedRuns, ours, "r"); strings.Contains(got, "start") || !strings.Contains(got, `"ServiceException"`) {
		t.Errorf("a run that was refused is told as %s", got)
	}
}
