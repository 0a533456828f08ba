// Command imaged runs in an image of its own: it reads the file that the event
// names, and tells who it is and what it was started with.
package main

import (
	"context"
	"os"
	"strings"

	"github.com/aws/aws-lambda-go/lambda"
)

type answer struct {
	Content string            `json:"content"`
	Error   string            `json:"error,omitempty"`
	Args    []string          `json:"args"`
	Env     map[string]string `json:"env"`
	UID     int               `json:"uid"`
}

func main() {
	lambda.Start(func(_ context.Context, event struct{ Read string }) (answer, error) {
		a := answer{Args: os.Args[1:], Env: map[string]string{}, UID: os.Geteuid()}
		for _, kv := range os.Environ() {
			key, value, _ := strings.Cut(kv, "=")
			a.Env[key] = value
		}
		content, err := os.ReadFile(event.Read)
		if err != nil {
			a.Error = err.Error()
		}
		if len(content) > 100 {
			content = content[:100]
		}
		a.Content = string(content)
		return a, nil
	})
}
