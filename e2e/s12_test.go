package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/hearth-faas/hearth/control"
)

// s12Code prints, for each message, how long ago it was taken from its queue and
// how long ago it was sent, in milliseconds, and whether the container is warm.
const s12Code = `
import json, time
container = "new"
def handler(event, context):
    global container
    now, is_, container = time.time() * 1000, container, "warm"
    for r in event["Records"]:
        if r["eventSource"] != "aws:sqs":
            print("FILE<%s>" % r["s3"]["object"]["key"])
            continue
        a, b = r["attributes"], json.loads(r["body"])
        taken = now - int(a["ApproximateFirstReceiveTimestamp"]) if a["ApproximateReceiveCount"] == "1" else -1
        print("GOT<%s> taken %d sent %d %s" % (b["id"], taken, now - int(a["SentTimestamp"]), is_))
        if b.get("poison"): raise ValueError("poison")
        time.sleep(b.get("sleep", 0))
`

// s12 is a queue with its mapping and function.
type s12 struct {
	*server
	name string
	url  string
	arn  string
}

func (s *server) s12(name string, attributes map[string]string, change func(*lambda.CreateEventSourceMappingInput)) *s12 {
	s.t.Helper()
	ctx := context.Background()
	s.deploy(function{name: name, runtime: "python3.11", handler: "app.handler", zip: zipOf(s.t, map[string]string{"app.py": s12Code})})
	queues := sqs.NewFromConfig(s.config())
	made, err := queues.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	if err != nil {
		s.t.Fatal(err)
	}
	q := &s12{s, name, *made.QueueUrl, "arn:aws:sqs:us-east-1:000000000000:" + name}
	in := &lambda.CreateEventSourceMappingInput{FunctionName: &name, EventSourceArn: &q.arn}
	if change != nil {
		change(in)
	}
	s.mapping(in)
	return q
}

// mapping makes an event source mapping and waits until it has come to rest.
func (s *server) mapping(in *lambda.CreateEventSourceMappingInput) (id string) {
	s.t.Helper()
	c, ctx := s.client(), context.Background()
	m, err := c.CreateEventSourceMapping(ctx, in)
	if err != nil {
		s.t.Fatal(err)
	}
	s.eventually("the mapping has come to rest", func() bool {
		got, err := c.GetEventSourceMapping(ctx, &lambda.GetEventSourceMappingInput{UUID: m.UUID})
		return err == nil && (*got.State == "Enabled" || *got.State == "Disabled")
	})
	return *m.UUID
}

// send sends messages, ten at once.
func (q *s12) send(bodies ...string) {
	q.t.Helper()
	c := sqs.NewFromConfig(q.config())
	for chunk := range slices.Chunk(bodies, 10) {
		in := &sqs.SendMessageBatchInput{QueueUrl: &q.url}
		for i, body := range chunk {
			in.Entries = append(in.Entries, sqstypes.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: &body})
		}
		out, err := c.SendMessageBatch(context.Background(), in)
		if err != nil || len(out.Failed) > 0 {
			q.t.Fatalf("%+v %v", out, err)
		}
	}
}

func (q *s12) depth(attribute string) int {
	q.t.Helper()
	out, err := sqs.NewFromConfig(q.config()).GetQueueAttributes(context.Background(), &sqs.GetQueueAttributesInput{QueueUrl: &q.url, AttributeNames: []sqstypes.QueueAttributeName{"All"}})
	if err != nil {
		q.t.Fatal(err)
	}
	n, _ := strconv.Atoi(out.Attributes[attribute])
	return n
}

var gotForm = regexp.MustCompile(`GOT<([^>]+)> taken (-?\d+) sent (\d+) (new|warm)`)

// got are the messages that the function's log has, with the times of the first
// delivery of each in milliseconds: since they were taken in warm containers only.
func (q *s12) got() (ids map[string]int, taken, sent []int) {
	ids = map[string]int{}
	log, err := q.hearth("logs", q.name)
	if err != nil {
		return ids, nil, nil // its first line has not been written
	}
	for _, m := range gotForm.FindAllStringSubmatch(log, -1) {
		if ids[m[1]]++; ids[m[1]] > 1 {
			continue
		}
		t, _ := strconv.Atoi(m[2])
		s, _ := strconv.Atoi(m[3])
		if t >= 0 && m[4] == "warm" {
			taken = append(taken, t)
		}
		sent = append(sent, s)
	}
	slices.Sort(taken)
	slices.Sort(sent)
	return ids, taken, sent
}

