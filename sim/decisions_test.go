package sim

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/decision"
	"github.com/hearth-faas/hearth/manager"
)

// ran is the decision of an invocation that came at the given second.
func ran(function string, second int, took time.Duration, path hearth.Path) hearth.Decision {
	d := hearth.Decision{Kind: hearth.DecisionPlace, Account: "000000000000", Function: function, Version: hearth.Latest, Chosen: string(path), Outcome: "ok"}
	d.Spent[hearth.StagePlace] = time.Second
	d.Spent[hearth.StageRun] = took
	d.At = time.Unix(int64(second), 0).Add(time.Second + took)
	return d
}

func each(ds ...hearth.Decision) iter.Seq2[hearth.Decision, error] {
	return func(yield func(hearth.Decision, error) bool) {
		for _, d := range ds {
			if !yield(d, nil) {
				return
			}
		}
	}
}

func TestDecisionsAreATraceOfWhatHappened(t *testing.T) {
	refused := hearth.Decision{Kind: hearth.DecisionRefuse, Function: "b", At: time.Unix(1, 0)}
	// In the order in which they ended: the long one came first.
	trace, err := FromDecisions(each(
		ran("a", 100, time.Second, hearth.PathCold), refused, ran("b", 101, time.Second, hearth.PathWarm),
		ran("a", 160, 2*time.Second, hearth.PathReuse), ran("a", 40, 300*time.Second, hearth.PathCold)), 128)
	if err != nil {
		t.Fatal(err)
	}
	if len(trace.Functions) != 2 || trace.Invocations() != 4 {
		t.Fatalf("%d functions, %d invocations", len(trace.Functions), trace.Invocations())
	}
	want := []Call{{0, 300 * time.Second}, {60 * time.Second, time.Second}, {120 * time.Second, 2 * time.Second}}
	if got := trace.Functions[0].Calls; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("calls %v, want %v", got, want)
	}
	if trace.Functions[0].MiB != 128 || trace.Guessed.Memory != 0 {
		t.Errorf("%v MiB, %d guessed", trace.Functions[0].MiB, trace.Guessed.Memory)
	}
	if l := trace.Lived; l.Cold != 3 || math.Abs(l.MeanCold-(2./3+1)/2) > 1e-9 {
		t.Errorf("lived %+v", l)
	}
	// 300 s and a cold start's second after the first came.
	if trace.Length != 301*time.Second+1 {
		t.Errorf("%v long", trace.Length)
	}
	// Each invocation comes in a replay, and the two that follow one another
	// closely find the container of the one before.
	c, err := Compare(context.Background(), trace, manager.IdleLife{}, Settings{Cold: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Results[Fixed10]; r.Invocations != 4 || r.Cold != 3 {
		t.Errorf("%d of %d cold with ten minutes, want 3 of 4", r.Cold, r.Invocations)
	}
	if r := c.Report(); r.Lived == nil || r.Lived.Cold != 3 {
		t.Errorf("reported as lived: %+v", r.Lived)
	}
}

func TestALogWithoutInvocationsIsAnError(t *testing.T) {
	if _, err := FromDecisions(each(hearth.Decision{Kind: hearth.DecisionEvict}), 0); err == nil {
		t.Error("none")
	}
	bad := errors.New("bad")
	if _, err := FromDecisions(func(yield func(hearth.Decision, error) bool) { yield(hearth.Decision{}, bad) }, 0); !errors.Is(err, bad) {
		t.Errorf("%v", err)
	}
	if _, err := FromDecisions(decision.Read(t.TempDir()), 0); err == nil {
		t.Error("an empty folder is a log")
	}
	if _, err := FromDecisions(decision.Read(filepath.Join(t.TempDir(), "gone")), 0); err == nil {
		t.Error("a folder that is not there is a log")
	}
}

func TestALogIsReadWhileItIsWritten(t *testing.T) {
	dir := t.TempDir()
	r, err := decision.Open(decision.Config{Clock: clock.System(), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range 3 {
		d := ran("f", i*10, time.Second, hearth.PathReuse)
		r.Record(&d)
	}
	r.Flush()
	trace, err := FromDecisions(decision.Read(dir), 0)
	if err != nil {
		t.Fatal(err)
	}
	if trace.Invocations() != 3 || trace.Guessed.Memory != 1 {
		t.Errorf("%d invocations, memory guessed for %d", trace.Invocations(), trace.Guessed.Memory)
	}
}
