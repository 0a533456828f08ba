package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/hearth-faas/hearth/control"
)

// hostile is a server with a tenant's hostile function, and a neighbour that
// must not notice.
type hostile struct {
	*server
	t    *testing.T
	stop chan struct{}
	done chan struct{}
	took []time.Duration // of the neighbour's invocations
}

func newHostile(t *testing.T, args ...string) *hostile {
	t.Helper()
	h := &hostile{server: start(t, args...), t: t, stop: make(chan struct{}), done: make(chan struct{})}
	h.server.deploy(function{name: "neighbour", runtime: "provided.al2023", handler: "bootstrap", zip: goZip(t, "echo"), memory: 512, timeout: 20})
	h.deploy("hostile")
	h.mustInvoke("neighbour", `{}`)
	c := h.client()
	go func() {
		defer close(h.done)
		for i := 0; ; i++ {
			select {
			case <-h.stop:
				if len(h.took) >= 10 {
					return
				}
			case <-time.After(20 * time.Millisecond):
			}
			want := fmt.Sprintf(`{"n":%d}`, i)
			began := time.Now()
			out, err := c.Invoke(context.Background(), &lambda.InvokeInput{FunctionName: ptr("neighbour"), Payload: []byte(want)})
			if err != nil || out.FunctionError != nil || !sameJSON(string(out.Payload), want) {
				t.Errorf("the neighbour, asked %s: %+v, %v", want, out, err)
				return
			}
			h.took = append(h.took, time.Since(began))
		}
	}()
	t.Cleanup(func() {
		close(h.stop)
		<-h.done
		worst := quantile(h.took, 1)
		t.Logf("the neighbour answered %d times: p50 %v, p99 %v, worst %v", len(h.took), quantile(h.took, 0.5), quantile(h.took, 0.99), worst)
		if quantile(h.took, 0.5) > 2*time.Second || worst > 20*time.Second {
			t.Error("that is not how a neighbour should be")
		}
	})
	return h
}

// deploy makes a hostile function.
func (h *hostile) deploy(name string) {
	h.t.Helper()
	code, err := os.ReadFile("testdata/hostile/hostile.py")
	if err != nil {
		h.t.Fatal(err)
	}
	h.server.deploy(function{name: name, runtime: "python3.11", handler: "hostile.handler", memory: 1769, timeout: 60, files: map[string]string{"hostile.py": string(code)}})
}

// does has the function try something and returns the results.
func (h *hostile) does(what string, more map[string]any) map[string]any {
	h.t.Helper()
	a := h.mustInvoke("hostile", event(what, more))
	var r map[string]any
	if err := json.Unmarshal([]byte(a.payload), &r); err != nil {
		h.t.Fatalf("%s: %v in %s", what, err, a.payload)
	}
	return r
}

func event(what string, more map[string]any) string {
	e := map[string]any{"do": what}
	maps.Copy(e, more)
	b, _ := json.Marshal(e) // of texts and numbers
	return string(b)
}

// expect demands that each attempt came to one of the results that are right,
// separated by "|", or to one that begins with it.
func expect(t *testing.T, got map[string]any, rules map[string]string) {
	t.Helper()
	for _, attempt := range slices.Sorted(maps.Keys(rules)) {
		result, tried := got[attempt]
		ok := slices.ContainsFunc(strings.Split(rules[attempt], "|"), func(right string) bool {
			return strings.HasPrefix(fmt.Sprint(result), right)
		})
		if !tried || !ok {
			t.Errorf("%s: %v, not %s", attempt, result, rules[attempt])
		}
	}
}

