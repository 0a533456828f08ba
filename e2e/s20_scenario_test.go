package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/backfill"
	"github.com/hearth-faas/hearth/control"
)

func sortBy[E any](s []E, less func(a, b E) bool) {
	sort.Slice(s, func(i, j int) bool { return less(s[i], s[j]) })
}

// s20Size is how large the scenario is.
type s20Size struct {
	objects, batch, parallel, kills int
	rate                            float64 // items a second
	coming                          int     // new objects a second
	for_                            time.Duration
	within                          time.Duration
	chains                          int           // of ten items
	patience                        time.Duration // for all of it
}

// backfillStatus tells of a backfill by the command line.
func (s *server) backfillStatus(id string) backfill.Status {
	s.t.Helper()
	var list []backfill.Status
	out := s.cli("backfill", "status", id, "--json")
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		s.t.Fatalf("%v in %q", err, out)
	}
	return list[0]
}

// untilBackfill waits until a backfill is as it should be.
func (s *server) untilBackfill(id, what string, patience time.Duration, is func(backfill.Status) bool) backfill.Status {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		st := s.backfillStatus(id)
		if is(st) {
			return st
		}
		if time.Now().After(deadline) || st.Status == backfill.Failed {
			s.t.Fatalf("not %s: %+v, new %+v", what, st, st.New)
		}
	}
}

