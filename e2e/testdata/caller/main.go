// Command caller is a function that calls another one, with the SDK and what
// its environment holds: no endpoint, region or credentials of its own.
package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/config"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
)

type event struct {
	Call string `json:"call"`
}

func main() {
	lambda.Start(func(ctx context.Context, e event) (json.RawMessage, error) {
		cfg, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return nil, err
		}
		out, err := sdk.NewFromConfig(cfg).Invoke(ctx, &sdk.InvokeInput{FunctionName: &e.Call, Payload: []byte(`{"from":"caller"}`)})
		if err != nil {
			return nil, err
		}
		if out.FunctionError != nil {
			return nil, fmt.Errorf("%s: %s", *out.FunctionError, out.Payload)
		}
		return out.Payload, nil
	})
}
