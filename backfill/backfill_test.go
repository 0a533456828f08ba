package backfill

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/sqs"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
)

const account = hearth.Account("000000000000")

// unstable lists n items in pages that overlap, each in an order of its own, and
// with items of earlier pages in between.
type unstable struct{ n int }

func (u *unstable) Steady() bool { return false }
func (u *unstable) Close() error { return nil }

func (u *unstable) Page(_ context.Context, position string, most int) (items []Item, next string, err error) {
	at, err := offset(position)
	if err != nil {
		return nil, "", err
	}
	add := func(i int) {
		items = append(items, Item{ID: "item-" + strconv.Itoa(i), Value: json.RawMessage(strconv.Itoa(i))})
	}
	end := min(int(at)+most/2, u.n)
	for i := int(at); i < end; i++ {
		if add(i); i > 0 && rand.IntN(10) == 0 {
			add(rand.IntN(i))
		}
	}
	rand.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	if end == u.n {
		return items, "", nil
	}
	return items, strconv.Itoa(end - min(end-int(at)-1, most/8)), nil
}

// world has jobs whose process can be killed.
type world struct {
	*Jobs
	t      testing.TB
	store  store.Store
	folder string
	call   func(ev callEvent) ([]byte, error)
	source Source
}

func newWorld(t testing.TB) *world {
	t.Helper()
	st, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: st, folder: t.TempDir()}
	t.Cleanup(func() {
		if err := errors.Join(w.Jobs.Close(), st.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) open() {
	w.t.Helper()
	js, err := Open(context.Background(), Config{
		Store: w.store, Folder: w.folder, Clock: clock.System(),
		Open: func(hearth.Account, Spec) (Source, error) { return w.source, nil },
		Call: func(_ context.Context, a hearth.Account, f string, payload []byte) ([]byte, error) {
			var ev callEvent
			if err := json.Unmarshal(payload, &ev); err != nil || a != account || f != "f" {
				return nil, fmt.Errorf("called %s of %s with %s", f, a, payload)
			}
			return w.call(ev)
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	js.recentMost = 100
	js.retryAfter = func(int) time.Duration { return time.Millisecond }
	w.Jobs = js
	js.Run()
}

func (w *world) start(spec Spec) string {
	w.t.Helper()
	spec.Source, spec.Function = "test", "f"
	s, err := w.Start(context.Background(), account, spec)
	if err != nil {
		w.t.Fatal(err)
	}
	return s.ID
}

// until waits until the job is as it should be.
func (w *world) until(id string, is func(Status) bool) Status {
	w.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(2 * time.Millisecond) {
		s, err := w.Status(account, id)
		if err != nil {
			w.t.Fatal(err)
		}
		if is(s) {
			return s
		}
		if time.Now().After(deadline) || s.Status == Failed || s.Status == Finished {
			w.t.Fatalf("the job is %+v", s)
		}
	}
}

func (w *world) report(id string) map[string]Failure {
	w.t.Helper()
	all := map[string]Failure{}
	if err := w.Report(context.Background(), account, id, func(f Failure) bool { all[f.ID] = f; return true }); err != nil {
		w.t.Fatal(err)
	}
	return all
}

func TestEveryItemIsProcessedThroughKillsAndWhatFailsIsReported(t *testing.T) {
	const n, parallel = 3000, 20
	w := newWorld(t)
	w.source = &unstable{n: n}
	var mu sync.Mutex
	processed := map[string]int{} // counted by itself, not by the job
	running, most := 0, 0
	poison := map[string]bool{}
	for i := range 10 {
		poison["item-"+strconv.Itoa(i*37)] = true
	}
	w.call = func(ev callEvent) ([]byte, error) {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		defer func() {
			mu.Lock()
			running--
			mu.Unlock()
		}()
		if poison[ev.Items[0].ID] {
			return nil, errors.New("poison")
		}
		mu.Lock()
		defer mu.Unlock()
		if rand.IntN(50) == 0 {
			return nil, errors.New("now and then")
		}
		processed[ev.Items[0].ID]++
		return []byte("null"), nil
	}
	w.open()
	id := w.start(Spec{Parallel: parallel, Attempts: 5})
	for k := range 5 {
		w.until(id, func(s Status) bool { return s.Succeeded > k*400 })
		if err := w.Jobs.Close(); err != nil {
			t.Fatal(err)
		}
		w.open()
	}
	s := w.until(id, func(s Status) bool { return s.Status == Finished })
	if s.Found != n || s.Succeeded != n-len(poison) || s.Failed != len(poison) || s.Repeated == 0 || s.Pass < 2 {
		t.Errorf("the job says %+v", s)
	}
	twice := 0
	for i := range n {
		switch c := processed["item-"+strconv.Itoa(i)]; {
		case c == 0 && !poison["item-"+strconv.Itoa(i)]:
			t.Errorf("item %d was never processed", i)
		case c > 1:
			twice += c - 1
		}
	}
	if twice > 5*parallel {
		t.Errorf("%d were processed again, which is more than five kills explain", twice)
	}
	if most > parallel {
		t.Errorf("%d calls at a time", most)
	}
	if got := w.report(id); !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(poison))) {
		t.Errorf("the report: %v", got)
	}
	// Mended, they are tried again.
	mu.Lock()
	clear(poison)
	mu.Unlock()
	if err := w.Resume(context.Background(), account, id); err != nil {
		t.Fatal(err)
	}
	s = w.until(id, func(s Status) bool { return s.Status == Finished })
	if s.Found != n || s.Succeeded != n || s.Failed != 0 || len(w.report(id)) != 0 {
		t.Errorf("resumed: %+v", s)
	}
}

func TestABatchsFailedItemsAreTriedAgainAloneAndThrottlingCountsForNothing(t *testing.T) {
	w := newWorld(t)
	w.source = &unstable{n: 50}
	var mu sync.Mutex
	calls, throttled := 0, 0
	ok := map[string]int{}
	w.call = func(ev callEvent) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls%5 == 1 {
			throttled++
			return nil, hearth.Errorf(hearth.TooManyRequests, "Rate exceeded")
		}
		failed := ""
		for i, it := range ev.Items {
			if i == 0 && it.Attempt == 1 {
				failed = it.ID
				continue
			}
			ok[it.ID]++
		}
		return []byte(`{"batchItemFailures":[{"itemIdentifier":"` + failed + `"}]}`), nil
	}
	w.open()
	id := w.start(Spec{Parallel: 2, Batch: 10, Attempts: 2})
	s := w.until(id, func(s Status) bool { return s.Status == Finished })
	if s.Succeeded != 50 || s.Failed != 0 || s.Throttled != throttled || len(ok) != 50 {
		t.Errorf("%+v, throttled %d, processed %d", s, throttled, len(ok))
	}
	for id, n := range ok {
		if n != 1 {
			t.Errorf("%s was processed %d times", id, n)
		}
	}
}

func TestACancelledJobStopsAndGoesOnWhereItWas(t *testing.T) {
	w := newWorld(t)
	w.source = &unstable{n: 500}
	release := make(chan struct{})
	var mu sync.Mutex
	n := 0
	w.call = func(callEvent) ([]byte, error) {
		mu.Lock()
		n++
		hold := n > 100
		mu.Unlock()
		if hold {
			<-release
		}
		return nil, nil
	}
	w.open()
	id := w.start(Spec{Parallel: 4})
	w.until(id, func(s Status) bool { return s.Succeeded >= 100 })
	cancelled := make(chan error)
	go func() { cancelled <- w.Cancel(context.Background(), account, id) }()
	w.until(id, func(s Status) bool { return s.Status == Cancelled }) // and the calls are waited for
	close(release)
	if err := <-cancelled; err != nil {
		t.Fatal(err)
	}
	s := w.until(id, func(s Status) bool { return true })
	if s.Status != Cancelled {
		t.Fatalf("%+v", s)
	}
	if err := w.Resume(context.Background(), account, id); err != nil {
		t.Fatal(err)
	}
	if s := w.until(id, func(s Status) bool { return s.Status == Finished }); s.Succeeded != 500 {
		t.Errorf("%+v", s)
	}
	if err := w.Remove(context.Background(), account, id); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Status(account, id); hearth.KindOf(err) != hearth.NotFound {
		t.Error("a removed job is still there:", err)
	}
}

func TestResultsAreExactThroughMergesAndStarts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		folder, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		r, err := openResults(folder)
		if err != nil {
			rt.Fatal(err)
		}
		model := map[hash]bool{}
		n := 0
		for range rapid.IntRange(1, 12).Draw(rt, "files") {
			var hs []hash
			for range rapid.IntRange(1, 600).Draw(rt, "hashes") {
				n++
				hs = append(hs, hashOf(strconv.Itoa(n)))
			}
			for _, h := range hs {
				model[h] = true
			}
			if err := r.add(hs); err != nil {
				rt.Fatal(err)
			}
			if rapid.Bool().Draw(rt, "start") {
				if err := r.close(); err != nil {
					rt.Fatal(err)
				}
				if r, err = openResults(folder); err != nil {
					rt.Fatal(err)
				}
			}
		}
		for i := range n + 200 {
			h := hashOf(strconv.Itoa(i))
			if has, err := r.has(h); err != nil || has != model[h] {
				rt.Fatalf("%d: %v, %v", i, has, err)
			}
		}
		if r.count() != n {
			rt.Errorf("%d hashes, should be %d", r.count(), n)
		}
		if err := r.close(); err != nil {
			rt.Fatal(err)
		}
	})
}

