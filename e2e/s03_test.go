package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

// sized is a function that uses what its event says. 40 MiB of it are there
// from the start.
var sized = map[string]string{"index.py": `
import json, os, socket, time
ballast = b"\x01" * (40 << 20) if os.environ.get("BALLAST") else b""

def handler(event, context):
    end = time.monotonic() + event.get("seconds", 0)
    mode = event.get("mode")
    if mode == "throw":
        raise ValueError("as asked")
    if mode == "eat":
        x = b"\x01" * (event["mib"] << 20)
    if mode == "burn":
        while time.monotonic() < end:
            pass
    rate = 0
    if mode in ("up", "down"):
        s = socket.create_connection((event["host"], event["port"]))
        s.sendall(mode[0].encode())
        b, n, mark = bytes(1 << 16), 0, None
        while time.monotonic() < end:
            n += s.send(b) if mode == "up" else len(s.recv(1 << 16))
            if mark is None and end - time.monotonic() < event["seconds"] - 1.5: # the burst is over
                mark = (n, time.monotonic())
        rate = (n - mark[0]) / (time.monotonic() - mark[1])
        s.close()
    if mode == "wait":
        time.sleep(event["seconds"])
    return {"memory": os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], "rate": rate}
`}

func (s *server) deploySized(name string, memory int32, env map[string]string) {
	s.deploy(function{name: name, runtime: "python3.11", memory: memory, files: sized, env: env, timeout: 30})
}

// advice is what hearth advise says of a function's $LATEST.
func (s *server) advice(name string) control.Advice {
	s.t.Helper()
	out, err := s.hearth("advise", name, "--json")
	if err != nil {
		s.t.Fatal(err)
	}
	var list []control.Advice
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		s.t.Fatalf("advise %s: %v\n%s", name, err, out)
	}
	return list[0]
}

// sizeDecisions are what was decided about a function's size, the newest last.
func (s *server) sizeDecisions(name string) []hearth.Decision {
	s.t.Helper()
	out, err := s.hearth("decisions", "--function", name, "--kind", "size", "--json")
	if err != nil {
		s.t.Fatal(err)
	}
	var list []hearth.Decision
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	return list
}

// failures invokes a function n times, and counts those that were ended for
// want of memory.
func (s *server) failures(name, payload string, n int) (killed int) {
	s.t.Helper()
	for range n {
		a, err := s.invoke(name, payload)
		if err != nil {
			s.t.Fatal(err)
		}
		if strings.Contains(a.payload, "Runtime.OutOfMemory") {
			killed++
		}
	}
	return killed
}

// instanceOf is where the function runs.
func (s *server) instanceOf(name string) string {
	s.t.Helper()
	found := ""
	await(s.t, patience, name+" to run", func() bool {
		out, err := s.hearth("ps", "--json")
		if err != nil {
			s.t.Fatal(err)
		}
		var snap control.Snapshot
		if err := json.Unmarshal([]byte(out), &snap); err != nil {
			s.t.Fatal(err)
		}
		for _, i := range snap.Instances {
			for _, c := range i.Containers {
				if c.Function == name && c.State == control.StateBusy {
					found = i.ID
				}
			}
		}
		return found != ""
	})
	return found
}

// cpuCounters are what the kernel counts of a container's processor time.
type cpuCounters struct {
	share              float64 // what is allowed, of one processor
	quota, used        time.Duration
	periods, throttled int64
}

