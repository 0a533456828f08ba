package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// Each side of a cross-account alias is hostile once: what the caller can do to see
// the owner's code, and the owner to see what the caller gave it.

func TestS05AHostileCallerDoesNotGetTheCode(t *testing.T) {
	t.Parallel()
	w := newS05(t)
	ctx := t.Context()
	a := w.a1
	c := a.client()
	var seen strings.Builder // all that A1 has got to see

	// 1. Errors, stack traces and the tail of the log.
	for _, do := range []string{"raise", "raise-typed", "abort", "exit"} {
		got, err := a.invoke(s05Alias, `{"do":"`+do+`"}`)
		if err != nil || got.functionError == "" {
			t.Errorf("%s: %v %+v", do, err, got)
		}
		log, derr := base64.StdEncoding.DecodeString(got.log)
		if derr != nil {
			t.Error(derr)
		}
		fmt.Fprintln(&seen, got.payload, string(log))
		if do == "raise" && (!strings.Contains(got.payload, "ValueError") || strings.Contains(got.payload, "stackTrace")) {
			t.Errorf("the error is told as %s", got.payload)
		}
		if !strings.Contains(string(log), "REPORT RequestId") {
			t.Errorf("%s: the platform's lines are missing: %s", do, log)
		}
	}
	// A code that can't be loaded says where and why; so does one that is no code.
	w.b.deploy(function{name: "broken", runtime: "python3.12", files: map[string]string{"index.py": "import no_such_" + strings.ReplaceAll(s05Source, "-", "_") + "  # " + s05Source}})
	broken := strings.TrimSpace(w.b.must("offer", "create", "broken", "--to", a.id))
	a.must("shared-alias", "create", "broken", broken)
	got, err := a.invoke("broken", `{}`)
	fmt.Fprintln(&seen, got.payload, err)
	if got.functionError == "" || strings.Contains(got.payload, "no_such") {
		t.Errorf("%v %s", err, got.payload)
	}

	// So does a stream that breaks off.
	w.b.streamer("streamer")
	streamer := strings.TrimSpace(w.b.must("offer", "create", "streamer", "--to", a.id))
	a.must("shared-alias", "create", "streamer", streamer)
	for mode, text := range map[string]string{"early": "", "late": "part", "exit": "part"} {
		got := a.stream("streamer", `{"mode":"`+mode+`"}`, nil)
		details := aws.ToString(got.complete.ErrorDetails)
		fmt.Fprintln(&seen, details, got.text)
		if got.text != text || got.complete.ErrorCode == nil || strings.Contains(details, "too "+mode) || !strings.Contains(details, "withheld") {
			t.Errorf("%s: %q, %+v", mode, got.text, details)
		}
	}

	// 2. The API's own ways to the code.
	f, err := c.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: ptr(s05Alias)})
	if err != nil {
		t.Fatal(err)
	}
	if f.Code != nil || f.Configuration.CodeSha256 != nil || f.Configuration.CodeSize != 0 || f.Configuration.Handler != nil || f.Configuration.Runtime != "" || f.Configuration.Environment != nil {
		t.Errorf("GetFunction tells %+v %+v", f.Code, f.Configuration)
	}
	owners := "arn:aws:lambda:us-east-1:" + w.b.id + ":function:archive"
	if _, err := c.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: &owners}); code(err) != "AccessDeniedException" {
		t.Errorf("B's own: %v", err)
	}
	if _, err := c.Invoke(ctx, &lambda.InvokeInput{FunctionName: &owners}); code(err) != "AccessDeniedException" {
		t.Errorf("B's own: %v", err)
	}

	// 3. Code of A1's own beside it: handler, layer, environment, version, name.
	for what, err := range map[string]error{
		"handler": second(c.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: ptr(s05Alias), Handler: ptr("os.system")})),
		"environment": second(c.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: ptr(s05Alias),
			Environment: &types.Environment{Variables: map[string]string{"PYTHONSTARTUP": "/tmp/x"}}})),
		"code":    second(c.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: ptr(s05Alias), ZipFile: zipOf(t, map[string]string{"index.py": "x"})})),
		"publish": second(c.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: ptr(s05Alias)})),
		"name":    second(c.CreateFunction(ctx, &lambda.CreateFunctionInput{FunctionName: ptr(s05Alias), Runtime: "python3.12", Handler: ptr("index.handler"), Role: ptr("arn:aws:iam::" + a.id + ":role/r"), Code: &types.FunctionCode{ZipFile: zipOf(t, map[string]string{"index.py": "x"})}})),
	} {
		if err == nil {
			t.Errorf("%s of an alias can be changed", what)
		}
		fmt.Fprintln(&seen, err)
	}
	// 4. Variables by which a runtime loads code: not even the owner can let them
	// be set by mistake, and what is not declared is not taken.
	if out, err := w.b.hearth("offer", "create", "archive", "--to", a.id, "--parameter", "PYTHONPATH"); err == nil {
		t.Errorf("offered: %s", out)
	}
	if out, err := a.hearth("shared-alias", "update", s05Alias, "--set", "PYTHONSTARTUP=/tmp/x"); err == nil {
		t.Errorf("set: %s", out)
	}

	// 5. A function of A1's own looks for it: files, processes, memory of others.
	a.deploy(function{name: "look", runtime: "python3.12", timeout: 120, files: map[string]string{"index.py": s05Look}})
	a.mustInvoke(s05Alias, put("beside", 1)) // there is an environment with the code in it
	look := a.mustInvoke("look", `{"mark":"`+s05Source[2:]+`"}`)
	if look.payload != `[]` {
		t.Errorf("A1's function finds it in %s", look.payload)
	}

	// 6. Everything else that its APIs say, and the code's hash, by which it could
	// be told from other code.
	hash := aws.ToString(mustConfig(t, w.b, "archive").CodeSha256)
	fmt.Fprintln(&seen, w.told(a, s05Alias), w.told(a, "archive"))
	for _, d := range a.decisions("place") {
		fmt.Fprintln(&seen, a.must("explain", d.RequestID), a.must("explain", d.RequestID, "--json"))
	}
	for _, secret := range []string{s05Source, s05Owned, hash, "no_such_"} {
		if i := strings.Index(seen.String(), secret); i >= 0 {
			s := seen.String()
			t.Errorf("A1 sees %q: …%s…", secret, s[max(0, i-300):min(len(s), i+200)])
		}
	}
}

