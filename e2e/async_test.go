package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// loggedTimes waits until the function's log has every one of the words, each
// as often as asked.
func (s *server) loggedTimes(function string, times map[string]int) {
	s.t.Helper()
	var log string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var err error
		if log, err = s.hearth("logs", function); err != nil {
			continue // its first line has not been written
		}
		missing := false
		for word, n := range times {
			missing = missing || strings.Count(log, word) < n
		}
		if !missing {
			return
		}
	}
	s.t.Fatalf("the log of %s never had %v:\n%s", function, times, tail(log, 4000))
}

// Events that were accepted are run although the server was killed, and one
// whose function keeps failing is retried and then told to its destination.
func TestEventsSurviveAKillAndFailuresAreTold(t *testing.T) {
	t.Parallel()
	s := start(t, "--event-retry", "50ms")
	c, ctx := s.client(), t.Context()
	code := zipOf(t, map[string]string{"app.py": `
import time
def handler(event, context):
    print("GOT<%s>" % (event.get("n") if "n" in event else event["requestContext"]["condition"]))
    if event.get("fail"): raise ValueError("asked to")
    time.sleep(event.get("sleep", 0))
`})
	s.deploy(function{name: "events", runtime: "python3.11", handler: "app.handler", zip: code, memory: 128, timeout: 30})
	s.deploy(function{name: "told", runtime: "python3.11", handler: "app.handler", zip: code})
	send := func(payload string) {
		t.Helper()
		out, err := c.Invoke(ctx, &lambda.InvokeInput{FunctionName: new("events"), InvocationType: types.InvocationTypeEvent, Payload: []byte(payload)})
		if err != nil || out.StatusCode != 202 || len(out.Payload) != 0 {
			t.Fatalf("%+v %v", out, err)
		}
	}
	accepted := map[string]int{}
	for i := range 20 {
		// None has ended when the server is killed: of one that has, the last
		// lines of the log may be lost, and it is not run again.
		send(fmt.Sprintf(`{"n":%d,"sleep":12}`, i))
		accepted[fmt.Sprintf("GOT<%d>", i)] = 1
	}
	s.kill9()
	s = startIn(t, s.dir, "--event-retry", "50ms")
	c = s.client()
	s.loggedTimes("events", accepted)

	if _, err := c.PutFunctionEventInvokeConfig(ctx, &lambda.PutFunctionEventInvokeConfigInput{
		FunctionName: new("events"), MaximumRetryAttempts: new(int32(1)),
		DestinationConfig: &types.DestinationConfig{OnFailure: &types.OnFailure{Destination: new("arn:aws:lambda:us-east-1:000000000000:function:told")}},
	}); err != nil {
		t.Fatal(err)
	}
	send(`{"n":"bad","fail":true}`)
	s.loggedTimes("told", map[string]int{"GOT<RetriesExhausted>": 1})
	s.loggedTimes("events", map[string]int{"GOT<bad>": 2})

	// Without a destination it is parked, from where it can be redriven.
	if _, err := c.DeleteFunctionEventInvokeConfig(ctx, &lambda.DeleteFunctionEventInvokeConfigInput{FunctionName: new("events")}); err != nil {
		t.Fatal(err)
	}
	send(`{"n":"park","fail":true}`)
	s.loggedTimes("events", map[string]int{"GOT<park>": 3})
	var parked []struct{ ID, Function, Reason string }
	for end := time.Now().Add(patience); len(parked) == 0; time.Sleep(100 * time.Millisecond) {
		out, err := s.hearth("parked", "--json")
		if err != nil || time.Now().After(end) {
			t.Fatal(out, err)
		}
		if err := json.Unmarshal([]byte(out), &parked); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
	}
	if len(parked) != 1 || parked[0].Function != "events" || parked[0].Reason != "RetriesExhausted" {
		t.Errorf("parked %+v", parked)
	}
	if out, err := s.hearth("parked", "redrive", parked[0].ID); err != nil {
		t.Fatal(out, err)
	}
	s.loggedTimes("events", map[string]int{"GOT<park>": 6})
}
