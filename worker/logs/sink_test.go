package logs

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
)

var start = time.Date(2026, 11, 21, 3, 4, 5, 678e6, time.UTC)

func open(tb testing.TB, opt Options) *Store {
	tb.Helper()
	if opt.Dir == "" {
		opt.Dir = tb.TempDir()
	}
	if opt.Clock == nil {
		opt.Clock = clock.NewFake(start)
	}
	s, err := Open(opt)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

const (
	account = hearth.DefaultAccount
	groupF  = "/aws/lambda/f"
	streamF = "2026/11/21/[$LATEST]0123456789abcdef0123456789abcdef"
)

func messages(tb testing.TB, s *Store, stream string) (all []string) {
	tb.Helper()
	p, err := s.Events(context.Background(), account, groupF, stream, EventQuery{FromHead: true})
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range p.Events {
		all = append(all, e.Message)
	}
	return all
}

// container gives a sink with a pipe, as a container has it.
func container(tb testing.TB, s *Store, l hearth.Logging) (*Sink, *os.File) {
	tb.Helper()
	sink := NewSink(s.Stream(account, groupF, streamF), l, s.opt.Clock)
	r, w, err := Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { r.Close(); w.Close() })
	if err := sink.Read(r); err != nil {
		tb.Fatal(err)
	}
	return sink, w
}

func TestAnInvocationsLogIsTheServices(t *testing.T) {
	s := open(t, Options{})
	sink, w := container(t, s, hearth.Logging{})
	sink.InitStart(InitStart{Type: hearth.InitOnDemand, RuntimeVersion: "nodejs:22.v1", RuntimeVersionARN: "arn:aws:lambda:us-east-1::runtime:1"})
	fmt.Fprintln(w, "loading")
	sink.InitReport(InitReport{Type: hearth.InitOnDemand, Duration: 10 * time.Second, Phase: "init", Status: "timeout"})
	sink.Begin("id-1", "$LATEST")
	fmt.Fprint(w, "one\n\ntwo\nunfinished")
	sink.End(&Report{RequestID: "id-1", Duration: 1234567, MemoryMiB: 128, PeakMiB: 29.2, InitDuration: 12340 * time.Microsecond})
	sink.Begin("id-2", "$LATEST")
	sink.TimedOut("id-2", 3*time.Second)
	sink.End(&Report{RequestID: "id-2", Duration: 3 * time.Second, MemoryMiB: 128, PeakMiB: 30, Status: "timeout"})
	sink.Begin("id-3", "7")
	sink.Fault("id-3", "Runtime exited with error: exit status 1", "Runtime.ExitError")
	sink.End(&Report{RequestID: "id-3", Duration: 9996 * time.Microsecond, MemoryMiB: 1024, PeakMiB: 1024, Status: "error", ErrorType: "Runtime.OutOfMemory"})
	want := []string{
		"INIT_START Runtime Version: nodejs:22.v1\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:1\n",
		"loading\n",
		"INIT_REPORT Init Duration: 10000.00 ms\tPhase: init\tStatus: timeout\n",
		"START RequestId: id-1 Version: $LATEST\n", "one\n", "\n", "two\n", "unfinished\n",
		"END RequestId: id-1\n",
		"REPORT RequestId: id-1\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 30 MB\tInit Duration: 12.34 ms\t\n",
		"START RequestId: id-2 Version: $LATEST\n",
		"2026-11-21T03:04:05.678Z id-2 Task timed out after 3.00 seconds\n\n",
		"END RequestId: id-2\n",
		"REPORT RequestId: id-2\tDuration: 3000.00 ms\tBilled Duration: 3000 ms\tMemory Size: 128 MB\tMax Memory Used: 30 MB\tStatus: timeout\n",
		"START RequestId: id-3 Version: 7\n",
		"RequestId: id-3 Error: Runtime exited with error: exit status 1\nRuntime.ExitError\n",
		"END RequestId: id-3\n",
		"REPORT RequestId: id-3\tDuration: 10.00 ms\tBilled Duration: 10 ms\tMemory Size: 1024 MB\tMax Memory Used: 1024 MB\tStatus: error\tError Type: Runtime.OutOfMemory\n",
	}
	if got := messages(t, s, streamF); !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	if got := string(sink.Tail()); got != strings.Join(want[len(want)-4:], "") {
		t.Errorf("tail %q", got)
	}
}