// readCPU reads those of the group that has an instance's busy process, in
// either version of cgroups.
func readCPU(t *testing.T, instance string) (c cpuCounters) {
	t.Helper()
	number := func(path, field string) int64 {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		if field != "" {
			_, text, _ = strings.Cut("\n"+text, "\n"+field+" ")
		}
		n, err := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return n
	}
	var dirs map[string]string
	for _, pid := range processesIn(instance) {
		own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if err != nil {
			continue // it has ended
		}
		dirs = map[string]string{}
		for line := range strings.Lines(string(own)) {
			f := strings.SplitN(strings.TrimSpace(line), ":", 3)
			for _, controller := range strings.Split(f[1], ",") {
				dirs[controller] = f[2]
			}
		}
	}
	// What was used is of the same moment as the periods, or it is read anew.
	counters := func(stat string, used func() time.Duration) (time.Duration, int64, int64) {
		for {
			periods, spent, throttled := number(stat, "nr_periods"), used(), number(stat, "nr_throttled")
			if number(stat, "nr_periods") == periods {
				return spent, periods, throttled
			}
		}
	}
	if dirs["cpu"] == "" {
		dir := filepath.Join("/sys/fs/cgroup", dirs[""])
		limit, err := os.ReadFile(filepath.Join(dir, "cpu.max"))
		if err != nil {
			t.Fatal(err)
		}
		var quota, period int64
		if _, err := fmt.Sscan(string(limit), &quota, &period); err != nil {
			t.Fatalf("%s: %v", limit, err)
		}
		stat := filepath.Join(dir, "cpu.stat")
		used, periods, throttled := counters(stat, func() time.Duration { return time.Duration(number(stat, "usage_usec")) * time.Microsecond })
		return cpuCounters{float64(quota) / float64(period), time.Duration(quota) * time.Microsecond, used, periods, throttled}
	}
	dir := filepath.Join("/sys/fs/cgroup/cpu", dirs["cpu"])
	quota, period := number(filepath.Join(dir, "cpu.cfs_quota_us"), ""), number(filepath.Join(dir, "cpu.cfs_period_us"), "")
	stat := filepath.Join(dir, "cpu.stat")
	// A hierarchy of the second version beside the first counts the time.
	used, periods, throttled := counters(stat, func() time.Duration {
		if unified := filepath.Join("/sys/fs/cgroup/unified", dirs[""], "cpu.stat"); strings.Contains(dirs[""], instance) {
			return time.Duration(number(unified, "usage_usec")) * time.Microsecond
		}
		return time.Duration(number(filepath.Join("/sys/fs/cgroup/cpuacct", dirs["cpuacct"], "cpuacct.usage"), ""))
	})
	return cpuCounters{float64(quota) / float64(period), time.Duration(quota) * time.Microsecond, used, periods, throttled}
}

// TestS03MemoryBringsItsShareOfTheMachine has one function, A, on a machine of
// 8 GiB, 4 processors and 1 Gbit/s, of which it is to have an eighth.
func TestS03MemoryBringsItsShareOfTheMachine(t *testing.T) {
	if os.Geteuid() != 0 {
		lacking(t, "cgroups and a host beside this one need root")
	}
	world := newOutside(t)
	s := start(t, "--memory", "8192", "--cpu-memory", "2048", "--network-mbit", "1000")
	s.checkShares(t, world)
}