func TestHostileCodeSeesNothingOfTheHost(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	rules := map[string]string{}
	var paths []string
	for _, path := range []string{
		h.dir, filepath.Join(h.dir, "credentials.json"), filepath.Join(h.dir, "hearth.db"), filepath.Join(h.dir, "code"), secret, hearthBinary,
		"/root/.bashrc", "/root/.ssh", "/home", "/etc/shadow", "/etc/ssh", "/boot", "/sys/kernel", "/sys/fs/cgroup", "/var/lib", "/var/log", "/run/docker.sock",
		"/dev/mem", "/dev/kvm", "/dev/net/tun", "/dev/vda", "/dev/fuse", "/proc/1/root/etc/passwd", "/proc/1/environ", "/proc/1/mem",
	} {
		paths = append(paths, path)
		rules["read "+path] = "ENOENT|EACCES"
	}
	for _, path := range []string{"/proc/kcore", "/proc/keys", "/proc/kallsyms", "/proc/timer_list"} {
		paths = append(paths, path)
		rules["read "+path] = "0|ENOENT|EACCES"
	}
	// Our own process, the server's, and one of the neighbour's.
	pids := []int{os.Getpid(), h.cmd.Process.Pid}
	for _, in := range h.ps().Instances {
		for _, c := range in.Containers {
			if c.Function == "neighbour" {
				pids = append(pids, processesIn(in.ID)...)
			}
		}
	}
	for _, pid := range pids {
		rules[fmt.Sprintf("signal %d", pid)], rules[fmt.Sprintf("look at %d", pid)] = "ESRCH", "ENOENT"
	}
	if len(pids) < 4 {
		t.Errorf("no processes of the neighbour were found: %v", pids)
	}
	r := h.does("look", map[string]any{"paths": paths, "pids": pids, "secrets": []string{h.get("AWS_SECRET_ACCESS_KEY"), h.get("AWS_ACCESS_KEY_ID")}})
	expect(t, r, rules)
	expect(t, r, map[string]string{"secrets": "[]"})
	if ps := r["processes"].([]any); len(ps) > 3 {
		t.Errorf("it sees the processes %v", ps)
	}
	for _, device := range r["devices"].([]any) {
		if !slices.Contains([]string{"null", "zero", "full", "random", "urandom", "shm", "fd", "stdin", "stdout", "stderr"}, device.(string)) {
			t.Errorf("it has the device %s", device)
		}
	}
	for _, d := range r["descriptors"].([]any) {
		if !slices.Contains([]string{"/dev/null", "pipe:", "socket:", "anon_inode:", "/dev/urandom"}, d.(string)) && !strings.HasPrefix(d.(string), "/proc/") {
			t.Errorf("it has a descriptor of %s", d)
		}
	}
	status := r["status"].(map[string]any)
	for k, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0000000000000000", "CapPrm": "0000000000000000", "Groups": ""} {
		if status[k] != want {
			t.Errorf("%s is %v", k, status[k])
		}
	}
	if strings.HasPrefix(status["Uid"].(string), "0") {
		t.Errorf("its user is %v", status["Uid"])
	}
}

func TestHostileCodeGainsNoPrivilegesAndWritesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	r := h.does("privileges", nil)
	if id := fmt.Sprint(r["id"]); id == "0" || id == "" {
		t.Errorf("a set-user-id program runs as %q", id)
	}
	delete(r, "id")
	for attempt, result := range r {
		want := "EPERM|EINVAL|ENOSYS|EAFNOSUPPORT"
		if expect(t, map[string]any{attempt: result}, map[string]string{attempt: want}); result == "ok" {
			t.Errorf("%s succeeded", attempt)
		}
	}
	if len(r) < 20 {
		t.Errorf("only %d attempts", len(r))
	}
	rules := map[string]string{"write /tmp": "ok", "write /dev/shm": "ok"}
	dirs := []string{"/tmp", "/dev/shm"}
	for _, dir := range []string{"/", "/var/task", "/opt", "/var/runtime", "/usr", "/usr/bin", "/etc", "/var", "/dev", "/run", "/proc", "/proc/sys/kernel", "/home", "/root", h.dir} {
		dirs = append(dirs, dir)
		rules["write "+dir] = "EROFS|EACCES|ENOENT|EPERM"
	}
	expect(t, h.does("write", map[string]any{"dirs": dirs}), rules)
}

