package audit

import (
	"fmt"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
)

func TestAFloodOfRefusalsLeavesFewRecordsAndPushesNobodyOut(t *testing.T) {
	dir := t.TempDir()
	c := clock.NewFake(time.Unix(1_800_000_000, 0))
	cfg := testConfig(dir)
	cfg.Clock = c
	l := mustOpen(t, cfg)
	const flood = 10_000
	for i := range flood {
		e := change("GetFunction")
		e.Account, e.ErrorCode = "", string(hearth.InvalidSignature)
		e.SourceIP = fmt.Sprintf("192.0.2.%d", i%3)
		l.Note(e)
	}
	polite := change("ListFunctions")
	polite.ReadOnly = true
	l.Note(polite)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	found, err := l.Find(Filter{Limit: MaxLimit})
	if err != nil {
		t.Fatal(err)
	}
	calls, ours := 0, 0
	for _, e := range found {
		if e.Account != "" {
			ours++
			continue
		}
		calls += max(e.Times, 1)
	}
	if calls != flood || ours != 1 || len(found) > foldBurst+4 {
		t.Errorf("%d records for %d of %d calls, %d of the other", len(found), calls, flood, ours)
	}
}

func BenchmarkNote(b *testing.B) {
	l, err := Open(testConfig(b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	e := change("GetFunction")
	for b.Loop() {
		l.Note(e)
	}
}
