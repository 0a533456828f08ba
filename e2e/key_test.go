package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/event/source"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/internal/pgtest"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/postgres"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// sealedSources are how many secrets are sealed anew while the server is killed.
const sealedSources = 200

func secretOf(n int) string { return fmt.Sprintf("the secret of source %d", n) }

// sealThings makes one thing at least of each kind that is sealed, and many of one.
func (s *server) sealThings() {
	s.t.Helper()
	s.deploy(function{name: "sealed", runtime: "python3.12", files: map[string]string{"index.py": "import os\ndef handler(e, c): return os.environ['WORD']"}, env: map[string]string{"WORD": "kept"}})
	key := strings.TrimSpace(s.must("keys", "create"))
	s.deploy(function{name: "under", runtime: "python3.12", files: map[string]string{"index.py": "import os\ndef handler(e, c): return os.environ['WORD']"}, env: map[string]string{"WORD": "own"}})
	if _, err := s.client().UpdateFunctionConfiguration(s.t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("under"), KMSKeyArn: &key}); err != nil {
		s.t.Fatal(err)
	}
	s.waitActive("under")
	c := s.controlClient()
	for n := range sealedSources {
		secret := secretOf(n)
		if _, err := c.AddSource(s.t.Context(), fmt.Sprintf("s%d", n), "redis://db.example:6379", &secret); err != nil {
			s.t.Fatal(err)
		}
	}
}

// openSealed opens every source's secret with the keys in the data folder, and
// counts what each data key has sealed.
func openSealed(t *testing.T, dir, masterKey string, records store.Store) map[uint32]int {
	t.Helper()
	keys, err := identity.OpenDataKeys(dir, masterKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keys.Sealing()
	if err != nil {
		t.Fatal(err)
	}
	counts, n := map[uint32]int{}, 0
	err = records.View(t.Context(), func(r store.Reader) error {
		for rec, err := range r.Scan("eventSources", "", "") {
			if err != nil {
				return err
			}
			var one source.Source
			if err := json.Unmarshal(rec.Value, &one); err != nil {
				return err
			}
			plain, err := key.Open(one.Sealed, []byte("event source "+rec.Key))
			if err != nil {
				return fmt.Errorf("%s, of data key %d: %w", rec.Key, identity.Generation(one.Sealed), err)
			}
			var number int
			if _, err := fmt.Sscanf(one.Name, "s%d", &number); err != nil || string(plain) != secretOf(number) {
				return fmt.Errorf("%s has %q, %w", rec.Key, plain, err)
			}
			counts[identity.Generation(one.Sealed)]++
			n++
		}
		return nil
	})
	if err == nil && n != sealedSources {
		err = fmt.Errorf("%d secrets are there", n)
	}
	if err = errors.Join(err, records.Close()); err != nil {
		t.Fatal(err)
	}
	return counts
}

// oneKeyLeft waits until one data key is left.
func (s *server) oneKeyLeft() control.KeyStatus {
	s.t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		status, err := s.controlClient().KeyStatus(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		if len(status.DataKeys) == 1 && !status.Resealing {
			return status
		}
		if time.Now().After(end) {
			s.t.Fatalf("older keys are left: %+v", status)
		}
	}
}

// works demands that everything that was sealed is of use.
func (s *server) works(other *lambda.Client) {
	s.t.Helper()
	for name, want := range map[string]string{"sealed": `"kept"`, "under": `"own"`} {
		if got := s.mustInvoke(name, "{}"); got.payload != want {
			s.t.Errorf("%s answers %s", name, got.payload)
		}
	}
	s.letsIn(other)
	if out, err := s.hearth("audit", "--verify"); err != nil {
		s.t.Errorf("the audit log: %v\n%s", err, out)
	}
}

// The key is rotated again and again, and the server killed in the middle of that
// and of what follows it: everything opens whenever it is looked, and in the end
// one data key is left, and those of before open nothing.
func TestNothingIsLostWhileItIsSealedAnew(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		nothingIsLost(t, true, func(*exec.Cmd) {}, func(dir string) (store.Store, error) { return sqlite.Open(context.Background(), dir) })
	})
	t.Run("postgresql", func(t *testing.T) {
		t.Parallel()
		url := pgtest.New(t)
		nothingIsLost(t, false, withDatabase(url), func(string) (store.Store, error) {
			return postgres.Open(context.Background(), postgres.Config{URL: url})
		})
	})
}

