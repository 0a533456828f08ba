package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// arrivalCode prints how long after its sending each event or message was begun
// with, in milliseconds.
const arrivalCode = `
import json, time
def handler(event, context):
    now = time.time() * 1000
    for b in [json.loads(r["body"]) for r in event["Records"]] if "Records" in event else [event]:
        print("BEGAN<%s> after %d" % (b["id"], now - b["sent"]))
        time.sleep(b.get("sleep", 0))
`

var beganForm = regexp.MustCompile(`BEGAN<([a-z]+)([0-9]+)> after (-?\d+)`)

// way is a way by which an account's work arrives.
type way struct {
	name string // of the function
	send func(bodies []string)
}

// ways are a function that is called for events, and one for the messages of a
// queue, each message alone.
func (t *tenant) ways() []way {
	t.t.Helper()
	ctx := t.t.Context()
	for _, name := range []string{"events", "messages"} {
		t.deploy(function{name: name, runtime: "python3.11", memory: 128, files: map[string]string{"index.py": arrivalCode}})
	}
	url := t.queue("messages", nil)
	arn := "arn:aws:sqs:us-east-1:" + t.id + ":messages"
	t.mapping(&lambda.CreateEventSourceMappingInput{FunctionName: aws.String("messages"), EventSourceArn: &arn, BatchSize: aws.Int32(1)})
	events, queues := t.client(), t.queues()
	return []way{{"events", func(bodies []string) {
		var senders sync.WaitGroup
		for part := range slices.Chunk(bodies, (len(bodies)+7)/8) {
			senders.Go(func() {
				for _, body := range part {
					if _, err := events.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("events"), InvocationType: types.InvocationTypeEvent, Payload: []byte(body)}); err != nil {
						t.t.Error(err)
					}
				}
			})
		}
		senders.Wait()
	}}, {"messages", func(bodies []string) {
		for part := range slices.Chunk(bodies, 10) {
			in := &sqs.SendMessageBatchInput{QueueUrl: &url}
			for i, body := range part {
				in.Entries = append(in.Entries, sqstypes.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: &body})
			}
			if out, err := queues.SendMessageBatch(ctx, in); err != nil || len(out.Failed) > 0 {
				t.t.Errorf("%+v %v", out, err)
			}
		}
	}}}
}

// arrival is the body of the n-th of a kind, sent now.
func arrival(kind string, n int, sleep time.Duration) string {
	text, err := json.Marshal(map[string]any{"id": kind + strconv.Itoa(n), "sent": time.Now().UnixMilli(), "sleep": sleep.Seconds()})
	if err != nil {
		panic(err) // of plain types
	}
	return string(text)
}

// waited are how long after their sending those of a kind began in the function,
// sorted.
func (t *tenant) waited(function, kind string) (all []time.Duration) {
	log, err := t.hearth("logs", function)
	if err != nil {
		return nil // its first line has not been written
	}
	seen := map[string]bool{}
	for _, m := range beganForm.FindAllStringSubmatch(log, -1) {
		if m[1] != kind || seen[m[2]] {
			continue
		}
		seen[m[2]] = true
		ms, err := strconv.Atoi(m[3])
		if err != nil {
			t.t.Fatal(err)
		}
		all = append(all, time.Duration(ms)*time.Millisecond)
	}
	slices.Sort(all)
	return all
}

// began waits until n of a kind have begun in each function.
func (t *tenant) began(kind string, n int) {
	t.t.Helper()
	for _, function := range []string{"events", "messages"} {
		t.eventually(fmt.Sprintf("%d of %s begin in %s", n, kind, function), func() bool { return len(t.waited(function, kind)) >= n })
	}
}

// One account has so many events and messages waiting that they take many seconds;
// another's few begin as if there were none of them. The control is twofold: the
// same few without a flood, and some of the flooding account's own, sent at the
// same time, which have to wait for what that one sent before.
func TestAFloodOfOneAccountDoesNotDelayAnothersTrickle(t *testing.T) {
	t.Parallel()
	const (
		flood, few  = 160, 6
		work, apart = 200 * time.Millisecond, 300 * time.Millisecond
		prompt      = 2 * time.Second
	)
	// Half of the concurrency is for what nobody waits for: four at once.
	s := start(t, "--concurrency", "8")
	flooder, other := s.tenant("flooder"), s.tenant("other")
	floods, trickles := flooder.ways(), other.ways()
	for i := range trickles {
		floods[i].send([]string{arrival("warm", 0, 0)})
		trickles[i].send([]string{arrival("warm", 0, 0)})
	}
	flooder.began("warm", 1)
	other.began("warm", 1)
	trickle := func(kind string, own bool) {
		for n := range few {
			for i := range trickles {
				trickles[i].send([]string{arrival(kind, n, 0)})
				if own {
					floods[i].send([]string{arrival("own", n, 0)})
				}
			}
			time.Sleep(apart) // it is a trickle
		}
	}
	trickle("calm", false)
	other.began("calm", few)

	var senders sync.WaitGroup
	for _, way := range floods {
		senders.Go(func() {
			var bodies []string
			for n := range flood {
				bodies = append(bodies, arrival("flood", n, work))
			}
			way.send(bodies)
		})
	}
	senders.Wait()
	trickle("trickle", true)
	other.began("trickle", few)
	flooder.began("own", few)
	for _, way := range trickles {
		calm, trickled, own := other.waited(way.name, "calm"), other.waited(way.name, "trickle"), flooder.waited(way.name, "own")
		t.Logf("%s: began after %v (median) and %v (at most) without a flood, %v and %v in it; the flooder's own after %v (median), %v at least",
			way.name, calm[few/2], calm[few-1], trickled[few/2], trickled[few-1], own[few/2], own[0])
		if trickled[few/2] > prompt {
			t.Errorf("%s: half of another account's began after more than %v (%v without the flood)", way.name, trickled[few/2], calm[few/2])
		}
		if trickled[few-1] >= own[0] {
			t.Errorf("%s: one of another account's waited %v, as long as the flooder's own, which waited %v and more", way.name, trickled[few-1], own[0])
		}
	}
}
