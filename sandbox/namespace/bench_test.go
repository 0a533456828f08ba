package namespace

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/sandbox"
)

// medians collects durations under names and reports each one's median.
type medians map[string][]time.Duration

func (m medians) since(name string, start time.Time) { m[name] = append(m[name], time.Since(start)) }

func (m medians) median(name string) time.Duration {
	slices.Sort(m[name])
	return m[name][len(m[name])/2]
}

func (m medians) report(b *testing.B) {
	b.ReportMetric(0, "ns/op") // a mean over the stages says nothing
	for name := range m {
		b.ReportMetric(float64(m.median(name).Microseconds()), name+"-µs")
	}
}

// firstByte starts something that writes to the pipe's end that it is given,
// and waits for the first byte.
func firstByte(b *testing.B, start func(w *os.File)) {
	b.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	start(w)
	var buf [64]byte
	if _, err := r.Read(buf[:]); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkColdStart measures the life of a container around a static Go
// program, stage by stage, against plain fork and exec of the same.
func BenchmarkColdStart(b *testing.B) {
	d := newDriver(b, &tunNetwork{})
	in := newInstance(b, d)
	m := medians{}
	for b.Loop() {
		start := time.Now()
		firstByte(b, func(w *os.File) {
			cmd := exec.Command(filepath.Join(probeDir, "probe"))
			cmd.Env = []string{}
			cmd.Stdout = w
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = cmd.Wait() })
		})
		m.since("forkexec", start)

		r, w, err := os.Pipe()
		if err != nil {
			b.Fatal(err)
		}
		start = time.Now()
		c, err := in.NewContainer(b.Context(), sandbox.ContainerSpec{ID: newID("c"), Output: w})
		if err != nil {
			b.Fatal(err)
		}
		m.since("create", start)
		start = time.Now()
		if err := c.SetLimits(sandbox.Limits{MemoryBytes: 128 << 20, CPUs: 0.5, Processes: 100, TmpBytes: 512 << 20}); err != nil {
			b.Fatal(err)
		}
		m.since("setlimits", start)
		start = time.Now()
		if err := c.SetLimits(sandbox.Limits{MemoryBytes: 256 << 20, CPUs: 1, Processes: 100, TmpBytes: 512 << 20}); err != nil {
			b.Fatal(err)
		}
		m.since("relimit", start)
		start = time.Now()
		if err := c.Attach(b.Context(), sandbox.Attachment{Task: probeDir}); err != nil {
			b.Fatal(err)
		}
		m.since("attach", start)
		first := make(chan error)
		go func() {
			var buf [64]byte
			_, err := r.Read(buf[:])
			m.since("attach+start", start)
			first <- err
		}()
		if err := c.Start(b.Context(), sandbox.Process{Argv: []string{"/var/task/probe"}, Dir: "/"}); err != nil {
			b.Fatal(err)
		}
		if err := <-first; err != nil {
			b.Fatal(err)
		}
		<-c.Exited()
		start = time.Now()
		if err := c.Destroy(); err != nil {
			b.Fatal(err)
		}
		m.since("destroy", start)
		_ = r.Close()
		_ = w.Close()
	}
	m.report(b)
	b.ReportMetric(float64(m.median("attach+start"))/float64(m.median("forkexec")), "×forkexec")
}

// BenchmarkFreeze measures freezing a container with a process, and thawing it
// until the process answers.
func BenchmarkFreeze(b *testing.B) {
	in := newInstance(b, newDriver(b, nil))
	n := &neighbour{box: newBox(b, in, sandbox.ContainerSpec{
		Mounts: []sandbox.Mount{{Host: probeDir, Guest: "/probe"}},
		Boot:   &sandbox.Process{Argv: []string{"/probe/probe", "echo"}},
	})}
	m := medians{}
	for b.Loop() {
		start := time.Now()
		if err := n.echo(); err != nil {
			b.Fatal(err)
		}
		m.since("echo", start)
		start = time.Now()
		if err := n.Freeze(); err != nil {
			b.Fatal(err)
		}
		m.since("freeze", start)
		start = time.Now()
		if err := n.Thaw(); err != nil {
			b.Fatal(err)
		}
		m.since("thaw", start)
		if err := n.echo(); err != nil {
			b.Fatal(err)
		}
		m.since("thaw+echo", start)
	}
	m.report(b)
}