// TestS03UseCorrectsTheMemory goes by what functions end with, not by how long
// they take.
func TestS03UseCorrectsTheMemory(t *testing.T) {
	if os.Geteuid() != 0 {
		lacking(t, "cgroups need root")
	}
	t.Parallel()
	// One that has no lack of processors: to be killed takes as long as to fill
	// the memory.
	s := start(t, "--memory", "8192", "--cpu-memory", "128")
	t.Run("B is killed, then has what it needs", func(t *testing.T) {
		for _, name := range []string{"b", "control"} {
			s.deploySized(name, 256, nil)
		}
		s.must("policy", "set", "b", "sizing.runs=3")
		s.must("policy", "set", "control", "sizing.mode=off", "sizing.runs=3")
		const eat = `{"mode":"eat","mib":300}`
		if n := s.failures("b", eat, 2); n != 2 {
			t.Fatalf("of 2 executions %d were killed", n)
		}
		if a := s.advice("b"); a.Suggestion != "" {
			t.Errorf("after two: %+v", a)
		}
		s.failures("b", eat, 1)
		if a := s.advice("b"); a.Suggestion != "grow" || a.SuggestedMiB < 300 || a.Evidence.Kills != 3 || a.Evidence.TooLittle != 256 {
			t.Errorf("after three: %+v", a)
		}
		s.must("policy", "set", "b", "sizing.mode=auto", "sizing.runs=3")
		s.failures("b", eat, 1) // upon which the next containers are larger
		if n := s.failures("b", eat, 4); n != 0 {
			t.Errorf("with the automatic mode %d of 4 were killed", n)
		}
		if got := s.mustInvoke("b", `{}`).payload; !strings.Contains(got, `"384"`) {
			t.Errorf("the code is told %s", got)
		}
		// The same without: nothing is learned, and nothing changes.
		if n := s.failures("control", eat, 6); n != 6 {
			t.Errorf("control: of 6 executions %d were killed", n)
		}
		if out, err := s.hearth("advise", "control", "--json"); err == nil {
			t.Errorf("control: %s", out)
		}
	})

	t.Run("C throws, and is left alone", func(t *testing.T) {
		s.deploySized("c", 128, nil)
		s.must("policy", "set", "c", "sizing.mode=auto", "sizing.runs=5")
		for i := range 40 {
			if _, err := s.invoke("c", []string{`{}`, `{"mode":"throw"}`}[i%2]); err != nil {
				t.Fatal(err)
			}
		}
		if a := s.advice("c"); a.Suggestion != "" || a.Evidence.Errors != 20 || a.CurrentMiB != 128 {
			t.Errorf("%+v", a)
		}
		if ds := s.sizeDecisions("c"); len(ds) != 0 {
			t.Errorf("decided %+v", ds)
		}
	})

	t.Run("D uses little", func(t *testing.T) {
		s.deploySized("d", 1024, map[string]string{"BALLAST": "1"})
		var workers sync.WaitGroup
		for range 4 {
			workers.Go(func() {
				for range 50 {
					if _, err := s.invoke("d", `{"mode":"wait","seconds":0.03}`); err != nil {
						t.Error(err)
					}
				}
			})
		}
		workers.Wait()
		a := s.advice("d")
		if a.Evidence.Runs != 200 || a.Suggestion != "shrink" || a.SuggestedMiB >= 768 || float64(a.SuggestedMiB) < a.Evidence.PeakMaxMiB || a.Evidence.PeakMaxMiB < 40 {
			t.Errorf("%+v", a)
		}
		t.Logf("of 1024 MiB %.0f were used; suggested are %d: %s", a.Evidence.PeakMaxMiB, a.SuggestedMiB, a.Why)
	})

	t.Run("one invocation asks for more, once", func(t *testing.T) {
		const eat = `{"mode":"eat","mib":300}`
		ask := func(mib string) (string, string, error) {
			out, err := s.client().Invoke(context.Background(), &lambda.InvokeInput{FunctionName: aws.String("control"), Payload: []byte(eat)},
				lambda.WithAPIOptions(smithyhttp.SetHeaderValue("X-Hearth-Memory", mib)))
			if err != nil {
				return "", "", err
			}
			return string(out.Payload), aws.ToString(out.FunctionError), nil
		}
		if got, failed, err := ask("500"); err != nil || failed != "" || !strings.Contains(got, `"512"`) {
			t.Errorf("%s %s %v", got, failed, err)
		}
		if n := s.failures("control", eat, 1); n != 1 {
			t.Error("the next has it, too")
		}
		for mib, want := range map[string]string{"9000": "8192 MiB is the most that this machine", "much": "is not a number of MiB"} {
			if _, _, err := ask(mib); err == nil || !strings.Contains(err.Error(), "InvalidParameterValueException") || !strings.Contains(err.Error(), want) {
				t.Errorf("one that asks for %s: %v", mib, err)
			}
		}
	})

	t.Run("what is killed from outside has not lacked memory", func(t *testing.T) {
		s.deploySized("killed", 256, nil)
		s.must("policy", "set", "killed", "sizing.mode=auto", "sizing.runs=1")
		for range 3 {
			ended := make(chan answer)
			go func() {
				a, err := s.invoke("killed", `{"mode":"wait","seconds":25}`)
				if err != nil {
					t.Error(err)
				}
				ended <- a
			}()
			kill(t, s.instanceOf("killed"))
			if a := <-ended; !strings.Contains(a.payload, "Runtime.ExitError") {
				t.Errorf("it ended with %s", a.payload)
			}
		}
		if a := s.advice("killed"); a.Evidence.Kills != 0 || a.Evidence.Crashes != 3 || a.Suggestion != "" || a.CurrentMiB != 256 {
			t.Errorf("%+v", a)
		}
	})

	t.Run("what is known outlives kill -9, and nothing grows beyond the machine", func(t *testing.T) {
		before := s.sizeDecisions("b")
		if len(before) < 2 || before[0].Chosen != "suggest" || before[1].Chosen != "apply" {
			t.Errorf("decided %+v", before)
		}
		s.kill9()
		again := startIn(t, s.dir, "--memory", "384", "--cpu-memory", "128", "--pool", "64")
		if a := again.advice("b"); a.Evidence.Kills < 4 || a.CurrentMiB != 384 || a.Evidence.TooLittle != 256 {
			t.Errorf("after the restart: %+v", a)
		}
		if n := again.failures("b", `{"mode":"eat","mib":300}`, 1); n != 0 {
			t.Error("after the restart it is killed again")
		}
		again.deploySized("e", 384, nil)
		again.must("policy", "set", "e", "sizing.mode=auto", "sizing.runs=2")
		if n := again.failures("e", `{"mode":"eat","mib":400}`, 3); n != 3 {
			t.Errorf("of 3 executions %d were killed", n)
		}
		await(t, patience, "it to be declined", func() bool {
			ds := again.sizeDecisions("e")
			return len(ds) == 1 && ds[0].Chosen == "decline" && strings.Contains(ds[0].Why, "machine")
		})
		if a := again.advice("e"); a.CurrentMiB != 384 || a.Suggestion != "grow" || a.SuggestedMiB != 0 {
			t.Errorf("%+v", a)
		}
	})
}

