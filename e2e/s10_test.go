package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/hearth-faas/hearth"
)

// The acceptance scenario of deadline scheduling, shrunk: the machine's load is a
// square wave, and callers, at any time of it, call a child whose answer they need
// two seconds later. The control run is the same callers under another name,
// whose policy has the child run at once, at the same time.

const (
	s10Need    = 2 * time.Second
	s10Child   = 100 * time.Millisecond
	s10Half    = 700 * time.Millisecond // of the wave
	s10Hogs    = 8                      // at its top, of 1,088 MiB each: more than seven tenths of the memory
	s10Callers = 10
	s10Apart   = 400 * time.Millisecond
	s10Rounds  = 3 // at most: a machine that does something else meanwhile decides one
)

const s10Caller = `import time
import hearth_calls

def handler(event, context):
    call = hearth_calls.call(event["child"], {"seconds": event.get("childSeconds", 0.1)}, need_in=event.get("needIn", 0))
    time.sleep(event["work"])
    began = time.monotonic()
    answer = call.result()
    return {"id": call.id, "state": call.state, "why": call.why, "waited": time.monotonic() - began, "answer": answer}
`

const s10Sleeper = `import time

def handler(event, context):
    time.sleep(event["seconds"])
    return "slept"
`

const s10Node = `import { call } from "./hearth-calls.mjs";
export const handler = async (event) => {
  const made = await call(event.child, { seconds: 0 });
  const early = await made.done(30);
  return { answer: await made.result(), early };
};
`

// s10Answer is what a caller tells.
type s10Answer struct {
	ID, State, Why, Answer string
	Waited                 float64 // seconds
}

func (s *server) s10(caller string, event map[string]any) (a s10Answer) {
	payload, err := json.Marshal(event)
	if err != nil {
		s.t.Error(err)
	}
	out, err := s.client().Invoke(s.t.Context(), &lambda.InvokeInput{FunctionName: &caller, Payload: payload})
	switch {
	case err != nil:
		s.t.Errorf("%s: %v", caller, err)
	case out.FunctionError != nil:
		s.t.Errorf("%s: %s: %s", caller, aws.ToString(out.FunctionError), out.Payload)
	default:
		if err := json.Unmarshal(out.Payload, &a); err != nil {
			s.t.Errorf("%s answers %s: %v", caller, out.Payload, err)
		}
	}
	return a
}