// BenchmarkPool makes a hundred containers at once, and reports what each
// takes.
func BenchmarkPool(b *testing.B) {
	d := newDriver(b, &tunNetwork{})
	const size = 100
	for b.Loop() {
		before := memoryInUse(b)
		var all sync.WaitGroup
		containers := make([]sandbox.Container, size)
		instances := make([]sandbox.Instance, size)
		start := time.Now()
		for i := range size {
			all.Go(func() {
				in, err := d.NewInstance(context.Background(), newID("i"))
				if err != nil {
					b.Error(err)
					return
				}
				instances[i] = in
				containers[i], err = in.NewContainer(context.Background(), sandbox.ContainerSpec{ID: newID("c")})
				if err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
		made := time.Since(start)
		b.ReportMetric(float64(size)/made.Seconds(), "made/s")
		b.ReportMetric(float64(memoryInUse(b)-before)/size/1024, "KiB-of-machine/container")
		var charged int64
		for _, c := range containers {
			usage, err := c.Usage()
			if err != nil {
				b.Fatal(err)
			}
			charged += usage.MemoryBytes
		}
		b.ReportMetric(float64(charged)/size/1024, "KiB-charged/container")
		start = time.Now()
		for _, in := range instances {
			all.Go(func() {
				if err := in.Destroy(); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
		b.ReportMetric(float64(size)/time.Since(start).Seconds(), "destroyed/s")
	}
}

// BenchmarkDisk measures the making and giving up of the disk of a /tmp, and
// what a hundred of them take of the machine's memory.
func BenchmarkDisk(b *testing.B) {
	d := newDriver(b, nil)
	m := medians{}
	for b.Loop() {
		start := time.Now()
		k, err := d.disks.make(usualTmp)
		if err != nil {
			b.Fatal(err)
		}
		m.since("make", start)
		start = time.Now()
		d.disks.release(k)
		m.since("release", start)
	}
	m.report(b)
	before := memoryInUse(b)
	var all sync.WaitGroup
	var made [100]*disk
	start := time.Now()
	for i := range made {
		all.Go(func() { made[i] = d.disks.take(16 << 20) })
	}
	all.Wait()
	b.ReportMetric(float64(len(made))/time.Since(start).Seconds(), "made/s")
	b.ReportMetric(float64(memoryInUse(b)-before)/float64(len(made))/1024, "KiB-of-machine/disk")
	start = time.Now()
	for _, k := range made {
		all.Go(func() {
			if k != nil {
				d.disks.release(k)
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(len(made))/time.Since(start).Seconds(), "released/s")
}

// BenchmarkTmp measures writing and reading 256 MiB in /tmp: on disk with less
// memory and with more than that, and in memory.
func BenchmarkTmp(b *testing.B) {
	for _, kind := range []struct {
		name   string
		limits sandbox.Limits
	}{
		{"disk/128MiB", sandbox.Limits{MemoryBytes: 128 << 20, TmpBytes: usualTmp}},
		{"disk/1GiB", sandbox.Limits{MemoryBytes: 1 << 30, TmpBytes: usualTmp}},
		{"memory/1GiB", sandbox.Limits{MemoryBytes: 1 << 30}},
	} {
		b.Run(kind.name, func(b *testing.B) {
			in := newInstance(b, newDriver(b, nil))
			b.SetBytes(512 << 20)
			for b.Loop() {
				c := newBox(b, in, sandbox.ContainerSpec{Limits: kind.limits})
				c.start("/bin/sh", "-c", "dd if=/dev/zero of=/tmp/a bs=1M count=256 && dd if=/tmp/a of=/dev/null bs=1M")
				if exit, out := c.wait(); exit.Code != 0 {
					b.Fatal(exit, out)
				}
			}
		})
	}
}

// memoryInUse is what the machine has less of: processes' and the kernel's.
func memoryInUse(t testing.TB) int64 {
	t.Helper()
	content, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	var total, available int64
	for line := range strings.Lines(string(content)) {
		_, _ = fmt.Sscanf(line, "MemTotal: %d kB", &total)
		_, _ = fmt.Sscanf(line, "MemAvailable: %d kB", &available)
	}
	return (total - available) << 10
}