// TestS20EveryObjectIsProcessedThroughKillsWhileMoreCome is the acceptance
// scenario, judged by what the function told and when objects were made.
func TestS20EveryObjectIsProcessedThroughKillsWhileMoreCome(t *testing.T) {
	t.Parallel()
	z := s20Size{objects: 1200, batch: 10, parallel: 4, kills: 2, rate: 200, coming: 50, for_: 3 * time.Second, within: 4 * time.Second, chains: 20, patience: 3 * time.Minute}
	if fullScenarios() {
		z = s20Size{objects: 1_000_000, batch: 100, parallel: 20, kills: 5, coming: 50, for_: 2 * time.Minute, within: 30 * time.Second, chains: 1000, patience: 2 * time.Hour}
	}
	bucket := newGrowingBucket(t, z.objects)
	s := start(t, "--s3-endpoint", bucket.URL, "--s3-path-style")
	restart := func() {
		s.kill9()
		s = startIn(t, s.dir, "--s3-endpoint", bucket.URL, "--s3-path-style")
	}
	poison := map[string]bool{}
	for i := range 10 {
		poison["in/"+strconv.Itoa(i*z.objects/10+7)] = true
	}
	names := make([]string, 0, 10)
	for id := range poison {
		names = append(names, id)
	}
	s.deploy(function{name: "each", runtime: "python3.11", handler: "app.handler", env: map[string]string{"POISON": strings.Join(names, ",")},
		files: map[string]string{"queues.py": queuesInPython, "app.py": s20Function}})
	s.queue("processed", nil)

	args := []string{"backfill", "start", "s3://set/in/", "each", "--parallel", strconv.Itoa(z.parallel), "--batch", strconv.Itoa(z.batch),
		"--attempts", "6", "--within", z.within.String(), "--detach"}
	if z.rate > 0 {
		args = append(args, "--rate", fmt.Sprint(z.rate))
	}
	began := time.Now()
	id := strings.TrimSpace(s.cli(args...))
	var growth sync.WaitGroup
	growth.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(z.coming))
		defer tick.Stop()
		for end := time.Now().Add(z.for_); time.Now().Before(end); {
			<-tick.C
			bucket.grow(1)
		}
	})
	for k := range z.kills { // the fault: at any step, while calls run
		s.untilBackfill(id, "under way", z.patience, func(st backfill.Status) bool { return st.Succeeded >= (k+1)*z.objects/(z.kills+3) })
		restart()
	}
	growth.Wait()
	st := s.untilBackfill(id, "finished", z.patience, func(st backfill.Status) bool { return st.Status == backfill.Finished })
	took := time.Since(began)
	n := bucket.size()
	c := countCalls(s.told())
	if st.Found != n || st.Succeeded != n-10 || st.Failed != 10 || st.Repeated == 0 {
		t.Errorf("of %d objects the backfill says %+v", n, st)
	}
	if missing := c.missing(n, poison); len(missing) > 0 {
		t.Errorf("%d objects were never processed: %v", len(missing), missing[:min(len(missing), 10)])
	}
	if most := z.kills*z.parallel*z.batch + n/1000; c.again > most {
		t.Errorf("%d were processed again, which is more than the %d that the kills explain, and one in a thousand", c.again, most)
	}
	if c.parallel > z.parallel {
		t.Errorf("%d calls at a time; %d are allowed", c.parallel, z.parallel)
	}
	var report control.BackfillReport
	if err := json.Unmarshal([]byte(s.cli("backfill", "report", id, "--json")), &report); err != nil || len(report.Failures) != 10 {
		t.Errorf("the report: %v, %+v", err, report)
	}
	for _, f := range report.Failures {
		if !poison[f.ID] {
			t.Errorf("reported is %s", f.ID)
		}
	}
	// What is new is done before the backlog is, and in the full form in time.
	var waits []time.Duration
	late, last := 0, time.Time{}
	for i := z.objects; i < n; i++ {
		wait := c.ended["in/"+strconv.Itoa(i)].Sub(bucket.made[i])
		if waits = append(waits, wait); wait > z.within {
			late++
		}
		if made := bucket.made[i]; made.After(last) {
			last = made
		}
	}
	slices.Sort(waits)
	after := 0
	for i := range z.objects {
		if c.ended["in/"+strconv.Itoa(i)].After(last) {
			after++
		}
	}
	if after == 0 && z.rate > 0 {
		t.Error("the backlog was done before the last object came: nothing could come first")
	}
	median, worst := waits[len(waits)/2], waits[len(waits)-1]
	// A listing has what is new last. Half of it comes before the last tenth of
	// the backlog, however long the starts after the kills take.
	backlog := make([]time.Time, 0, z.objects)
	for i := range z.objects {
		if at, ok := c.ended["in/"+strconv.Itoa(i)]; ok {
			backlog = append(backlog, at)
		}
	}
	slices.SortFunc(backlog, time.Time.Compare)
	first := 0
	for i := z.objects; i < n; i++ {
		if c.ended["in/"+strconv.Itoa(i)].Before(backlog[len(backlog)*9/10]) {
			first++
		}
	}
	if first < (n-z.objects)/2 {
		t.Errorf("of %d new objects %d were processed before the last tenth of the backlog; half of them waited %v and longer, of %v that all took", n-z.objects, first, median, took)
	}
	if fullScenarios() && late > 0 {
		t.Errorf("%d of %d new objects were later than %v", late, len(waits), z.within)
	}
	s.control(t, z, bucket, poison, c)
	s.declines(t)
	s.chains(t, z)
	t.Logf("%d objects in %v (%.0f/s), %d kills: %v; %d listed again; %d new ones took %v (median), %v (worst), %d of the backlog after the last came",
		n, took.Round(time.Second), float64(n)/took.Seconds(), z.kills, c, st.Repeated, len(waits), median.Round(time.Millisecond), worst.Round(time.Millisecond), after)
}

