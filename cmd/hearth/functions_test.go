package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// pythonFolder is a function's folder.
func pythonFolder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "my fn")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "lambda_function.py"), "def lambda_handler(event, context):\n    return event\n")
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDeployCreatesThenUpdatesOnlyWhatDiffers(t *testing.T) {
	f := newFake(t)
	dir := pythonFolder(t)

	f.hearth("deploy", dir, "--env", "A=1", "--memory", "256").want(t, 0, "my-fn created  python3.11, lambda_function.lambda_handler")
	c := f.functions["my-fn"]
	if c["Role"] != "arn:aws:iam::"+testAccount+":role/hearth" || c["MemorySize"] != 256.0 || c["Runtime"] != "python3.11" {
		t.Errorf("created as %v", c)
	}

	f.calls = nil
	f.hearth("deploy", dir).want(t, 0, "my-fn unchanged")
	if slices.ContainsFunc(f.calls, func(s string) bool { return !strings.HasPrefix(s, "GET") }) {
		t.Errorf("nothing differs, and it called %q", f.calls)
	}

	f.calls, f.busyFor = nil, 3
	write(t, filepath.Join(dir, "lambda_function.py"), "def lambda_handler(event, context):\n    return 2\n")
	f.hearth("deploy", dir, "--timeout", "9").want(t, 0, "my-fn updated", "")
	if got := slices.DeleteFunc(f.calls, func(s string) bool { return strings.HasPrefix(s, "GET") }); !slices.Equal(got, []string{"PUT configuration", "PUT code"}) {
		t.Errorf("it called %q", got)
	}
	if c := f.functions["my-fn"]; c["Timeout"] != 9.0 || c["MemorySize"] != 256.0 {
		t.Errorf("updated to %v", c)
	}
	var doc deployed
	r := f.hearth("deploy", dir, "--json")
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil || doc.Action != "unchanged" || doc.ARN == "" {
		t.Errorf("%v in %s", err, r.out)
	}
}

func TestDeployBuildsGoForTheRuntimeThatRunsIt(t *testing.T) {
	f := newFake(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), "module x\n\ngo 1.26\n")
	write(t, filepath.Join(dir, "main.go"), "package main\n\nfunc main() {}\n")
	f.hearth("deploy", dir, "--name", "prog", "--arch", "arm64").want(t, 0, "prog created  provided.al2023, bootstrap", "building the Go program", "linux/arm64")
	if a := f.functions["prog"]["Architectures"].([]any)[0]; a != "arm64" {
		t.Errorf("for %v", a)
	}
}

func TestDeployPrefersAnInterpreterOfTheVeryVersion(t *testing.T) {
	f := newFake(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "index.mjs"), "export const handler = async () => 1\n")
	f.hearth("deploy", dir, "--name", "n").want(t, 0, "nodejs20.x, index.handler")
}

func TestDeployThatCantSaysWhyAndTheWayOut(t *testing.T) {
	f := newFake(t)
	two := pythonFolder(t)
	write(t, filepath.Join(two, "index.mjs"), "export const handler = async () => 1\n")
	f.hearth("deploy", two).want(t, 1, "", "understood in several ways", "--runtime nodejs22.x --handler index.handler", "--runtime python3.12 --handler lambda_function.lambda_handler")
	f.hearth("deploy", t.TempDir()).want(t, 1, "", "can't deploy", "no Go main package")
	f.hearth("deploy", filepath.Join(two, "gone")).want(t, 1, "", "there is no such folder")
	f.hearth("deploy", two, "--runtime", "cobol").want(t, 2, "", `--runtime "cobol"`)
	f.hearth("deploy", two, "--env", "x").want(t, 2, "", "no KEY=VALUE")
	f.hearth("deploy").want(t, 2, "", "hearth deploy DIR")
}