func TestHostileCodeReachesTheOutsideAndTheAPIAndNothingElse(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	world := newOutside(t)
	// A service of this machine, on all of its addresses.
	own, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	var visitors atomic.Int64
	go func() {
		for {
			c, err := own.Accept()
			if err != nil {
				return
			}
			visitors.Add(1)
			c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(own.Addr().String())
	_, api, _ := net.SplitHostPort(strings.TrimPrefix(h.endpoint, "http://"))
	const no = "ECONNREFUSED|ENETUNREACH|EHOSTUNREACH|EACCES|ECONNRESET"
	rules := map[string]string{"dial " + world.greeter: "ok " + greeting}
	for _, address := range []string{
		"127.0.0.1:" + api, "127.0.0.1:" + port, "127.0.0.2:" + port, "0.0.0.0:" + port, world.here + ":" + port, world.here + ":" + api,
		"169.254.169.254:80", "169.254.170.2:80", "100.64.0.1:" + port, "100.64.0.1:" + api, "100.64.0.1:22", "100.64.0.3:9001",
		"255.255.255.255:80", "224.0.0.1:80", "240.0.0.1:80",
	} {
		rules["dial "+address] = no
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if ip := a.(*net.IPNet).IP; ip.To4() != nil {
			rules["dial "+net.JoinHostPort(ip.String(), port)] = no
		}
	}
	var addresses []string
	for rule := range rules {
		addresses = append(addresses, strings.TrimPrefix(rule, "dial "))
	}
	expect(t, h.does("dial", map[string]any{"addresses": addresses}), rules)
	if n := visitors.Load(); n > 0 {
		t.Errorf("a service of this machine was reached %d times", n)
	}

	r := h.does("api", nil)
	expect(t, r, map[string]string{
		"list functions": "200", "list without the token": "403", "unsigned": "403", "metrics": "403|404",
		"/_hearth/v1/ps": "403|404", "/_hearth/v1/decisions": "403|404", "/_hearth/v1/logs?function=neighbour": "403|404",
	})
	if !strings.Contains(fmt.Sprint(r["list functions"]), "neighbour") {
		t.Errorf("the API inside lists %v", r["list functions"])
	}
	// Credentials that got out of a sandbox open Hearth's own API no more
	// from outside.
	taken := r["credentials"].(map[string]any)
	c := &control.Client{Endpoint: h.endpoint, Region: h.get("AWS_REGION"), HTTP: http.DefaultClient, Credentials: aws.CredentialsProviderFunc(
		func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: taken["AWS_ACCESS_KEY_ID"].(string), SecretAccessKey: taken["AWS_SECRET_ACCESS_KEY"].(string), SessionToken: taken["AWS_SESSION_TOKEN"].(string)}, nil
		})}
	var failure *control.Failure
	if _, err := c.PS(context.Background()); !errors.As(err, &failure) || failure.Kind != "AccessDeniedException" {
		t.Errorf("a function's credentials, used from outside: %v", err)
	}
}

