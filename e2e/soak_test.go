package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/hearth-faas/hearth/bench/rawhttp"
)

// soakScale is how much is invoked: make soak sets HEARTH_SOAK=full.
func soakScale(t testing.TB) (warm, cold int) {
	switch scale := os.Getenv("HEARTH_SOAK"); scale {
	case "":
		return 45_000, 225
	case "full":
		return 1_000_000, 10_000
	default:
		t.Fatalf("HEARTH_SOAK is %q; it is empty or full", scale)
		return 0, 0
	}
}

// vitals are what must not grow, however much was served.
type vitals struct {
	containers int     // with slots: what follows is in proportion to them
	rss        float64 // MiB, of the server
	fds        int     // of the server
	goroutines int     // of the server
	processes  int     // in sandboxes
	hostMounts int     // as this process sees them
	mounts     int     // as the server sees them
	cgroups    int     // directories of the server's
	loops      int     // devices behind which the server's disks are
	disk       float64 // MiB of the data folder, also of files that have no name any more
	files      int     // in the data folder
}

func (v vitals) String() string {
	return fmt.Sprintf("%2d containers, RSS %.1f MiB, %d fds, %d goroutines, %d processes, %d+%d mounts, %d cgroups, %d loops, %.1f MiB and %d files on disk",
		v.containers, v.rss, v.fds, v.goroutines, v.processes, v.hostMounts, v.mounts, v.cgroups, v.loops, v.disk, v.files)
}

func TestSoakShowsNoGrowth(t *testing.T) {
	warm, cold := soakScale(t)
	// The pool and what is kept on disk are small, so that they are as large
	// as they ever will be after the first third.
	s := start(t, "--pool", "96", "--logs", "2", "--decision-log", "2", "--log-level", "warn")
	echo := goZip(t, "echo")
	s.deploy(function{name: "warm", runtime: "provided.al2023", handler: "bootstrap", zip: echo, memory: 1769})
	c := s.client()
	const rounds = 9
	began := time.Now()
	var third vitals
	for round := range rounds {
		t0 := time.Now()
		s.soakWarm(warm/rounds, 4)
		t1 := time.Now()
		s.soakCold(c, cold/rounds, 2)
		t2 := time.Now()
		now := s.vitals(t)
		t.Logf("%3.0f s: %d warm in %.1f s, %d cold in %.1f s; %s", time.Since(began).Seconds(),
			warm/rounds, t1.Sub(t0).Seconds(), cold/rounds, t2.Sub(t1).Seconds(), now)
		if round == rounds/3-1 {
			third = s.settled(t, vitals{})
		}
	}
	end := s.settled(t, third)
	t.Logf("after a third: %s", third)
	t.Logf("at the end:    %s", end)
	for _, growth := range end.beyond(third) {
		t.Error(growth)
	}
}

// settled waits until the server has put away what it is about to put away,
// but not for ever: what it then has is the answer.
func (s *server) settled(t *testing.T, before vitals) vitals {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(500 * time.Millisecond) {
		v := s.vitals(t)
		busy := false
		for _, in := range s.ps().Instances {
			for _, c := range in.Containers {
				busy = busy || c.State == "ending" || c.State == "loading"
			}
		}
		if !busy && (before == vitals{} || len(v.beyond(before)) == 0) || time.Now().After(deadline) {
			return v
		}
	}
}

// What one container may have, on any sort of machine, and how far two looks
// at a server that does not grow may lie apart.
const (
	fdsEach, goroutinesEach, processesEach, cgroupsEach = 16, 16, 6, 12
	diskEach                                            = 0.75 // MiB: an empty /tmp

	someRSS, someFDs, someGoroutines, someDisk, someFiles = 24.0, 12, 16, 6.0, 64
)

// beyond lists what v has more of than before, and more than two looks at the
// same thing may differ.
func (v vitals) beyond(before vitals) (grown []string) {
	more := max(0, v.containers-before.containers)
	check := func(what string, before, now, slack int) {
		if now > before+slack {
			grown = append(grown, fmt.Sprintf("%s grew from %d to %d", what, before, now))
		}
	}
	if v.rss > before.rss+someRSS {
		grown = append(grown, fmt.Sprintf("RSS grew from %.1f to %.1f MiB", before.rss, v.rss))
	}
	if v.disk > before.disk+someDisk+float64(more)*diskEach {
		grown = append(grown, fmt.Sprintf("the data folder grew from %.1f to %.1f MiB", before.disk, v.disk))
	}
	check("the number of containers", before.containers, v.containers, 8) // the pool follows the demand
	check("the number of descriptors", before.fds, v.fds, someFDs+more*fdsEach)
	check("the number of goroutines", before.goroutines, v.goroutines, someGoroutines+more*goroutinesEach)
	check("the number of processes", before.processes, v.processes, more*processesEach+2)
	check("the number of mounts of the host", before.hostMounts, v.hostMounts, 0)
	check("the number of mounts of the server", before.mounts, v.mounts, 0)
	check("the number of cgroups", before.cgroups, v.cgroups, more*cgroupsEach)
	check("the number of loop devices", before.loops, v.loops, more+4)
	check("the number of files in the data folder", before.files, v.files, someFiles)
	return grown
}

