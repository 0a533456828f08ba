package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

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
		if bytes.Equal(bad, whole) {
			rt.Skip()
		}
		if err := os.WriteFile(newestSegment(t, dir), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if v := mustVerify(t, dir, ""); len(v.Wrong) == 0 {
			rt.Fatalf("not found: %+v", v)
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

// full is a disk that can be full.
type full struct {
	file
	is *atomic.Bool
}

func (f full) Write(b []byte) (int, error) {
	if f.is.Load() {
		n, _ := f.file.Write(b[:len(b)/2])
		return n, syscall.ENOSPC
	}
	return f.file.Write(b)
}

func (f full) allocate(offset, n int64) error {
	if f.is.Load() {
		return syscall.ENOSPC
	}
	return f.file.allocate(offset, n)
}

func TestAFullDiskRefusesChangesUntilThereIsRoom(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, testConfig(dir))
	var is atomic.Bool
	l.mu.Lock()
	l.open = func(path string) (file, error) {
		f, err := openFile(path)
		return full{f, &is}, err
	}
	l.mu.Unlock()
	record(t, l, "CreateFunction")
	is.Store(true)
	l.Note(change("GetFunction")) // finds it full
	eventually(t, "the log to fail", func() bool { return l.Stats().Failing != "" })
	_, err := l.Admit()
	if hearth.KindOf(err) != hearth.Service || !strings.Contains(err.Error(), "audit log") || !strings.Contains(err.Error(), "no space") {
		t.Fatalf("admitted with %v", err)
	}
	if v := mustVerify(t, dir, ""); len(v.Wrong) != 0 {
		t.Errorf("half a record was left: %v", v.Wrong)
	}
	is.Store(false)
	eventually(t, "changes to be let in", func() bool {
		p, err := l.Admit()
		return err == nil && p.Record(change("DeleteFunction")) == nil
	})
	// What was noted meanwhile was kept.
	if found, err := l.Find(Filter{Action: "lambda:GetFunction"}); err != nil || len(found) != 1 {
		t.Errorf("%v, %v", found, err)
	}
	if v := mustVerify(t, dir, ""); len(v.Wrong) != 0 {
		t.Errorf("%v", v.Wrong)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain for " + what)
		}
	}
}

// A real file system that is full: what was admitted can still be recorded.
func TestWhatWasAdmittedFitsOnADiskThatFillsUp(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting takes root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	l := mustOpen(t, testConfig(filepath.Join(dir, "audit")))
	record(t, l, "CreateFunction")
	var places []*Place
	for range 5 {
		p, err := l.Admit()
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, p)
	}
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	for _, p := range places {
		if err := p.Record(change("DeleteFunction")); err != nil {
			t.Fatal(err)
		}
	}
	for err = error(nil); err == nil; {
		var p *Place
		if p, err = l.Admit(); err == nil {
			if rerr := p.Record(change("CreateFunction")); rerr != nil {
				t.Fatalf("let in, and not recorded: %v", rerr)
			}
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if v := mustVerify(t, filepath.Join(dir, "audit"), ""); len(v.Wrong) != 0 {
		t.Errorf("%v", v.Wrong)
	}
}

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

func TestNoSecretGetsIntoARecord(t *testing.T) {
	const secret = "hunter2-TOP-SECRET"
	var p Parameters
	p.JSON([]byte(`{"FunctionName":"f","Description":"` + secret + `","Environment":{"Variables":{"` + secret + `":"` + secret + `"}},
		"Code":{"ZipFile":"` + secret + `"},"` + secret + `":"x","MemorySize":128,"Publish":true,"Tags":{"a":"` + secret + `"}}`))
	p.Values(url.Values{"Token": {secret}, "PolicyDocument": {secret}, "RoleName": {"r"}, "X-Amz-Signature": {secret}, "X-Amz-Security-Token": {secret}})
	type input struct {
		FunctionName *string
		Environment  struct{ Variables map[string]string }
		Description  *string
		ZipFile      []byte
	}
	name, text := "g", secret
	in := input{FunctionName: &name, Description: &text, ZipFile: []byte(secret)}
	in.Environment.Variables = map[string]string{"K": secret}
	p.Struct(&in)
	var e Event
	p.To(&e)
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte(secret)) {
		t.Errorf("%s", b)
	}
	if p.Name("functionname") != "g" || e.Parameters["MemorySize"] != "128" || e.Parameters["RoleName"] != "r" || e.Omitted != 10 {
		t.Errorf("%s", b)
	}
}

// However large its parts are, a record keeps within what is taken for it.
func TestARecordKeepsItsBound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.Custom(func(rt *rapid.T) string {
			return strings.Repeat(rapid.SampledFrom([]string{"<", "\"", "\\", "é", "\x00", "\u2028", "\xff", "😀", "a"}).Draw(rt, "of"), rapid.IntRange(0, 9000).Draw(rt, "n"))
		})
		e := &Event{
			RequestID: text.Draw(rt, "id"), Principal: text.Draw(rt, "who"), AccessKeyID: text.Draw(rt, "key"), SourceIP: text.Draw(rt, "ip"),
			UserAgent: text.Draw(rt, "ua"), Service: text.Draw(rt, "service"), Action: text.Draw(rt, "action"), Resource: text.Draw(rt, "resource"), ErrorCode: text.Draw(rt, "code"),
		}
		var p Parameters
		for name := range allowed {
			p.add(name, text.Draw(rt, "value"))
		}
		p.To(e)
		e.bound()
		b, _, err := chain{}.appendLine(nil, link{}, e)
		if err != nil || len(b) > maxRecord {
			rt.Fatalf("%d bytes, %v", len(b), err)
		}
	})
}

func TestReadOnlyIsToldByTheOperation(t *testing.T) {
	for op, want := range map[string]bool{
		"lambda/GetFunction": true, "lambda/CreateFunction": false, "sts/AssumeRole": false, "sts/GetSessionToken": false,
		"sts/GetCallerIdentity": true, "events/TestEventPattern": true, "iam/Getaway": false, "sqs/ListQueues": true, "lambda/DeleteFunction": false,
	} {
		service, name, _ := strings.Cut(op, "/")
		if got := ReadOnly(service, name); got != want {
			t.Errorf("%s: %v", op, got)
		}
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

// Whatever a caller sends, what is recorded of it are names on the list, within
// bounds.
func FuzzParameters(f *testing.F) {
	f.Add([]byte(`{"FunctionName":"f","Environment":{},"MemorySize":1e9}`), "RoleName=r&Action=CreateRole", "a%2Fb")
	f.Fuzz(func(t *testing.T, body []byte, query, label string) {
		var p Parameters
		p.JSON(body)
		if v, err := url.ParseQuery(query); err == nil {
			p.Values(v)
		}
		p.Label("FunctionName", label)
		var e Event
		p.To(&e)
		e.bound()
		for name, value := range e.Parameters {
			if !allowed[strings.ToLower(strings.ReplaceAll(name, "-", ""))] || len(value) > maxText {
				t.Errorf("%q: %q", name, value)
			}
		}
		if b, _, err := (chain{}).appendLine(nil, link{}, &e); err != nil || len(b) > maxRecord {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	})
}