// s05Look reads what it can of the file system and of processes.
const s05Look = `import os

def handler(event, context):
    mark, found = ("b-" + event["mark"]).encode(), []
    for top in ("/var", "/opt", "/tmp", "/home", "/root", "/mnt", "/run", "/srv", "/dev/shm", "/proc"):
        for folder, folders, files in os.walk(top):
            if folder.count("/") > 6 or "/proc/self" in folder or folder.endswith("/%d" % os.getpid()):
                folders[:] = []
                continue
            for name in files:
                path = os.path.join(folder, name)
                try:
                    if os.path.getsize(path) > 1 << 20: continue
                    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
                    try:
                        data = os.read(fd, 1 << 20)
                    finally:
                        os.close(fd)
                except OSError:
                    continue
                if mark in data:
                    found.append(path)
    return found
`

func second[T any](_ T, err error) error { return err }

func mustConfig(t *testing.T, a *tenant, name string) *lambda.GetFunctionConfigurationOutput {
	t.Helper()
	out, err := a.client().GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &name})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestS05AHostileOwnerDoesNotGetTheCallersSecrets(t *testing.T) {
	t.Parallel()
	w := newS05(t)
	ctx := t.Context()
	a := w.a1
	const input = "a1-input-0c9d33"
	a.mustInvoke(s05Alias, put(input, input))
	for _, do := range []string{"raise", "raise-typed", "exit"} {
		got, err := a.invoke(s05Alias, `{"do":"`+do+`","x":"`+input+`"}`)
		if err != nil || got.functionError == "" {
			t.Errorf("%s: %v %+v", do, err, got)
		}
	}

	// The code itself sends what it has been given: only where A1 lets it.
	udp, err := net.ListenPacket("udp4", w.outside.here+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(w.server.endpoint, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	to := []string{w.outside.ledger, w.outside.greeter, "100.64.0.1:9070", "100.64.0.1:53", "127.0.0.1:" + port, w.buckets.at}
	event, err := json.Marshal(map[string]any{"do": "steal", "to": to, "datagrams": []string{udp.LocalAddr().String(), w.outside.ledger}})
	if err != nil {
		t.Fatal(err)
	}
	got := a.mustInvoke(s05Alias, string(event))
	want := map[string]string{"name": "refused", "udp " + udp.LocalAddr().String(): "refused", "udp " + w.outside.ledger: "refused"}
	for _, d := range to {
		want[d] = "refused"
	}
	want[w.buckets.at] = "sent" // the list is of addresses and ports
	var sent map[string]string
	if err := json.Unmarshal([]byte(got.payload), &sent); err != nil {
		t.Fatal(err)
	}
	for d, v := range want {
		if sent[d] != v {
			t.Errorf("to %s: %s, want %s", d, sent[d], v)
		}
	}
	if _, ok := w.outside.written.Load(w.keys[a]); ok {
		t.Error("A1's key was written down elsewhere")
	}
	// B's own function may, as before: it is A1's choice that holds A1's run.
	if got, err := w.b.invoke("archive", `{"do":"steal","to":["`+w.outside.ledger+`"]}`); err != nil || got.functionError == "" {
		t.Errorf("without KEY it fails: %v %+v", err, got)
	}

	// Nothing of A1's environment is the owner's or the platform's credentials.
	look := a.mustInvoke(s05Alias, `{"do":"look"}`)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"} {
		if strings.Contains(look.payload, `"`+name+`"`) {
			t.Errorf("the run has %s", name)
		}
	}
	if !strings.Contains(look.payload, `"PREFIX": "archive/"`) || !strings.Contains(look.payload, `"OWNED": "`+s05Owned+`"`) {
		t.Errorf("parameters: %s", look.payload)
	}

	// Where A1 lets it reach everything, Hearth's API too, it calls none of A1's
	// functions: code of A1's own does, without a signature.
	f := w.archive()
	f.name = "copy"
	a.deploy(f)
	a.must("shared-alias", "update", s05Alias, "--allow-all")
	for name, want := range map[string]string{s05Alias: `"status": 403`, "copy": `"status": 201`} {
		if got := a.mustInvoke(name, `{"do":"call","function":"copy"}`); !strings.Contains(got.payload, want) {
			t.Errorf("%s calls a function of A1's: %s", name, got.payload)
		}
	}

	// Every API of B's, about its own function, the alias's name and the alias's ARN.
	arn := "arn:aws:lambda:us-east-1:" + a.id + ":function:" + s05Alias
	seen := w.told(w.b, "archive") + w.told(w.b, s05Alias) + w.told(w.b, arn) + w.explained()
	for _, err := range []error{
		second(w.b.client().Invoke(ctx, &lambda.InvokeInput{FunctionName: &arn})),
		second(w.b.client().GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: &arn})),
	} {
		if code(err) != "AccessDeniedException" {
			t.Errorf("the alias to B: %v", err)
		}
	}
	// The caller itself does not get its secret back either.
	mine := w.told(a, s05Alias)
	hidden := []string{w.keys[a], strings.ReplaceAll(w.keys[a], "-", "_")}
	for _, secret := range hidden {
		if i := strings.Index(mine, secret); i >= 0 && secret == w.keys[a] {
			t.Errorf("A1's own APIs show its key: …%s…", mine[max(0, i-300):min(len(mine), i+200)])
		}
	}
	for _, secret := range append(hidden, input) {
		if i := strings.Index(seen, secret); i >= 0 {
			t.Errorf("B sees %q: …%s…", secret, seen[max(0, i-300):min(len(seen), i+200)])
		}
	}
	w.server.stop()
	inFolder(t, w.server.dir, w.keys[a], input)
	if log := w.server.log.String(); strings.Contains(log, w.keys[a]) || strings.Contains(log, input) {
		t.Error("the server's log has A1's key or input")
	}
}
