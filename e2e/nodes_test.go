package e2e

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

// joined is a running hearth node.
type joined struct {
	name string
	cmd  *exec.Cmd
	dir  string
	log  *lockedBuffer
	err  chan error // of Wait
}

// nodesAddress is where nodes join the server.
func (s *server) nodesAddress() string {
	s.t.Helper()
	list, err := s.controlClient().Nodes(context.Background())
	if err != nil || list.Listening == "" {
		s.t.Fatalf("the server takes no nodes: %+v, %v", list, err)
	}
	return list.Listening
}

// join starts a node and returns before it has joined; awaitNodes waits for
// that. It is ended with the test.
func (s *server) join(name string, args ...string) *joined {
	s.t.Helper()
	dir, err := os.MkdirTemp(scratch, "node-")
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the sandboxes' users enter it
		s.t.Fatal(err)
	}
	return s.joinIn(dir, name, args...)
}

// joinIn is join with a data folder that may have been used before.
func (s *server) joinIn(dir, name string, args ...string) *joined {
	s.t.Helper()
	n := &joined{name: name, dir: dir, log: &lockedBuffer{}, err: make(chan error, 1)}
	n.cmd = exec.Command(hearthBinary, append([]string{"node", "--join", s.nodesAddress(), "--token-file", filepath.Join(s.dir, "node.token"),
		"--name", name, "--data", n.dir, "--pool", "4"}, args...)...)
	n.cmd.Env = cleanEnv()
	n.cmd.Stderr = n.log
	n.cmd.WaitDelay = 10 * time.Second // as in startAs
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_, _ = io.Copy(n.log, bufio.NewReader(stdout)) // until it ends
		n.err <- n.cmd.Wait()
	}()
	s.t.Cleanup(func() {
		n.stop(s.t)
		if s.t.Failed() {
			s.t.Logf("log of node %s:\n%s", name, tail(n.log.String(), 3000))
		}
	})
	return n
}

// stop ends the node as an operator would, and demands that it ends well.
func (n *joined) stop(t testing.TB) {
	t.Helper()
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case err := <-n.err:
		if err != nil {
			t.Errorf("hearth node %s after SIGTERM: %v", n.name, err)
		}
	case <-time.After(patience):
		t.Errorf("hearth node %s does not stop", n.name)
		_ = n.cmd.Process.Kill()
		<-n.err
	}
	n.cmd = nil
}

// kill9 ends the node as a power cut would.
func (n *joined) kill9(t testing.TB) {
	t.Helper()
	if err := n.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-n.err
	n.cmd = nil
}

// awaitNodes waits until so many nodes take invocations, the server's own
// included.
func (s *server) awaitNodes(want int) {
	s.t.Helper()
	var list control.NodeList
	await(s.t, patience, fmt.Sprintf("%d nodes", want), func() bool {
		var err error
		if list, err = s.controlClient().Nodes(context.Background()); err != nil {
			s.t.Fatal(err)
		}
		up := 0
		for _, n := range list.Nodes {
			if n.State == "up" {
				up++
			}
		}
		return up == want
	})
}

// placed is the decision about the function's latest invocation.
func (s *server) placed(function string) hearth.Decision {
	s.t.Helper()
	ds, err := s.controlClient().Find(context.Background(), control.DecisionQuery{Function: function, Kind: hearth.DecisionPlace, Limit: 1})
	if err != nil || len(ds) != 1 {
		s.t.Fatalf("no decision about %s: %v", function, err)
	}
	return ds[0]
}

const napper = `import time, json
def handler(event, context):
    print("said by", event.get("who"))
    if event.get("fail"):
        raise ValueError("as asked")
    time.sleep(event.get("sleep", 0))
    return {"code": CODE, "memory": context.memory_limit_in_mb}
`

