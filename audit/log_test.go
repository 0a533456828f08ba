package audit

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
)

// sealer stands for the master key.
type sealer struct{}

func (sealer) Seal(plain, associated []byte) ([]byte, error) {
	return append(append([]byte("sealed:"), associated...), plain...), nil
}

func (sealer) Open(sealed, associated []byte) ([]byte, error) {
	plain, ok := bytes.CutPrefix(sealed, append([]byte("sealed:"), associated...))
	if !ok {
		return nil, errors.New("it does not open")
	}
	return plain, nil
}

func testConfig(dir string) Config {
	return Config{Dir: dir, Clock: clock.System(), Key: sealer{}, Log: slog.New(slog.DiscardHandler)}
}

func mustOpen(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func change(action string) *Event {
	return &Event{Account: "111122223333", Principal: "arn:aws:iam::111122223333:root", Service: "lambda", Action: "lambda:" + action, Resource: "f"}
}

// record makes a change's record, and fails the test if it can't.
func record(t testing.TB, l *Log, action string) {
	t.Helper()
	p, err := l.Admit()
	if err == nil {
		err = p.Record(change(action))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func mustVerify(t testing.TB, dir, since string) Verdict {
	t.Helper()
	v, err := Verify(dir, sealer{}, since)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestARecordedChangeIsFoundByWhatWasRecorded(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, testConfig(dir))
	record(t, l, "CreateFunction")
	record(t, l, "DeleteFunction")
	other := change("CreateFunction")
	other.Account, other.ErrorCode = "222233334444", string(hearth.AccessDenied)
	other.Owner = "111122223333"
	p, err := l.Admit()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Record(other); err != nil { // a refusal, which is not waited for
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		f    Filter
		want string
	}{
		{Filter{}, "[3 2 1]"},
		{Filter{Limit: 2}, "[3 2]"},
		{Filter{Before: 3}, "[2 1]"},
		{Filter{Sees: "111122223333"}, "[3 2 1]"},
		{Filter{Sees: "222233334444"}, "[3]"},
		{Filter{Sees: "333344445555"}, "[]"},
		{Filter{Action: "lambda:delete*"}, "[2]"},
		{Filter{Action: "*Function"}, "[3 2 1]"},
		{Filter{Errors: true}, "[3]"},
		{Filter{Who: ":root"}, "[3 2 1]"},
		{Filter{Who: "nobody"}, "[]"},
		{Filter{Resource: "f", Since: time.Now().Add(time.Hour)}, "[]"},
	} {
		found, err := l.Find(c.f)
		if err != nil {
			t.Fatal(err)
		}
		seqs := []uint64{}
		for _, e := range found {
			seqs = append(seqs, e.Seq)
		}
		if got := fmt.Sprint(seqs); got != c.want {
			t.Errorf("%+v finds %s, not %s", c.f, got, c.want)
		}
	}
	if v := mustVerify(t, dir, ""); len(v.Wrong) != 0 || v.Records != 3 || v.Last != 3 {
		t.Errorf("%+v", v)
	}
}

func TestEveryRecordThatWasWaitedForSurvivesAKill(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	l := mustOpen(t, testConfig(dir))
	const n, each = 16, 20
	for range n {
		wg.Go(func() {
			for range each {
				record(t, l, "CreateFunction")
			}
		})
	}
	wg.Wait()
	// What a kill leaves is what the files hold now, and half a record.
	copied := copyDir(t, dir)
	newest := newestSegment(t, copied)
	f, err := os.OpenFile(newest, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("0123456789abcdef"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	again := mustOpen(t, testConfig(copied))
	if s := again.Stats(); s.Damage != "" {
		t.Fatal(s.Damage)
	}
	record(t, again, "DeleteFunction")
	if v := mustVerify(t, copied, ""); len(v.Wrong) != 0 || v.Records != n*each+1 {
		t.Errorf("%+v", v)
	}
	if s := l.Stats(); s.Syncs >= n*each {
		t.Errorf("%d syncs for %d records of %d at once", s.Syncs, n*each, n)
	}
}

func BenchmarkRecordChange(b *testing.B) {
	l, err := Open(testConfig(b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			record(b, l, "CreateFunction")
		}
	})
	b.Run("64 at once", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				record(b, l, "CreateFunction")
			}
		})
	})
}
