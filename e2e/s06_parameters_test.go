package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// Subscribers of a task API give its tasks parameters, secrets of their own among
// them, for the whole set in one operation.

// s06Set is the code of a release of both tasks: it answers with what it finds of
// the parameters, and fails with them if it is asked to.
const s06Set = `import os, socket
MARK = "b-source-of-tasks"
def handler(event, context):
    found = {k: os.environ[k] for k in ("KEY", "TOKEN", "PREFIX") if k in os.environ}
    if event.get("do") == "raise":
        raise ValueError(MARK + str(found))
    if event.get("to"):
        host, port = event["to"].split(":")
        try:
            with socket.create_connection((host, int(port)), timeout=30) as c:
                c.sendall((found["KEY"] + "\n").encode())
                return {"sent": c.recv(8).decode()}
        except OSError:
            return {"sent": "refused"}
    return {"release": RELEASE, "found": found}
`

// found is what a task answers.
type s06Found struct {
	Release int
	Found   map[string]string
	Sent    string
}

func s06Ask(t *tenant, name, event string) (f s06Found, err error) {
	got, err := t.invoke(name, event)
	if err == nil && got.functionError != "" {
		err = fmt.Errorf("%s", got.payload)
	}
	if err == nil {
		err = json.Unmarshal([]byte(got.payload), &f)
	}
	return f, err
}

func TestS06SubscribersSetParametersOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := start(t)
	outside := newOutside(t)
	b, a1, a2 := s.tenant("team-b"), s.tenant("team-a1"), s.tenant("team-a2")
	release := func(n int) map[string]string {
		return map[string]string{"index.py": strings.Replace(s06Set, "RELEASE", fmt.Sprint(n), 1)}
	}
	for _, name := range []string{"sign", "check"} {
		b.deploy(function{name: name, runtime: "python3.12", files: release(1), env: map[string]string{"PREFIX": "owners"}})
	}
	b.must("tasks", "create", "pen", "--open", "--reaches", "db.example:443")
	b.must("tasks", "put", "pen", "sign=sign", "check=check", "--parameter", "KEY:secret:required", "--parameter", "PREFIX=offered")
	if out, err := a1.hearth("tasks", "subscribe", b.id+"/pen"); err == nil || !strings.Contains(err.Error(), "KEY is required") {
		t.Errorf("without a required parameter: %v %s", err, out)
	}
	if out, err := a1.hearth("tasks", "subscribe", b.id+"/pen", "--set", "KEY=k", "--set", "LD_PRELOAD=x"); err == nil {
		t.Errorf("with a variable that loads code: %s", out)
	}
	keys := map[*tenant]string{a1: "key-of-a1-" + a1.id, a2: "key-of-a2-" + a2.id}
	for a, key := range keys {
		if out, err := a.hearthWith(key, "tasks", "subscribe", b.id+"/pen", "--set-file", "KEY=-"); err != nil || strings.Contains(out, key) {
			t.Fatal(err, out)
		}
	}
	for a, key := range keys {
		for _, task := range []string{"pen--sign", "pen--check"} {
			if f, err := s06Ask(a, task, `{}`); err != nil || f.Release != 1 || f.Found["KEY"] != key || f.Found["PREFIX"] != "offered" {
				t.Errorf("%s of %s: %+v, %v", task, a.id, f, err)
			}
		}
	}

	// They are shown to nobody: not by an API, an error, a log or the disk.
	var seen strings.Builder
	for _, who := range []*tenant{b, a1, a2} {
		for _, args := range [][]string{{"tasks", "--json"}, {"tasks"}, {"decisions", "--json", "--limit", "1000"}, {"audit", "--json"}, {"ps", "--json"}, {"logs", "pen--sign"}, {"logs", "sign"}, {"explain", "pen--sign"}} {
			out, err := who.hearth(args...)
			fmt.Fprintln(&seen, out, err)
		}
		out, err := who.hearth("tasks", "subscribers", "pen", "--json")
		fmt.Fprintln(&seen, out, err)
	}
	got, err := a1.invoke("pen--sign", `{"do":"raise"}`)
	if err != nil || got.functionError == "" {
		t.Errorf("%v %+v", err, got)
	}
	fmt.Fprintln(&seen, got.payload, decoded(t, got.log))
	// Of the request id that A1 tells it, the owner learns its own side alone.
	var raised string
	await(t, patience, "the run that raised is recorded", func() bool {
		for _, d := range a1.decisions("place") {
			if d.Outcome == "error" {
				raised = d.RequestID
			}
		}
		return raised != ""
	})
	story := b.must("explain", raised)
	if !strings.Contains(story, "account "+a1.id+", by task sign of the API pen at prod") || !strings.Contains(story, "error in") || strings.Contains(story, "pen--sign") {
		t.Errorf("the owner is told %s", story)
	}
	if out, err := a2.hearth("explain", raised); err == nil {
		t.Errorf("A2 is told %s", out)
	}
	fmt.Fprintln(&seen, story)
	for _, secret := range []string{keys[a1], keys[a2], "b-source-of-tasks"} {
		if i, s := strings.Index(seen.String(), secret), seen.String(); i >= 0 {
			t.Errorf("somebody sees %q: …%s…", secret, s[max(0, i-300):min(len(s), i+200)])
		}
	}

	// What the owner says later does not let them out.
	b.must("tasks", "configure", "pen", "--open", "--reaches", outside.ledger)
	if f, err := s06Ask(a1, "pen--sign", `{"to":"`+outside.ledger+`"}`); err != nil || f.Sent != "refused" {
		t.Errorf("%+v, %v", f, err)
	}
	if _, ok := outside.written.Load(keys[a1]); ok {
		t.Error("A1's key was written down elsewhere")
	}
	a1.must("tasks", "subscribe", b.id+"/pen", "--allow-offered")
	if f, err := s06Ask(a1, "pen--sign", `{"to":"`+outside.ledger+`"}`); err != nil || f.Sent == "refused" {
		t.Errorf("where A1 lets it: %+v, %v", f, err)
	}

	// A new key: the next call has it.
	keys[a1] = "new-" + keys[a1]
	if _, err := a1.hearthWith(keys[a1], "tasks", "subscribe", b.id+"/pen", "--set-file", "KEY=-", "--set", "PREFIX=mine"); err != nil {
		t.Fatal(err)
	}
	if f, err := s06Ask(a1, "pen--check", `{}`); err != nil || f.Found["KEY"] != keys[a1] || f.Found["PREFIX"] != "mine" {
		t.Errorf("%+v, %v", f, err)
	}

	s06ChangesInFlight(t, b, a1, a2, release)

	// A power cut: what was set last holds.
	s.kill9()
	again := startIn(t, s.dir)
	if f, err := s06Ask(a1.at(again), "pen--sign", `{}`); err != nil || f.Found["TOKEN"] != "token-of-a1" {
		t.Errorf("after a power cut: %+v, %v", f, err)
	}
	again.stop()
	inFolder(t, s.dir, keys[a1], keys[a2], "token-of-a1")
	if log := s.log.String() + again.log.String(); strings.Contains(log, keys[a1]) || strings.Contains(log, keys[a2]) {
		t.Error("the server's log has a key")
	}
}

