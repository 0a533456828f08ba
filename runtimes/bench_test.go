package runtimes

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const (
	trivialNode   = "exports.handler = async (event) => ({ ok: event.a })\n"
	trivialPython = "def handler(event, context):\n    return {'ok': event['a']}\n"
)

func trivial(c Choice) given {
	if c.interpreter.Language == Node {
		return given{files: map[string]string{"index.js": trivialNode}, handler: "index.handler"}
	}
	return given{files: map[string]string{"app.py": trivialPython}, handler: "app.handler"}
}

// bare is the time that the interpreter takes to run the handler's file once.
func bare(t testing.TB, c Choice) time.Duration {
	t.Helper()
	dir := folder(t, trivial(c).files)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(c.interpreter.Path, filepath.Join(dir, files[0].Name()))
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	began := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// cold is the time from the control message to the first answer.
func cold(t testing.TB, c Choice) time.Duration {
	t.Helper()
	ch := boot(t, c, trivial(c))
	began := time.Now()
	ch.load()
	a := ch.invoke(`{"a":1}`)
	took := time.Since(began)
	if a.String() != `{"ok":1}` && a.String() != `{"ok": 1}` {
		t.Fatalf("answered %s\n%s", a, ch.output.String())
	}
	ch.end()
	return took
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

func BenchmarkCold(b *testing.B) {
	for _, language := range []Language{Node, Python} {
		for _, c := range choices(b, language) {
			b.Run(string(c.Boot()), func(b *testing.B) {
				var bares, colds []time.Duration
				for b.Loop() {
					bares = append(bares, bare(b, c))
					colds = append(colds, cold(b, c))
				}
				b.ReportMetric(float64(median(bares).Microseconds()), "bare-µs")
				b.ReportMetric(float64(median(colds).Microseconds()), "cold-µs")
				b.ReportMetric(float64(median(colds))/float64(median(bares)), "ratio")
			})
		}
	}
}

func BenchmarkWarm(b *testing.B) {
	for _, language := range []Language{Node, Python} {
		for _, c := range choices(b, language) {
			b.Run(string(c.Boot()), func(b *testing.B) {
				ch := start(b, c, trivial(c))
				var all []time.Duration
				for b.Loop() {
					began := time.Now()
					if a := ch.invoke(`{"a":1}`); a.err != nil {
						b.Fatal(a)
					}
					all = append(all, time.Since(began))
				}
				b.ReportMetric(float64(median(all).Nanoseconds())/1000, "p50-µs")
			})
		}
	}
}