// Not beside other tests: some of them measure.
func TestHostileCodeExhaustsOnlyWhatIsItsOwn(t *testing.T) {
	h := newHostile(t, "--logs", "2")
	folder := diskOf(t, h.dir)

	expect(t, h.does("forks", nil), map[string]string{"end": "EAGAIN"})
	expect(t, h.does("threads", nil), map[string]string{"end": "refused"})
	if r := h.does("descriptors", nil); r["end"] != "EMFILE" || r["descriptors"].(float64) > 1024 {
		t.Errorf("descriptors: %v", r)
	}
	if r := h.does("connections", nil); r["connections"].(float64) > 600 {
		t.Errorf("connections: %v", r)
	}
	if r := h.does("fill", nil); r["/tmp"] != "ENOSPC" || r["/tmp MiB"].(float64) > 512 || r["/dev/shm"] != "ENOSPC" || r["/dev/shm MiB"].(float64) > 64 {
		t.Errorf("fill: %v", r)
	}
	h.does("flood", map[string]any{"MiB": 32})
	for _, what := range []string{"inodes", "memory"} {
		a, err := h.invoke("hostile", event(what, nil))
		if err != nil || what == "memory" && !strings.Contains(a.payload, "Runtime.OutOfMemory") {
			t.Errorf("%s: %s, %v", what, a.payload, err)
		}
		t.Logf("%s: %.200s", what, a.payload)
		h.does("nothing", nil) // and it goes on
	}
	// Requests to the API that stop just before their end are held in the
	// server's own memory: 20 of the largest would be 1.1 GiB.
	worst := 0.0
	held := make(chan map[string]any, 1)
	go func() {
		held <- h.does("bodies", map[string]any{"path": "/2015-03-31/functions", "size": 60_000_000, "connections": 20, "seconds": 3})
	}()
	for r := map[string]any(nil); r == nil; {
		select {
		case r = <-held:
			t.Logf("bodies: %v; the server's RSS was at most %.0f MiB", r, worst)
		case <-time.After(50 * time.Millisecond):
			worst = max(worst, h.vitals(t).rss)
		}
	}
	if worst > 512 {
		t.Errorf("one function made the server hold %.0f MiB", worst)
	}
	// Several bombs at once, so that the processors are wanted by all.
	var at sync.WaitGroup
	for i := range 4 {
		name := fmt.Sprintf("hostile%d", i)
		h.deploy(name)
		at.Go(func() {
			if _, err := h.invoke(name, event("bomb", map[string]any{"seconds": 3})); err != nil {
				t.Error(err)
			}
		})
	}
	at.Wait()
	if now := diskOf(t, h.dir); now > folder+12 {
		t.Errorf("the data folder grew from %.1f to %.1f MiB", folder, now)
	}
	for _, in := range h.ps().Instances {
		for _, c := range in.Containers {
			if c.UsedMiB > float64(c.LimitMiB) && c.LimitMiB > 0 {
				t.Errorf("%s uses %.0f MiB of %d", c.ID, c.UsedMiB, c.LimitMiB)
			}
		}
	}
}

func TestHostileCodeLeavesNothingBehindAndHarmsOnlyItself(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	r := h.does("runtime_api", nil)
	for attempt, result := range r {
		if text := strings.TrimPrefix(fmt.Sprint(result), "HTTP/1.1 "); !strings.HasPrefix(text, "4") && text != "ECONNRESET" {
			t.Errorf("%s: %q", attempt, text)
		}
	}
	h.does("nothing", nil)
	// Whatever it makes of this, it answers somehow, and the next one is well.
	a, err := h.invoke("hostile", event("descriptors_abuse", nil))
	if err != nil {
		t.Errorf("garbage on every descriptor: %v", err)
	}
	t.Logf("garbage on every descriptor: %s %.200s", a.functionError, a.payload)
	h.does("nothing", nil)

	const name = "e2e-daemon"
	h.does("daemon", map[string]any{"name": name})
	if len(processesNamed(name)) == 0 {
		t.Error("the process that it left is not to be found")
	}
	if r := h.does("nothing", nil); r["left"] != true {
		t.Errorf("the same environment has not what it left: %v", r)
	}
	if _, err := h.client().DeleteFunction(context.Background(), &lambda.DeleteFunctionInput{FunctionName: ptr("hostile")}); err != nil {
		t.Fatal(err)
	}
	await(t, patience, "the processes of a deleted function to end", func() bool { return len(processesNamed(name)) == 0 })
	h.deploy("hostile")
	if r := h.does("nothing", nil); r["left"] != false {
		t.Errorf("another function has what the deleted one left: %v", r)
	}
}

// diskOf is the size of a folder in MiB.
func diskOf(t testing.TB, dir string) float64 {
	t.Helper()
	mib, _, err := folderSize(dir)
	if err != nil {
		t.Fatal(err)
	}
	return mib
}
