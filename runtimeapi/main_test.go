package runtimeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// roleVariable makes this test's program be a runtime instead.
const roleVariable = "HEARTH_TEST_RUNTIME"

func TestMain(m *testing.M) {
	role, arg, _ := strings.Cut(os.Getenv(roleVariable), ":")
	switch role {
	case "":
		os.Exit(m.Run())
	case "raw":
		size, err := strconv.Atoi(arg)
		if err == nil {
			err = rawRuntime(os.Getenv("AWS_LAMBDA_RUNTIME_API"), size)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case "aws-lambda-go":
		lambda.StartWithOptions(handle)
	default:
		fmt.Fprintln(os.Stderr, "unknown role", role)
		os.Exit(2)
	}
}

// handle is a function on AWS's own Go module: it does what its event says.
func handle(ctx context.Context, event struct {
	Do   string
	Size int
}) (any, error) {
	switch event.Do {
	case "context":
		lc, _ := lambdacontext.FromContext(ctx)
		deadline, _ := ctx.Deadline()
		return map[string]any{
			"id": lc.AwsRequestID, "arn": lc.InvokedFunctionArn, "tenant": lc.TenantID,
			"client": lc.ClientContext.Client.AppTitle, "cognito": lc.Identity.CognitoIdentityID,
			"deadline": deadline.UnixMilli(), "trace": os.Getenv("_X_AMZN_TRACE_ID"),
		}, nil
	case "big":
		return strings.Repeat("y", event.Size), nil
	case "error":
		return nil, errors.New("no such luck")
	case "panic":
		panic("out of nowhere")
	case "break":
		return &breaking{strings.NewReader(strings.Repeat("z", 100_000))}, nil
	case "exit":
		os.Exit(3)
	case "sleep":
		time.Sleep(time.Duration(event.Size) * time.Millisecond)
	}
	return json.RawMessage(`{"done":"` + event.Do + `"}`), nil
}

// breaking is a response that fails after its first bytes.
type breaking struct{ r *strings.Reader }

func (b *breaking) Read(p []byte) (int, error) {
	if n, err := b.r.Read(p); err == nil {
		return n, nil
	}
	return 0, errors.New("the source dried up")
}

// child starts this program in a role, as the runtime behind addr.
func child(tb testing.TB, addr net.Addr, role, arg string) *exec.Cmd {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{
		roleVariable + "=" + role + ":" + arg, "AWS_LAMBDA_RUNTIME_API=" + addr.String(),
		"AWS_LAMBDA_FUNCTION_NAME=test", "GOMAXPROCS=1",
	}
	if testing.Verbose() {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		cmd.Process.Kill() // it may have ended by itself
		cmd.Wait()
	})
	return cmd
}
