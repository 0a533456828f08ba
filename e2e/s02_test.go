package e2e

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// The acceptance scenario of routing by how often code runs. Its half hour is
// pressed into seconds by a shorter window, and it is eight nodes and a hundred
// functions in its short form; what runs are real sandboxes of node processes.
//
// The same trace comes twice, to functions of their own: first with a node
// chosen at random, which is the control run, then with fleets.

// s02Form is how large it is.
type s02Form struct {
	nodes, functions, slots int // the server's own node is one of them; containers that fit on each
	warmup, measured        int // invocations
	perSecond               float64
	window                  time.Duration
	high                    int
	// gain is how much more of the coldest 80 % must find their code warm. p95:
	// there is room for all of the low-volume code, so that it is seldom cold.
	gain float64
	p95  bool
}

func s02Forms() []s02Form {
	forms := []s02Form{{nodes: 8, functions: 100, slots: 32, warmup: 100, measured: 400, perSecond: 200, window: 2500 * time.Millisecond, high: 12, gain: 0.2, p95: true}}
	if fullScenarios() {
		roomy := forms[0]
		roomy.warmup, roomy.measured = 1000, 4000
		full := s02Form{nodes: 20, functions: 1000, slots: 10, warmup: 3000, measured: 9000, perSecond: 150, window: 20 * time.Second, high: 60, gain: 0.03}
		forms = []s02Form{roomy, full}
	}
	return forms
}

// s02 is a server with its nodes.
type s02 struct {
	*server
	form   s02Form
	client *lambda.Client
	nodes  []*joined
	loaded time.Time // when the last load ended
}

func s02Start(t *testing.T, form s02Form) *s02 {
	t.Helper()
	size := []string{"--memory", fmt.Sprint(form.slots * 128), "--pool", "4", "--idle-ahead=false"}
	w := &s02{form: form}
	w.server = start(t, append(size, "--nodes", "127.0.0.1:0", "--fleet-window", form.window.String(), "--fleet-high", fmt.Sprint(form.high))...)
	w.client = w.server.client()
	for i := 1; i < form.nodes; i++ {
		w.nodes = append(w.nodes, w.join(fmt.Sprintf("n%02d", i), size...))
	}
	return w
}

// functions deploys that many, the most popular first.
func (w *s02) functions(prefix string) (names []string) {
	w.t.Helper()
	code := goZip(w.t, "echo")
	for i := range w.form.functions {
		names = append(names, fmt.Sprintf("%s%04d", prefix, i))
	}
	w.each(names, func(name string) {
		w.deploy(function{name: name, runtime: "provided.al2023", handler: "bootstrap", zip: code, memory: 128})
	})
	return names
}

// each does it for all names, eight at a time.
func (w *s02) each(names []string, do func(string)) {
	var all sync.WaitGroup
	next := make(chan string)
	for range 8 {
		all.Go(func() {
			for name := range next {
				do(name)
			}
		})
	}
	for _, name := range names {
		next <- name
	}
	close(next)
	all.Wait()
}

func (w *s02) call(name string) {
	switch out, err := w.client.Invoke(context.Background(), &lambda.InvokeInput{FunctionName: &name, Payload: []byte("1")}); {
	case err != nil:
		w.t.Errorf("invoke %s: %v", name, err)
	case out.FunctionError != nil:
		w.t.Errorf("invoke %s: %s: %s", name, aws.ToString(out.FunctionError), out.Payload)
	}
}

// load calls functions by Zipf's law with the exponent 1.1, at no more than the
// form's rate.
func (w *s02) load(names []string, n int, seed uint64) {
	weights := make([]float64, len(names))
	sum := 0.0
	for i := range weights {
		sum += math.Pow(float64(i+1), -1.1)
		weights[i] = sum
	}
	r := rand.New(rand.NewPCG(seed, 2))
	order := make([]string, n)
	for i := range order {
		at, _ := slices.BinarySearch(weights, r.Float64()*sum)
		order[i] = names[min(at, len(names)-1)]
	}
	var all sync.WaitGroup
	next := make(chan string)
	for range 8 {
		all.Go(func() {
			for name := range next {
				w.call(name)
			}
		})
	}
	tick := time.NewTicker(time.Duration(float64(time.Second) / w.form.perSecond))
	defer tick.Stop()
	for _, name := range order {
		<-tick.C
		next <- name
	}
	close(next)
	all.Wait()
}

// s02Run is what one run came to, by its decisions.
type s02Run struct {
	warm   float64       // share of the coldest 80 % that found their code warm
	p95    time.Duration // of what precedes their function's own time
	spread float64       // of the top five: the busiest node's invocations, by the mean of the nodes of its fleet
	nodes  int           // that the top five ran on
}

