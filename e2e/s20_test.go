package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/hearth-faas/hearth/backfill"
	"github.com/hearth-faas/hearth/control"
)

func TestABackfillCallsTheFunctionForEveryItemThroughKills(t *testing.T) {
	t.Parallel()
	const n = 400
	s := start(t)
	s.deploy(function{name: "each", runtime: "python3.11", handler: "app.handler", files: map[string]string{"queues.py": queuesInPython, "app.py": `
from queues import call
def handler(event, context):
    for item in event['items']:
        if item['value']['poison']:
            raise ValueError('poison')
        call(Action='SendMessage', QueueUrl='/000000000000/processed', MessageBody=str(item['value']['n']))
`}})
	s.queue("processed", nil)
	var data strings.Builder
	for i := range n {
		fmt.Fprintf(&data, `{"n": %d, "poison": %v}`+"\n", i, i%100 == 50)
	}
	file := filepath.Join(t.TempDir(), "items.jsonl")
	if err := os.WriteFile(file, []byte(data.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(s.cli("backfill", "start", "lines://"+file, "each", "--parallel", "4", "--attempts", "2", "--detach"))
	status := func() (st backfill.Status) {
		t.Helper()
		var list []backfill.Status
		out := s.cli("backfill", "status", id, "--json")
		if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
			t.Fatalf("%v in %q", err, out)
		}
		return list[0]
	}
	until := func(what string, is func(backfill.Status) bool) backfill.Status {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			st := status()
			if is(st) {
				return st
			}
			if time.Now().After(deadline) || st.Status == backfill.Failed {
				t.Fatalf("not %s: %+v", what, st)
			}
		}
	}
	for k := range 2 {
		until("under way", func(st backfill.Status) bool { return st.Succeeded > 50*(k+1) })
		s.kill9()
		s = startIn(t, s.dir)
	}
	st := until("finished", func(st backfill.Status) bool { return st.Status == backfill.Finished })
	if st.Found != n || st.Succeeded != n-4 || st.Failed != 4 {
		t.Errorf("the backfill: %+v", st)
	}
	var report control.BackfillReport
	if err := json.Unmarshal([]byte(s.cli("backfill", "report", id, "--json")), &report); err != nil || len(report.Failures) != 4 || !strings.Contains(report.Failures[0].Error, "poison") {
		t.Errorf("the report: %v, %+v", err, report)
	}
	// Counted by what the function itself wrote where a kill loses nothing.
	seen := map[string]int{}
	s.processed(t, func(body string) { seen[body]++ })
	twice := -len(seen)
	for _, times := range seen {
		twice += times
	}
	if len(seen) != n-4 || twice > 2*4 {
		t.Errorf("the function processed %d items of %d that can be, %d again: %v", len(seen), n-4, twice, slices.Sorted(maps.Keys(seen)))
	}
}

// processed takes what functions told of their work in the queue of that name,
// all there is, and gives each body to take.
func (s *server) processed(t *testing.T, take func(body string)) {
	t.Helper()
	url := s.endpoint + "/000000000000/processed"
	for {
		out, err := s.queues().ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10, VisibilityTimeout: 43200})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return
		}
		for _, m := range out.Messages {
			take(*m.Body)
		}
	}
}
