// Command crash is a function that fails as it is told to.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
)

type event struct {
	Do string `json:"do"`
}

func main() {
	lambda.Start(func(_ context.Context, e event) (string, error) {
		switch e.Do {
		case "error":
			return "", errors.New("too far")
		case "panic":
			panic("too far")
		case "exit":
			os.Exit(3)
		case "hang":
			select {}
		case "memory":
			var held [][]byte
			for {
				b := make([]byte, 8<<20)
				for i := range b {
					b[i] = 1
				}
				held = append(held, b)
			}
		}
		return "fine", nil
	})
}
