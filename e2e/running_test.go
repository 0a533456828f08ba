package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// errorBody is the body of a function error.
type errorBody struct {
	ErrorType    string   `json:"errorType"`
	ErrorMessage string   `json:"errorMessage"`
	Trace        []string `json:"trace"`      // node
	StackTrace   []any    `json:"stackTrace"` // python: strings, go: objects
}

func TestCrashesInEachRuntimeHaveTheRightShape(t *testing.T) {
	t.Parallel()
	s := start(t)
	node := function{name: "node", runtime: "nodejs20.x", memory: 512, timeout: 12, files: map[string]string{"index.js": `
exports.handler = async (e) => {
  switch (e.do) {
  case 'throw': throw new RangeError('too far');
  case 'exit': process.exit(3);
  case 'exit0': process.exit(0);
  case 'signal': process.kill(process.pid, 'SIGKILL');
  case 'reject': Promise.reject(new Error('nobody caught')); return new Promise(() => {});
  case 'hang': for (;;);
  case 'memory': { const a = []; for (;;) a.push(Buffer.alloc(8 << 20, 1)); }
  }
  return 'fine';
};`}}
	py := function{name: "py", runtime: "python3.11", memory: 512, timeout: 12, files: map[string]string{"index.py": `
import os, sys, signal, time
def handler(e, c):
    do = e.get('do')
    if do == 'throw': raise ValueError('too far')
    if do == 'exit': os._exit(3)
    if do == 'sysexit': sys.exit(4)
    if do == 'exit0': os._exit(0)
    if do == 'signal': os.kill(os.getpid(), signal.SIGKILL)
    if do == 'segv': os.kill(os.getpid(), signal.SIGSEGV)
    if do == 'hang': time.sleep(60)
    if do == 'memory':
        a = []
        while True: a.append(bytearray(8 << 20))
    return 'fine'
`}}
	goes := function{name: "go", runtime: "provided.al2023", handler: "bootstrap", memory: 512, timeout: 12, zip: goZip(t, "crash")}
	for _, f := range []function{node, py, goes} {
		s.deploy(f)
		f.name, f.timeout = f.name+"-hangs", 3 // to fill the memory takes longer
		s.deploy(f)
	}
	s.deploy(function{name: "sh", runtime: "provided.al2023", handler: "x", timeout: 2, files: map[string]string{"bootstrap": "#!/bin/sh\nexit 7\n"}})
	s.deploy(function{name: "noboot", runtime: "provided.al2023", handler: "x", files: map[string]string{"readme": "no bootstrap here"}})
	s.deploy(function{name: "noexec", runtime: "provided.al2023", handler: "x", files: map[string]string{"bootstrap": "\x00\x01 not a program"}})
	s.deploy(function{name: "noimport", runtime: "python3.11", files: map[string]string{"index.py": "import nothing_of_that_name\n"}})
	s.deploy(function{name: "nohandler", runtime: "nodejs20.x", files: map[string]string{"index.js": "exports.other = 1;\n"}})
	s.deploy(function{name: "syntax", runtime: "python3.11", files: map[string]string{"index.py": "def handler(:\n"}})
	s.deploy(function{name: "initexit", runtime: "python3.11", files: map[string]string{"index.py": "import os\nos._exit(5)\n"}})

	for _, tc := range []struct{ fn, do, errorType, message string }{
		{"node", "throw", "RangeError", "too far"},
		{"node", "exit", "Runtime.ExitError", "Error: Runtime exited with error: exit status 3"},
		{"node", "exit0", "Runtime.ExitError", "Error: Runtime exited without providing a reason"},
		{"node", "signal", "Runtime.ExitError", "Error: Runtime exited with error: signal: killed"},
		{"node", "reject", "Runtime.UnhandledPromiseRejection", "nobody caught"},
		{"node-hangs", "hang", "Sandbox.Timedout", "Error: Task timed out after 3.00 seconds"},
		{"node", "memory", "Runtime.OutOfMemory", "Error: Runtime exited with error: signal: killed"},
		{"py", "throw", "ValueError", "too far"},
		{"py", "exit", "Runtime.ExitError", "exit status 3"},
		{"py", "sysexit", "Runtime.ExitError", "exit status 4"},
		{"py", "exit0", "Runtime.ExitError", "without providing a reason"},
		{"py", "signal", "Runtime.ExitError", "signal: killed"},
		{"py", "segv", "Runtime.ExitError", "signal: segmentation fault"},
		{"py-hangs", "hang", "Sandbox.Timedout", "Task timed out after 3.00 seconds"},
		{"py", "memory", "Runtime.OutOfMemory", "signal: killed"},
		{"go", "error", "errorString", "too far"},
		{"go", "panic", "string", "too far"},
		{"go", "exit", "Runtime.ExitError", "exit status 3"},
		{"go-hangs", "hang", "Sandbox.Timedout", "Task timed out after 3.00 seconds"},
		{"go", "memory", "Runtime.OutOfMemory", "signal: killed"},
		{"sh", "", "Runtime.ExitError", "exit status 7"},
		{"noboot", "", "Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"},
		{"noexec", "", "Runtime.InvalidEntrypoint", "exec format error"},
		{"noimport", "", "Runtime.ImportModuleError", "nothing_of_that_name"},
		{"nohandler", "", "Runtime.HandlerNotFound", "index.handler is undefined or not exported"},
		{"syntax", "", "Runtime.UserCodeSyntaxError", "invalid syntax"},
		{"initexit", "", "Runtime.ExitError", "exit status 5"},
	} {
		t.Run(tc.fn+"/"+tc.do, func(t *testing.T) {
			event, _ := json.Marshal(map[string]string{"do": tc.do})
			a, err := s.invoke(tc.fn, string(event))
			if err != nil {
				t.Fatal(err)
			}
			var body errorBody
			if err := json.Unmarshal([]byte(a.payload), &body); err != nil {
				t.Fatalf("%v in %s", err, a.payload)
			}
			if a.functionError != "Unhandled" || body.ErrorType != tc.errorType || !strings.Contains(body.ErrorMessage, tc.message) {
				t.Errorf("got %s %s\nwant %s: …%s…", a.functionError, a.payload, tc.errorType, tc.message)
			}
			switch tc.errorType {
			case "RangeError":
				if len(body.Trace) < 2 || !strings.Contains(body.Trace[1], "index.js") {
					t.Errorf("the trace does not show where: %q", body.Trace)
				}
			case "ValueError":
				if len(body.StackTrace) == 0 || !strings.Contains(fmt.Sprint(body.StackTrace), "index.py") {
					t.Errorf("the stack trace does not show where: %q", body.StackTrace)
				}
			}
		})
	}
	for _, fn := range []string{"node", "py", "go", "node-hangs", "py-hangs", "go-hangs"} { // and all is well afterwards
		if a := s.mustInvoke(fn, `{"do":"nothing"}`); a.payload != `"fine"` {
			t.Errorf("%s after its crashes: %s", fn, a.payload)
		}
	}
}

