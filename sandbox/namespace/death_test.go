package namespace

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/sandbox/namespace/inside"
)

// doomedEnv makes the test binary a daemon with one frozen and one running
// container over the data folder that it names, until it is killed.
const doomedEnv = "HEARTH_NAMESPACE_TEST_DOOMED"

// runDoomed prints the process ids of the containers' inits and the spawner,
// and waits for its end.
func runDoomed(dataDir string) error {
	d, err := New(background, Config{Program: programPath, DataDir: dataDir})
	if err != nil {
		return err
	}
	in, err := d.NewInstance(background, "doomed")
	if err != nil {
		return err
	}
	for i := range 2 {
		c, err := in.NewContainer(background, sandbox.ContainerSpec{
			ID: fmt.Sprint("c", i), Limits: sandbox.Limits{TmpBytes: usualTmp},
		})
		if err != nil {
			return err
		}
		if err := c.Start(background, sandbox.Process{Argv: []string{"/bin/sleep", "1000"}}); err != nil {
			return err
		}
		if i == 0 {
			if err := c.Freeze(); err != nil {
				return err
			}
		}
		fmt.Println(c.(*container).initPID)
		for _, child := range children(c.(*container).initPID) {
			fmt.Println(child)
		}
	}
	if err := d.GoFirst(true); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func TestNothingOutlivesADaemonThatIsKilled(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), doomedEnv+"="+dir, ordinaryEnv+"="+filepath.Dir(programPath))
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pidfds []int
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "ready" {
		var pid int
		if _, err := fmt.Sscan(lines.Text(), &pid); err != nil {
			t.Fatalf("the daemon said %q", lines.Text())
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		pidfds = append(pidfds, fd)
	}
	if len(pidfds) != 4 {
		t.Fatalf("the daemon has %d processes, not two containers' two", len(pidfds))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	// Nobody has started again, and nothing is left but empty groups.
	for _, fd := range pidfds {
		if !endsWithin(fd, time.Minute) {
			t.Error("a process outlived the daemon")
		}
	}
	for deadline := time.Now().Add(time.Minute); len(groupsBelow(t, dir)) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("of containers' cgroups there are left %v", groupsBelow(t, dir))
		}
	}
	if err := Sweep(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(sandboxDir(dir), "cgroups")); err == nil {
		t.Error("the list of cgroups is left")
	}
	// The kernel lets the disks go in the background.
	for deadline := time.Now().Add(time.Minute); len(diskLeft(t, dir)) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("of containers' disks there are left %v", diskLeft(t, dir))
		}
	}
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir // somebody else's, just removed
		}
		if entry.Name() == groupName(dir) {
			t.Errorf("the cgroup %s is left", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// groupsBelow are the groups that are left of a driver, but for the topmost.
func groupsBelow(t *testing.T, dataDir string) (left []string) {
	t.Helper()
	state, err := os.ReadFile(filepath.Join(sandboxDir(dataDir), "cgroups"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it has none
		t.Fatal(err)
	}
	for _, parent := range strings.Fields(string(state)) {
		entries, err := os.ReadDir(parent)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() && e.Name() != inside.ServerGroup { // it is the daemon's
				left = append(left, filepath.Join(parent, e.Name()))
			}
		}
	}
	return left
}

func TestSweepTouchesOnlyItsOwnGroups(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(sandboxDir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(sandboxDir(dir), "cgroups")
	if err := os.WriteFile(state, []byte("/sys/fs/cgroup/somebody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(dir); err == nil || !strings.Contains(err.Error(), "not Hearth's") {
		t.Errorf("sweeping a stranger's group: %v", err)
	}
}

func TestDeathOfTheSpawnerEndsContainersAndIsRepaired(t *testing.T) {
	d := newDriver(t, nil)
	in := newInstance(t, d)
	b := newBox(t, in, sandbox.ContainerSpec{})
	b.start("/bin/sleep", "1000")
	if err := d.spawn.live.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if exit, _ := b.wait(); exit.Signal != "killed" {
		t.Errorf("the container's exit is %+v", exit)
	}
	again := newBox(t, in, sandbox.ContainerSpec{})
	again.start("/bin/echo", "alive")
	if _, out := again.wait(); out != "alive\n" {
		t.Errorf("after the repair: %q", out)
	}
}

func TestDestroyLeavesNothing(t *testing.T) {
	d := newDriver(t, &tunNetwork{})
	in := newInstance(t, d)
	cycle := func() {
		b := newBox(t, in, sandbox.ContainerSpec{
			Boot:   &sandbox.Process{Argv: []string{"/bin/sleep", "1000"}},
			Limits: sandbox.Limits{TmpBytes: usualTmp},
		})
		if err := b.Attach(t.Context(), sandbox.Attachment{Task: probeDir}); err != nil {
			t.Fatal(err)
		}
		if err := b.Freeze(); err != nil {
			t.Fatal(err)
		}
		b.destroyTwice()
		if err := b.Start(t.Context(), sandbox.Process{Argv: []string{"/bin/true"}}); err == nil {
			t.Error("a process was started in what is destroyed")
		}
	}
	cycle()
	fds := openFilesBut(t, d)
	for range 10 {
		cycle()
	}
	if now := openFilesBut(t, d); now > fds {
		t.Errorf("%d files are open, %d were before", now, fds)
	}
	for _, dir := range d.groups.all() {
		entries, err := os.ReadDir(filepath.Join(dir, in.ID()))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				t.Errorf("the cgroup %s is left in %s", e.Name(), dir)
			}
		}
	}
	expectNoChildren(t, d)
}

// destroyTwice destroys the container twice.
func (b *box) destroyTwice() {
	b.t.Helper()
	if err := errors.Join(b.Destroy(), b.Destroy()); err != nil {
		b.t.Error(err)
	}
	select {
	case <-b.Exited():
	case <-time.After(time.Minute):
		b.t.Error("a destroyed container's process has not ended")
	}
	_ = b.output.all()
}

// openFilesBut counts the open files, but for those of the disks that are kept
// ready, when all that was given up is closed.
func openFilesBut(t *testing.T, d *Driver) int {
	t.Helper()
	d.closing.Wait()
	d.disks.work.Wait()
	d.disks.mu.Lock()
	defer d.disks.mu.Unlock()
	return openFiles(t) - 3*len(d.disks.ready)
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
