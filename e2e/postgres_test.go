package e2e

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/hearth-faas/hearth/internal/pgtest"
)

// A server with its records in PostgreSQL does what one without does: what was
// deployed is there after a kill, and what was acknowledged is run, also when
// the database crashes under load.
func TestTheWholeLifeOfAServerOnPostgreSQL(t *testing.T) {
	t.Parallel()
	out := newOutside(t)
	postgres := pgtest.Start(t, pgtest.Options{})
	database := withDatabase(postgres.Database(t))
	dir, err := os.MkdirTemp(scratch, "data-")
	if err != nil {
		t.Fatal(err)
	}
	open := func() *server {
		return startAs(t, dir, database, "--memory", "1024", "--pool", "64", "--event-retry", "50ms")
	}
	s := open()
	s.deployLedger(out)
	s.deploy(function{name: "echo", runtime: "python3.11", handler: "app.handler", memory: 128,
		files: map[string]string{"app.py": "def handler(event, context): return event\n"}})
	if a := s.mustInvoke("echo", `{"x":1}`); a.payload != `{"x":1}` && a.payload != `{"x": 1}` {
		t.Errorf("the answer is %s", a.payload)
	}

	// The database goes away and comes back while events come in.
	load := &eventLoad{name: "postgres", acknowledged: map[string]string{}}
	stop := make(chan struct{})
	clients := load.run(s, stop)
	load.await(t, 30)
	if err := postgres.Crash(); err != nil {
		t.Fatal(err)
	}
	if a := s.mustInvoke("echo", `1`); a.payload != `1` {
		t.Errorf("without the database the answer is %s", a.payload)
	}
	if err := postgres.Restart(); err != nil {
		t.Fatal(err)
	}
	load.await(t, 30)
	s.kill9()
	close(stop)
	clients.Wait()

	s = open()
	if a := s.mustInvoke("echo", `2`); a.payload != `2` {
		t.Errorf("after the kill the answer is %s", a.payload)
	}
	load.settled(s, out)
	if _, err := s.client().DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: ptr("echo")}); err != nil {
		t.Error(err)
	}
	args, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid), "cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(args)+s.log.String(), pgtest.Password) {
		t.Error("the password is in the arguments or in the log")
	}
	if leaks, err := exec.Command("grep", "-rlF", pgtest.Password, dir).CombinedOutput(); len(leaks) > 0 {
		t.Errorf("the password is on disk: %s (%v)", leaks, err)
	}
}

// What would lose sight of records, or of what belongs to them, is refused
// before anything is done, in one sentence that has no password.
func TestADatabaseAndADataFolderBelongTogether(t *testing.T) {
	t.Parallel()
	database := pgtest.New(t)
	s := startAs(t, mkdir(t), withDatabase(database), "--pool", "0")
	refused := func(change func(*exec.Cmd), want string, args ...string) {
		t.Helper()
		cmd := exec.Command(hearthBinary, append([]string{"up", "--listen", "127.0.0.1:0", "--pool", "0"}, args...)...)
		cmd.Env = cleanEnv()
		change(cmd)
		text, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(text), want) || strings.Contains(string(text), pgtest.Password) {
			t.Errorf("%v\n%s\nwant: %s", err, text, want)
		}
	}
	refused(withDatabase(database), "is in use by another Hearth server (process "+strconv.Itoa(s.cmd.Process.Pid), "--data", mkdir(t))
	s.stop()
	refused(withDatabase(database), "belongs to another data folder", "--data", mkdir(t))
	refused(func(*exec.Cmd) {}, "name it with --database", "--data", s.dir)
	refused(withDatabase(pgtest.New(t)), "belongs to another database", "--data", s.dir)
	own := start(t, "--pool", "0")
	own.stop()
	refused(withDatabase(pgtest.New(t)), "has records of its own", "--data", own.dir)
	refused(func(*exec.Cmd) {}, "the database's password is on the command line", "--data", mkdir(t), "--database", database)

	// The password may come in a file.
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(u.User.Username())
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte(pgtest.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	startIn(t, s.dir, "--pool", "0", "--database", u.String(), "--database-password", secret)
}

func mkdir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "data-")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// What a server had in its folder it has in the database after the move.
func TestRecordsAreMovedToADatabase(t *testing.T) {
	t.Parallel()
	database := withDatabase(pgtest.New(t))
	s := start(t, "--pool", "0")
	s.deploy(function{name: "echo", runtime: "python3.11", handler: "app.handler", memory: 128, env: map[string]string{"SECRET": "sealed"},
		files: map[string]string{"app.py": "import os\ndef handler(event, context): return os.environ['SECRET']\n"}})
	url := s.queue("kept", nil)
	if _, err := s.queues().SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: ptr("a message")}); err != nil {
		t.Fatal(err)
	}
	move := func() (string, error) {
		cmd := exec.Command(hearthBinary, "move-records", "--data", s.dir)
		cmd.Env = cleanEnv()
		database(cmd)
		return output(cmd)
	}
	if out, err := move(); err == nil || !strings.Contains(err.Error(), "is in use by another Hearth server") {
		t.Errorf("while the server runs: %v %s", err, out)
	}
	s.stop()
	if out, err := move(); err != nil || !strings.Contains(out, "were compared") {
		t.Fatalf("%v %s", err, out)
	}
	s = startAs(t, s.dir, database, "--pool", "0")
	if a := s.mustInvoke("echo", "{}"); a.payload != `"sealed"` {
		t.Errorf("the function answers %s", a.payload)
	}
	url = s.endpoint + "/000000000000/kept"
	out, err := s.queues().ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url, WaitTimeSeconds: 20})
	if err != nil || len(out.Messages) != 1 || *out.Messages[0].Body != "a message" {
		t.Errorf("the queue has %v, %v", out, err)
	}
}
