package main

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hearth-faas/hearth/bench/rawhttp"
	"github.com/hearth-faas/hearth/control"
)

// wholeCPU is the memory, in MiB, that comes with one whole processor, so that
// no share of one is measured.
const wholeCPU = 1769

// idle: what a server costs that has nothing to do.
func idle(b *bench) ([]row, error) {
	if err := b.awaitPool("", 1); err != nil {
		return nil, err
	}
	pid := b.server.Process.Pid
	before, err := cpuTime(pid)
	if err != nil {
		return nil, err
	}
	const span = 10 * time.Second
	time.Sleep(span) // the measurement itself: what happens when nothing does
	after, err := cpuTime(pid)
	if err != nil {
		return nil, err
	}
	rss, err := status(pid, "VmRSS:")
	if err != nil {
		return nil, err
	}
	return []row{
		{Name: "idle server, resident memory", Hearth: fmt.Sprintf("%.1f MiB", rss), Value: rss, Unit: "MiB", Aim: 40, AtMost: true},
		{Name: "idle server, CPU", Hearth: (after - before).String() + " in " + span.String(),
			Value: 100 * float64(after-before) / float64(span), Unit: "%", Aim: 0.5, AtMost: true},
	}, nil
}

// warm: p50 of one client against a warm function.
func warm(b *bench) ([]row, error) {
	files, err := b.goFiles()
	if err != nil {
		return nil, err
	}
	if err := b.deploy("warm", "provided.al2023", "bootstrap", wholeCPU, files); err != nil {
		return nil, err
	}
	addr, req, err := b.signedInvoke("warm")
	if err != nil {
		return nil, err
	}
	floor, err := rawhttp.Dial(b.floor, floorRequest())
	if err != nil {
		return nil, err
	}
	defer floor.Close()
	hearth, err := rawhttp.Dial(addr, req)
	if err != nil {
		return nil, err
	}
	defer hearth.Close()
	var tf, th times
	for range b.rounds {
		if tf, err = measure(tf, 1000, floor.RoundTrip); err != nil {
			return nil, fmt.Errorf("floor: %w", err)
		}
		if th, err = measure(th, 1000, hearth.RoundTrip); err != nil {
			return nil, err
		}
	}
	return []row{ratio("warm invoke, Go echo, 1 KB, signed, p50", tf, th, 2)}, b.remove("warm")
}

// measure adds n times of f, after a tenth as many that don't count.
func measure(t times, n int, f func() error) (times, error) {
	for range n / 10 {
		if err := f(); err != nil {
			return t, err
		}
	}
	for range n {
		began := time.Now()
		if err := f(); err != nil {
			return t, err
		}
		t = append(t, time.Since(began))
	}
	return t, nil
}

// throughput: what 64 clients get through.
func throughput(b *bench) ([]row, error) {
	files, err := b.goFiles()
	if err != nil {
		return nil, err
	}
	if err := b.deploy("many", "provided.al2023", "bootstrap", wholeCPU, files); err != nil {
		return nil, err
	}
	addr, req, err := b.signedInvoke("many")
	if err != nil {
		return nil, err
	}
	if _, err := hammer(addr, req, time.Second); err != nil { // warms up
		return nil, err
	}
	var floors, hearths, alone []float64
	for range max(b.rounds/2, 3) {
		a, err := functionsAlone(b.bootstrap, 8, 2*time.Second)
		if err != nil {
			return nil, err
		}
		alone = append(alone, a)
		f, err := hammer(b.floor, floorRequest(), 2*time.Second)
		if err != nil {
			return nil, fmt.Errorf("floor: %w", err)
		}
		h, err := hammer(addr, req, 2*time.Second)
		if err != nil {
			return nil, err
		}
		floors, hearths = append(floors, f), append(hearths, h)
	}
	f, h, a := medianOf(floors), medianOf(hearths), medianOf(alone)
	return []row{{
		Name: "warm invokes a second, 64 clients", Floor: fmt.Sprintf("%.0f/s", f), Hearth: fmt.Sprintf("%.0f/s", h),
		Value: h / f, Unit: "×", Aim: 0.5,
	}, {
		Name: "the same, against the functions alone", Floor: fmt.Sprintf("%.0f/s", a), Hearth: fmt.Sprintf("%.0f/s", h),
		Value: h / a, Unit: "×", Aim: 0.5,
	}}, b.remove("many")
}

