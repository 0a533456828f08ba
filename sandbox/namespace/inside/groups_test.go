package inside

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
)

// The spawner may end while the daemon does not, and that may be in its group
// among the instances' just then.
func TestTheEndOfInstancesIsNotTheDaemons(t *testing.T) {
	if os.Geteuid() != 0 && os.Getenv("CI") == "" {
		t.Skip("control groups are root's; in CI this fails")
	}
	for _, top := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup"} {
		parent, err := os.MkdirTemp(top, "hearth-test-")
		if err != nil {
			continue // not of this machine's
		}
		t.Run(filepath.Base(top), func(t *testing.T) { endInstances(t, parent) })
		if err := os.Remove(parent); err != nil {
			t.Error(err)
		}
		return
	}
	t.Fatal("this machine has no control groups")
}

func endInstances(t *testing.T, parent string) {
	begin := func(group string) *exec.Cmd {
		t.Helper()
		dir := filepath.Join(parent, group)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/bin/sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	nested := filepath.Join("i-1", "c-1", ServerGroup) // a container's own
	ended := []*exec.Cmd{begin("i-1/c-1"), begin(nested), begin("i-2")}
	daemon := begin(ServerGroup)
	dir, err := os.Open(parent)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := clearInstances(int(dir.Fd())); err != nil {
		t.Error(err)
	}
	for _, cmd := range ended {
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("%v: %v", cmd, err)
		}
	}
	if names, err := below(int(dir.Fd())); err != nil || !slices.Equal(names, []string{ServerGroup}) {
		t.Errorf("there are left %v, %v", names, err)
	}
	if err := daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := daemon.Wait(); err == nil || daemon.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("the daemon: %v", err)
	}
	if err := ClearGroups(int(dir.Fd())); err != nil { // as the next start does
		t.Error(err)
	}
	if names, err := below(int(dir.Fd())); err != nil || len(names) != 0 {
		t.Errorf("there are left %v, %v", names, err)
	}
}