func TestJSONFormatFiltersByLevel(t *testing.T) {
	s := open(t, Options{})
	sink, w := container(t, s, hearth.Logging{Format: "JSON", ApplicationLevel: "WARN", SystemLevel: "INFO"})
	sink.Begin("id-1", "$LATEST")
	fmt.Fprintln(w, `{"level":"INFO","message":"no"}`)
	fmt.Fprintln(w, `{"level":"ERROR","message":"yes"}`)
	fmt.Fprintln(w, `plain counts as INFO`)
	w.Write(frame(3, LevelDebug, start, "no"))
	w.Write(frame(2, LevelFatal, start, `{"x":1}`))
	sink.End(&Report{RequestID: "id-1", Duration: 1234567, MemoryMiB: 128, PeakMiB: 29.2, InitDuration: 12340 * time.Microsecond})
	want := []string{
		`{"time":"2026-11-21T03:04:05.678Z","type":"platform.start","record":{"requestId":"id-1","version":"$LATEST"}}` + "\n",
		`{"level":"ERROR","message":"yes"}` + "\n",
		`{"x":1}` + "\n",
		`{"time":"2026-11-21T03:04:05.678Z","type":"platform.report","record":{"requestId":"id-1","metrics":{"durationMs":1.235,"billedDurationMs":2,"memorySizeMB":128,"maxMemoryUsedMB":30,"initDurationMs":12.34},"status":"success"}}` + "\n",
	}
	if got := messages(t, s, streamF); !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

func TestNothingOfAKilledFunctionsLastOutputIsLost(t *testing.T) {
	s := open(t, Options{})
	sink := NewSink(s.Stream(account, groupF, streamF), hearth.Logging{}, clock.System())
	r, w, err := Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := sink.Read(r); err != nil {
		t.Fatal(err)
	}
	sink.Begin("id-1", "1")
	const lines = 20000
	cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); done; printf 'last words'; kill -9 $$", lines))
	cmd.Stdout = w
	if err := cmd.Run(); err == nil {
		t.Fatal("it should have been killed")
	}
	w.Close()
	sink.End(&Report{RequestID: "id-1", MemoryMiB: 128})
	var got []string
	q := FilterQuery{}
	for {
		page, next, err := s.Filter(t.Context(), account, groupF, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			got = append(got, e.Message)
		}
		if q.Token = next; next == "" {
			break
		}
	}
	if len(got) != lines+4 || got[lines+1] != "last words\n" || got[lines] != fmt.Sprintf("line %d\n", lines-1) {
		t.Errorf("%d events, the last ones %q", len(got), got[max(0, len(got)-4):])
	}
}

func TestEndDoesNotWaitForAProcessThatWritesWithoutPause(t *testing.T) {
	s := open(t, Options{})
	sink, w := container(t, s, hearth.Logging{})
	cmd := exec.Command("/usr/bin/yes")
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		sink.Begin("id", "1")
		sink.End(&Report{RequestID: "id"})
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
}

func TestOutputOfEachRunCarriesItsRequestID(t *testing.T) {
	s := open(t, Options{})
	sink, w := container(t, s, hearth.Logging{})
	for i := range 50 {
		id := fmt.Sprintf("id-%d", i)
		sink.Begin(id, "1")
		fmt.Fprintln(w, "of", id)
		sink.End(&Report{RequestID: id})
	}
	page, _, err := s.Filter(t.Context(), account, groupF, FilterQuery{RequestID: "id-33"})
	if err != nil || len(page) != 4 || page[1].Message != "of id-33\n" {
		t.Errorf("%v %v", page, err)
	}
}