func (q *s12) all(want []string) {
	q.t.Helper()
	missing := 0
	q.eventually(fmt.Sprintf("all %d events of %s are processed", len(want), q.name), func() bool {
		ids, _, _ := q.got()
		missing = 0
		for _, id := range want {
			if ids[id] == 0 {
				missing++
			}
		}
		return missing == 0
	})
}

// at is the part-quantile of sorted numbers.
func at(sorted []int, part float64) int {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}

// S12's acceptance: a queue and a folder, at 1/s, a burst at 500/s, and 0. No
// event is lost, be the server killed with messages in its hands; the poison is
// parked and delays nobody; another's trickle keeps its latency in the burst; and
// from taking to the first instruction it takes less than 100 ms, warm.
func TestS12EventsFlowAtTheirOwnRate(t *testing.T) {
	t.Parallel()
	full := fullScenarios()
	burst := 2 * time.Second
	if full {
		burst = 20 * time.Second
	}
	s := start(t)
	dir := s.dir
	dead := s.s12("dead", nil, func(in *lambda.CreateEventSourceMappingInput) { in.Enabled = aws.Bool(false) })
	redrive, _ := json.Marshal(map[string]any{"deadLetterTargetArn": dead.arn, "maxReceiveCount": 3})
	flood := s.s12("flood", map[string]string{"VisibilityTimeout": "6", "RedrivePolicy": string(redrive)}, nil)
	trickle := s.s12("trickle", nil, nil)

	var flooded, trickled []string
	body := func(id string) string { return fmt.Sprintf(`{"id":%q}`, id) }
	for i := range 2 { // 1/s, which also warms both
		id := fmt.Sprint("calm", i)
		flooded, trickled = append(flooded, id), append(trickled, id)
		flood.send(body(id))
		trickle.send(body(id))
		time.Sleep(time.Second)
	}
	flood.send(`{"id":"poison","poison":true}`)
	began := time.Now()
	for n := 0; time.Since(began) < burst; n++ {
		var bodies []string
		for i := range 10 {
			id := fmt.Sprintf("b%d-%d", n, i)
			// As its function waits for something, it has to run several times at
			// once to keep up.
			flooded, bodies = append(flooded, id), append(bodies, fmt.Sprintf(`{"id":%q,"sleep":0.02}`, id))
		}
		flood.send(bodies...)
		if n%20 == 0 {
			id := fmt.Sprint("t", n)
			trickled = append(trickled, id)
			trickle.send(body(id))
		}
		time.Sleep(time.Until(began.Add(time.Duration(n+1) * 20 * time.Millisecond)))
	}
	flood.all(flooded)
	trickle.all(trickled)
	_, taken, age := flood.got()
	_, ttaken, tage := trickle.got()
	t.Logf("burst of %d: taken to first instruction, warm (%d), p50 %d p99 %d ms, sent to first instruction p50 %d p99 %d ms", len(flooded), len(taken), at(taken, .5), at(taken, .99), at(age, .5), at(age, .99))
	t.Logf("trickle of %d: taken to first instruction, warm (%d), p50 %d p99 %d ms, sent to first instruction p50 %d p99 %d ms", len(trickled), len(ttaken), at(ttaken, .5), at(ttaken, .99), at(tage, .5), at(tage, .99))
	if full && at(taken, .99) >= 100 {
		t.Errorf("from taking to the first instruction it took %d ms (p99)", at(taken, .99))
	}
	// However busy the machine is, the trickle waits for less than the flood
	// has to, or for hardly anything.
	if w, f := at(tage, .5), at(age, .99); w > max(f, 1000) {
		t.Errorf("the trickle waited %d ms (p50) while the flood waited %d ms (p99)", w, f)
	}
	if told, err := s.hearth("decisions", "--kind", "poll"); err != nil {
		t.Error(err)
	} else {
		t.Logf("how the pace followed the rate:\n%s", tail(told, 2000))
	}
	s.eventually("the poison is in the dead-letter queue", func() bool { return dead.depth("ApproximateNumberOfMessages") >= 1 })

	// Killed with messages in its hands: they come again.
	var held []string
	var bodies []string
	for i := range 20 {
		id := fmt.Sprint("held", i)
		held, bodies = append(held, id), append(bodies, fmt.Sprintf(`{"id":%q,"sleep":30}`, id))
	}
	flood.send(bodies...)
	s.eventually("messages are held", func() bool { return flood.depth("ApproximateNumberOfMessagesNotVisible") > 0 })
	s.kill9()
	s = startIn(t, dir)
	flood.server, trickle.server = s, s
	// What sleeps need not end for that.
	_, err := s.client().UpdateFunctionCode(context.Background(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("flood"), ZipFile: zipOf(t, map[string]string{
		"app.py": strings.Replace(s12Code, "time.sleep", "(lambda s: None)", 1),
	})})
	if err != nil {
		t.Fatal(err)
	}
	flood.all(held)
	s.eventually("nothing is left", func() bool {
		return flood.depth("ApproximateNumberOfMessages") == 0 && flood.depth("ApproximateNumberOfMessagesNotVisible") == 0
	})
}

