// Command gostream is a function that streams an HTTP response, as
// aws-lambda-go does for function URLs.
package main

import (
	"errors"
	"io"
	"strings"
	"testing/iotest"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(func(e events.LambdaFunctionURLRequest) (*events.LambdaFunctionURLStreamingResponse, error) {
		var body io.Reader = strings.NewReader("from Go")
		if e.QueryStringParameters["fail"] != "" {
			body = io.MultiReader(body, iotest.ErrReader(errors.New("asked to")))
		}
		return &events.LambdaFunctionURLStreamingResponse{
			StatusCode: 202, Headers: map[string]string{"Content-Type": "text/plain"}, Cookies: []string{"c=d"}, Body: body,
		}, nil
	})
}