// TestFunctionsRunOnNodesThatJoined: what runs on another node is for its
// caller, its log and its own calls of the API as if it ran here, and a node's
// death costs only what the function had seen.
func TestFunctionsRunOnNodesThatJoined(t *testing.T) {
	t.Parallel()
	s := start(t, "--nodes", "127.0.0.1:0", "--fleet", "high")
	s.deploy(function{name: "echo", runtime: "provided.al2023", handler: "bootstrap", zip: goZip(t, "echo")})
	s.mustInvoke("echo", `1`)
	if d := s.placed("echo"); d.Node != "" || d.Fleet != "" {
		t.Errorf("without other nodes it was placed on %q of %q", d.Node, d.Fleet)
	}
	nodes := map[string]*joined{"a": s.join("a", "--fleet", "low"), "b": s.join("b", "--fleet", "low")}
	s.awaitNodes(3)
	s.deploy(function{name: "caller", runtime: "provided.al2023", handler: "bootstrap", zip: goZip(t, "caller")})
	s.deploy(function{name: "nap", runtime: "python3.12", files: map[string]string{"index.py": strings.Replace(napper, "CODE", "1", 1)}, memory: 128, timeout: 30})
	s.streamer("gate")

	home := ""
	for range 3 {
		if got := s.mustInvoke("echo", `{"a":1}`); got.payload != `{"a":1}` || !strings.Contains(decoded(t, got.log), "REPORT RequestId") {
			t.Errorf("it answered %q, and logged %q", got.payload, decoded(t, got.log))
		}
		d := s.placed("echo")
		if d.Node != "a" && d.Node != "b" || d.Fleet != "low" || home != "" && d.Node != home || !strings.HasPrefix(d.Why, "low-volume code") {
			t.Errorf("it was placed on %q of %q, because %s; before on %q", d.Node, d.Fleet, d.Why, home)
		}
		home = d.Node
	}
	if d := s.placed("echo"); d.Chosen != string(hearth.PathReuse) || d.Container == "" || d.Spent[hearth.StageRun] <= 0 {
		t.Errorf("the third time it was placed as %+v", d)
	}
	if got := s.mustInvoke("caller", `{"call":"echo"}`); !strings.Contains(got.payload, "caller") {
		t.Errorf("a function's own call answered %q", got.payload)
	}
	tagged := false
	if got := s.stream("gate", `{"mode":"gate","tag":"go"}`, func(text string) {
		if !tagged && strings.Contains(text, "first") {
			tagged = true
			s.tag("gate", "go")
		}
	}); got.text != "firstsecond" {
		t.Errorf("streamed %q", got.text)
	}

	if got, err := s.invoke("nap", `{"fail":true}`); err != nil || got.functionError != "Unhandled" || !strings.Contains(got.payload, "as asked") {
		t.Errorf("a function that fails: %+v, %v", got, err)
	}
	await(t, patience, "its log", func() bool {
		out, err := s.hearth("logs", "nap")
		return err == nil && strings.Contains(out, "ValueError: as asked")
	})
	// New code takes over there as here.
	if got := s.mustInvoke("nap", `{}`); !strings.Contains(got.payload, `"code": 1`) {
		t.Errorf("it answered %s", got.payload)
	}
	if _, err := s.client().UpdateFunctionCode(context.Background(), &lambda.UpdateFunctionCodeInput{FunctionName: ptr("nap"),
		ZipFile: zipOf(t, map[string]string{"index.py": strings.Replace(napper, "CODE", "2", 1)})}); err != nil {
		t.Fatal(err)
	}
	s.waitActive("nap")
	if got := s.mustInvoke("nap", `{}`); !strings.Contains(got.payload, `"code": 2`) {
		t.Errorf("after its update it answered %s", got.payload)
	}
	if d := s.placed("nap"); d.Chosen != string(hearth.PathReuse) {
		t.Errorf("after its update it was placed by %s: %s", d.Chosen, d.Why)
	}
	// What it uses there is known here.
	advice, err := s.controlClient().Advice(context.Background(), "nap")
	if err != nil || len(advice) != 1 || advice[0].Evidence.Runs == 0 {
		t.Errorf("of its use of memory is known %+v, %v", advice, err)
	}
	// One invocation has more memory there than the function has.
	more, err := s.client().Invoke(context.Background(), &lambda.InvokeInput{FunctionName: ptr("nap"), Payload: []byte("{}")},
		lambda.WithAPIOptions(smithyhttp.SetHeaderValue("X-Hearth-Memory", "256")))
	if err != nil || !strings.Contains(string(more.Payload), "256") {
		t.Errorf("with 256 MiB for itself: %v, %s", err, more.Payload)
	}
	if d := s.placed("nap"); d.Node != "a" && d.Node != "b" || !strings.Contains(d.Why, "256 MiB for this invocation alone") {
		t.Errorf("with 256 MiB for itself it was placed on %q: %s", d.Node, d.Why)
	}
	s.mustInvoke("nap", `{}`)
	out, err := s.hearth("explain", "nap")
	if err != nil || !strings.Contains(out, "low-volume code") || !strings.Contains(out, "kept warm on the node") {
		t.Errorf("hearth explain: %v\n%s", err, out)
	}

	// Its node dies under it: that one invocation fails, and says so.
	victim := s.placed("nap").Node
	failed := make(chan error, 1)
	go func() {
		_, err := s.invoke("nap", `{"sleep":25,"who":"the one that is cut"}`)
		failed <- err
	}()
	await(t, patience, "the function to begin", func() bool {
		out, err := s.hearth("logs", "nap")
		return err == nil && strings.Contains(out, "the one that is cut")
	})
	nodes[victim].kill9(t)
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "ended unexpectedly") {
		t.Errorf("what its node died under ended with %v", err)
	}
	for range 3 {
		s.mustInvoke("nap", `{}`)
		if d := s.placed("nap"); d.Node == victim {
			t.Errorf("it was placed on %s, which is dead", d.Node)
		}
	}
	// It comes back, and has its code again.
	nodes[victim] = s.joinIn(nodes[victim].dir, victim, "--fleet", "low")
	s.awaitNodes(3)
	s.mustInvoke("nap", `{}`)
	if d := s.placed("nap"); d.Node != victim {
		t.Errorf("with %s back it was placed on %s", victim, d.Node)
	}
	// Both are drained, and stop.
	for name := range nodes {
		if out, err := s.hearth("nodes", "--drain", name); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	s.mustInvoke("nap", `{}`)
	if d := s.placed("nap"); d.Node != "local" && d.Node != "" {
		t.Errorf("it was placed on %s, which is drained", d.Node)
	}
	for _, n := range nodes {
		n.stop(t)
	}
	await(t, patience, "only the server's own node to be there", func() bool {
		out, err := s.hearth("nodes", "--json")
		var list control.NodeList
		if err != nil || json.Unmarshal([]byte(out), &list) != nil {
			t.Fatalf("hearth nodes: %v\n%s", err, out)
		}
		return len(list.Nodes) == 1 && list.Nodes[0].Name == "local"
	})
}

// decoded is a log tail as the service gives it.
func decoded(t *testing.T, log string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(log)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