func TestS10DeadlineScheduling(t *testing.T) {
	t.Parallel()
	s := start(t, "--memory", "12288", "--overcommit", "1")
	client, err := os.ReadFile("../clients/python/hearth_calls.py")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"caller", "control"} {
		s.deploy(function{name: name, runtime: "python3.12", memory: 128, timeout: 30, files: map[string]string{"index.py": s10Caller, "hearth_calls.py": string(client)}})
	}
	for name, memory := range map[string]int32{"child": 128, "child-control": 128, "hog": 1088} {
		s.deploy(function{name: name, runtime: "python3.12", memory: memory, timeout: 30, files: map[string]string{"index.py": s10Sleeper}})
	}
	s.must("policy", "set", "control", "deadline.mode=off")
	event := func(child string) map[string]any {
		return map[string]any{"child": child, "work": s10Need.Seconds(), "childSeconds": s10Child.Seconds()}
	}
	var all sync.WaitGroup
	for range 6 { // so that no cold start is learned from, nor waited for
		for _, name := range []string{"child", "child-control"} {
			all.Go(func() {
				if _, err := s.invoke(name, `{"seconds": 0.3}`); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	for range 6 { // learn
		all.Go(func() {
			if a := s.s10("caller", event("child")); a.State != "running" || a.Answer != "slept" {
				t.Errorf("without history: %+v", a)
			}
		})
	}
	all.Wait()

	measure := func() ([]s10Answer, []string) {
		// The wave, until the callers are done.
		over := make(chan struct{})
		var wave sync.WaitGroup
		wave.Go(func() {
			for tick := time.NewTicker(2 * s10Half); ; {
				for range s10Hogs {
					wave.Go(func() {
						if a, err := s.invoke("hog", fmt.Sprintf(`{"seconds": %g}`, s10Half.Seconds())); err != nil || a.functionError != "" {
							t.Errorf("hog: %+v, %v", a, err)
						}
					})
				}
				select {
				case <-over:
					tick.Stop()
					return
				case <-tick.C:
				}
			}
		})
		before := s.last()
		run := func(caller, child string) (answers []s10Answer) {
			var mu sync.Mutex
			var all sync.WaitGroup
			for i := range s10Callers {
				all.Go(func() {
					time.Sleep(time.Duration(i) * s10Apart)
					a := s.s10(caller, event(child))
					mu.Lock()
					defer mu.Unlock()
					answers = append(answers, a)
				})
			}
			all.Wait()
			return answers
		}
		var on, off []s10Answer
		all.Go(func() { on = run("caller", "child") })
		all.Go(func() { off = run("control", "child-control") })
		all.Wait()
		close(over)
		wave.Wait()

		if t.Failed() {
			return nil, nil // what was answered can't be judged
		}
		hogs := s.tell("hog", hearth.DecisionPlace, before)
		onTop := func(child string) (n int) {
			for _, d := range s.tell(child, hearth.DecisionPlace, before) {
				// What waits is run as the top ends, while the last of the load is
				// still ending: with two of it ended there is spare capacity.
				at, _ := runOf(d)
				busy := 0
				for _, h := range hogs {
					if from, to := runOf(h); !from.After(at) && to.After(at) {
						busy++
					}
				}
				if busy >= s10Hogs-1 {
					n++
				}
			}
			return n
		}
		queued, late := 0, 0
		for _, a := range on {
			if a.State == "queued" || strings.Contains(a.Why, "can wait") {
				queued++
			}
			if a.Waited > 0.25 {
				late++
			}
		}
		median := func(answers []s10Answer) float64 {
			w := make([]float64, len(answers))
			for i, a := range answers {
				w[i] = a.Waited
			}
			slices.Sort(w)
			return w[len(w)/2]
		}
		top, topOff := onTop("child"), onTop("child-control")
		t.Logf("of %d children %d ran at the top of the load, %d when run at once; %d could wait; their callers waited %.0f ms in the middle, %d of them longer; in the control run %.0f ms",
			len(on), top, topOff, queued, median(on)*1000, late, median(off)*1000)
		figure(t, "children at the top of the load", float64(top), "", false)
		figure(t, "children at the top of the load in the control", float64(topOff), "", true)
		var wrong []string
		if queued < s10Callers*2/3 {
			wrong = append(wrong, fmt.Sprintf("only %d of %d could wait", queued, s10Callers))
		}
		if topOff < 3 || top*2 > topOff {
			wrong = append(wrong, fmt.Sprintf("%d ran at the top of the load, %d when run at once", top, topOff))
		}
		if median(on) > median(off)+0.1 {
			wrong = append(wrong, fmt.Sprintf("callers waited for %.3f s, and %.3f without", median(on), median(off)))
		}
		return on, wrong
	}
	on, wrong := measure()
	for round := 1; len(wrong) > 0 && round < s10Rounds && !t.Failed(); round++ {
		t.Logf("again, since %s", strings.Join(wrong, "; "))
		on, wrong = measure()
	}
	if t.Failed() {
		return // what was answered can't be judged
	}
	for _, w := range wrong {
		t.Error(w)
	}

	// A caller that asks early has it run at once; one that needs it at once never
	// waits in the queue.
	early := s.s10("caller", map[string]any{"child": "child", "work": 0.3, "needIn": 20})
	if early.Waited > 5 || early.Answer != "slept" {
		t.Errorf("who asks early: %+v", early)
	}
	if a := s.s10("caller", map[string]any{"child": "child", "work": 0, "needIn": 0.01}); a.State != "running" {
		t.Errorf("needed at once: %+v", a)
	}
	// The child's story says when it was run, and why then.
	if out := s.must("explain", on[0].ID); !strings.Contains(out, "it was called ") {
		t.Errorf("hearth explain says %s", out)
	}
	// The client for node.
	node, err := os.ReadFile("../clients/node/hearth-calls.mjs")
	if err != nil {
		t.Fatal(err)
	}
	s.deploy(function{name: "node", runtime: "nodejs22.x", timeout: 30, files: map[string]string{"index.mjs": s10Node, "hearth-calls.mjs": string(node)}})
	if a, err := s.invoke("node", `{"child": "child"}`); err != nil || a.payload != `{"answer":"slept","early":true}` {
		t.Errorf("node: %+v, %v", a, err)
	}
}

// runOf is when an invocation's code ran.
func runOf(d hearth.Decision) (from, to time.Time) {
	to = d.At.Add(-d.Spent[hearth.StageAnswer])
	return to.Add(-d.Spent[hearth.StageRun]), to
}

// TestGoFunctionsCallNowAndAwaitLater: the client for Go against a server, and
// what hearth explain says of a policy.
func TestGoFunctionsCallNowAndAwaitLater(t *testing.T) {
	t.Parallel()
	s := start(t, "--pool", "64")
	s.deploy(function{name: "calls", runtime: "provided.al2023", handler: "bootstrap", timeout: 30, memory: 128, zip: goZip(t, "calls")})
	s.deploy(function{name: "child", runtime: "python3.12", memory: 128, timeout: 30, files: map[string]string{"index.py": `
def handler(event, context):
    if event.get("fail"): raise ValueError("asked to")
    return {"got": event["n"]}
`}})
	type answer struct {
		ID, Failed string
		Early      bool
		Answer     any
	}
	ask := func(event string) (a answer) {
		t.Helper()
		out := s.mustInvoke("calls", event)
		if out.functionError != "" {
			t.Fatalf("%s: %s", event, out.payload)
		}
		if err := json.Unmarshal([]byte(out.payload), &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := ask(`{"child": "child", "event": {"n": 7}}`)
	if got, _ := a.Answer.(map[string]any); got["got"] != 7.0 || !a.Early || a.Failed != "" {
		t.Errorf("the answer: %+v", a)
	}
	if out := s.must("explain", a.ID); !strings.Contains(out, "it was called ") {
		t.Errorf("hearth explain says %s", out)
	}
	if a := ask(`{"child": "child", "event": {"n": 7, "fail": true}}`); !strings.Contains(a.Failed, "asked to") {
		t.Errorf("a child that fails: %+v", a)
	}
	if out, err := s.invoke("calls", `{"child": "nobody", "event": {}}`); err != nil || !strings.Contains(out.payload, "404") {
		t.Errorf("nobody is called: %+v, %v", out, err)
	}
	if out := s.must("explain", "calls"); strings.Contains(out, "deadline.mode") {
		t.Errorf("without a policy hearth explain says %s", out)
	}
	s.must("policy", "set", "calls", "deadline.mode=off")
	if out := s.must("explain", "calls"); !strings.Contains(out, "runs at once: its execution policy says deadline.mode=off") {
		t.Errorf("hearth explain says %s", out)
	}
}