// checkShares verifies what comes with 1 GiB of 8 from the kernel's counters
// and from the other end of the wire.
func (s *server) checkShares(t *testing.T, world outside) {
	s.deploySized("a", 1024, nil)
	run := func(payload string) (stop func()) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			if a, err := s.invoke("a", payload); err != nil || a.functionError != "" {
				t.Errorf("%+v, %v", a, err)
			}
		}()
		return func() { <-done }
	}
	s.mustInvoke("a", `{}`) // the init has the whole processor

	stop := run(`{"mode":"burn","seconds":5}`)
	instance := s.instanceOf("a")
	from := readCPU(t, instance)
	if from.share != 0.5 {
		t.Errorf("the limit is %v processors", from.share)
	}
	to, half := from, time.Now().Add(1500*time.Millisecond)
	for time.Now().Before(half) { // while it burns, for the group goes with the container
		time.Sleep(50 * time.Millisecond)
		to = readCPU(t, instance)
	}
	stop()
	// In each period in which it was throttled it had all that it may have. In
	// others, which there are on a busy machine, it had less, but in none more.
	used := (to.used - from.used).Seconds()
	least := float64(to.throttled-from.throttled-1) * from.quota.Seconds() * 0.98
	most := float64(to.periods-from.periods+1) * from.quota.Seconds() * 1.02
	if used < least || used > most {
		t.Errorf("it used %.3f s, at least %.3f and at most %.3f are its share", used, least, most)
	}
	t.Logf("CPU: %.3f s used, %.3f to %.3f are its share; throttled in %d of %d periods", used, least, most, to.throttled-from.throttled, to.periods-from.periods)

	host, port, err := net.SplitHostPort(world.sink)
	if err != nil {
		t.Fatal(err)
	}
	const share = 125e6 / 8 // bytes a second
	const rounds = 3        // at most: a machine that does something else meanwhile decides one
	judge := func(mode string, measure func() float64) {
		for range rounds {
			rate := measure() / share
			t.Logf("%s: %.3f of its share", mode, rate)
			if rate <= 1.02 && rate >= 0.9 { // it may get less, for want of processors
				return
			}
		}
		t.Errorf("%s: in no round it had its share", mode)
	}
	// Who receives counts: what was sent may still be on its way.
	judge("up", func() float64 {
		stop := run(fmt.Sprintf(`{"mode":"up","seconds":5,"host":%q,"port":%s}`, host, port))
		defer stop()
		start := world.passed.Load()
		await(t, patience, "it to begin", func() bool { return world.passed.Load() > start+share }) // the burst is over
		sent, at := world.passed.Load(), time.Now()
		time.Sleep(3 * time.Second) // what is measured
		return float64(world.passed.Load()-sent) / time.Since(at).Seconds()
	})
	judge("down", func() float64 {
		var got struct{ Rate float64 }
		if err := json.Unmarshal([]byte(s.mustInvoke("a", fmt.Sprintf(`{"mode":"down","seconds":5,"host":%q,"port":%s}`, host, port)).payload), &got); err != nil {
			t.Fatal(err)
		}
		return got.Rate
	})
}