// A folder is registered as a source, and mapped by its ARN as any other; files
// that came while the server was down are processed, and none twice.
func TestAWatchedFolderFeedsAFunctionAcrossAKill(t *testing.T) {
	t.Parallel()
	in := t.TempDir()
	s := start(t)
	dir := s.dir
	s.deploy(function{name: "files", runtime: "python3.11", handler: "app.handler", zip: zipOf(t, map[string]string{"app.py": s12Code})})
	c, ctx := s.client(), t.Context()
	const arn = "arn:aws:hearth:us-east-1:000000000000:source/incoming"
	_, err := c.CreateEventSourceMapping(ctx, &lambda.CreateEventSourceMappingInput{FunctionName: aws.String("files"), EventSourceArn: aws.String(arn)})
	if err == nil || !strings.Contains(err.Error(), "hearth source add") {
		t.Errorf("a source that is not registered: %v", err)
	}
	if out := strings.TrimSpace(s.must("source", "add", "incoming", "file://"+in)); !strings.HasPrefix(out, arn) {
		t.Errorf("hearth source add said %q", out)
	}
	id := s.mapping(&lambda.CreateEventSourceMappingInput{
		FunctionName: aws.String("files"), EventSourceArn: aws.String(arn),
		FilterCriteria: &lambdatypes.FilterCriteria{Filters: []lambdatypes.Filter{{Pattern: aws.String(`{"s3":{"object":{"key":[{"suffix":".csv"}]}}}`)}}},
	})
	drop := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(in, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	drop("first.csv")
	drop("other.txt")
	s.loggedTimes("files", map[string]int{"FILE<first.csv>": 1})
	s.eventually("its last result is OK", func() bool {
		m, err := s.client().GetEventSourceMapping(ctx, &lambda.GetEventSourceMappingInput{UUID: &id})
		return err == nil && aws.ToString(m.LastProcessingResult) == "OK"
	})
	s.kill9()
	drop("meanwhile.csv")
	s = startIn(t, dir)
	drop("after.csv")
	s.loggedTimes("files", map[string]int{"FILE<meanwhile.csv>": 1, "FILE<after.csv>": 1})
	log, err := s.hearth("logs", "files")
	if err != nil || strings.Count(log, "FILE<first.csv>") > 1 || strings.Contains(log, "other.txt") {
		t.Errorf("%v, the log: %s", err, tail(log, 2000))
	}
	if _, err := s.hearth("source", "remove", "incoming"); err == nil {
		t.Error("a source that is read was removed")
	}
	s.notifications(t)
}

// notifications has an S3 server's webhook feed the function that prints files.
func (s *server) notifications(t *testing.T) {
	var made control.EventSource
	if err := json.Unmarshal([]byte(s.must("source", "add", "uploads", "s3://uploads", "--json")), &made); err != nil || made.Token == "" {
		t.Fatalf("%+v %v", made, err)
	}
	notify := func(token string) int {
		t.Helper()
		r, err := http.Post(s.endpoint+"/_hearth/v1/sources/notify?account=000000000000&name=uploads&token="+token, "application/json",
			strings.NewReader(`{"EventName":"s3:ObjectCreated:Put","Records":[{"eventSource":"minio:s3","eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"from-a-bucket"}}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
		return r.StatusCode
	}
	// What comes before there is a mapping waits for one.
	if status := notify(made.Token); status != http.StatusOK {
		t.Errorf("a notification was answered with %d", status)
	}
	for _, wrong := range []string{"", "x", made.Token + "x"} {
		if status := notify(wrong); status != http.StatusForbidden {
			t.Errorf("the token %q was answered with %d", wrong, status)
		}
	}
	s.mapping(&lambda.CreateEventSourceMappingInput{FunctionName: aws.String("files"), EventSourceArn: &made.ARN})
	s.loggedTimes("files", map[string]int{"FILE<from-a-bucket>": 1})
	if log, err := s.hearth("logs", "files"); err != nil || strings.Count(log, "FILE<from-a-bucket>") != 1 {
		t.Errorf("who had no token was heard: %v %s", err, tail(log, 1000))
	}
}
