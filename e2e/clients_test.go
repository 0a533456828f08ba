package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// run runs a real client with the environment that hearth env gives.
func (s *server) run(dir, name string, args ...string) string {
	s.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		s.t.Fatalf("%s is missing: %v (make test installs what the tests need)", name, err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.Env = cleanEnv(append(s.env, "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true")...)
	out, err := output(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func TestTheAWSCommandLineDeploysInvokesUpdatesAndDeletes(t *testing.T) {
	t.Parallel()
	s := start(t)
	dir := t.TempDir()
	code := func(v string) {
		t.Helper()
		z := zipOf(t, map[string]string{"app.py": "def handler(event, context):\n    print('hello from " + v + "')\n    return {'v': '" + v + "', 'name': context.function_name}\n"})
		if err := os.WriteFile(filepath.Join(dir, "fn.zip"), z, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	awscli := func(args ...string) string { t.Helper(); return s.run(dir, "aws", args...) }
	invoke := func(args ...string) (meta map[string]any, payload string) {
		t.Helper()
		out := awscli(append([]string{"lambda", "invoke", "--function-name", "cli", "--payload", "fileb://event.json", "out.json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &meta); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "out.json"))
		if err != nil {
			t.Fatal(err)
		}
		return meta, string(b)
	}

	if out := awscli("sts", "get-caller-identity", "--query", "Account", "--output", "text"); strings.TrimSpace(out) != "000000000000" {
		t.Errorf("caller identity: %q", out)
	}
	if err := os.WriteFile(filepath.Join(dir, "event.json"), []byte(`{"a":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	code("one")
	awscli("lambda", "create-function", "--function-name", "cli", "--runtime", "python3.11", "--handler", "app.handler",
		"--role", "arn:aws:iam::000000000000:role/r", "--zip-file", "fileb://fn.zip", "--environment", "Variables={AB=c}")
	awscli("lambda", "wait", "function-active-v2", "--function-name", "cli")
	meta, payload := invoke("--log-type", "Tail")
	if !sameJSON(payload, `{"v":"one","name":"cli"}`) || meta["StatusCode"] != 200.0 || meta["LogResult"] == nil {
		t.Errorf("invoke: %v %s", meta, payload)
	}
	code("two")
	awscli("lambda", "update-function-code", "--function-name", "cli", "--zip-file", "fileb://fn.zip")
	awscli("lambda", "wait", "function-updated-v2", "--function-name", "cli")
	if _, payload := invoke(); !sameJSON(payload, `{"v":"two","name":"cli"}`) {
		t.Errorf("after the update: %s", payload)
	}
	if out := awscli("lambda", "publish-version", "--function-name", "cli", "--query", "Version", "--output", "text"); strings.TrimSpace(out) != "1" {
		t.Errorf("published %q", out)
	}
	if out := awscli("lambda", "list-functions", "--query", "Functions[].FunctionName", "--output", "text"); strings.TrimSpace(out) != "cli" {
		t.Errorf("list-functions: %q", out)
	}
	url := strings.TrimSpace(awscli("lambda", "get-function", "--function-name", "cli", "--query", "Code.Location", "--output", "text"))
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(dir, "fn.zip"))
	if err != nil || string(got) != string(want) {
		t.Errorf("Code.Location gives %d bytes (%s), uploaded were %d, %v", len(got), resp.Status, len(want), err)
	}
	out := awscli("logs", "filter-log-events", "--log-group-name", "/aws/lambda/cli", "--query", "events[].message", "--output", "text")
	for _, want := range []string{"START RequestId: ", "hello from two", "REPORT RequestId: "} {
		if !strings.Contains(out, want) {
			t.Errorf("the log lacks %q:\n%s", want, out)
		}
	}
	awscli("lambda", "delete-function", "--function-name", "cli")
	if out := awscli("lambda", "list-functions", "--query", "length(Functions)"); strings.TrimSpace(out) != "0" {
		t.Errorf("after delete-function: %q", out)
	}
}

func TestBoto3DeploysInvokesUpdatesAndDeletes(t *testing.T) {
	t.Parallel()
	s := start(t)
	dir := t.TempDir()
	z := zipOf(t, map[string]string{"index.js": "exports.handler = async (e, c) => { if (e.fail) throw new TypeError('asked to'); return {v: process.env.VER, cc: c.clientContext}; };\n"})
	if err := os.WriteFile(filepath.Join(dir, "fn.zip"), z, 0o600); err != nil {
		t.Fatal(err)
	}
	script := `
import base64, json, boto3, botocore
c = boto3.client("lambda")
c.create_function(FunctionName="boto", Runtime="nodejs20.x", Handler="index.handler", Role="arn:aws:iam::000000000000:role/r",
    Code={"ZipFile": open("fn.zip", "rb").read()}, Environment={"Variables": {"VER": "1"}}, Tags={"team": "a"})
for name in ("function_exists", "function_active", "function_active_v2"): c.get_waiter(name).wait(FunctionName="boto", WaiterConfig={"Delay": 1})
cc = base64.b64encode(json.dumps({"custom": {"k": "v"}}).encode()).decode()
r = c.invoke(FunctionName="boto", Payload=b"{}", ClientContext=cc, LogType="Tail")
body = json.load(r["Payload"])
assert r["StatusCode"] == 200 and body["v"] == "1" and body["cc"]["custom"] == {"k": "v"}, (r, body)
assert b"REPORT RequestId" in base64.b64decode(r["LogResult"]), r["LogResult"]
r = c.invoke(FunctionName="boto", Payload=b'{"fail": true}')
body = json.load(r["Payload"])
assert r["FunctionError"] == "Unhandled" and body["errorType"] == "TypeError" and body["errorMessage"] == "asked to" and body["trace"], body
assert c.invoke(FunctionName="boto", InvocationType="DryRun")["StatusCode"] == 204
c.update_function_configuration(FunctionName="boto", Environment={"Variables": {"VER": "2"}}, MemorySize=512)
for name in ("function_updated", "function_updated_v2"): c.get_waiter(name).wait(FunctionName="boto", WaiterConfig={"Delay": 1})
v = c.publish_version(FunctionName="boto")["Version"]
c.get_waiter("published_version_active").wait(FunctionName="boto", Qualifier=v, WaiterConfig={"Delay": 1})
assert json.load(c.invoke(FunctionName="boto", Payload=b"{}")["Payload"])["v"] == "2"
arn = c.get_function(FunctionName="boto")["Configuration"]["FunctionArn"]
assert json.load(c.invoke(FunctionName=arn, Payload=b"{}")["Payload"])["v"] == "2"
c.tag_resource(Resource=arn, Tags={"x": "y"}); assert c.list_tags(Resource=arn)["Tags"] == {"team": "a", "x": "y"}
c.untag_resource(Resource=arn, TagKeys=["x"]); assert c.list_tags(Resource=arn)["Tags"] == {"team": "a"}
rev = c.get_function_configuration(FunctionName="boto")["RevisionId"]
try:
    c.update_function_configuration(FunctionName="boto", Timeout=5, RevisionId="0" * 8 + rev[8:]); raise SystemExit("accepted a stale revision")
except c.exceptions.PreconditionFailedException: pass
try:
    c.create_function(FunctionName="boto", Runtime="nodejs20.x", Handler="index.handler", Role="arn:aws:iam::000000000000:role/r", Code={"ZipFile": open("fn.zip", "rb").read()}); raise SystemExit("created twice")
except c.exceptions.ResourceConflictException as e: assert "Function already exist: boto" in str(e), e
for n in range(7): c.create_function(FunctionName="p%d" % n, Runtime="nodejs20.x", Handler="index.handler", Role="arn:aws:iam::000000000000:role/r", Code={"ZipFile": open("fn.zip", "rb").read()})
pages = list(c.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 3}))
names = [f["FunctionName"] for p in pages for f in p["Functions"]]
assert len(pages) == 3 and sorted(names) == ["boto"] + ["p%d" % n for n in range(7)], names
assert c.get_account_settings()["AccountUsage"]["FunctionCount"] == 8
c.delete_function(FunctionName="boto")
try: c.get_function(FunctionName="boto"); raise SystemExit("still there")
except c.exceptions.ResourceNotFoundException as e: assert e.response["Error"]["Message"] == "Function not found: " + arn, e.response
print("done")
`
	if out := s.run(dir, "python3", "-c", script); strings.TrimSpace(out) != "done" {
		t.Error(out)
	}
}

func TestTheGoSDKSeesTheServicesErrors(t *testing.T) {
	t.Parallel()
	s := start(t)
	c, ctx := s.client(), context.Background()
	var missing *types.ResourceNotFoundException
	if _, err := c.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("nobody")}); !errors.As(err, &missing) {
		t.Errorf("a function that is not there: %v", err)
	}
	s.deploy(function{name: "go", runtime: "provided.al2023", handler: "bootstrap", zip: goZip(t, "echo")})
	if a := s.mustInvoke("go", `{"x":"é"}`); !sameJSON(a.payload, `{"x":"é"}`) || a.version != "$LATEST" {
		t.Errorf("%+v", a)
	}
	var tooLarge *types.RequestTooLargeException
	if _, err := c.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("go"), Payload: []byte(`"` + strings.Repeat("x", 7<<20) + `"`)}); !errors.As(err, &tooLarge) {
		t.Errorf("a payload of 7 MiB: %v", err)
	}
	big := `"` + strings.Repeat("x", 6<<20-2) + `"`
	if a := s.mustInvoke("go", big); a.payload != big {
		t.Errorf("a payload of 6 MiB came back with %d bytes", len(a.payload))
	}
	var content *types.InvalidRequestContentException
	if _, err := c.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("go"), Payload: []byte(`{`)}); !errors.As(err, &content) {
		t.Errorf("a payload that is not JSON: %v", err)
	}
	unsigned, err := http.Get(s.endpoint + "/2015-03-31/functions")
	if err != nil {
		t.Fatal(err)
	}
	defer unsigned.Body.Close()
	if unsigned.StatusCode != http.StatusForbidden {
		t.Errorf("an unsigned request: %s", unsigned.Status)
	}
}
