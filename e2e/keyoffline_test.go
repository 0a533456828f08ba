package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/internal/pgtest"
	"github.com/hearth-faas/hearth/store/postgres"
)

// The key of a folder whose records are in a database is rotated while no server
// runs, and that is killed at any moment: the next server opens everything, and
// the keys of before open nothing. While a server works on the database, with
// whatever folder, it is refused.
func TestTheKeyOfADatabaseIsRotatedWhileNoServerRuns(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	database := withDatabase(url)
	dir := mkdir(t)
	s := startAs(t, dir, database, "--pool", "0")
	other := s.otherAccount("team-a")
	s.sealThings()
	copied := filepath.Join(t.TempDir(), "copy")
	if out, err := exec.Command("cp", "-a", dir, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Remove(filepath.Join(copied, "server.json")); err != nil {
		t.Fatal(err)
	}
	rotate := func(ctx context.Context, dir string, change func(*exec.Cmd)) (string, error) {
		cmd := exec.CommandContext(ctx, hearthBinary, "key", "rotate", "--data", dir)
		cmd.Env = cleanEnv()
		change(cmd)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := rotate(t.Context(), copied, database); err == nil || !strings.Contains(out, "another server works on the database") {
		t.Errorf("beside a server: %v\n%s", err, out)
	}
	s.works(other) // which goes on
	s.stop()
	if out, err := rotate(t.Context(), dir, func(*exec.Cmd) {}); err == nil || !strings.Contains(out, "--database") {
		t.Errorf("without the database's name: %v\n%s", err, out)
	}
	began := time.Now()
	if out, err := rotate(t.Context(), dir, database); err != nil || !strings.Contains(out, "data key 2") {
		t.Fatalf("%v\n%s", err, out)
	}
	whole := time.Since(began)
	for range 12 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.Int64N(int64(whole))))
		_, _ = rotate(ctx, dir, database) // done, or not: both are in order
		cancel()
	}
	s = startAs(t, dir, database, "--pool", "0")
	s.works(other)
	last := s.oneKeyLeft()
	s.stop()
	records, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	if counts := openSealed(t, dir, filepath.Join(dir, identity.MasterKeyFile), records); counts[last.DataKeys[0].Generation] != sealedSources {
		t.Errorf("data key %d is left, and %v are sealed, by data key", last.DataKeys[0].Generation, counts)
	}
	if _, err := identity.OpenDataKeys(dir, filepath.Join(copied, identity.MasterKeyFile)); err == nil {
		t.Error("the old master key opens the data keys")
	}
}