// control is the same load without the feature: a loop over the listing, which
// begins anew when it is killed, and knows nothing of what it has done.
func (s *server) control(t *testing.T, z s20Size, bucket *growingBucket, poison map[string]bool, with s20Count) {
	t.Helper()
	n := min(z.objects, 20_000)
	type call struct{ ids []string }
	calls := make(chan call)
	var workers sync.WaitGroup
	for range z.parallel {
		workers.Go(func() {
			for c := range calls {
				type one struct {
					ID string `json:"id"`
				}
				var e struct {
					Items []one `json:"items"`
				}
				for _, id := range c.ids {
					e.Items = append(e.Items, one{id})
				}
				b, err := json.Marshal(e)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.invoke("each", string(b)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for k := range z.kills + 1 {
		listed := 0
		for from := 0; from >= 0 && from < n; {
			keys, next := bucket.page(from, 1000)
			var ids []string
			for _, k := range keys {
				if k < n {
					ids = append(ids, "in/"+strconv.Itoa(k))
				}
			}
			for len(ids) > 0 {
				m := min(z.batch, len(ids))
				calls <- call{ids[:m]}
				ids = ids[m:]
				listed += m
			}
			if from = next; k < z.kills && listed >= (k+1)*n/(z.kills+3) {
				break // killed
			}
		}
	}
	close(calls)
	workers.Wait()
	c := countCalls(s.told())
	missing := len(c.missing(n, poison))
	if missing == 0 || c.again <= with.again {
		t.Errorf("the control run missed %d of %d and did %d again, the backfill %d", missing, n, c.again, with.again)
	}
	t.Logf("control: of %d objects %d were missed and %d processed again", n, missing, c.again)
}

// declines: what can't be is refused before anything is called.
func (s *server) declines(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "circle.jsonl")
	if err := os.WriteFile(file, []byte(`{"id":"in/a","after":"in/b"}`+"\n"+`{"id":"in/b","after":["in/a"]}`+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(s.cli("backfill", "start", "lines://"+file, "each", "--key", "id", "--after-field", "after", "--detach"))
	for st := s.backfillStatus(id); ; st = s.backfillStatus(id) {
		if st.Status == backfill.Running {
			continue
		}
		if st.Status != backfill.Failed || !strings.Contains(st.Why, "wait for each other") {
			t.Errorf("a circle: %+v", st)
		}
		break
	}
	if out, err := s.hearth("backfill", "start", "lines://"+file, "each", "--within", "5s"); err == nil || !strings.Contains(err.Error(), "do not say when they were modified") {
		t.Errorf("what is new among lines: %s, %v", out, err)
	}
	if calls := s.told(); len(calls) > 0 {
		t.Errorf("called for what can't be: %v", calls)
	}
}

// chains: items that wait for each other are done in that order, by the times
// that the function told.
func (s *server) chains(t *testing.T, z s20Size) {
	t.Helper()
	const long = 10
	var lines []string
	for c := range z.chains {
		for n := range long {
			after := "null"
			if n > 0 {
				after = fmt.Sprintf(`"%d/%d"`, c, n-1)
			}
			lines = append(lines, fmt.Sprintf(`{"id":"%d/%d","after":%s}`, c, n, after))
		}
	}
	slices.Reverse(lines)
	file := filepath.Join(t.TempDir(), "chains.jsonl")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(s.cli("backfill", "start", "lines://"+file, "each", "--key", "id", "--after-field", "after", "--parallel", strconv.Itoa(z.parallel), "--attempts", "6", "--detach"))
	st := s.untilBackfill(id, "finished", z.patience, func(st backfill.Status) bool { return st.Status == backfill.Finished })
	if st.Succeeded != z.chains*long || st.Ordered == nil || st.Ordered.Edges != z.chains*(long-1) || st.Ordered.Steps != long {
		t.Errorf("chains: %+v, %+v", st, st.Ordered)
	}
	calls := s.told()
	c := countCalls(calls)
	violations := 0
	for _, one := range calls {
		for _, id := range one.Done {
			chain, at, _ := strings.Cut(id, "/")
			n, err := strconv.Atoi(at)
			if err != nil {
				t.Fatal(err)
			}
			if n > 0 && !time.UnixMicro(int64(one.Begin*1e6)).After(c.ended[chain+"/"+strconv.Itoa(n-1)]) {
				violations++
			}
		}
	}
	if violations > 0 || len(c.times) != z.chains*long {
		t.Errorf("%d of %d items were called before the one before them was done", violations, len(c.times))
	}
	t.Logf("%d items in chains of %d: %d violations", len(c.times), long, violations)
}