// soakWarm invokes the one warm function n times, over a few connections that
// are kept.
func (s *server) soakWarm(n, connections int) {
	s.t.Helper()
	payload := []byte(`{"pad":"` + strings.Repeat("x", 1000) + `"}`)
	addr, request, err := rawhttp.Invoke(s.endpoint, s.get("AWS_REGION"), s.credentials(), "warm", payload)
	if err != nil {
		s.t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			c, err := rawhttp.Dial(addr, request)
			if err != nil {
				s.t.Error(err)
				return
			}
			defer c.Close()
			for range n / connections {
				if err := c.RoundTrip(); err != nil {
					s.t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// soakCold invokes n functions for the first time: each is made, invoked,
// changed, invoked again (which is a first time too), and deleted. All of it
// goes through one client: its connections count as well. The next round takes
// the same names and packages, since a function's log outlives it, as in the
// service, and its unpacked code as long as there is room.
func (s *server) soakCold(c *lambda.Client, n, clients int) {
	s.t.Helper()
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			for i := client; i < n/2; i += clients { // two first invocations each
				if err := coldTwice(s.t, c, fmt.Sprintf("cold-%d", i), i%2 == 0); err != nil {
					s.t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if s.t.Failed() {
		s.t.FailNow()
	}
}

func coldTwice(t testing.TB, c *lambda.Client, name string, node bool) error {
	ctx := context.Background()
	in := createInput(t, name)
	in.Code.ZipFile = zipOf(t, map[string]string{"index.py": "def handler(e, c):\n    return e  # " + name})
	if node {
		in.Runtime = "nodejs20.x"
		in.Code.ZipFile = zipOf(t, map[string]string{"index.js": "exports.handler = async (e) => e; // " + name})
	}
	if _, err := c.CreateFunction(ctx, in); err != nil {
		return err
	}
	for range 2 {
		err := lambda.NewFunctionUpdatedV2Waiter(c, func(o *lambda.FunctionUpdatedV2WaiterOptions) {
			o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
		}).Wait(ctx, &lambda.GetFunctionInput{FunctionName: &name}, patience)
		if err != nil {
			return err
		}
		out, err := c.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{"a":1}`)})
		if err != nil || out.FunctionError != nil || !sameJSON(string(out.Payload), `{"a":1}`) {
			return fmt.Errorf("%s: %+v, %w", name, out, err)
		}
		if _, err := c.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: &name, Description: &name}); err != nil {
			return err
		}
	}
	_, err := c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name})
	return err
}

// get is a variable of hearth env.
func (s *server) get(key string) string {
	for _, kv := range s.env {
		if v, ok := strings.CutPrefix(kv, key+"="); ok {
			return v
		}
	}
	s.t.Fatalf("no %s in hearth env", key)
	return ""
}

func (s *server) credentials() aws.Credentials {
	return aws.Credentials{AccessKeyID: s.get("AWS_ACCESS_KEY_ID"), SecretAccessKey: s.get("AWS_SECRET_ACCESS_KEY")}
}

// rss is the memory that the server's process has, in MiB.
func (s *server) rss() float64 {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\nVmRSS:")
	rest, _, _ = strings.Cut(rest, "kB")
	kib, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return kib / 1024
}

// vitals looks at the server from outside.
func (s *server) vitals(t *testing.T) (v vitals) {
	s.t.Helper()
	for _, in := range s.ps().Instances {
		v.containers += len(in.Containers)
	}
	proc := fmt.Sprintf("/proc/%d/", s.cmd.Process.Pid)
	fail := func(err error) {
		if err != nil {
			s.t.Fatal(err)
		}
	}
	v.rss = s.rss()
	fds, err := os.ReadDir(proc + "fd")
	fail(err)
	v.fds = len(fds)
	v.goroutines = int(s.metric("go_goroutines"))
	mounts, err := os.ReadFile(proc + "mountinfo")
	fail(err)
	v.mounts = bytes.Count(mounts, []byte{'\n'})
	traces := tracesOf(t, s.dir)
	v.hostMounts = traces.mounts // of this server: others mount and unmount meanwhile
	for _, name := range traces.cgroups {
		v.processes += len(processesIn("/" + name + "/"))
		fail(filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && strings.Contains(path, "/"+name+"/") { // an error: removed meanwhile
				v.cgroups++
			}
			return nil
		}))
	}
	v.disk, v.files, err = folderSize(s.dir)
	fail(err)
	for _, fd := range fds {
		path := proc + "fd/" + fd.Name()
		if name, err := os.Readlink(path); err == nil && strings.HasPrefix(name, s.dir) && strings.HasSuffix(name, " (deleted)") {
			if info, err := os.Stat(path); err == nil { // an error: closed meanwhile
				v.disk += float64(info.Sys().(*syscall.Stat_t).Blocks) * 512 / (1 << 20)
			}
		}
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	fail(err)
	for _, path := range loops {
		if name, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(name), s.dir) {
			v.loops++
		}
	}
	return v
}

// metric is the value of an unlabelled metric.
func (s *server) metric(name string) float64 {
	s.t.Helper()
	resp, err := http.Get(s.endpoint + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(rest, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return v
		}
	}
	s.t.Fatalf("there is no metric %s", name)
	return 0
}

// folderSize is what a folder takes on the disk, and how many files it has.
func folderSize(dir string) (mib float64, files int, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // removed meanwhile
		}
		if info, err := d.Info(); err == nil {
			files++
			mib += float64(info.Sys().(*syscall.Stat_t).Blocks) * 512 / (1 << 20)
		}
		return nil
	})
	return mib, files, err
}