func nothingIsLost(t *testing.T, inFolder bool, change func(*exec.Cmd), open func(dir string) (store.Store, error)) {
	dir := mkdir(t)
	s := startAs(t, dir, change, "--pool", "0")
	other := s.otherAccount("team-a")
	s.sealThings()
	before := filepath.Join(t.TempDir(), "before")
	if out, err := exec.Command("cp", "-a", dir, before).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	partly := 0
	for range 12 {
		rotated := make(chan error, 1)
		c := s.controlClient()
		go func() {
			_, err := c.RotateKey(context.Background(), "", false)
			rotated <- err
		}()
		// From before the rotation has begun until all is done.
		time.Sleep(time.Duration(rand.IntN(250)) * time.Millisecond)
		s.kill9()
		<-rotated // done, or not: both are in order
		// What a database keeps of the keys, the folder may have again only once a
		// server has started.
		if inFolder {
			records, err := open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if counts := openSealed(t, dir, filepath.Join(dir, identity.MasterKeyFile), records); len(counts) > 1 {
				partly++
			}
		}
		s = startAs(t, dir, change, "--pool", "0")
	}
	if _, err := s.controlClient().RotateKey(t.Context(), "", false); err != nil {
		t.Fatal(err)
	}
	last := s.oneKeyLeft()
	s.works(other)
	t.Logf("data key %d is left; %d times it was killed with some sealed anew, and some not", last.DataKeys[0].Generation, partly)
	s.stop()
	records, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	counts := openSealed(t, dir, filepath.Join(dir, identity.MasterKeyFile), records)
	if counts[last.DataKeys[0].Generation] != sealedSources {
		t.Errorf("%v are sealed, by data key", counts)
	}
	// The keys of before are in no file any more, and open none of this.
	old, err := identity.OpenDataKeys(before, filepath.Join(before, identity.MasterKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	key, err := old.Sealing()
	if err != nil {
		t.Fatal(err)
	}
	if records, err = open(dir); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := records.Close(); err != nil {
			t.Error(err)
		}
	}()
	err = records.View(t.Context(), func(r store.Reader) error {
		for rec, err := range r.Scan("eventSources", "", "") {
			if err != nil {
				return err
			}
			var one source.Source
			if err := json.Unmarshal(rec.Value, &one); err != nil {
				return err
			}
			if _, err := key.Open(one.Sealed, []byte("event source "+rec.Key)); !errors.Is(err, identity.ErrSealed) {
				return fmt.Errorf("the old key opens %s: %v", rec.Key, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := identity.OpenDataKeys(dir, filepath.Join(before, identity.MasterKeyFile)); err == nil {
		t.Error("the old master key opens the data keys")
	}
}

// What calls the API while the key is rotated goes on; with --end-sessions it
// does not. The operator alone may do it, and it is in the audit log.
func TestTheKeyIsRotatedWhileTheServerRuns(t *testing.T) {
	t.Parallel()
	s := start(t)
	other := s.otherAccount("team-a")
	s.deploy(function{name: "asks", runtime: "python3.12", files: map[string]string{"queues.py": queuesInPython, "index.py": `
from queues import call
def handler(e, c): return "QueueUrl" in call(Action="GetQueueUrl", QueueName="q")
`}})
	s.queue("q", nil)
	asks := func() {
		t.Helper()
		if got := s.mustInvoke("asks", "{}"); got.payload != "true" {
			t.Errorf("the function answers %s", got.payload)
		}
	}
	asks()
	session, err := s.controlClient().AccountSession(t.Context(), "team-a", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	held := func() error {
		c := s.controlClient()
		c.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: session.AccessKeyID, SecretAccessKey: session.SecretAccessKey, SessionToken: session.SessionToken}, nil
		})
		_, err := c.Accounts(context.Background())
		return err
	}
	theirs := s.controlClient()
	theirs.Credentials = other.Options().Credentials
	if _, err := theirs.RotateKey(t.Context(), "", false); err == nil || !strings.Contains(err.Error(), "operator") {
		t.Errorf("another account's root rotated it: %v", err)
	}
	out := s.must("key", "rotate")
	if !strings.Contains(out, "data key 2") {
		t.Errorf("it says %s", out)
	}
	if err := held(); err != nil {
		t.Errorf("a session of before: %v", err)
	}
	asks()
	s.oneKeyLeft()
	outside := filepath.Join(t.TempDir(), "master.key")
	s.must("key", "rotate", "--to", outside, "--end-sessions")
	if err := held(); err == nil {
		t.Error("a session of before goes on")
	}
	asks()
	s.oneKeyLeft()
	if out := s.must("key", "status"); !strings.Contains(out, outside) || !strings.Contains(out, "data key 3") || strings.Contains(out, "data key 2") || !strings.Contains(out, "access keys 1") {
		t.Errorf("status: %s", out)
	}
	if got := s.audited("--action", "hearth:RotateKey"); len(got) != 3 { // one was refused
		t.Errorf("%+v", got)
	}
	// A start that is told nothing finds the key where it was put.
	s.kill9()
	s = startIn(t, s.dir)
	s.letsIn(other)
	if _, err := os.Stat(filepath.Join(s.dir, identity.MasterKeyFile)); !os.IsNotExist(err) {
		t.Errorf("the old master key: %v", err)
	}
}

// letsIn demands that another account's key still signs.
func (s *server) letsIn(other *lambda.Client) {
	s.t.Helper()
	o := other.Options()
	o.BaseEndpoint = &s.endpoint
	if _, err := lambda.New(o).ListFunctions(s.t.Context(), nil); err != nil {
		s.t.Errorf("an access key of before: %v", err)
	}
}

// A standby with a copy of the folder of before takes over after a rotation, with
// the master key alone; without it it says which one it needs.
func TestAStandbyOpensWhatWasRotatedElsewhere(t *testing.T) {
	t.Parallel()
	database := withDatabase(pgtest.New(t))
	first := startAs(t, mkdir(t), database, "--pool", "0")
	other := first.otherAccount("team-a")
	first.sealThings()
	dir := mkdir(t)
	for _, name := range []string{"master.key", "credentials.json", "datakeys.json", "database.json", "blobs", "keys"} {
		if out, err := exec.Command("cp", "-a", filepath.Join(first.dir, name), dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	second, ready := launch(t, dir, database, "--pool", "0", "--standby")
	second.standsBy()
	if _, err := first.controlClient().RotateKey(t.Context(), "", false); err != nil {
		t.Fatal(err)
	}
	first.oneKeyLeft()
	// Without the new master key another one refuses, and leaves the database.
	wrong := mkdir(t)
	for _, name := range []string{"master.key", "credentials.json", "datakeys.json", "database.json", "blobs", "keys"} {
		if out, err := exec.Command("cp", "-a", filepath.Join(dir, name), wrong).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, name := range []string{"master.key", "keys"} {
		if out, err := exec.Command("cp", "-a", filepath.Join(first.dir, name), dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	first.kill9()
	second.awaitReady(ready)
	second.works(other)
	if status := second.oneKeyLeft(); status.DataKeys[0].Generation != 2 {
		t.Errorf("%+v", status)
	}
	second.stop()
	third, _ := launch(t, wrong, database, "--pool", "0")
	<-third.stopped
	if third.err == nil || !strings.Contains(third.log.String(), "a rotation on another machine made it") {
		t.Errorf("without the key: %v\n%s", third.err, third.log)
	}
}

func (s *server) standsBy() {
	s.t.Helper()
	s.eventually("it stands by", func() bool { return strings.Contains(s.log.String(), "standing by") })
}