// frame is an event as a runtime writes it.
func frame(form byte, l Level, at time.Time, message string) []byte {
	b := []byte{0xa5, 0x5a, 0, form | byte(l)<<2}
	b = binary.BigEndian.AppendUint32(b, uint32(len(message)))
	if form != 1 {
		b = binary.BigEndian.AppendUint64(b, uint64(at.UnixMicro()))
	}
	return append(b, message...)
}

// TestOutputIsSplitTheSameHoweverItArrives mixes lines and frames, and cuts the
// bytes anywhere.
func TestOutputIsSplitTheSameHoweverItArrives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var wire []byte
		var want []string
		for range rapid.IntRange(0, 12).Draw(t, "events") {
			text := rapid.StringMatching(`[a-zåZ ¥]{0,40}`).Draw(t, "text")
			switch form := rapid.IntRange(0, 3).Draw(t, "form"); form {
			case 0:
				wire = append(append(wire, text...), '\n')
				want = append(want, text+"\n")
			default:
				wire = append(wire, frame(byte(form), LevelInfo, start, text+"\nmore")...)
				want = append(want, text+"\nmore\n")
			}
		}
		var s splitter
		var got []string
		emit := func(p piece) { got = append(got, string(p.message)) }
		for rest := wire; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "read")
			s.feed(rest[:n], emit)
			rest = rest[n:]
		}
		s.end(emit)
		if !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

// FuzzSplitter checks that no byte of any output is lost or made up, whatever
// it is cut into.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte("one\ntwo"), 3)
	f.Add(frame(3, LevelInfo, start, "hello\nworld"), 5)
	f.Add(append([]byte("x\xa5\x5a"), frame(1, LevelNone, start, "")...), 1)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		split := func(n int) (all []string) {
			var s splitter
			for rest := b; len(rest) > 0; {
				k := min(max(n, 1), len(rest))
				s.feed(bytes.Clone(rest[:k]), func(p piece) { all = append(all, string(p.message)) })
				rest = rest[k:]
			}
			s.end(func(p piece) { all = append(all, string(p.message)) })
			return all
		}
		whole, pieces := split(len(b)), split(cut%4096)
		if !slices.Equal(whole, pieces) {
			t.Errorf("in one %q, in pieces of %d %q", whole, cut, pieces)
		}
		for _, m := range whole {
			if len(m) > maxEvent || m == "" || m[len(m)-1] != '\n' {
				t.Errorf("bad event of %d bytes", len(m))
			}
		}
	})
}

func TestLongLineBecomesSeveralEvents(t *testing.T) {
	var s splitter
	var sizes []int
	emit := func(p piece) { sizes = append(sizes, len(p.message)) }
	s.feed(append(bytes.Repeat([]byte{'x'}, 2*maxEvent), '\n'), emit)
	if len(sizes) != 3 || sizes[0] != maxEvent || sizes[1] != maxEvent || sizes[2] != 3 {
		t.Error(sizes)
	}
}

// BenchmarkInvocationLog is what the log costs a warm invocation: the lines of
// the platform and one of the function's.
func BenchmarkInvocationLog(b *testing.B) {
	s := open(b, Options{Clock: clock.System(), MaxBytes: 64 << 20})
	sink, w := container(b, s, hearth.Logging{})
	r := &Report{RequestID: "8476a536-e9f4-11e8-9739-2dfe598c3fcd", Duration: 1234567, MemoryMiB: 128, PeakMiB: 30}
	line := []byte("2026-11-21T03:04:05.678Z\t8476a536-e9f4-11e8-9739-2dfe598c3fcd\tINFO\thello\n")
	for _, lines := range []int{0, 1} {
		b.Run(fmt.Sprint(lines), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sink.Begin(r.RequestID, "$LATEST")
				for range lines {
					w.Write(line)
				}
				sink.End(r)
			}
		})
	}
	b.ReportMetric(float64(s.Lost()), "lost")
}
