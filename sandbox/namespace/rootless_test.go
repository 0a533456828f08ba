package namespace

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// ordinaryUser is an id that the machine need not know.
const ordinaryUser = 1500

// ordinaryEnv names the folder of programs to a test binary that runs as an
// ordinary user.
const ordinaryEnv = "HEARTH_NAMESPACE_TEST_PROGRAMS"

// TestEverythingHoldsForAnOrdinaryUserToo runs this package's tests once more,
// without root's rights.
func TestEverythingHoldsForAnOrdinaryUserToo(t *testing.T) {
	if os.Geteuid() != 0 {
		return // they run so already
	}
	scratch := t.TempDir()
	for dir := scratch; dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(scratch, ordinaryUser, ordinaryUser); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe") // the build's folder is root's own
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(filepath.Dir(programPath), "namespace.test")
	if err := os.WriteFile(binary, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-test.v", "-test.count=1")
	cmd.Dir = scratch
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + scratch, ordinaryEnv + "=" + filepath.Dir(programPath)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("as an ordinary user: %v\n%s", err, out)
	} else if n := strings.Count(string(out), "--- PASS: "); n < 9 {
		t.Errorf("as an ordinary user only %d tests ran:\n%s", n, out)
	} else if testing.Verbose() {
		t.Logf("%s", out)
	}
}
