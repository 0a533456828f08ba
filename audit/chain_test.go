package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func copyDir(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(filepath.Join(to, "a"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(to, "a")
}

func segmentsOf(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, prefix+"*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func newestSegment(t testing.TB, dir string) string {
	names := segmentsOf(t, dir)
	return names[len(names)-1]
}

// Whatever is changed, cut off or taken out of the segments is found.
func TestTamperingIsFound(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, testConfig(dir))
	for i := range 40 {
		record(t, l, fmt.Sprintf("CreateFunction%d", i))
	}
	mark := mustVerify(t, dir, "").Mark
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(newestSegment(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	lines = lines[:len(lines)-1]
	rapid.Check(t, func(rt *rapid.T) {
		var bad []byte
		switch what := rapid.SampledFrom([]string{"flip", "cut", "line", "swap", "double"}).Draw(rt, "what"); what {
		case "flip":
			bad = bytes.Clone(whole)
			at := rapid.IntRange(0, len(bad)-1).Draw(rt, "at")
			bad[at] ^= byte(rapid.IntRange(1, 255).Draw(rt, "by"))
		case "cut":
			bad = whole[:rapid.IntRange(0, len(whole)-1).Draw(rt, "at")]
		default:
			i := rapid.IntRange(0, len(lines)-1).Draw(rt, "line")
			j := rapid.IntRange(0, len(lines)-1).Draw(rt, "other")
			var list [][]byte
			for k, line := range lines {
				switch {
				case what == "line" && k == i:
					continue
				case what == "swap" && k == i:
					line = lines[j]
				case what == "swap" && k == j:
					line = lines[i]
				case what == "double" && k == i:
					list = append(list, line)
				}
				list = append(list, line)
			}
			bad = bytes.Join(list, nil)
		}
		if err := os.WriteFile(newestSegment(t, dir), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		changed := !bytes.Equal(bad, whole)
		if v := mustVerify(t, dir, ""); len(v.Wrong) > 0 != changed {
			rt.Fatalf("it was changed: %v, found was %+v", changed, v)
		}
	})
	if err := os.WriteFile(newestSegment(t, dir), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if v := mustVerify(t, dir, mark); len(v.Wrong) != 0 {
		t.Errorf("put back: %v", v.Wrong)
	}
}

func TestALogThatWasPutBackIsFoundByAMarkKeptElsewhere(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, testConfig(dir))
	record(t, l, "CreateFunction")
	early := copyDir(t, dir)
	record(t, l, "DeleteFunction")
	mark := mustVerify(t, dir, "").Mark
	if v := mustVerify(t, early, ""); len(v.Wrong) != 0 {
		t.Fatalf("an older copy is whole in itself: %v", v.Wrong)
	}
	if v := mustVerify(t, early, mark); len(v.Wrong) != 1 {
		t.Errorf("%v", v.Wrong)
	}
	if v := mustVerify(t, dir, mark); len(v.Wrong) != 0 {
		t.Errorf("%v", v.Wrong)
	}
	if _, err := Verify(dir, sealer{}, "nonsense"); err == nil {
		t.Error("a mark that is none passes")
	}
}

// A server that finds its log damaged says so in it, and goes on behind.
func TestADamagedLogGoesOnAndTellsOfTheDamage(t *testing.T) {
	for _, what := range []string{"cut", "changed", "gone"} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			l := mustOpen(t, testConfig(dir))
			for range 5 {
				record(t, l, "CreateFunction")
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			path := newestSegment(t, dir)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			switch what {
			case "cut":
				err = os.WriteFile(path, b[:len(b)/2], 0o600)
			case "changed":
				b[len(b)/2] ^= 1
				err = os.WriteFile(path, b, 0o600)
			case "gone":
				err = os.Remove(path)
			}
			if err != nil {
				t.Fatal(err)
			}
			again := mustOpen(t, testConfig(dir))
			if again.Stats().Damage == "" {
				t.Fatal("nothing is said")
			}
			record(t, again, "DeleteFunction")
			found, err := again.Find(Filter{Action: "hearth:AuditLogDamaged"})
			if err != nil || len(found) != 1 {
				t.Fatalf("%v, %v", found, err)
			}
			v := mustVerify(t, dir, "")
			if len(v.Wrong) == 0 {
				t.Error("Verify finds nothing")
			}
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
			third := mustOpen(t, testConfig(dir))
			if d := third.Stats().Damage; d != "" {
				t.Errorf("the same damage is new again: %s", d)
			}
			if after := mustVerify(t, dir, ""); len(after.Wrong) != len(v.Wrong) {
				t.Errorf("%v, then %v", v.Wrong, after.Wrong)
			}
		})
	}
}

func TestRetentionKeepsTheBoundAndTheChainsAnchor(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig(dir)
	cfg.MaxBytes = minLog
	l := mustOpen(t, cfg)
	for range 200 {
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				e := change("CreateFunction")
				e.UserAgent = strings.Repeat("x", 200)
				if a, err := l.Admit(); err != nil || a.Record(e) != nil {
					t.Error("not recorded", err)
				}
			})
		}
		wg.Wait()
	}
	if s := l.Stats(); s.Bytes > minLog+minLog/perLog+1<<17 {
		t.Errorf("%d bytes", s.Bytes)
	}
	v := mustVerify(t, dir, "")
	if len(v.Wrong) != 0 || v.First == 1 || v.Last != 200*50 {
		t.Errorf("%+v", v)
	}
	// The anchor is what tells retention from theft.
	names := segmentsOf(t, dir)
	if err := os.Remove(names[0]); err != nil {
		t.Fatal(err)
	}
	if v := mustVerify(t, dir, ""); len(v.Wrong) == 0 {
		t.Error("the oldest segment was taken away, and nothing is found")
	}
}

func FuzzWalk(f *testing.F) {
	c := chain{[]byte("k")}
	b, l, _ := c.appendLine(nil, link{}, header{1, 1})
	e := change("CreateFunction")
	e.Seq = 1
	b, _, _ = c.appendLine(b, l, e)
	f.Add(b)
	f.Add([]byte("\n"))
	f.Add(b[:len(b)-3])
	f.Fuzz(func(t *testing.T, b []byte) {
		last, size, err := c.walk(bytes.NewReader(b), mark{}, nil, func(finding) bool { return true })
		if size > int64(len(b)) || err == nil && size == int64(len(b)) && len(b) > 0 && last == (mark{}) {
			t.Fatalf("%v %d %v", last, size, err)
		}
		_, _ = decodeEvent(b)
		_, _ = c.decodeMark("head", b)
		_, _ = parseMark(string(b))
	})
}
