package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// layer publishes a layer and returns its version's ARN.
func (s *server) layer(name string, code []byte) string {
	s.t.Helper()
	out, err := s.client().PublishLayerVersion(context.Background(), &lambda.PublishLayerVersionInput{
		LayerName: &name, Content: &types.LayerVersionContentInput{ZipFile: code},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return aws.ToString(out.LayerVersionArn)
}

// use gives a function layers, variables and a timeout, and waits until that
// has become so: its old containers are told to end.
func (s *server) use(name string, timeout int32, env map[string]string, layers ...string) {
	s.t.Helper()
	if _, err := s.client().UpdateFunctionConfiguration(context.Background(), &lambda.UpdateFunctionConfigurationInput{
		FunctionName: &name, Layers: layers, Timeout: &timeout, Environment: &types.Environment{Variables: env},
	}); err != nil {
		s.t.Fatal(err)
	}
	s.waitActive(name)
}

// logged waits until the function's log has each of the texts.
func (s *server) logged(name string, want ...string) {
	s.t.Helper()
	times := map[string]int{}
	for _, w := range want {
		times[w] = 1
	}
	s.loggedTimes(name, times)
}

// attendants is a layer with two extensions: a program in Go that takes
// telemetry by HTTP, and a script in Python that takes it by TCP.
func attendants(t testing.TB) []byte {
	t.Helper()
	script, err := os.ReadFile(filepath.Join("testdata", "attendant", "pyattendant"))
	if err != nil {
		t.Fatal(err)
	}
	return zipOf(t, map[string]string{"extensions/attendant": goProgram(t, "attendant"), "extensions/pyattendant": string(script)})
}

func TestExtensionsAttendAFunctionToItsEnd(t *testing.T) {
	t.Parallel()
	s := start(t)
	code, err := os.ReadFile(filepath.Join("testdata", "attendant", "index.py"))
	if err != nil {
		t.Fatal(err)
	}
	layer := s.layer("attendants", attendants(t))
	s.deploy(function{name: "attended", runtime: "python3.12", files: map[string]string{"index.py": string(code)}, timeout: 20})
	s.use("attended", 20, nil, layer)

	for n := 1; n <= 2; n++ {
		if a := s.mustInvoke("attended", `"work"`); a.payload != fmt.Sprint(n) {
			t.Errorf("the internal extension has seen %s events, want %d", a.payload, n)
		}
	}
	s.logged("attended",
		`attendant registered: {"accountId":"000000000000","functionName":"attended","functionVersion":"$LATEST","handler":"index.handler"}`,
		"EXTENSION\tName: attendant\tState: Ready\tEvents: [INVOKE, SHUTDOWN]",
		"EXTENSION\tName: pyattendant\tState: Ready\tEvents: [INVOKE, SHUTDOWN]",
		"EXTENSION\tName: inner\tState: Ready\tEvents: [INVOKE]",
		"TELEMETRY\tName: attendant\tState: Subscribed\tTypes: [Platform, Function, Extension]",
		"LOGS\tName: pyattendant\tState: Subscribed\tTypes: [Function]",
		"attendant INVOKE arn:aws:lambda:us-east-1:000000000000:function:attended",
		`pyattendant line function "the function works on work\n"`,
	)
	if a, err := s.invoke("attended", `"exit"`); err != nil || a.functionError == "" || !strings.Contains(a.payload, `"errorType":"Runtime.ExitError"`) {
		t.Errorf("a crash: %+v %v", a, err)
	}
	// It may or may not get the record of the fault before it ends.
	s.logged("attended", "attendant SHUTDOWN failure", "pyattendant SHUTDOWN failure", "attendant saw extension ",
		" function initReport initRuntimeDone initStart report runtimeDone start telemetrySubscription")

	s.use("attended", 2, map[string]string{"RUN": "1"}, layer)
	if a, err := s.invoke("attended", `"hang"`); err != nil || !strings.Contains(a.payload, "Task timed out after 2.00 seconds") {
		t.Errorf("a timeout: %+v %v", a, err)
	}
	s.logged("attended", "attendant SHUTDOWN timeout", "pyattendant SHUTDOWN timeout")
	s.use("attended", 20, map[string]string{"ATTENDANT": "crash"}, layer)
	if a, err := s.invoke("attended", `"work"`); err != nil || !strings.Contains(a.payload, `"errorType":"Extension.Crash"`) || !strings.Contains(a.payload, "Error: exit status 3") {
		t.Errorf("an extension that crashes: %+v %v", a, err)
	}
	s.use("attended", 20, nil, layer)
	s.mustInvoke("attended", `"work"`)
	s.use("attended", 20, map[string]string{"RUN": "2"}, layer) // and what ran before ends
	s.logged("attended", "attendant SHUTDOWN spindown", "pyattendant SHUTDOWN spindown")
}

// The Serverless Framework's OpenTelemetry extension, as it is published:
// external and internal, in JavaScript, on the Logs API, waiting in each
// invocation for what its internal half sends to it.
func TestAPublishedExtensionRunsUnchanged(t *testing.T) {
	t.Parallel()
	s := start(t)
	code, err := os.ReadFile(filepath.Join(javascript(t), "node_modules", "@serverless", "aws-lambda-otel-extension-dist", "extension.zip"))
	if err != nil {
		t.Fatal(err)
	}
	layer := s.layer("otel", code)
	s.deploy(function{name: "traced", runtime: "nodejs20.x", timeout: 30, memory: 512,
		files: map[string]string{"index.js": "exports.handler = async (event) => ({ got: event })"}})
	env := map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/opt/otel-extension/otel-handler", "DEBUG_SLS_OTEL_LAYER": "1", "SLS_OTEL_REPORT_TYPE": "json"}
	s.use("traced", 30, env, layer)
	for n := range 3 {
		if a := s.mustInvoke("traced", fmt.Sprint(n)); a.payload != fmt.Sprintf(`{"got":%d}`, n) {
			t.Errorf("got %s", a.payload)
		}
	}
	s.logged("traced",
		"EXTENSION\tName: otel-extension\tState: Ready\tEvents: [INVOKE, SHUTDOWN]",
		"LOGS\tName: otel-extension\tState: Subscribed\tTypes: [Platform]",
		"Processing event:  INVOKE",
		"Checking data received... true", // from its internal half
		`"type":"platform.report"`,       // from the Logs API
	)
	env["RUN"] = "2"
	s.use("traced", 30, env, layer)
	s.logged("traced", "Processing event:  SHUTDOWN")
}