// list lists a source page by page, by a new one for each page if anew is set.
func list(t *testing.T, spec Spec, objects Objects) (all []Item) {
	t.Helper()
	all = listAs(t, func() (Source, error) { return OpenSource(spec, objects) }, false)
	if again := listAs(t, func() (Source, error) { return OpenSource(spec, objects) }, true); !reflect.DeepEqual(all, again) {
		t.Errorf("%s lists %d items, and %d by a source for each page:\n%v\n%v", spec.Source, len(all), len(again), all, again)
	}
	return all
}

func listAs(t *testing.T, open func() (Source, error), anew bool) (all []Item) {
	t.Helper()
	s, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for position := ""; ; {
		items, next, err := s.Page(t.Context(), position, 3)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, items...)
		if position = next; next == "" {
			return all
		}
		if !anew {
			continue
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = open(); err != nil {
			t.Fatal(err)
		}
	}
}
func TestSourcesListAllOfTheirItemsFromAnyPosition(t *testing.T) {
	dir := t.TempDir()
	var names []string
	for i := range 25 {
		name := fmt.Sprintf("a/%d/b.%d/f", i%3, i)
		if i%4 == 0 {
			name = fmt.Sprintf("a/%d.x", i)
		}
		names = append(names, name)
		if err := os.MkdirAll(filepath.Join(dir, "data", filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "data", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(names)
	var got []string
	for _, it := range list(t, Spec{Source: "folder://" + filepath.Join(dir, "data")}, nil) {
		if got = append(got, it.ID); it.Modified.IsZero() {
			t.Errorf("%s was never modified", it.ID)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, names) {
		t.Errorf("the folder: %v\nwant %v", got, names)
	}
	if err := os.WriteFile(filepath.Join(dir, "lines"), []byte("{\"a\":1}\nplain\n\nplain\r\nlast"), 0o600); err != nil {
		t.Fatal(err)
	}
	got = nil
	for _, it := range list(t, Spec{Source: "lines://" + filepath.Join(dir, "lines")}, nil) {
		got = append(got, it.ID+"="+string(it.Value))
	}
	if want := []string{`0={"a":1}`, `8="plain"`, `15="plain"`, `22="last"`}; !slices.Equal(got, want) {
		t.Errorf("the lines: %v, want %v", got, want)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT); WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 10) INSERT INTO t SELECT n, 'v' || n FROM c`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"", "k"} {
		items := list(t, Spec{Source: "sqlite://" + filepath.Join(dir, "db"), Query: "SELECT k, v FROM t WHERE k > 3 ORDER BY k;", Key: key}, nil)
		if len(items) != 7 || items[0].ID != "4" || string(items[6].Value) != `{"k":10,"v":"v10"}` {
			t.Errorf("the rows: %v", items)
		}
	}
	items := list(t, Spec{Source: "sqlite://" + filepath.Join(dir, "db"), Query: "SELECT * FROM t", Key: "v", Modified: "k"}, nil)
	if len(items) != 10 || items[1].ID != "v10" || items[1].Modified.Unix() != 10 {
		t.Errorf("the rows by their text: %v", items)
	}
	for _, bad := range []string{"lines://host/x", "lines:///none", "sqlite://" + dir, "ftp://" + dir, "chunks://" + dir, "lines+ftp:///x", "s3://bucket/x", "csv://" + dir + "?size=3"} {
		if _, err := OpenSource(Spec{Source: bad}, nil); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestAQueueIsEmptiedIntoItsJob(t *testing.T) {
	w := newWorld(t)
	queues, err := sqs.Open(t.Context(), sqs.Config{Store: w.store, Clock: clock.System(), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := queues.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := queues.Create(t.Context(), account, "q", nil, nil); err != nil {
		t.Fatal(err)
	}
	arn := queues.ARN(account, "q")
	for i := range 25 {
		if err := queues.Send(t.Context(), arn, []byte(strconv.Itoa(i)), nil); err != nil {
			t.Fatal(err)
		}
	}
	w.source = OpenQueue(queues, arn)
	var mu sync.Mutex
	got := map[string]bool{}
	w.call = func(ev callEvent) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		got[string(ev.Items[0].Value)] = true
		return nil, nil
	}
	w.open()
	s := w.until(w.start(Spec{}), func(s Status) bool { return s.Status == Finished })
	a, err := queues.Attributes(t.Context(), account, "q", []string{"All"})
	if err != nil || s.Succeeded != 25 || len(got) != 25 || a["ApproximateNumberOfMessages"] != "0" || a["ApproximateNumberOfMessagesNotVisible"] != "0" {
		t.Errorf("%+v, processed %d, left %v, %v", s, len(got), a, err)
	}
}