// s06ChangesInFlight: tasks and parameters change together under calls. Release 2
// has TOKEN instead of KEY; A1 has set it ahead at another stage, and A2 has not.
func s06ChangesInFlight(t *testing.T, b, a1, a2 *tenant, release func(int) map[string]string) {
	for _, name := range []string{"sign", "check"} {
		if _, err := b.client().UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: zipOf(t, release(2))}); err != nil {
			t.Fatal(err)
		}
		b.waitActive(name)
	}
	b.must("tasks", "put", "pen", "--stage", "beta", "sign=sign", "check=check", "--parameter", "TOKEN:secret:required")
	a1.must("tasks", "subscribe", b.id+"/pen", "--set", "TOKEN=token-of-a1")
	if f, err := s06Ask(a1, "pen--sign:beta", `{}`); err != nil || f.Release != 2 || f.Found["TOKEN"] != "token-of-a1" || f.Found["KEY"] != "" || f.Found["PREFIX"] != "owners" {
		t.Errorf("at the stage beta: %+v, %v", f, err)
	}
	var old, now atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			last := 0
			for n := i; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				f, err := s06Ask(a1, []string{"pen--sign", "pen--check"}[n%2], `{}`)
				switch {
				case err != nil || f.Release < last:
					t.Errorf("after release %d: %+v, %v", last, f, err)
					return
				case f.Release == 1 && f.Found["KEY"] != "" && f.Found["TOKEN"] == "":
					old.Add(1)
				case f.Release == 2 && f.Found["KEY"] == "" && f.Found["TOKEN"] == "token-of-a1":
					now.Add(1)
				default:
					t.Errorf("a set with another's parameters: %+v", f)
					return
				}
				last = f.Release
			}
		})
	}
	await(t, patience, "calls of the old set", func() bool { return old.Load() > 12 || t.Failed() })
	b.must("tasks", "put", "pen", "sign=sign", "check=check", "--parameter", "TOKEN:secret:required")
	await(t, patience, "calls of the new set", func() bool { return now.Load() > 12 || t.Failed() })
	close(stop)
	wg.Wait()
	t.Logf("%d calls ran the old set, %d the new", old.Load(), now.Load())
	// Who has not set it is told what to do, and then goes on.
	_, err := a2.invoke("pen--sign", `{}`)
	if code(err) != "AccessDeniedException" || !strings.Contains(err.Error(), "--set TOKEN=") {
		t.Errorf("A2 without TOKEN: %v", err)
	}
	if out := a2.must("tasks"); !strings.Contains(out, "!TOKEN") {
		t.Errorf("hearth tasks: %s", out)
	}
	a2.must("tasks", "subscribe", b.id+"/pen", "--set", "TOKEN=token-of-a2", "--unset", "KEY")
	if f, err := s06Ask(a2, "pen--sign", `{}`); err != nil || f.Found["TOKEN"] != "token-of-a2" {
		t.Errorf("%+v, %v", f, err)
	}
}