func TestNothingOfAKilledFunctionsLastOutputIsLost(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "loud", runtime: "python3.11", timeout: 1, files: map[string]string{"index.py": `
import os, sys, time
def handler(e, c):
    for i in range(200): print('line', i)
    if e.get('do') == 'hang':
        print('last words', end='', flush=True); time.sleep(60)
    if e.get('do') == 'exit':
        sys.stdout.write('last words'); sys.stdout.flush(); os._exit(1)
`}})
	for _, do := range []string{"hang", "exit"} {
		if _, err := s.invoke("loud", `{"do":"`+do+`"}`); err != nil {
			t.Fatal(err)
		}
	}
	out, err := s.hearth("logs", "loud", "--json")
	if err != nil {
		t.Fatal(err)
	}
	for what, n := range map[string]int{"last words": 2, `"line 199"`: 2, "START RequestId": 2, "END RequestId": 2, "REPORT RequestId": 2, "Status: timeout": 1, "Status: error": 1} {
		if got := strings.Count(strings.ReplaceAll(out, `\n`, ""), what); got != n {
			t.Errorf("%q is in the log %d times, not %d", what, got, n)
		}
	}
	if t.Failed() {
		t.Log(tail(out, 3000))
	}
}

func TestAFunctionSeesTheServicesEnvironment(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "env", runtime: "python3.11", memory: 256, timeout: 7, env: map[string]string{"MINE": "yes"}, handler: "real.handler", zip: zipOf(t, map[string]string{"real.py": `
import os, urllib.request, json
seen = 0
def writable(p):
    try:
        open(p + '/x', 'w').close(); return True
    except OSError: return False
def handler(e, c):
    global seen
    seen += 1
    return {'env': dict(os.environ), 'cwd': os.getcwd(), 'uid': os.getuid(), 'seen': seen,
            'left': c.get_remaining_time_in_millis(), 'arn': c.invoked_function_arn, 'mem': c.memory_limit_in_mb,
            'group': c.log_group_name, 'id': c.aws_request_id, 'tmp': writable('/tmp'), 'task': writable('/var/task'), 'root': writable('/')}
`})})
	var r struct {
		Env                      map[string]string
		Cwd, Arn, Mem, Group, ID string
		UID, Seen, Left          int
		Tmp, Task, Root          bool
	}
	for n := 1; n <= 3; n++ {
		if err := json.Unmarshal([]byte(s.mustInvoke("env", `{}`).payload), &r); err != nil {
			t.Fatal(err)
		}
		if r.Seen != n {
			t.Errorf("invocation %d found the environment used %d times", n, r.Seen-1)
		}
	}
	for k, want := range map[string]string{
		"MINE": "yes", "AWS_LAMBDA_FUNCTION_NAME": "env", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
		"AWS_REGION": "us-east-1", "_HANDLER": "real.handler", "LAMBDA_TASK_ROOT": "/var/task", "TZ": ":UTC", "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
		"AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/env", "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11", "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
	} {
		if r.Env[k] != want {
			t.Errorf("%s is %q, not %q", k, r.Env[k], want)
		}
	}
	for _, k := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ENDPOINT_URL"} {
		if r.Env[k] == "" {
			t.Errorf("%s is not set", k)
		}
	}
	if r.UID == 0 || !r.Tmp || r.Task || r.Root || r.Cwd != "/var/task" || r.Arn != "arn:aws:lambda:us-east-1:000000000000:function:env" ||
		r.Left <= 0 || r.Left > 7000 || r.Group != "/aws/lambda/env" || r.ID == "" {
		t.Errorf("%+v", r)
	}
}

