package backfill

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

// growing has n old items, and one more each time that some have passed.
type growing struct {
	old   int
	began time.Time
	every time.Duration
	most  int
}

func (g *growing) Steady() bool    { return false }
func (g *growing) Since(time.Time) {}
func (g *growing) Close() error    { return nil }

func (g *growing) Page(_ context.Context, position string, most int) (items []Item, next string, err error) {
	at, err := offset(position)
	if err != nil {
		return nil, "", err
	}
	n := g.old + min(int(time.Since(g.began)/g.every), g.most)
	for ; int(at) < n && len(items) < most; at++ {
		it := Item{ID: strconv.Itoa(int(at)), Value: json.RawMessage("null"), Modified: g.began.Add(-time.Hour)}
		if k := int(at) - g.old; k >= 0 {
			it.Modified = g.began.Add(time.Duration(k+1) * g.every)
		}
		items = append(items, it)
	}
	if int(at) < n {
		return items, strconv.Itoa(int(at)), nil
	}
	return items, "", nil
}

// TestWhatIsNewIsDoneBeforeTheBacklog goes by when the function was called: the
// backlog alone would take longer than the period. On a machine that is so busy
// that it can't keep up with what is new, some of that becomes backlog, as it
// should: then fewer new items come.
func TestWhatIsNewIsDoneBeforeTheBacklog(t *testing.T) {
	for most := 150; ; most /= 3 {
		s, after := followed(t, most)
		if s.New.Deferred > 0 && most > 10 {
			t.Logf("of %d new items %d were deferred", most, s.New.Deferred)
			continue
		}
		if s.New.Deferred > 0 || after == 0 {
			t.Errorf("%d of the backlog were called after the new ones: %+v", after, s.New)
		}
		return
	}
}

// followed runs a job while so many new items come within three seconds. It
// also returns how many of the backlog were called after the last of those.
func followed(t *testing.T, most int) (s Status, after int) {
	w := newWorld(t)
	g := &growing{old: 6000, began: time.Now(), every: 3 * time.Second / time.Duration(most), most: most}
	w.source = g
	var mu sync.Mutex
	called := map[string]time.Time{}
	w.call = func(ev callEvent) ([]byte, error) {
		time.Sleep(2 * time.Millisecond) // the work of a call
		mu.Lock()
		defer mu.Unlock()
		for _, it := range ev.Items {
			called[it.ID] = time.Now()
		}
		return nil, nil
	}
	w.open()
	id := w.start(Spec{Parallel: 2, Within: 2})
	w.until(id, func(s Status) bool { return s.New != nil && s.New.Done > most/7 })
	if err := w.Jobs.Close(); err != nil { // a restart goes on with both
		t.Fatal(err)
	}
	w.open()
	s = w.until(id, func(s Status) bool { return s.Status == Finished })
	if s.Found != g.old+g.most || s.Succeeded != s.Found || s.New.Found+s.New.Deferred < g.most {
		t.Errorf("%+v, new %+v", s, s.New)
	}
	last := called[strconv.Itoa(g.old+g.most-1)]
	for i := range g.old {
		if called[strconv.Itoa(i)].After(last) {
			after++
		}
	}
	return s, after
}

func TestTheBacklogKeepsItsShareOfTheCalls(t *testing.T) {
	j := &job{fresh: make([]*item, 1), ready: make([]*item, 1)}
	backlog := 0
	for range 10 * backlogShare {
		if j.which() == &j.ready {
			backlog++
		}
	}
	if backlog != 10 {
		t.Errorf("of %d calls %d were the backlog's", 10*backlogShare, backlog)
	}
	if j.fresh = nil; j.which() != &j.ready {
		t.Error("with nothing new the backlog waits")
	}
	if j.ready = nil; j.which() != nil {
		t.Error("there is a call to make of nothing")
	}
}

// recorder keeps decisions.
type recorder struct {
	mu   sync.Mutex
	kept []hearth.Decision
}

func (r *recorder) Record(d *hearth.Decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = append(r.kept, *d)
}

// TestTheDemarcationMovesToWhereWhatIsNewFits goes through it by hand: 100 items
// a second come, and 40 are done.
func TestTheDemarcationMovesToWhereWhatIsNewFits(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	now := began.Add(20 * time.Second)
	r := &recorder{}
	j := &job{
		jobs: &Jobs{cfg: Config{Clock: fixed(now), Recorder: r}}, inside: map[hash]*item{}, follow: &follow{},
		rec: record{Status: Status{Status: Running, Spec: Spec{Within: 4, Batch: 1, Parallel: 1}, Succeeded: 800, New: &New{Since: began}, Listed: true}},
	}
	j.cond = sync.NewCond(&j.mu)
	j.done = []sample{{began, 0}}
	for i := range 600 {
		it := &item{stored: stored{ID: strconv.Itoa(i), Modified: now.Add(-time.Duration(i) * 10 * time.Millisecond).UnixMilli()}, new: true}
		it.hash = hashOf(it.ID)
		j.inside[it.hash] = it
		j.push(it)
		j.news++
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	// 35 a second are left for what is new: 140 in 4 s, which came in 1.4 s.
	j.demarcate(now, began, 2000, 600)
	want := now.Add(-1400 * time.Millisecond)
	if got := j.rec.New.Since; got.Sub(want).Abs() > time.Millisecond {
		t.Errorf("the demarcation is %v, should be %v", got, want)
	}
	if len(j.fresh) != 141 || j.news != 141 || len(j.ready) != 459 || j.rec.New.Deferred != 459 || j.rec.Listed {
		t.Errorf("%d are new (%d), %d backlog, listed %v", len(j.fresh), j.news, len(j.ready), j.rec.Listed)
	}
	if len(r.kept) != 1 || r.kept[0].Kind != hearth.DecisionBackfill || r.kept[0].Chosen != "demarcate" || !strings.Contains(r.kept[0].Why, "1200 new items wait, of 100.0 a second; at 35.0 done a second") {
		t.Errorf("the decision: %+v", r.kept)
	}
	before := j.rec.New.Since
	if j.demarcate(now, began, 100, 0); j.rec.New.Since != before {
		t.Error("it moved though what is new fits")
	}
}

type fixed time.Time

func (f fixed) Now() time.Time { return time.Time(f) }

func (f fixed) AfterFunc(time.Duration, func()) hearth.Timer { panic("nothing waits") }

func TestASourceThatSaysNoTimesHasNothingNew(t *testing.T) {
	w := newWorld(t)
	w.source = shuffled{{ID: "a", Value: json.RawMessage("1")}}
	w.open()
	for _, s := range []Spec{{Within: 5}, {Within: -1}, {Within: 5, Order: &Order{Chain: "x"}}, {Within: 5, Query: "SELECT 1"}} {
		s.Function = "f"
		if _, err := w.Start(context.Background(), account, s); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%+v: %v", s, err)
		}
	}
	if list := w.List(account); len(list) != 0 {
		t.Errorf("what was refused is there: %v", list)
	}
}