// hammer asks over 64 connections for as long as told and returns how many
// were answered a second.
func hammer(addr string, req []byte, d time.Duration) (float64, error) {
	const clients = 64
	var wg sync.WaitGroup
	var mu sync.Mutex
	total, errs := 0, []error(nil)
	began := time.Now()
	for range clients {
		wg.Go(func() {
			n, err := func() (n int, err error) {
				c, err := rawhttp.Dial(addr, req)
				if err != nil {
					return 0, err
				}
				defer c.Close()
				for time.Since(began) < d {
					if err := c.RoundTrip(); err != nil {
						return n, err
					}
					n++
				}
				return n, nil
			}()
			mu.Lock()
			defer mu.Unlock()
			total += n
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return float64(total) / time.Since(began).Seconds(), errors.Join(errs...)
}

func medianOf(v []float64) float64 {
	t := make(times, len(v))
	for i, x := range v {
		t[i] = time.Duration(x * 1e6)
	}
	return float64(t.median()) / 1e6
}

// coldGo: the first invocation of a function, against fork and exec of the
// same binary until it first asks for work.
func coldGo(b *bench) ([]row, error) {
	files, err := b.goFiles()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	floor := func() error {
		cmd := exec.Command(b.bootstrap)
		cmd.Env = []string{"AWS_LAMBDA_RUNTIME_API=" + l.Addr().String()}
		if err := cmd.Start(); err != nil {
			return err
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
		c, err := l.Accept()
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = bufio.NewReader(c).ReadString('\n')
		return err
	}
	return cold(b, "cold invoke, Go", "provided.al2023", "bootstrap", "", files, floor, 1.5)
}

// script is a floor that runs an interpreter on the handler's file once.
func script(interpreter, file, text string) (func() error, error) {
	path, err := exec.LookPath(interpreter)
	if err != nil {
		return nil, err
	}
	// The shim of a version manager would not be the bare interpreter.
	out, err := exec.Command(path, map[string][]string{
		"node": {"-p", "process.execPath"}, "python3": {"-c", "import os, sys; print(os.path.realpath(sys.executable))"},
	}[interpreter]...).Output()
	if err != nil {
		return nil, err
	}
	path = strings.TrimSpace(string(out))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return func() error {
		cmd := exec.Command(path, file)
		cmd.Env = cleanEnv()
		return cmd.Run()
	}, nil
}

const (
	nodeHandler   = "exports.handler = async (event) => event;\n"
	pythonHandler = "def handler(event, context):\n    return event\n"
)

func coldNode(b *bench) ([]row, error) {
	floor, err := script("node", filepath.Join(b.dir, "floor.js"), nodeHandler+"exports.handler({}).then(e => process.stdout.write(JSON.stringify(e)));\n")
	if err != nil {
		return nil, err
	}
	return cold(b, "cold invoke, node", "nodejs20.x", "index.handler", "node", map[string][]byte{"index.js": []byte(nodeHandler)}, floor, 0.25)
}

func coldPython(b *bench) ([]row, error) {
	floor, err := script("python3", filepath.Join(b.dir, "floor.py"), pythonHandler+"import json, sys\nsys.stdout.write(json.dumps(handler({}, None)))\n")
	if err != nil {
		return nil, err
	}
	return cold(b, "cold invoke, python", "python3.11", "index.handler", "python3.11", map[string][]byte{"index.py": []byte(pythonHandler)}, floor, 0.25)
}

// cold measures first invocations, each of a function of its own that has
// never run, with the pool filled before each.
func cold(b *bench, name, runtime, handler, boot string, files map[string][]byte, floor func() error, aim float64) ([]row, error) {
	var tf, th times
	for i := range 3 * b.rounds {
		fn := fmt.Sprintf("cold%d", i)
		if err := b.deploy(fn, runtime, handler, 256, files); err != nil {
			return nil, err
		}
		if err := b.awaitPool(boot, 1); err != nil {
			return nil, err
		}
		addr, req, err := b.signedInvoke(fn)
		if err != nil {
			return nil, err
		}
		c, err := rawhttp.Dial(addr, req)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		err = c.RoundTrip()
		th = append(th, time.Since(began))
		if err := errors.Join(err, c.Close(), b.remove(fn)); err != nil {
			return nil, err
		}
		began = time.Now()
		if err := floor(); err != nil {
			return nil, fmt.Errorf("floor: %w", err)
		}
		tf = append(tf, time.Since(began))
	}
	return []row{ratio(name, tf, th, aim)}, nil
}

// sixteen: first invocations at once, against one, whose work two cores share.
func sixteen(b *bench) ([]row, error) {
	files, err := b.goFiles()
	if err != nil {
		return nil, err
	}
	at := func(fn string, n int) (time.Duration, error) {
		if err := b.deploy(fn, "provided.al2023", "bootstrap", 256, files); err != nil {
			return 0, err
		}
		if err := b.awaitPool("", 1); err != nil {
			return 0, err
		}
		addr, req, err := b.signedInvoke(fn)
		if err != nil {
			return 0, err
		}
		conns := make([]*rawhttp.Conn, n)
		for i := range conns {
			if conns[i], err = rawhttp.Dial(addr, req); err != nil {
				return 0, err
			}
			defer conns[i].Close()
		}
		errs := make([]error, n)
		var wg sync.WaitGroup
		began := time.Now()
		for i, c := range conns {
			wg.Go(func() { errs[i] = c.RoundTrip() })
		}
		wg.Wait()
		took := time.Since(began)
		return took, errors.Join(append(errs, b.remove(fn))...)
	}
	var one, all times
	for i := range b.rounds {
		t, err := at(fmt.Sprintf("one%d", i), 1)
		if err != nil {
			return nil, err
		}
		one = append(one, t)
		if t, err = at(fmt.Sprintf("sixteen%d", i), 16); err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	r := ratio("16 first invokes at once, per two cores' work", one, all, 2)
	r.Value /= 16.0 / 2
	return []row{r}, nil
}

// slot: what an unbooted sandbox costs that waits in the pool. The kernel
// charges a group in batches of up to 64 pages for each processor, so that a
// reading may be that much too high; the least of several is nearest.
func slot(b *bench) ([]row, error) {
	if err := b.awaitPool("", 1); err != nil {
		return nil, err
	}
	least := map[string]float64{}
	for range 2 * b.rounds {
		s, err := b.ps()
		if err != nil {
			return nil, err
		}
		for _, in := range s.Instances {
			for _, c := range in.Containers {
				if c.State != control.StateReady || c.Boot != "" || c.UsedMiB == 0 {
					continue
				}
				if was, seen := least[c.ID]; !seen || c.UsedMiB < was {
					least[c.ID] = c.UsedMiB
				}
			}
		}
	}
	if len(least) == 0 {
		return nil, errors.New("no slot tells its memory: are there memory cgroups?")
	}
	sizes := slices.Collect(maps.Values(least))
	return []row{{
		Name: "a pooled, unbooted sandbox (median, largest)", Hearth: fmt.Sprintf("%.2f / %.2f MiB", medianOf(sizes), slices.Max(sizes)),
		Value: medianOf(sizes), Unit: "MiB", Aim: 1, AtMost: true,
	}}, nil
}

// cpuTime is the processor time of a process so far.
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	var ticks int
	for _, i := range []int{11, 12} { // utime, stime
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil // USER_HZ is 100
}

// status reads a field of /proc/PID/status in MiB.
func status(pid int, field string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			return float64(kib) / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no %s", pid, field)
}