// judge looks at what was measured of names since then.
func (w *s02) judge(names []string, since time.Time) (r s02Run) {
	w.t.Helper()
	var starts []time.Duration
	warm := 0
	top := map[string]int{}
	c := w.controlClient()
	for rank, name := range names {
		ds, err := c.Find(context.Background(), control.DecisionQuery{Function: name, Kind: hearth.DecisionPlace, Limit: control.MaxDecisions})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, d := range ds {
			switch {
			case d.At.Before(since):
			case rank < 5:
				if d.Fleet != "low" || d.Why == "" { // what it was before it was known
					top[d.Node]++
				}
			case rank >= len(names)/5:
				start := time.Duration(0)
				for s := hearth.StagePlace; s < hearth.StageRun; s++ {
					start += d.Spent[s]
				}
				starts = append(starts, start)
				if d.Chosen == string(hearth.PathReuse) {
					warm++
				}
			}
		}
	}
	if len(starts) == 0 || len(top) == 0 {
		w.t.Fatalf("nothing was recorded: %d starts, %d nodes", len(starts), len(top))
	}
	slices.Sort(starts)
	r.warm, r.p95, r.nodes = float64(warm)/float64(len(starts)), starts[len(starts)*95/100], len(top)
	most, sum := 0, 0
	for _, n := range top {
		most, sum = max(most, n), sum+n
	}
	r.spread = float64(most) * float64(len(top)) / float64(sum)
	return r
}

// s02Rounds are run at most: a machine that does something else meanwhile
// decides one.
const s02Rounds = 3

// compare runs the trace with a node at random and with fleets, on functions of
// the round's own.
func (w *s02) compare(round int) (random, fleets s02Run, names []string) {
	w.t.Helper()
	for _, mode := range []string{"random", "auto"} {
		if out, err := w.hearth("policy", "set", "routing.mode="+mode); err != nil {
			w.t.Fatalf("%v\n%s", err, out)
		}
		names = w.functions(fmt.Sprint(mode, round))
		w.each(names, w.call) // all have run once, wherever that was
		w.load(names, w.form.warmup, 1)
		since := time.Now()
		w.load(names, w.form.measured, 2)
		w.loaded = time.Now()
		r := w.judge(names, since)
		w.t.Logf("%-6s: the coldest 80 %% found their code warm in %.1f %%, their start took %v at p95; the top 5 ran on %d nodes, the busiest had %.2f of the mean",
			mode, r.warm*100, r.p95, r.nodes, r.spread)
		if mode == "auto" {
			return random, r, names
		}
		random = r
		w.remove(names)
	}
	return random, fleets, names
}

// remove deletes functions, and with them their containers.
func (w *s02) remove(names []string) {
	w.each(names, func(name string) {
		if _, err := w.client.DeleteFunction(context.Background(), &lambda.DeleteFunctionInput{FunctionName: &name}); err != nil {
			w.t.Error(err)
		}
	})
}

// wrong is what is not as it should be in what was compared.
func (form s02Form) wrong(random, fleets s02Run) (wrong []string) {
	if fleets.warm < random.warm+form.gain {
		wrong = append(wrong, fmt.Sprintf("fleets found the code of the coldest 80 %% warm in %.2f, a random node in %.2f", fleets.warm, random.warm))
	}
	if form.p95 && fleets.p95 > random.p95 {
		wrong = append(wrong, fmt.Sprintf("with fleets the coldest 80 %% started in %v at p95, on a random node in %v", fleets.p95, random.p95))
	}
	if fleets.nodes < 2 || fleets.spread > 1.7 {
		wrong = append(wrong, fmt.Sprintf("the top 5 ran on %d nodes, of which the busiest had %.2f of the mean", fleets.nodes, fleets.spread))
	}
	return wrong
}

// routes are the changes of a function's class since then, the oldest first.
func (w *s02) routes(name string, since time.Time) (all []hearth.Decision) {
	w.t.Helper()
	ds, err := w.controlClient().Find(context.Background(), control.DecisionQuery{Function: name, Kind: hearth.DecisionRoute, Limit: 100})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Reverse(ds)
	for _, d := range ds {
		if !d.At.Before(since) {
			all = append(all, d)
		}
	}
	return all
}

// s02Pace is how many call a function, and how long each pauses after a call.
type s02Pace struct {
	callers int
	pause   time.Duration
}

// pace is one at which a function is called that often in a window, or less often
// if calls take long.
func (w *s02) pace(times float64, callers int) s02Pace {
	return s02Pace{callers, time.Duration(float64(w.form.window) * float64(callers) / times)}
}

// drive calls each of the functions at a pace of its own, for as long. It makes
// up for nothing that was late.
func (w *s02) drive(d time.Duration, paces map[string]s02Pace) {
	ctx, stop := context.WithTimeout(context.Background(), d)
	defer stop()
	var all sync.WaitGroup
	for name, pace := range paces {
		for range pace.callers {
			all.Go(func() {
				for ctx.Err() == nil {
					w.call(name)
					select {
					case <-time.After(pace.pause): // the load's own pace
					case <-ctx.Done():
					}
				}
			})
		}
	}
	all.Wait()
}

// once demands that a function became of that class, once, within two windows,
// and returns what it did instead.
func (w *s02) once(name, class string, since time.Time) (wrong []string) {
	w.t.Helper()
	got := w.routes(name, since)
	if len(got) != 1 || got[0].Chosen != class || got[0].At.Sub(since) > 2*w.form.window {
		wrong = append(wrong, fmt.Sprintf("%s was to become %s-volume code within %v, once: %+v", name, class, 2*w.form.window, got))
	}
	return wrong
}

