// A function in Go: it answers with the event that it got, what it sees of
// the machine that it runs on, and how often this very process has been used.
// "waitMs" in the event makes it wait before, so that several run at once.
package main

import (
	"context"
	"encoding/json"
	"os"
	"runtime"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type answer struct {
	Hello       string          `json:"hello"`
	Event       json.RawMessage `json:"event"`
	Host        host            `json:"host"`
	Invocations int             `json:"invocations"`
	UpSeconds   float64         `json:"upSeconds"`
	RequestID   string          `json:"requestId"`
}

type host struct {
	Name   string `json:"name"`
	Kernel string `json:"kernel"`
	UID    int    `json:"uid"`
	PID    int    `json:"pid"`
}

// What stands here is kept between invocations for as long as the environment
// is reused: connections, caches, counters.
var (
	started     = time.Now()
	invocations int
)

func handle(ctx context.Context, event json.RawMessage) (answer, error) {
	invocations++
	var asked struct{ WaitMs int }
	if json.Unmarshal(event, &asked) == nil { // an event of another shape asks for nothing
		time.Sleep(time.Duration(asked.WaitMs) * time.Millisecond)
	}
	name, err := os.Hostname()
	if err != nil {
		return answer{}, err
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return answer{}, err
	}
	id := ""
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		id = lc.AwsRequestID
	}
	return answer{
		Hello:       "from Go " + runtime.Version(),
		Event:       event,
		Host:        host{name, string(kernel[:len(kernel)-1]), os.Getuid(), os.Getpid()},
		Invocations: invocations,
		UpSeconds:   time.Since(started).Seconds(),
		RequestID:   id,
	}, nil
}

func main() { lambda.Start(handle) }
