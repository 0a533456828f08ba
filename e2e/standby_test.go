package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/hearth-faas/hearth/internal/pgtest"
)

// TestAStandbyTakesOverAndEveryScheduleFiresOnce: two servers on one database,
// of which the first is killed while schedules are due all the time. Each fires
// once, by one of the two.
func TestAStandbyTakesOverAndEveryScheduleFiresOnce(t *testing.T) {
	t.Parallel()
	const schedules = 24
	database := withDatabase(pgtest.New(t))
	first := startAs(t, mkdir(t), database, "--pool", "64", "--schedule-catch-up", "last")
	first.queue("fired", nil)
	first.deploy(function{name: "tick", runtime: "python3.11", handler: "app.handler", files: map[string]string{"queues.py": queuesInPython, "app.py": `
from queues import call
def handler(event, context):
    call(Action='SendMessage', QueueUrl='/000000000000/fired', MessageBody=event['what'])
`}})
	first.mustInvoke("tick", `{"what": "warm 0"}`)

	// The second has what belongs to the records: the key and the functions' code.
	dir := mkdir(t)
	for _, name := range []string{"master.key", "credentials.json", "database.json", "blobs"} {
		if out, err := exec.Command("cp", "-a", filepath.Join(first.dir, name), dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	address := freeAddress(t)
	second, ready := launch(t, dir, database, "--listen", address, "--pool", "64", "--schedule-catch-up", "last", "--standby")
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		answer, err := http.Get("http://" + address + "/healthz")
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusServiceUnavailable && strings.Contains(second.log.String(), "standing by") {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the second does not stand by: %v, %v\n%s", answer, err, second.log)
		}
	}
	script := fmt.Sprintf(`
import boto3, datetime
c = boto3.client("scheduler")
for n in range(%d):
    at = "at(%%s)" %% (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=5 + n / 3)).strftime("%%Y-%%m-%%dT%%H:%%M:%%S")
    c.create_schedule(Name="s%%d" %% n, ScheduleExpression=at, FlexibleTimeWindow={"Mode": "OFF"}, Target={"Arn": "arn:aws:lambda:us-east-1:000000000000:function:tick", "RoleArn": "arn:aws:iam::000000000000:role/r",
        "Input": '{"what": "s%%d <aws.scheduler.execution-id>"}' %% n})
print("made")
`, schedules)
	if out := first.run(t.TempDir(), "python3", "-c", script); strings.TrimSpace(out) != "made" {
		t.Fatal(out)
	}
	fired := map[string]map[string]bool{} // a schedule to the ids of its firings
	receive := func(s *server) {
		t.Helper()
		url := s.endpoint + "/000000000000/fired"
		out, err := s.queues().ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10, WaitTimeSeconds: 1, VisibilityTimeout: 43200})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range out.Messages {
			name, id, _ := strings.Cut(*m.Body, " ")
			if fired[name] == nil {
				fired[name] = map[string]bool{}
			}
			fired[name][id] = true
		}
	}
	for deadline := time.Now().Add(patience); len(fired) < 5; { // some have fired, others are to
		if receive(first); time.Now().After(deadline) {
			t.Fatalf("the first fired %v", fired)
		}
	}
	before := len(fired)
	first.kill9()
	killed := time.Now()
	second.awaitReady(ready)
	took := time.Since(killed)
	for deadline := time.Now().Add(patience); len(fired) < schedules+1; {
		if receive(second); time.Now().After(deadline) {
			break
		}
	}
	receive(second) // what is too much would come now
	for n := range schedules {
		if ids := fired["s"+strconv.Itoa(n)]; len(ids) != 1 {
			t.Errorf("the schedule s%d fired %d times: %v", n, len(ids), ids)
		}
	}
	if a := second.mustInvoke("tick", `{"what": "warm 1"}`); a.payload != "null" {
		t.Errorf("the second answers %s", a.payload)
	}
	t.Logf("%d fired by the first, the rest by the second, which was ready %v after the kill", before-1, took.Round(10*time.Millisecond))
	// The first comes back, and stands by in its turn.
	again, ready := launch(t, first.dir, database, "--pool", "0", "--standby")
	for deadline := time.Now().Add(patience); !strings.Contains(again.log.String(), "standing by"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the first does not stand by\n%s", again.log)
		}
	}
	second.stop()
	again.awaitReady(ready)
}

// TestAStandbyWaitsForADataFolder: without a database, on one machine.
func TestAStandbyWaitsForADataFolder(t *testing.T) {
	t.Parallel()
	first := start(t, "--pool", "0")
	first.queue("q", nil)
	second, ready := launch(t, first.dir, func(*exec.Cmd) {}, "--pool", "0", "--standby")
	for deadline := time.Now().Add(patience); !strings.Contains(second.log.String(), "standing by"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the second does not stand by\n%s", second.log)
		}
	}
	first.kill9()
	second.awaitReady(ready)
	if _, err := second.queues().GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: ptr("q")}); err != nil {
		t.Error(err)
	}
}

// freeAddress is one that nobody listens on just now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
