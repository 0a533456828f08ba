package namespace

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/sandbox/namespace/inside"
)

// withDisks makes a driver that has disks; nil for an ordinary user, about
// whom TestTmpStaysMemoryWhereThereCanBeNoDisk is.
func withDisks(t testing.TB) *Driver {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	return newDriver(t, nil)
}

// onTmpfs gives the driver's disks a small host's disk of their own.
func onTmpfs(t *testing.T, d *Driver, size string) {
	t.Helper()
	if err := unix.Mount("disks", d.disks.dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	d.disks.spare = 0
	t.Cleanup(func() {
		// The driver is still to be closed; the folder has to be free before.
		if err := unix.Unmount(d.disks.dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// hostUse is what a file system has in use.
func hostUse(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// loopsOf lists the loop devices that show files of a folder.
func loopsOf(t testing.TB, dir string) (loops []string) {
	t.Helper()
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err == nil && strings.HasPrefix(string(content), dir+"/") { // else it was just let go
			loops = append(loops, strings.TrimSpace(file+": "+string(content)))
		}
	}
	return loops
}

// diskLeft tells what is left of a driver's disks.
func diskLeft(t testing.TB, dataDir string) []string {
	t.Helper()
	left := loopsOf(t, disksDir(dataDir))
	entries, err := os.ReadDir(disksDir(dataDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	return left
}

func TestTmpOnDiskIsNotTheFunctionsMemory(t *testing.T) {
	d := withDisks(t)
	if d == nil {
		return
	}
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{
		Limits: sandbox.Limits{MemoryBytes: 128 << 20, TmpBytes: usualTmp},
	})
	b.start("/bin/sh", "-c", "yes hearth | head -c 400M > /tmp/a; yes hearth | head -c 400M | cmp - /tmp/a && echo same")
	if exit, out := b.wait(); exit.Code != 0 || out != "same\n" {
		t.Errorf("400 MiB in /tmp and 128 MiB of memory: %+v\n%s", exit, out)
	}
	if n := b.OOMKills(); n != 0 {
		t.Errorf("%d processes were killed for memory", n)
	}
	if u, err := b.Usage(); err != nil || d.groups.can(memoryController) && u.PeakBytes > 128<<20 {
		t.Errorf("usage is %+v, %v", u, err)
	}
}

func TestTmpOnDiskIsAsLargeAsItIsSaidToBe(t *testing.T) {
	d := withDisks(t)
	if d == nil {
		return
	}
	in := newInstance(t, d)
	for _, size := range []int64{1 << 20, 100<<20 + 4096, usualTmp, 2 << 30} {
		b := newBox(t, in, sandbox.ContainerSpec{Limits: sandbox.Limits{TmpBytes: size}})
		b.start("/bin/sh", "-c", fmt.Sprintf("stat -f -c '%%a %%S' /tmp; fallocate -l %d /tmp/a && fallocate -l 4096 /tmp/b", size))
		want := fmt.Sprintf("%d 4096\nfallocate: fallocate failed: No space left on device\n", size/4096)
		if _, out := b.wait(); out != want {
			t.Errorf("a /tmp of %d bytes: %s, not %s", size, out, want)
		}
	}
}

func TestTmpIsTheSandboxUsersOwn(t *testing.T) {
	d := withDisks(t)
	if d == nil {
		return
	}
	in := newInstance(t, d)
	b := newBox(t, in, sandbox.ContainerSpec{Limits: sandbox.Limits{TmpBytes: usualTmp}})
	b.start("/bin/sh", "-c", "stat -c '%a %u %g' /tmp; touch /tmp/a; stat -c '%u %g' /tmp/a; cp /bin/true /tmp; /tmp/true && echo runs; kill -STOP $$")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		disk := b.Container.(*container).disk
		var st unix.Stat_t
		err := unix.Fstatat(rawFD(disk.root), "true", &st, 0)
		base := in.(*instance).uid
		if err == nil && (st.Uid != base+inside.UserID || st.Gid != base+inside.GroupID) {
			t.Errorf("on the host the file is of %d:%d, and the range begins at %d", st.Uid, st.Gid, base)
		}
		if err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err := b.SetLimits(sandbox.Limits{TmpBytes: 2 * usualTmp}); err == nil {
		t.Error("a disk that is in use got another size")
	}
	if err := b.SetLimits(sandbox.Limits{TmpBytes: usualTmp, Processes: 100}); err != nil {
		t.Errorf("changing another limit: %v", err)
	}
	if err := b.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, out := b.wait(); !strings.HasPrefix(out, "1777 0 0\n993 990\n") {
		t.Errorf("inside: %s", out)
	}
}

func TestEscapeTheDiskOfTmpIsOutOfReach(t *testing.T) {
	d := withDisks(t)
	if d == nil {
		return
	}
	expect(t, probe(t, newInstance(t, d), sandbox.Limits{TmpBytes: usualTmp}, "disk"), map[string]string{
		"open /tmp": "ok", "open a file": "ok", "statfs": "ok", "kind true true": "true",
		"shut down": "EPERM", "trim": "EPERM", "freeze": "EPERM", "grow": "EPERM", "get encryption policy": "ENOTSUP|ENODATA",
		"make immutable": "EPERM", "give away": "EPERM",
		"read /dev/loop-control": "ENOENT", "read /dev/loop0": "ENOENT", "read /sys/block": "ENOENT",
		"read /proc/diskstats": "EOF", "read /proc/partitions": "EOF", "read /tmp/lost+found": "ENOENT",
	})
}

func TestFilesOfTmpCanBeSharedMemory(t *testing.T) {
	d := withDisks(t)
	if d == nil {
		return
	}
	limits := sandbox.Limits{TmpBytes: usualTmp, MemoryBytes: 256 << 20}
	expect(t, probe(t, newInstance(t, d), limits, "share"), map[string]string{
		"create": "ok", "map": "ok", "map again": "ok", "mappings": "true", "msync": "ok", "read the file": "ok", "file": "true",
	})
}

func TestHostGetsBackWhatTmpHadTaken(t *testing.T) {
	d := withDisks(t)
	if d == nil {
		return
	}
	onTmpfs(t, d, "512m")
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{Limits: sandbox.Limits{TmpBytes: 128 << 20}})
	b.start("/bin/sh", "-c", "head -c 100M /dev/zero | tr '\\0' x > /tmp/a; sync -f /tmp; kill -STOP $$; rm /tmp/a; sync -f /tmp; kill -STOP $$")
	stopped := func() {
		for !strings.Contains(processStates(t, b), "T") {
			time.Sleep(time.Millisecond)
		}
	}
	stopped()
	if use := hostUse(t, d.disks.dir); use < 100<<20 {
		t.Errorf("a file of 100 MiB takes %d bytes of the host's disk", use)
	}
	if loops := loopsOf(t, d.disks.dir); len(loops) != 1 {
		t.Errorf("one container has the loop devices %v", loops)
	}
	// Deleted files are given back while the container is frozen.
	for _, pid := range children(b.Container.(*container).initPID) {
		if err := unix.Kill(pid, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); !b.Container.(*container).disk.wasted(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the file is not deleted")
		}
	}
	if err := b.Freeze(); err != nil {
		t.Fatal(err)
	}
	d.closing.Wait()
	if use := hostUse(t, d.disks.dir); use > 20<<20 {
		t.Errorf("after it was deleted, %d bytes of the host's disk are taken", use)
	}
	if err := b.Destroy(); err != nil {
		t.Fatal(err)
	}
	d.closing.Wait()
	if use := hostUse(t, d.disks.dir); use > 64<<10 {
		t.Errorf("after Destroy %d bytes of the host's disk are taken", use)
	}
	if loops := loopsOf(t, d.disks.dir); len(loops) > 0 {
		t.Errorf("after Destroy there are the loop devices %v", loops)
	}
}

// processStates are the letters that /proc gives for a container's processes.
func processStates(t *testing.T, b *box) (states string) {
	t.Helper()
	for _, pid := range children(b.Container.(*container).initPID) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil {
			states += string(stat[bytes.LastIndexByte(stat, ')')+2])
		}
	}
	return states
}

func TestFullHostsDiskIsAnErrorInsideAndNoneOutside(t *testing.T) {
	d := withDisks(t)
	if d == nil {
		return
	}
	onTmpfs(t, d, "64m")
	in := newInstance(t, d)
	limits := sandbox.Limits{TmpBytes: 40 << 20}
	b := newBox(t, in, sandbox.ContainerSpec{Limits: limits})
	if err := b.Attach(t.Context(), sandbox.Attachment{}); err != nil {
		t.Fatal(err)
	}
	// Others take what this one was promised.
	if err := os.WriteFile(filepath.Join(d.disks.dir, "others"), make([]byte, 50<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start("/bin/sh", "-c", "dd if=/dev/zero of=/tmp/a bs=1M count=30 conv=fsync 2>&1; echo $?")
	if exit, out := b.wait(); exit.Code != 0 || !strings.HasSuffix(out, "\n1\n") ||
		!strings.Contains(out, "Input/output error") && !strings.Contains(out, "No space left") {
		t.Errorf("writing to a full disk: %+v\n%s", exit, out)
	}
	next := newBox(t, in, sandbox.ContainerSpec{Limits: limits})
	next.start("/bin/sh", "-c", "head -c 30M /dev/zero > /tmp/a && stat -c %s /tmp/a")
	if _, out := next.wait(); out != "31457280\n" {
		t.Errorf("in the next container: %s", out)
	}
	if next.Container.(*container).disk != nil {
		t.Error("there was a disk for the next one")
	}
}

func TestNoMoreIsPromisedThanTheHostHas(t *testing.T) {
	d := withDisks(t)
	if d == nil {
		return
	}
	onTmpfs(t, d, "256m")
	var all sync.WaitGroup
	taken := make([]*disk, 12)
	for i := range taken {
		all.Go(func() { taken[i] = d.disks.take(40 << 20) })
	}
	all.Wait()
	if d.disks.take(40<<20) != nil {
		t.Error("another was made when there were no more")
	}
	if err := d.disks.lack(); err == nil || !strings.Contains(err.Error(), "MiB free at") {
		t.Errorf("why there were no more: %v", err)
	}
	n := 0
	for _, k := range taken {
		if k != nil {
			n++
			d.disks.release(k)
		}
	}
	if n != 5 {
		t.Errorf("of 256 MiB %d disks of 40 MiB were made", n)
	}
	if k := d.disks.take(40 << 20); k == nil {
		t.Errorf("none after all were given back: %v", d.disks.lack())
	} else {
		d.disks.release(k)
	}
}

func TestTmpStaysMemoryWhereThereCanBeNoDisk(t *testing.T) {
	d := newDriver(t, nil)
	d.disks.spare = 1 << 60
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{Limits: sandbox.Limits{TmpBytes: 8 << 20}})
	b.start("/bin/sh", "-c", "stat -f -c %T /tmp; head -c 9M /dev/zero > /tmp/a; stat -c %s /tmp/a")
	if _, out := b.wait(); !strings.HasPrefix(out, "tmpfs\n") || !strings.HasSuffix(out, "\n8388608\n") {
		t.Errorf("inside: %s", out)
	}
	for _, c := range d.Report().Checks {
		if c.Name != "/tmp on disk" {
			continue
		}
		want := "free space at"
		if !d.root {
			want = asRoot
		}
		if c.OK || !strings.Contains(c.Fix, want) {
			t.Errorf("the report says %+v", c)
		}
		return
	}
	t.Error("the report says nothing of it")
}

func TestSweepRemovesHalfMadeDisks(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(disksDir(dir), "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(disksDir(dir), diskPrefix+"1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if left := diskLeft(t, dir); len(left) != 1 || left[0] != "lost+found" {
		t.Errorf("Sweep left %v", left)
	}
}
