package namespace

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/sandbox"
)

// The files of a group are made here, so that both versions are written to on
// any machine.
func TestTheProcessorsShareIsWrittenToTheMicrosecondInBothVersions(t *testing.T) {
	for version, test := range map[string]struct {
		file  string
		quota func(content string) (n int64, err error)
	}{
		"first": {"cpu.cfs_quota_us", func(s string) (n int64, err error) { _, err = fmt.Sscan(s, &n); return n, err }},
		"second": {"cpu.max", func(s string) (n int64, err error) {
			period := int64(0)
			if _, err = fmt.Sscan(s, &n, &period); err == nil && period != cpuPeriod.Microseconds() {
				err = fmt.Errorf("the period is %d µs", period)
			}
			return n, err
		}},
	} {
		t.Run(version, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "c", test.file)
			if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			g := &group{c: &cgroups{v1: map[string]string{cpuController: dir}}, path: "c"}
			if version == "second" {
				g.c = &cgroups{v2: dir, unified: []string{cpuController}}
			}
			before := sandbox.Limits{}
			for _, mib := range []int{128, 129, 1024, 1769, 3008, 10240} {
				// One processor for 1,769 MiB, and half of one of four for an
				// eighth of the machine.
				for _, cpus := range []float64{float64(mib) / 1769, 4 * float64(mib) / 8192} {
					l := sandbox.Limits{CPUs: cpus}
					if err := os.Truncate(path, 0); err != nil { // which the kernel's files need not
						t.Fatal(err)
					}
					if err := g.limit(before, l); err != nil {
						t.Fatal(err)
					}
					before = l
					content, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					n, err := test.quota(strings.TrimSpace(string(content)))
					if want := cpus * float64(cpuPeriod.Microseconds()); err != nil || math.Abs(float64(n)-want) >= 1 {
						t.Errorf("%d MiB: %q is %d µs of each period, want %.3f: %v", mib, content, n, want, err)
					}
				}
			}
		})
	}
}

func TestAContainersShareOfTheProcessorsIsWhatItsCgroupCounts(t *testing.T) {
	d := newDriver(t, nil)
	if !d.groups.can(cpuController) {
		return // the report says so
	}
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{Limits: sandbox.Limits{CPUs: 0.1}})
	b.start("/bin/bash", "-c", "while :; do :; done")
	usage := func() time.Duration {
		u, err := b.Usage()
		if err != nil {
			t.Fatal(err)
		}
		return u.CPU
	}
	// However busy the machine is, it gets no more; how much less says nothing
	// of the limit. The kernel may count a tick or a slice too much on each of
	// its processors before it holds the group back, so that the bound is twice
	// the share. Without a limit, it would get ten times as much.
	start, from := time.Now(), usage()
	for usage()-from < 200*time.Millisecond {
		time.Sleep(5 * time.Millisecond)
	}
	if used, took := usage()-from, time.Since(start); used > took/5 {
		t.Errorf("it got %v in %v", used, took)
	}
}

func TestTheLinksRateFollowsTheLimits(t *testing.T) {
	network := &tunNetwork{}
	d := newDriver(t, network)
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{ID: "shaped", Limits: sandbox.Limits{NetworkBytes: 1000}})
	network.mu.Lock()
	l := network.links["shaped"]
	network.mu.Unlock()
	if n := l.rate.Load(); n != 1000 {
		t.Errorf("the rate is %d from the start", n)
	}
	for _, n := range []int64{125_000_000, 0} {
		if err := b.SetLimits(sandbox.Limits{NetworkBytes: n}); err != nil || l.rate.Load() != n {
			t.Errorf("the rate is %d, not %d: %v", l.rate.Load(), n, err)
		}
	}
}