func TestS02RoutingByHowOftenCodeRuns(t *testing.T) {
	t.Parallel()
	for i, form := range s02Forms() {
		t.Run(fmt.Sprint(i), func(t *testing.T) { s02Scenario(t, form) })
	}
}

func s02Scenario(t *testing.T, form s02Form) {
	w := s02Start(t, form)
	w.awaitNodes(form.nodes)
	random, fleets, names := w.compare(0)
	wrong := form.wrong(random, fleets)
	for round := 1; len(wrong) > 0 && round < s02Rounds; round++ {
		t.Logf("again, since %s", strings.Join(wrong, "; "))
		w.remove(names)
		random, fleets, names = w.compare(round)
		wrong = form.wrong(random, fleets)
	}
	for _, one := range wrong {
		t.Error(one)
	}

	// A cold function gets hot and a hot one cold, and one is called as often as
	// changes neither way.
	high := float64(form.high)
	rare := func(n int) string { return names[len(names)-1-n] }
	popular := names[0]
	got := w.routes(popular, time.Time{})
	got = slices.DeleteFunc(got, func(d hearth.Decision) bool { return d.At.After(w.loaded) }) // to judge takes longer than a window
	if len(got) == 0 || got[len(got)-1].Chosen != "high" {
		t.Errorf("the most popular function was %+v", got)
	}
	w.drive(form.window, map[string]s02Pace{popular: w.pace(3*high, 6)}) // as popular as it was
	for round, cold := 0, popular; round < s02Rounds; round++ {
		hot, between := rare(2*round), rare(2*round+1)
		if got := w.routes(hot, time.Time{}); len(got) != 0 {
			t.Errorf("one of the least popular functions was %+v", got)
		}
		since := time.Now()
		w.drive(2*form.window+form.window/4, map[string]s02Pace{hot: w.pace(3*high, 6), cold: w.pace(high/5, 1), between: w.pace(0.75*high, 1)})
		if got := w.routes(between, since); len(got) != 0 {
			t.Errorf("called between the bounds, it became %+v", got)
		}
		if wrong = append(w.once(hot, "high", since), w.once(cold, "low", since)...); len(wrong) > 0 {
			t.Logf("again, since %s", strings.Join(wrong, "; "))
			cold = hot
			continue
		}
		if d := w.placed(hot); d.Fleet != "high" || d.Node == "" {
			t.Errorf("the hot one ran on %q of %q", d.Node, d.Fleet)
		}
		if d := w.placed(cold); d.Fleet != "low" {
			t.Errorf("the cold one ran on %q of %q", d.Node, d.Fleet)
		}
		break
	}
	for _, one := range wrong {
		t.Error(one)
	}

	// The history is emptied under a server that dies: what is routed then is
	// low-volume code, until it is known again.
	address := w.nodesAddress()
	w.kill9()
	emptyHistory(t, w.dir)
	w.server = startIn(t, w.dir, "--memory", fmt.Sprint(form.slots*128), "--pool", "4", "--nodes", address, "--fleet-window", form.window.String(), "--fleet-high", fmt.Sprint(form.high))
	w.client = w.server.client()
	w.awaitNodes(form.nodes)
	for round := range s02Rounds {
		hot, since := rare(2*round), time.Now()
		w.call(hot)
		if d := w.placed(hot); d.Fleet != "low" || d.Outcome != "ok" {
			t.Errorf("without a history it ran on %q of %q, because %s", d.Node, d.Fleet, d.Why)
		}
		w.drive(2*form.window, map[string]s02Pace{hot: w.pace(3*high, 6)})
		if wrong = w.once(hot, "high", since); len(wrong) > 0 {
			t.Logf("again, since %s", strings.Join(wrong, "; "))
			continue
		}
		if d := w.placed(hot); d.Fleet != "high" {
			t.Errorf("with a history again it ran on %q of %q", d.Node, d.Fleet)
		}
		break
	}
	for _, one := range wrong {
		t.Error(one)
	}
	var all sync.WaitGroup
	for _, n := range w.nodes {
		all.Go(func() { n.stop(t) })
	}
	all.Wait()
}

// emptyHistory takes out of a data folder, whose server does not run, all that
// was counted.
func emptyHistory(t *testing.T, dir string) {
	t.Helper()
	s, err := sqlite.Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	const bucket = "routing-history"
	gone := 0
	err = s.Update(context.Background(), func(tx store.Tx) error {
		gone = 0
		var keys []string
		for rec, err := range tx.Scan(bucket, "", "") {
			if err != nil {
				return err
			}
			keys = append(keys, rec.Key)
		}
		for _, k := range keys {
			if err := tx.Delete(bucket, k); err != nil {
				return err
			}
			gone++
		}
		return nil
	})
	if err != nil || gone == 0 {
		t.Errorf("%d records were taken out: %v", gone, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
