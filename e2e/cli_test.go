package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

// ran is what a command came to.
type ran struct {
	out, err string
	code     int
}

// runCommand runs the command line to its end.
func runCommand(t testing.TB, stdin string, args ...string) ran {
	t.Helper()
	cmd := exec.Command(hearthBinary, args...)
	cmd.Env = cleanEnv()
	cmd.Stdin = strings.NewReader(stdin)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return ran{out.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// cli runs a command that must succeed against the server.
func (s *server) cli(args ...string) string {
	s.t.Helper()
	r := runCommand(s.t, "", append(args, "--data", s.dir)...)
	if r.code != 0 {
		s.t.Fatalf("hearth %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// document is what a command prints with --json; nothing else may be there.
func document[T any](s *server, args ...string) (v T) {
	s.t.Helper()
	out := s.cli(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		s.t.Fatalf("hearth %s --json: %v in %s", strings.Join(args, " "), err, out)
	}
	return v
}

// said is what each example answers.
type said struct {
	Hello       string
	Event       any
	Host        struct{ UID, PID int }
	Invocations int
	RequestID   string
}

func (s *server) says(out string) (v said) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		s.t.Fatalf("the function answers %q: %v", out, err)
	}
	return v
}

func TestCommandLineDeploysRunsAndExplains(t *testing.T) {
	t.Parallel()
	s := start(t, "--idle-min", "10m", "--idle-max", "1h") // what was run is still there in the end
	const examples = "../examples/"

	for name, runtime := range map[string]string{"go": "provided.al2023", "node": "nodejs", "python": "python3.", "bootstrap": "provided.al2023"} {
		type deployed struct{ Function, ARN, Runtime, Handler, Action, CodeSHA256 string }
		d := document[deployed](s, "deploy", examples+name, "--name", "hello-"+name, "--memory", "512", "--timeout", "20", "--env", "STAGE=test")
		if d.Function != "hello-"+name || d.Action != "created" || !strings.HasPrefix(d.Runtime, runtime) || !strings.HasSuffix(d.ARN, ":function:hello-"+name) || d.CodeSHA256 == "" {
			t.Errorf("deploy %s: %+v", name, d)
		}
		if again := document[deployed](s, "deploy", examples+name, "--name", "hello-"+name); again.Action != "unchanged" || again.CodeSHA256 != d.CodeSHA256 {
			t.Errorf("the same again: %+v", again)
		}
		if out := s.cli("deploy", examples+name, "--name", "hello-"+name, "--timeout", "19"); !strings.Contains(out, "updated") || !strings.Contains(out, "hearth invoke hello-"+name+" '{}' --data "+s.dir) {
			t.Errorf("deploy does not say what it did and what to type next: %s", out)
		}
		for n := 1; n <= 2; n++ {
			if v := s.says(s.cli("invoke", "hello-"+name, `{"n":1}`)); v.Hello == "" || v.Invocations != n || v.Host.UID == 0 {
				t.Errorf("%s says %+v", name, v)
			}
		}
	}

	// The event from a file, from standard input, or none.
	file := filepath.Join(t.TempDir(), "event.json")
	if err := os.WriteFile(file, []byte(`{"from":"a file"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if v := s.says(s.cli("invoke", "hello-python", "@"+file)); fmt.Sprint(v.Event) != "map[from:a file]" {
		t.Errorf("with a file: %+v", v)
	}
	if r := runCommand(t, `{"from":"stdin"}`, "invoke", "hello-python", "-", "--data", s.dir); r.code != 0 || fmt.Sprint(s.says(r.out).Event) != "map[from:stdin]" {
		t.Errorf("with standard input: %+v", r)
	}
	if v := s.says(s.cli("invoke", "hello-python")); fmt.Sprint(v.Event) != "map[]" {
		t.Errorf("with nothing: %+v", v)
	}
	if r := runCommand(t, "", "invoke", "hello-python", "--tail", "--data", s.dir); r.code != 0 || !strings.Contains(r.err, "REPORT RequestId: ") || strings.Contains(r.out, "REPORT") {
		t.Errorf("--tail: %+v", r)
	}

	type invoked struct {
		RequestID, Version string
		Payload            said
		Millis             float64
	}
	i := document[invoked](s, "invoke", "hello-python", `{"n":1}`)
	if i.RequestID == "" || i.Payload.RequestID != i.RequestID || i.Version != "$LATEST" || i.Millis <= 0 {
		t.Errorf("invoke --json: %+v", i)
	}
	d := document[hearth.Decision](s, "explain", i.RequestID)
	if d.RequestID != i.RequestID || d.Chosen != string(hearth.PathReuse) || d.Why == "" || d.Instance == "" || d.Outcome != "ok" || d.Spent[hearth.StageRun] <= 0 {
		t.Errorf("explain --json: %+v", d)
	}
	for _, args := range [][]string{{"explain", i.RequestID}, {"explain", "--last", "hello-python"}} {
		story := s.cli(args...)
		for _, want := range []string{i.RequestID, "reuse: a container that had the code loaded", d.Why, d.Container, "parse", "verify", "admit", "place", "run", "answer"} {
			if !strings.Contains(story, want) {
				t.Errorf("%v does not tell %q:\n%s", args, want, story)
			}
		}
	}

	type line struct{ RequestID, Message string }
	var mine []line
	for text := range strings.Lines(s.cli("logs", "hello-python", "--json", "--request", i.RequestID)) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%v in %q", err, text)
		}
		mine = append(mine, l)
	}
	if len(mine) != 4 || !strings.HasPrefix(mine[0].Message, "START RequestId: "+i.RequestID) || !strings.Contains(mine[1].Message, "invocation") ||
		!strings.HasPrefix(mine[2].Message, "END") || !strings.HasPrefix(mine[3].Message, "REPORT") {
		t.Errorf("logs --json --request: %+v", mine)
	}
	if out := s.cli("logs", "hello-node"); strings.Count(out, "REPORT RequestId: ") != 2 {
		t.Errorf("logs: %s", out)
	}

	type listed struct {
		Function       string
		MemoryMiB      int
		TimeoutSeconds int
	}
	names := []string{"hello-bootstrap", "hello-go", "hello-node", "hello-python"}
	list := document[[]listed](s, "ls")
	if len(list) != 4 {
		t.Fatalf("ls --json: %+v", list)
	}
	for n, l := range list {
		if l.Function != names[n] || l.MemoryMiB != 512 || l.TimeoutSeconds != 19 {
			t.Errorf("ls --json: %+v", l)
		}
	}
	if out := s.cli("ls"); strings.Count(out, "\n") != 5 || !strings.Contains(out, "hello-go") {
		t.Errorf("ls: %s", out)
	}

	held := map[string]int64{}
	for _, in := range document[control.Snapshot](s, "ps").Instances {
		for _, c := range in.Containers {
			if c.Function != "" && in.Account != hearth.DefaultAccount {
				t.Errorf("ps: %+v holds code and belongs to %q", c, in.Account)
			}
			held[c.Function] += c.Invocations
		}
	}
	if held["hello-go"] != 2 || held["hello-python"] < 7 {
		t.Errorf("ps --json counts the invocations %v", held)
	}
	if out := s.cli("ps"); !strings.Contains(out, "hello-go:$LATEST") || !strings.Contains(out, "in the warming pool") {
		t.Errorf("ps: %s", out)
	}

	runtimes := document[[]control.Runtime](s, "runtimes")
	usable := 0
	for _, r := range runtimes {
		if r.Usable {
			usable++
		}
		if r.Usable && !r.Exact && r.Note == "" {
			t.Errorf("%s is served by another version, and no note says so", r.Name)
		}
	}
	if len(runtimes) < 13 || usable < 3 {
		t.Errorf("runtimes --json: %d, %d of them usable", len(runtimes), usable)
	}
	if out := s.cli("runtimes"); !strings.Contains(out, "provided.al2023") || !strings.Contains(out, "python3.12") {
		t.Errorf("runtimes: %s", out)
	}
	doctor := document[struct {
		Driver, Server string
		Root           bool
		Checks         []control.Check
	}](s, "doctor")
	if doctor.Driver != "namespace" || doctor.Server != s.endpoint || doctor.Root != (os.Geteuid() == 0) || len(doctor.Checks) < 8 {
		t.Errorf("doctor --json: %+v", doctor)
	}
	for _, c := range doctor.Checks {
		if !c.OK && c.Fix == "" {
			t.Errorf("doctor finds that %s is missing (%s) and does not say what to do", c.Name, c.Detail)
		}
	}
	if out := s.cli("doctor"); !strings.Contains(out, "memory limit") || !strings.Contains(out, s.endpoint) {
		t.Errorf("doctor: %s", out)
	}

	if out := s.cli("rm", "hello-go"); !strings.Contains(out, "hello-go deleted") {
		t.Errorf("rm: %s", out)
	}
	if r := document[struct{ Deleted []string }](s, "rm", "hello-node", "hello-python", "hello-bootstrap"); len(r.Deleted) != 3 {
		t.Errorf("rm --json: %+v", r)
	}
	if list := document[[]listed](s, "ls"); len(list) != 0 {
		t.Errorf("after rm there are %+v", list)
	}
}

func TestCommandLineErrorsNameTheThingTheReasonAndTheWayOut(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "bad", runtime: "python3.11", files: map[string]string{"index.py": "def handler(e, c):\n    raise ValueError('as asked')\n"}})
	empty := t.TempDir()
	nowhere := filepath.Join(empty, "nowhere")
	const id = "11111111-2222-3333-4444-555555555555"
	for _, tc := range []struct {
		args string // split at spaces; --data is added unless it is there
		code int
		want []string // in what is printed
	}{
		{"invoke nobody", 1, []string{"can't run nobody", "Function not found", "hearth ls"}},
		{"rm nobody", 1, []string{"can't delete nobody", "Function not found", "hearth ls"}},
		{"logs nobody", 1, []string{"nobody", "log group does not exist"}},
		{"explain " + id, 1, []string{id, "is recorded", "--decision-log"}},
		{"explain --last never", 1, []string{"never", "is recorded", "hearth invoke never"}},
		{"deploy " + nowhere, 1, []string{nowhere, "no such folder"}},
		{"deploy " + empty + " --name empty", 1, []string{empty, "bootstrap"}},
		{"invoke bad {", 2, []string{"not JSON", "--raw"}},
		{"invoke bad @" + nowhere, 1, []string{nowhere, "no such file"}},
		{"invoke bad", 3, []string{"bad failed", "ValueError: as asked", "index.py", "hearth explain", "hearth logs bad"}},
		{"ls --data " + nowhere, 1, []string{nowhere, "no server runs", "hearth up --data"}},
		{"ls --endpoint http://127.0.0.1:1", 1, []string{"http://127.0.0.1:1", "nothing answers", "hearth up"}},
		{"ls --bogus", 2, []string{"--bogus", "hearth ls --help"}},
		{"invoke", 2, []string{"hearth invoke", "hearth invoke NAME"}},
		{"frobnicate", 2, []string{"frobnicate", "hearth --help"}},
		{"logs bad --since yesterday", 2, []string{"yesterday", "10m"}},
		{"deploy . --runtime cobol", 2, []string{"cobol", "hearth runtimes"}},
		{"up --listen nowhere", 2, []string{"listen", "nowhere", "HOST:PORT"}},
		{"up --pool -1", 2, []string{"pool", "-1"}},
	} {
		t.Run(tc.args, func(t *testing.T) {
			args := strings.Fields(tc.args)
			if !slices.Contains(args, "--data") {
				args = append(args, "--data", s.dir)
			}
			r := runCommand(t, "", args...)
			if r.code != tc.code || r.out != "" {
				t.Errorf("exit code %d, not %d; on standard output: %q; on standard error:\n%s", r.code, tc.code, r.out, r.err)
			}
			for _, want := range tc.want {
				if !strings.Contains(r.err, want) {
					t.Errorf("it does not say %q:\n%s", want, r.err)
				}
			}
			for _, internal := range []string{"panic", "goroutine", "operation error", "https response error", ".go:"} {
				if strings.Contains(r.err, internal) {
					t.Errorf("it tells of %q, which is nobody's business:\n%s", internal, r.err)
				}
			}
			if tc.code != 1 {
				return // a wrong flag comes before --json, and a failed function has a document of its own
			}
			var doc struct {
				Error struct {
					Message, Reason, WayOut string
					ExitCode                int
				}
			}
			r = runCommand(t, "", append(args, "--json")...)
			if err := json.Unmarshal([]byte(r.err), &doc); err != nil || doc.Error.Message == "" || doc.Error.ExitCode != tc.code || r.code != tc.code || r.out != "" {
				t.Errorf("with --json: %+v", r)
			}
		})
	}
}

func TestLogsFollowNewLinesUntilInterrupted(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "talker", runtime: "python3.11", files: map[string]string{"index.py": "def handler(e, c):\n    print('said', e['n'])\n"}})
	s.mustInvoke("talker", `{"n":1}`)
	cmd := exec.Command(hearthBinary, "logs", "-f", "talker", "--json", "--data", s.dir)
	cmd.Env = cleanEnv()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			lines <- sc.Text()
		}
	}()
	for n := 1; n <= 3; n++ {
		if n > 1 {
			s.mustInvoke("talker", fmt.Sprintf(`{"n":%d}`, n))
		}
		for want, deadline := fmt.Sprintf("said %d", n), time.After(patience); ; {
			select {
			case l, ok := <-lines:
				if !ok {
					t.Fatalf("following ended: %s", stderr.String())
				}
				if !strings.Contains(l, want) {
					continue
				}
			case <-deadline:
				t.Fatalf("%q was not seen within %v", want, patience)
			}
			break
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for range lines { // the rest
	}
	ended = true
	if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
		t.Errorf("an interrupt ends following with %v: %s", err, stderr.String())
	}
}