func TestAFunctionCallsAnotherThroughTheAPIInside(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "callee", runtime: "python3.11", files: map[string]string{"index.py": "def handler(e, c):\n    return {'got': e}\n"}})
	s.deploy(function{name: "caller", runtime: "provided.al2023", handler: "bootstrap", timeout: 20, zip: goZip(t, "caller")})
	if a := s.mustInvoke("caller", `{"call":"callee"}`); !sameJSON(a.payload, `{"got":{"from":"caller"}}`) {
		t.Errorf("got %s", a.payload)
	}
}

func TestInitIsRunAgainUnderTheFunctionsTimeout(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "slow", runtime: "python3.11", timeout: 30, files: map[string]string{"index.py": "import time\ntime.sleep(11)\ndef handler(e, c):\n    return 'at last'\n"}})
	began := time.Now()
	if a := s.mustInvoke("slow", `{}`); a.payload != `"at last"` {
		t.Errorf("got %s", a.payload)
	}
	if d := time.Since(began); d < 20*time.Second || d > 31*time.Second {
		t.Errorf("an init of 11 s that is cut off at 10 s and run again took %v", d)
	}
}

func TestTailIsTheLastFourKilobytesOfTheLog(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "chatty", runtime: "nodejs20.x", files: map[string]string{"index.js": "exports.handler = async () => { for (let i = 0; i < 500; i++) console.log('number', i); };\n"}})
	a := s.mustInvoke("chatty", `{}`)
	log, err := base64.StdEncoding.DecodeString(a.log)
	if err != nil {
		t.Fatal(err)
	}
	if len(log) > 4096 || len(log) < 3500 || !strings.Contains(string(log), "number 499") || !strings.Contains(string(log), "Max Memory Used: ") {
		t.Errorf("%d bytes:\n%s", len(log), log)
	}
}

func TestPublishedVersionsKeepTheirCode(t *testing.T) {
	t.Parallel()
	s := start(t)
	c, ctx := s.client(), context.Background()
	code := func(v string) map[string]string {
		return map[string]string{"index.py": "def handler(e, c):\n    return '" + v + "'\n"}
	}
	s.deploy(function{name: "v", runtime: "python3.11", files: code("one")})
	out, err := c.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: ptr("v")})
	if err != nil || *out.Version != "1" {
		t.Fatalf("%v %v", out, err)
	}
	if _, err := c.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: ptr("v"), ZipFile: zipOf(t, code("two"))}); err != nil {
		t.Fatal(err)
	}
	s.waitActive("v")
	for name, want := range map[string]string{"v": `"two"`, "v:1": `"one"`, "v:$LATEST": `"two"`, "arn:aws:lambda:us-east-1:000000000000:function:v:1": `"one"`, "000000000000:function:v:1": `"one"`} {
		if a := s.mustInvoke(name, `{}`); a.payload != want {
			t.Errorf("%s answers %s", name, a.payload)
		}
	}
}
