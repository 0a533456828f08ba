package main

import (
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

func TestTopTellsRatesOfWhatHappenedSinceItLookedLast(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	snapshot := func(seconds int, runs, cpu int64, placed uint64) control.Snapshot {
		return control.Snapshot{
			At: at.Add(time.Duration(seconds) * time.Second), InFlight: 3, Waiting: 1, Placed: map[hearth.Path]uint64{hearth.PathReuse: placed},
			Instances: []control.Instance{{ID: "pool"}, {ID: "i", Account: testAccount, Containers: []control.Container{
				{ID: "a", State: control.StateBusy, Function: "f", Version: "1", Invocations: runs, CPUMillis: cpu, UsedMiB: 30, LimitMiB: 128, PeakMiB: 40},
				{ID: "b", State: control.StateFrozen, Function: "f", Version: "1", Invocations: 7, UsedMiB: 20, LimitMiB: 128, PeakMiB: 50},
				{ID: "c", State: control.StateIdle, Function: "g", Version: "$LATEST", LimitMiB: 256},
				{ID: "d", State: control.StateReady, Boot: "node20"},
			}}},
		}
	}
	v := newView(snapshot(0, 10, 1000, 100), snapshot(2, 30, 2000, 150))
	if v.PerSecond != 25 || v.Instances != 1 || len(v.Functions) != 2 {
		t.Fatalf("%+v", v)
	}
	want := functionView{Function: "f", Version: "1", Busy: 1, Idle: 1, PerSecond: 10, CPUs: 0.5, UsedMiB: 50, LimitMiB: 256, PeakMiB: 50}
	if v.Functions[0] != want {
		t.Errorf("%+v, want %+v", v.Functions[0], want)
	}
	if again := newView(snapshot(0, 10, 0, 100), snapshot(1, 10, 0, 5)); again.PerSecond != 0 {
		t.Errorf("after a restart %v invocations a second", again.PerSecond)
	}
}

func TestTopShowsItOnceWhereNobodyWatches(t *testing.T) {
	f := newFake(t)
	f.hearth("top", "--every", "100ms").want(t, 0, "warming pool: 11.0 of 256 MiB")
	f.hearth("top", "--every", "100ms", "--once", "--json").want(t, 0, `"poolMiB": 11`)
	f.hearth("top", "--every", "1ms").want(t, 2, "")
}

func TestDecisionsAreListedNewestLast(t *testing.T) {
	f := newFake(t)
	f.decisions = []hearth.Decision{
		{Seq: 2, Kind: hearth.DecisionPack, Chosen: "i-2", Why: "one less is needed"},
		{Seq: 1, Kind: hearth.DecisionPlace, Function: "hello", Version: "$LATEST", Chosen: "reuse", Why: "one was idle"},
	}
	r := f.hearth("decisions")
	r.want(t, 0, "one less is needed")
	if i, j := strings.Index(r.out, "one was idle"), strings.Index(r.out, "one less"); i < 0 || i > j {
		t.Errorf("not the newest last:\n%s", r.out)
	}
	f.decisions = nil
	f.hearth("decisions", "--kind", "evict").want(t, 0, "", "Nothing like that was decided")
}

func TestExplainTellsWhatElseWasDecidedOnAccountOfAnInvocation(t *testing.T) {
	f := newFake(t)
	const id = "6f0c2a54-9c1e-4b0a-8f55-0d5a5f2b7c11"
	f.decisions = []hearth.Decision{
		{Seq: 2, Kind: hearth.DecisionSize, RequestID: id, Function: "hello", Why: "it used nearly all of its memory"},
		{Seq: 1, Kind: hearth.DecisionPlace, RequestID: id, Function: "hello", Chosen: "reuse", Why: "one was idle", Outcome: "ok"},
	}
	f.hearth("explain", id).want(t, 0, "also   size: it used nearly all of its memory")
}
