package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/backfill"
)

// millionFunction tells the numbers of the lines that it was given, by a way that
// no kill loses.
const millionFunction = `
import json
from queues import call
def handler(event, context):
    call(Action='SendMessage', QueueUrl='/000000000000/processed', MessageBody=json.dumps([item['value']['n'] for item in event['items']]))
`

// A million lines of a file go through a real function, in batches; at the half
// the server is killed. What was processed is counted by what the function told,
// and the server's memory is that of the process. The short form is of fewer
// lines, and has the same bounds.
func TestS20AMillionLinesTakeBoundedMemory(t *testing.T) {
	t.Parallel()
	lines, patience := 20_000, 2*time.Minute
	if fullScenarios() {
		lines, patience = 1_000_000, time.Hour
	}
	const (
		batch, parallel = 500, 4
		bound           = 128 // MiB beyond what the server has before
	)
	file := filepath.Join(t.TempDir(), "lines.jsonl")
	writeNumbers(t, file, lines)
	s := start(t)
	s.deploy(function{name: "each", runtime: "python3.11", handler: "app.handler", timeout: 60, files: map[string]string{"queues.py": queuesInPython, "app.py": millionFunction}})
	s.queue("processed", nil)
	s.mustInvoke("each", `{"items":[{"value":{"n":0}}]}`) // warm, and one told for nothing

	before, most := s.rss(), 0.0
	began := time.Now()
	id := strings.TrimSpace(s.cli("backfill", "start", "lines://"+file, "each", "--batch", strconv.Itoa(batch), "--parallel", strconv.Itoa(parallel), "--detach"))
	watched := func(enough func(backfill.Status) bool) func(backfill.Status) bool {
		return func(st backfill.Status) bool {
			most = max(most, s.rss()-before)
			return enough(st)
		}
	}
	s.untilBackfill(id, "at the half", patience, watched(func(st backfill.Status) bool { return st.Succeeded >= lines/2 }))
	s.kill9()
	s = startIn(t, s.dir)
	st := s.untilBackfill(id, "finished", patience, watched(func(st backfill.Status) bool { return st.Status == backfill.Finished }))
	took := time.Since(began)
	if st.Succeeded != lines || st.Failed != 0 || st.Found != lines {
		t.Errorf("of %d lines the backfill says %+v", lines, st)
	}
	missing, again := s.numbers(t, lines)
	again-- // the warm one
	if missing > 0 || again > parallel*batch {
		t.Errorf("%d of %d lines were never processed, %d again; the kill explains %d", missing, lines, again, parallel*batch)
	}
	if most > bound {
		t.Errorf("the server took %.0f MiB for it, which is more than %d", most, bound)
	}
	t.Logf("%d lines in %v (%.0f/s): %d missed, %d again; the server had %.0f MiB, and %.0f MiB more at most",
		lines, took.Round(time.Second), float64(lines)/took.Seconds(), missing, again, before, most)
}

// writeNumbers writes lines with the numbers below n.
func writeNumbers(t *testing.T, name string, n int) {
	t.Helper()
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(out)
	for i := range n {
		fmt.Fprintf(w, `{"n":%d,"path":"/srv/data/item-%d"}`+"\n", i, i) // an error is told by Flush
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// numbers empties the queue of what the function told, and counts which of the
// numbers below n are missing, and how many came again.
func (s *server) numbers(t *testing.T, n int) (missing, again int) {
	t.Helper()
	seen := make([]bool, n)
	s.processed(t, func(body string) {
		var told []int
		if err := json.Unmarshal([]byte(body), &told); err != nil {
			t.Fatal(err)
		}
		for _, i := range told {
			if seen[i] {
				again++
			}
			seen[i] = true
		}
	})
	for _, was := range seen {
		if !was {
			missing++
		}
	}
	return missing, again
}
