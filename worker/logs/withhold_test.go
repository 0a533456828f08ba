package logs

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
)

// Of a run whose output is withheld only the platform's lines are kept; whoever
// taps still hears of the rest.
func TestWhatIsWithheldIsNeitherKeptNorInTheTail(t *testing.T) {
	s := open(t, Options{})
	sink := NewSink(s.Appender(account, groupF, streamF), hearth.Logging{}, clock.NewFake(start))
	sink.Withhold()
	var tapped []string
	sink.Tap(func(_ time.Time, _, _ bool, line []byte) { tapped = append(tapped, string(line)) })
	r, w, err := Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := sink.Read(r); err != nil {
		t.Fatal(err)
	}
	sink.InitStart(InitStart{RuntimeVersion: "secret"})
	sink.Extension("secret", "Ready", nil, "")
	sink.Subscribed("secret", true, []string{"platform"})
	sink.Begin("r-1", "1")
	if _, err := w.WriteString("secret\n"); err != nil {
		t.Fatal(err)
	}
	sink.End(&Report{RequestID: "r-1", MemoryMiB: 128})
	kept := messages(t, s, streamF)
	if len(kept) != 3 || slices.ContainsFunc(kept, func(m string) bool { return strings.Contains(m, "secret") }) || strings.Contains(string(sink.Tail()), "secret") {
		t.Errorf("%q", kept)
	}
	if len(tapped) != 1 {
		t.Errorf("tapped %q", tapped)
	}
}