func TestInvokePrintsTheAnswerAndNothingElse(t *testing.T) {
	f := newFake(t)
	f.functions["echo"] = map[string]any{}
	var context string
	f.answer = func(event []byte, h http.Header) (int, map[string]string, string) {
		context = h.Get("X-Amz-Client-Context")
		header := map[string]string{"X-Amz-Executed-Version": "$LATEST"}
		if h.Get("X-Amz-Log-Type") == "Tail" {
			header["X-Amz-Log-Result"] = base64.StdEncoding.EncodeToString([]byte("a log line\n"))
		}
		return 200, header, string(event)
	}
	if r := f.hearth("invoke", "echo", `{"a":1}`); r.code != 0 || r.out != `{"a":1}` || r.err != "" {
		t.Errorf("%+v", r)
	}
	if r := f.hearth("invoke", "echo"); r.out != `{}` {
		t.Errorf("without data: %+v", r)
	}
	file := filepath.Join(t.TempDir(), "event.json")
	write(t, file, `[2]`)
	if r := f.hearth("invoke", "echo", "@"+file); r.out != `[2]` {
		t.Errorf("from a file: %+v", r)
	}
	if r := run(t, `"in"`, nil, "invoke", "echo", "-", "--data", f.dir); r.out != `"in"` {
		t.Errorf("from standard input: %+v", r)
	}
	if r := f.hearth("invoke", "echo", "--raw", "no json"); r.out != "no json" {
		t.Errorf("raw: %+v", r)
	}
	f.hearth("invoke", "echo", "--tail", "--client-context", `{"x":1}`).want(t, 0, "{}", "a log line")
	if context != base64.StdEncoding.EncodeToString([]byte(`{"x":1}`)) {
		t.Errorf("client context %q", context)
	}
	var doc invoked
	if r := f.hearth("invoke", "echo", "7", "--json"); json.Unmarshal([]byte(r.out), &doc) != nil || doc.RequestID != "r1" || string(doc.Payload) != "7" {
		t.Errorf("--json: %+v", r)
	}
	f.hearth("invoke", "echo", "text").want(t, 2, "", "not JSON", `'"text"'`)
	f.hearth("invoke", "none").want(t, 1, "", "Function not found", "hearth ls")
}

func TestFunctionThatFailsHasAnExitCodeOfItsOwn(t *testing.T) {
	f := newFake(t)
	f.functions["bad"] = map[string]any{}
	f.answer = func([]byte, http.Header) (int, map[string]string, string) {
		return 200, map[string]string{"X-Amz-Function-Error": "Unhandled"},
			`{"errorType":"KeyError","errorMessage":"'x'","stackTrace":["  File \"a.py\", line 2\n"]}`
	}
	r := f.hearth("invoke", "bad")
	r.want(t, exitFunction, "", "bad failed: KeyError: 'x'", `File "a.py", line 2`, "hearth explain r1")
	if r.out != "" {
		t.Errorf("standard output has %q", r.out)
	}
	f.hearth("invoke", "bad", "--json").want(t, exitFunction, `"functionError": "Unhandled"`)
}

func TestThrottleIsNotRepeatedAndSaysItsReason(t *testing.T) {
	f := newFake(t)
	f.functions["f"] = map[string]any{}
	f.answer = func([]byte, http.Header) (int, map[string]string, string) {
		return 429, map[string]string{"X-Amzn-Errortype": "TooManyRequestsException"}, `{"Reason":"ConcurrentInvocationLimitExceeded","message":"Rate Exceeded."}`
	}
	f.hearth("invoke", "f").want(t, 1, "", "Rate Exceeded.", "--concurrency")
	if len(f.calls) != 1 {
		t.Errorf("called %q", f.calls)
	}
}

func TestServerThatEndsMeanwhileIsNamedAsTheReason(t *testing.T) {
	f := newFake(t)
	f.functions["f"] = map[string]any{}
	f.answer = func([]byte, http.Header) (int, map[string]string, string) { panic(http.ErrAbortHandler) }
	f.hearth("invoke", "f").want(t, 1, "", "the server closed the connection before it had answered")
}

func TestListAndRemove(t *testing.T) {
	f := newFake(t)
	f.hearth("ls").want(t, 0, "", "no functions yet", "hearth deploy")
	dir := pythonFolder(t)
	f.hearth("deploy", dir, "--name", "one").want(t, 0, "")
	f.hearth("deploy", dir, "--name", "two").want(t, 0, "")
	f.hearth("ls").want(t, 0, "one")
	var list []listed
	if r := f.hearth("ls", "--json"); json.Unmarshal([]byte(r.out), &list) != nil || len(list) != 2 || list[1].Function != "two" {
		t.Errorf("%+v", r)
	}
	f.hearth("rm", "one", "none").want(t, 1, "one deleted", "can't delete none")
	if len(f.functions) != 1 {
		t.Errorf("left %v", f.functions)
	}
}

func TestLogsComeLineByLine(t *testing.T) {
	f := newFake(t)
	f.hearth("logs", "echo", "--since", "10m").want(t, 0, "START RequestId: r1\n")
	if r := f.hearth("logs", "echo", "--json"); strings.Count(r.out, "\n") != 3 {
		t.Errorf("%+v", r)
	}
	f.hearth("logs", "none").want(t, 1, "", "Function not found: none")
	f.hearth("logs", "echo", "--since", "yesterday").want(t, 2, "", "neither a duration nor a time")
}

