package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/hearth-faas/hearth/internal/pgtest"
)

// ledgerFunction writes the id of its event down outside, and then fails if it
// is asked to.
const ledgerFunction = `
import os, socket
host, port = os.environ["LEDGER"].rsplit(":", 1)
conn = None
def handler(event, context):
    global conn
    if conn is None:
        conn = socket.create_connection((host, int(port)))
    try:
        conn.sendall((event["id"] + "\n").encode())
        if conn.recv(3) != b"ok\n": raise ConnectionError("hung up")
    except OSError:
        conn = None
        raise
    if event.get("fail"): raise ValueError("asked to")
`

// withDatabase gives hearth up the database as its environment, which other
// users can't read.
func withDatabase(url string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "HEARTH_DATABASE="+url) }
}

// eventLoad sends events to a server until it is stopped, and remembers which
// were acknowledged.
type eventLoad struct {
	name         string
	mu           sync.Mutex
	acknowledged map[string]string // id to the request id that it was accepted with
	next         atomic.Int64
}

func (l *eventLoad) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acknowledged)
}

// run sends from several clients until the server is gone, or stop is closed.
func (l *eventLoad) run(s *server, stop <-chan struct{}) *sync.WaitGroup {
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			c := s.client()
			for {
				select {
				case <-s.stopped:
					return
				case <-stop:
					return
				default:
				}
				n := l.next.Add(1)
				id := fmt.Sprintf("%s-%d", l.name, n)
				payload := fmt.Sprintf(`{"id":%q,"fail":%v}`, id, n%7 == 0)
				out, err := c.Invoke(s.t.Context(), &lambda.InvokeInput{
					FunctionName: ptr("work"), InvocationType: types.InvocationTypeEvent, Payload: []byte(payload),
				})
				if err != nil || out.StatusCode != 202 {
					continue // it was not acknowledged; whether it is run is open
				}
				request, ok := middleware.GetRequestIDMetadata(out.ResultMetadata)
				if !ok {
					s.t.Errorf("%s was accepted without a request id", id)
				}
				l.mu.Lock()
				l.acknowledged[id] = request
				l.mu.Unlock()
			}
		})
	}
	return &clients
}

// await waits for a number of further acknowledgements.
func (l *eventLoad) await(t *testing.T, more int) {
	t.Helper()
	before := l.count()
	for end := time.Now().Add(2 * time.Minute); l.count() < before+more; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d events were acknowledged in two minutes", l.count()-before, more)
		}
	}
}

// settled demands that every acknowledged event was written down outside, and
// that those that failed are parked.
func (l *eventLoad) settled(s *server, out outside) {
	s.t.Helper()
	var missing []string
	var parked map[string]string
	failed := 0
	for end := time.Now().Add(4 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		missing, parked, failed = nil, s.parked(), 0
		for id, request := range l.acknowledged {
			var n int
			if _, err := fmt.Sscanf(id, l.name+"-%d", &n); err != nil {
				s.t.Fatal(err)
			}
			_, written := out.written.Load(id)
			_, given := parked[request]
			if n%7 == 0 {
				failed++
				if !written || !given {
					missing = append(missing, id)
				}
			} else if !written {
				missing = append(missing, id)
			}
		}
		if len(missing) == 0 {
			break
		}
	}
	if len(missing) > 0 {
		s.t.Fatalf("%d of %d acknowledged events were not processed, or failed and were not parked: %.300v", len(missing), len(l.acknowledged), missing)
	}
	for id, reason := range parked {
		if reason != "RetriesExhausted" {
			s.t.Errorf("%s is parked for %s", id, reason)
		}
	}
	s.t.Logf("%d events acknowledged, all processed; %d failed and are parked", len(l.acknowledged), failed)
}

