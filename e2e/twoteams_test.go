package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The commands of docs/two-teams.md are run as they stand.
func TestTwoTeamsShareOneHearth(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/two-teams.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("set -eu\n")
	for i, part := range strings.Split(string(page), "```sh\n") {
		if i > 0 {
			block, _, _ := strings.Cut(part, "```\n")
			script.WriteString(block)
		}
	}
	dir, err := os.MkdirTemp(scratch, "two-teams-")
	if err != nil {
		t.Fatal(err)
	}
	startIn(t, filepath.Join(dir, "hearth"))
	cmd := exec.Command("bash", "-c", script.String())
	cmd.Dir = dir
	cmd.Env = append(cleanEnv(), "PATH="+filepath.Dir(hearthBinary)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := string(out)
	for _, want := range []string{"SIGNING_KEY* PREFIX", `"signature":`, "v1:", "KeyError", "withheld", "REPORT RequestId", "by that offer this account has called 2 times, error 1, ok 1", "has called it 2 times, error 1, ok 1", "Of other accounts: sign.", "has withdrawn", "active"} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	if n := strings.Count(text, "as expected"); n != 2 {
		t.Errorf("%d commands failed that were to fail, want 2:\n%s", n, text)
	}
	for _, secret := range []string{"the key of team A", "ROUNDS", "index.py"} {
		if strings.Contains(text, secret) {
			t.Errorf("it shows %q:\n%s", secret, text)
		}
	}
}
