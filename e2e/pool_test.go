package e2e

import (
	"slices"
	"testing"

	"github.com/hearth-faas/hearth"
)

func TestInstanceThatDiesInThePoolIsNoticedAndReplaced(t *testing.T) {
	t.Parallel()
	m := newMachine(t, capacity{memoryMiB: 1024, instanceMiB: 1024, poolMiB: 256})
	m.awaitPool()
	for _, boot := range []hearth.Boot{"", "node20", "python3.11"} {
		victim := ""
		for _, in := range m.manager.Snapshot() {
			if in.Account == "" && len(in.Containers) == 1 && in.Containers[0].Boot == boot {
				victim = in.ID
			}
		}
		if kill(t, victim) == 0 {
			t.Fatalf("no process of the instance %s with boot %q was found", victim, boot)
		}
		lost := uint64(0)
		await(t, patience, "the death of a ready instance to be noticed", func() bool {
			records := m.records()
			i := slices.IndexFunc(records, func(d hearth.Decision) bool { return d.Kind == hearth.DecisionLost && d.Instance == victim })
			if i >= 0 {
				lost = records[i].Seq
			}
			return i >= 0
		})
		await(t, patience, "it to be replaced", func() bool {
			return slices.ContainsFunc(m.records(), func(d hearth.Decision) bool {
				return d.Kind == hearth.DecisionReplenish && d.Seq > lost
			})
		})
	}
	m.awaitPool()
}
