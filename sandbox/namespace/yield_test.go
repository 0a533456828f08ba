package namespace

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/sandbox"
)

// Two instances compute on one processor: one that yields has next to nothing of
// it, and as much as the other once it does not any more.
func TestAnInstanceThatYieldsHasWhatOthersLeave(t *testing.T) {
	d := newDriver(t, nil)
	if !d.groups.can(cpuController) {
		return // the report says so
	}
	busy := func() sandbox.Instance {
		in := newInstance(t, d)
		b := newBox(t, in, sandbox.ContainerSpec{})
		b.start("/bin/bash", "-c", "taskset -p -c 0 $$ && while :; do :; done")
		return in
	}
	first, second := busy(), busy()
	used := func(in sandbox.Instance) time.Duration {
		cpu, err := in.CPU()
		if err != nil {
			t.Fatal(err)
		}
		return cpu
	}
	for _, yes := range []bool{true, false} {
		if err := second.Yield(yes); errors.Is(err, errors.ErrUnsupported) {
			return // the report says so
		} else if err != nil {
			t.Fatal(err)
		}
		f, s := used(first), used(second)
		for used(first)-f < 500*time.Millisecond {
			time.Sleep(5 * time.Millisecond) // what it uses is no event
		}
		part := float64(used(second)-s) / float64(used(first)-f)
		if yes && part > .2 || !yes && part < .3 {
			t.Errorf("yielding is %v: it has %.2f of what the other has", yes, part)
		}
	}
}

// The files of a group are made here, so that both versions are written to on
// any machine.
func TestYieldingAndTimeInBothVersions(t *testing.T) {
	for version, test := range map[string]struct {
		file, content string
		groups        func(dir string) *cgroups
	}{
		"first": {"cpuacct.usage", "5000000\n", func(dir string) *cgroups {
			return &cgroups{v1: map[string]string{cpuController: dir, cpuUseController: dir}}
		}},
		"second": {"cpu.stat", "usage_usec 5000\nuser_usec 4000\n", func(dir string) *cgroups {
			return &cgroups{v2: dir, unified: []string{cpuController}}
		}},
	} {
		t.Run(version, func(t *testing.T) {
			dir := t.TempDir()
			put := func(name, content string) {
				path := filepath.Join(dir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			in := &instance{d: &Driver{groups: test.groups(dir)}, id: "i"}
			put("i/"+test.file, test.content)
			if cpu, err := in.CPU(); err != nil || cpu != 5*time.Millisecond {
				t.Errorf("%v, %v", cpu, err)
			}
			if err := in.Yield(true); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("a kernel without cpu.idle: %v", err)
			}
			put("cpu.idle", "0")
			if err := in.Yield(true); err == nil || errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("an instance that is gone: %v", err)
			}
			put("i/cpu.idle", "0")
			for _, want := range []string{"1", "0"} {
				if err := in.Yield(want == "1"); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(filepath.Join(dir, "i/cpu.idle")); err != nil || string(got) != want {
					t.Errorf("cpu.idle is %q, not %s: %v", got, want, err)
				}
			}
		})
	}
	in := &instance{d: &Driver{groups: &cgroups{v1: map[string]string{}}}, id: "i"}
	if _, err := in.CPU(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("without control groups: %v", err)
	}
	if err := in.Yield(true); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("without control groups: %v", err)
	}
}