// parked are the parked events' reasons by request id.
func (s *server) parked() map[string]string {
	s.t.Helper()
	text, err := s.hearth("parked", "--limit", "1000", "--json")
	if err != nil {
		s.t.Fatal(err)
	}
	var list []struct{ ID, Reason string }
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
	parked := map[string]string{}
	for _, p := range list {
		parked[p.ID] = p.Reason
	}
	return parked
}

func (s *server) deployLedger(out outside) {
	s.t.Helper()
	s.deploy(function{name: "work", runtime: "python3.11", handler: "app.handler", memory: 128, timeout: 60,
		files: map[string]string{"app.py": ledgerFunction}, env: map[string]string{"LEDGER": out.ledger}})
}

// However often the server is killed while clients send events, each event
// that it acknowledged is run at least once, as is written down outside of it,
// and what failed for good is parked.
func TestEveryAcknowledgedEventIsProcessedThroughManyKills(t *testing.T) {
	t.Parallel()
	kills, between := 3, 60
	if os.Getenv("HEARTH_SCENARIOS") == "full" {
		kills, between = 25, 200
	}
	out := newOutside(t)
	for name, change := range map[string]func(*testing.T) func(*exec.Cmd){
		"SQLite":     func(*testing.T) func(*exec.Cmd) { return func(*exec.Cmd) {} },
		"PostgreSQL": func(t *testing.T) func(*exec.Cmd) { return withDatabase(pgtest.New(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp(scratch, "data-")
			if err != nil {
				t.Fatal(err)
			}
			change := change(t)
			load := &eventLoad{name: name, acknowledged: map[string]string{}}
			open := func() *server {
				return startAs(t, dir, change, "--memory", "1024", "--pool", "64", "--event-retry", "50ms")
			}
			s := open()
			s.deployLedger(out)
			for range kills {
				clients := load.run(s, nil)
				load.await(t, between)
				s.kill9()
				clients.Wait()
				s = open()
			}
			load.settled(s, out)
		})
	}
}

// While a flood of one function's events has taken all the memory that it gets,
// another function's event is run without waiting for the flood to end, although
// its container has to be made yet.
func TestAFloodOfEventsDoesNotDelayAnothersTrickle(t *testing.T) {
	t.Parallel()
	out := newOutside(t)
	s := start(t, "--memory", "1024", "--pool", "64")
	s.deployLedger(out)
	const flood = 300 // a second each, six at a time: most of a minute
	s.deploy(function{name: "flood", runtime: "python3.11", handler: "app.handler", memory: 128,
		files: map[string]string{"app.py": "import time\nimport work\ndef handler(event, context):\n    time.sleep(1)\n    work.handler(event, context)\n", "work.py": ledgerFunction},
		env:   map[string]string{"LEDGER": out.ledger}})
	send := func(name, id string) error {
		_, err := s.client().Invoke(t.Context(), &lambda.InvokeInput{
			FunctionName: &name, InvocationType: types.InvocationTypeEvent, Payload: fmt.Appendf(nil, `{"id":%q}`, id),
		})
		return err
	}
	written := func(prefix string, n int) (count int) {
		for i := range n {
			if _, ok := out.written.Load(fmt.Sprint(prefix, i)); ok {
				count++
			}
		}
		return count
	}
	await := func(what string, done func() bool) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: not in two minutes", what)
			}
		}
	}
	const senders = 10 // so that the flood is there before much of it has been run
	parallel(t, senders, func(sender int) error {
		for i := sender; i < flood; i += senders {
			if err := send("flood", fmt.Sprint("flood", i)); err != nil {
				return err
			}
		}
		return nil
	})
	await("the flood begins", func() bool { return written("flood", flood) > 0 })
	for i := range 3 {
		if err := send("work", fmt.Sprint("drop", i)); err != nil {
			t.Fatal(err)
		}
		await("the trickle", func() bool { return written("drop", i+1) == i+1 })
	}
	if n := written("flood", flood); n == flood {
		t.Errorf("the trickle waited for all %d events of the flood", n)
	}
	// The rest of the flood stays on disk.
}
