// Command calls makes a call and awaits its answer by the client that functions
// in Go copy.
package main

import (
	"context"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/hearth-faas/hearth/clients/go/calls"
)

type event struct {
	Child string `json:"child"`
	Event any    `json:"event"`
}

type answer struct {
	ID     string `json:"id"`
	Early  bool   `json:"early"`
	Answer any    `json:"answer"`
	Failed string `json:"failed,omitempty"`
}

func main() {
	lambda.Start(func(ctx context.Context, e event) (a answer, err error) {
		made, err := calls.Make(ctx, e.Child, e.Event, calls.Options{NeedIn: time.Second})
		if err != nil {
			return a, err
		}
		a.ID = made.ID
		if a.Early, err = made.Done(ctx, 20*time.Second); err != nil {
			return a, err
		}
		if err := made.Result(ctx, &a.Answer); err != nil {
			a.Failed = err.Error()
		}
		return a, nil
	})
}
