package namespace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/sandbox"
)

func TestMemoryLimitKillsAndIsTold(t *testing.T) {
	d := newDriver(t, nil)
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{
		Mounts: []sandbox.Mount{{Host: probeDir, Guest: "/probe"}},
		Limits: sandbox.Limits{MemoryBytes: 1 << 30},
	})
	if err := b.SetLimits(sandbox.Limits{MemoryBytes: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	b.start("/probe/probe", "memory")
	exit, out := b.wait()
	if exit.Signal != "killed" {
		t.Errorf("a process that takes all memory: %+v\n%s", exit, out)
	}
	if b.OOMKills() == 0 {
		t.Error("no kill by the memory limit was told")
	}
	// Without control groups only what lives can be looked at.
	if u, err := b.Usage(); d.groups.can(memoryController) && (err != nil || u.PeakBytes < 60<<20 || u.PeakBytes > 65<<20) {
		t.Errorf("usage is %+v, %v", u, err)
	}
}

func TestMemoryLimitGoesUpAndDown(t *testing.T) {
	d := newDriver(t, nil)
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{Limits: sandbox.Limits{MemoryBytes: 256 << 20}})
	for _, mb := range []int64{128, 3008, 0, 512, 10240, 64} {
		if err := b.SetLimits(sandbox.Limits{MemoryBytes: mb << 20}); err != nil {
			t.Errorf("setting the limit to %d MiB: %v", mb, err)
		}
	}
}

func TestCPULimitHolds(t *testing.T) {
	d := newDriver(t, nil)
	if !d.groups.can(cpuController) {
		return // the report says so
	}
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{Limits: sandbox.Limits{CPUs: 0.2}})
	before, err := b.Usage()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	b.start("/bin/bash", "-c", "for ((i=0; i<100000; i++)); do :; done")
	<-b.Exited()
	passed := time.Since(start)
	after, err := b.Usage()
	if err != nil {
		t.Fatal(err)
	}
	// The first period may be used whole at once.
	if used := after.CPU - before.CPU; used > passed/5+2*cpuPeriod {
		t.Errorf("used %v of %v", used, passed)
	}
}

func TestTmpHasTheSizeThatItIsGiven(t *testing.T) {
	d := newDriver(t, nil)
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{Limits: sandbox.Limits{TmpBytes: 16 << 20}})
	if err := b.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := b.SetLimits(sandbox.Limits{TmpBytes: 2 << 20}); err != nil { // is done at thaw
		t.Fatal(err)
	}
	if err := b.Thaw(); err != nil {
		t.Fatal(err)
	}
	b.start("/bin/sh", "-c", "head -c 3M /dev/zero > /tmp/a; stat -c %s /tmp/a; echo hello > /dev/shm/b; cat /dev/shm/b")
	if _, out := b.wait(); !strings.Contains(out, "No space left on device\n2097152\nhello\n") {
		t.Errorf("inside: %s", out)
	}
}

func TestFrozenContainerStandsStillAndGoesOn(t *testing.T) {
	d := newDriver(t, nil)
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{
		Mounts: []sandbox.Mount{{Host: probeDir, Guest: "/probe"}},
		Boot:   &sandbox.Process{Argv: []string{"/probe/probe", "echo"}},
	})
	echo := func() error {
		if _, err := b.Control().Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_, err := b.Control().Read(make([]byte, 1))
		return err
	}
	if err := echo(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := b.Freeze(); err != nil {
			t.Fatal(err)
		}
		if err := b.Control().SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if err := echo(); !os.IsTimeout(err) {
			t.Fatalf("a frozen process answered: %v", err)
		}
		if err := b.Control().SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if err := b.Thaw(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Control().Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFrozenContainerCanBeKilled(t *testing.T) {
	d := newDriver(t, nil)
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{})
	b.start("/bin/sh", "-c", "sleep 1000 & sleep 1000 & wait")
	if err := b.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := b.Kill(); err != nil {
		t.Fatal(err)
	}
	if exit, _ := b.wait(); exit.Signal != "killed" {
		t.Errorf("exit is %+v", exit)
	}
	if err := b.Freeze(); err == nil {
		t.Error("a dead container was frozen")
	}
}

func TestReportTellsWhatIsEnforced(t *testing.T) {
	d := newDriver(t, &tunNetwork{})
	r := d.Report()
	ok := map[string]bool{}
	for _, c := range r.Checks {
		t.Logf("%-20s %v  %s  %s", c.Name, c.OK, c.Detail, c.Fix)
		ok[c.Name] = c.OK
		if c.Detail == "" || c.OK != (c.Fix == "") {
			t.Errorf("%s says too little or too much: %+v", c.Name, c)
		}
	}
	for _, name := range []string{"containers", "system call filter", "layers", "network", "process limit"} {
		if !ok[name] {
			t.Errorf("no %s", name)
		}
	}
	if r.Root != ok["user ids"] {
		t.Error("the report of user ids does not fit")
	}
}

func TestUnpackedProgramReplacesOlderOnes(t *testing.T) {
	dir := t.TempDir()
	var path string
	for _, content := range []string{"one", "two", "two"} {
		var err error
		if path, err = Unpack(dir, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("unpacked %q, %v, not %q", got, err, content)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}
