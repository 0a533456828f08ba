// Command chain is a function that takes a while to initialise, and may call
// another one, which may call another one.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/config"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go/middleware"
)

type event struct {
	DelayMs int    `json:"delayMs,omitempty"` // before the call, if there is one
	Calls   []call `json:"calls,omitempty"`
}

type call struct {
	Function string `json:"function"`
	Async    bool   `json:"async,omitempty"`
	// Tagless does not hand the trace header on, as code does not that was not
	// written for it.
	Tagless bool  `json:"tagless,omitempty"`
	Event   event `json:"event"`
}

type answer struct {
	Trace string `json:"trace"`
	N     int    `json:"n"` // the invocations of this process, this one included
}

var n int

func main() {
	ms, _ := strconv.Atoi(os.Getenv("INIT_MS"))
	time.Sleep(time.Duration(ms) * time.Millisecond)
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		panic(err)
	}
	lambda.Start(func(ctx context.Context, e event) (answer, error) {
		n++
		time.Sleep(time.Duration(e.DelayMs) * time.Millisecond)
		for _, c := range e.Calls {
			payload, err := json.Marshal(c.Event)
			if err != nil {
				return answer{}, err
			}
			in := &sdk.InvokeInput{FunctionName: &c.Function, Payload: payload}
			if c.Async {
				in.InvocationType = types.InvocationTypeEvent
			}
			out, err := sdk.NewFromConfig(cfg, func(o *sdk.Options) {
				if c.Tagless {
					o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error {
						_, err := s.Build.Remove("RecursionDetection")
						return err
					})
				}
			}).Invoke(ctx, in)
			if err != nil {
				return answer{}, err
			}
			if out.FunctionError != nil {
				return answer{}, fmt.Errorf("%s: %s", *out.FunctionError, out.Payload)
			}
		}
		return answer{os.Getenv("_X_AMZN_TRACE_ID"), n}, nil
	})
}