func TestExplainTellsTheWayAndTheTime(t *testing.T) {
	f := newFake(t)
	d := hearth.Decision{
		Seq: 3, At: time.Now(), Kind: hearth.DecisionPlace, RequestID: "r1", Account: testAccount, Function: "echo", Version: "$LATEST",
		Chosen: string(hearth.PathWarm), Why: "no container had the code", Instance: "i-1", Container: "c-1", Outcome: "ok",
	}
	d.Spent[hearth.StageInit], d.Spent[hearth.StageRun] = 30*time.Millisecond, 10*time.Millisecond
	refused := hearth.Decision{Seq: 4, At: time.Now(), Kind: hearth.DecisionRefuse, RequestID: "r2", Account: testAccount, Function: "echo", Chosen: "throttle", Why: "1000 run already", Outcome: "TooManyRequestsException"}
	f.decisions = []hearth.Decision{refused, d}
	r := f.hearth("explain", "r1")
	r.want(t, 0, "ok in 40.0 ms")
	r.want(t, 0, "warm: an instance from the warming pool")
	r.want(t, 0, "init       30.0 ms  ████████████████████████████████████\n")
	r.want(t, 0, "run        10.0 ms                                      ████████████\n")
	if strings.Contains(r.out, "boot") {
		t.Errorf("a stage that was not passed is shown:\n%s", r.out)
	}
	f.hearth("explain", "--last", "echo").want(t, 0, "TooManyRequestsException")
	f.hearth("explain", "--last", "echo", "--json").want(t, 0, `"requestId": "r2"`)
	f.hearth("explain", "r9").want(t, 1, "", "nothing is called r9 here")
	f.hearth("explain", "6f0c2a54-9c1e-4b0a-8f55-0d5a5f2b7c11").want(t, 1, "", "no invocation with request id 6f0c2a54")
	f.hearth("explain", "--updates", "echo").want(t, 1, "", "no update of echo is recorded")
	f.decisions = []hearth.Decision{
		{Seq: 6, Kind: hearth.DecisionUpdate, Function: "echo", Version: hearth.Latest, Chosen: "switched", Instance: "i-1", Why: "2 of 2 are ready"},
		{Seq: 5, Kind: hearth.DecisionFetch, Function: "echo", Version: hearth.Latest, Chosen: "again", Why: "it ends after 4 of 9 bytes"},
	}
	f.hearth("explain", "--updates", "echo").want(t, 0, "update switched  i-1    2 of 2 are ready")
	f.hearth("explain", "--last", "echo", "--updates", "echo").want(t, 2, "", "either a request id")
	f.hearth("explain").want(t, 2, "", "either a request id, --last NAME or --updates NAME")
}

func TestInsightCommandsPrintTablesAndJSON(t *testing.T) {
	f := newFake(t)
	f.hearth("ps").want(t, 0, "1 instances of accounts, 1 in the warming pool (11.0 of 256 MiB)")
	f.hearth("ps").want(t, 0, "echo:$LATEST                  7     33 of 128 MiB")
	f.hearth("ps").want(t, 0, "kept:3 of blue (provisioned)")
	f.hearth("ps", "--json").want(t, 0, `"state": "idle"`)
	f.hearth("runtimes").want(t, 0, "nodejs24.x       nearest  /usr/bin/node 20.1.0  the nearest")
	f.hearth("runtimes", "--json").want(t, 0, `"exact": true`)
	f.hearth("version").want(t, 0, "server 9.9")
	f.hearth("version", "--json").want(t, 0, `"server": "9.9"`)
}

func TestURLIsMadeShownAndDeleted(t *testing.T) {
	f := newFake(t)
	f.functions["hello"] = map[string]any{}
	const url = "http://id.lambda-url.eu-west-1.localhost/"
	f.hearth("url", "hello").want(t, exitFailed, "", "hello has no URL", "hearth url hello --create")
	if r := f.hearth("url", "hello", "--create", "--stream"); r.code != 0 || r.out != url+"\n" || len(f.policy) != 0 ||
		f.urls["hello"]["AuthType"] != "AWS_IAM" || f.urls["hello"]["InvokeMode"] != "RESPONSE_STREAM" {
		t.Errorf("%+v, %v, %v", r, f.urls, f.policy)
	}
	f.hearth("url", "hello", "--json").want(t, 0, `"authType": "AWS_IAM"`)
	f.hearth("url", "hello", "--delete").want(t, 0, "the URL of hello deleted")
	f.hearth("url", "hello", "--create", "--auth", "none").want(t, 0, url, "anybody")
	if len(f.policy) != 2 || f.policy[0]["FunctionUrlAuthType"] != "NONE" || f.policy[1]["InvokedViaFunctionUrl"] != true || f.policy[1]["Principal"] != "*" {
		t.Errorf("%v", f.policy)
	}
	f.hearth("url", "none").want(t, exitFailed, "", "none has no URL")
	f.hearth("url", "hello", "--create", "--auth", "some").want(t, exitUsage, "", `--auth "some"`)
	f.hearth("url", "hello", "--create", "--delete").want(t, exitUsage, "", "--create and --delete")
	f.hearth("url", "hello", "--auth", "none").want(t, exitUsage, "", "--create")
}
