package namespace

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/sandbox"
)

// neighbour is a container of another account that must not notice what goes
// on beside it.
type neighbour struct {
	*box
	stop chan struct{}
	done chan struct{}
}

// newNeighbour makes one that is asked for an echo again and again until the
// test ends.
func newNeighbour(t *testing.T, d *Driver) *neighbour {
	t.Helper()
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{
		Mounts: []sandbox.Mount{{Host: probeDir, Guest: "/probe"}},
		Boot:   &sandbox.Process{Argv: []string{"/probe/probe", "echo"}},
	})
	n := &neighbour{b, make(chan struct{}), make(chan struct{})}
	go func() {
		defer close(n.done)
		for {
			if err := n.echo(); err != nil {
				t.Errorf("the neighbour does not answer: %v", err)
				return
			}
			select {
			case <-n.stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { close(n.stop); <-n.done })
	return n
}

func (n *neighbour) echo() error {
	if err := n.Control().SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := n.Control().Write([]byte("x")); err != nil {
		return err
	}
	_, err := n.Control().Read(make([]byte, 1))
	return err
}

// probe runs the probe in a new container of an instance and returns the
// lines of its output.
func probe(t *testing.T, in sandbox.Instance, limits sandbox.Limits, args ...string) []string {
	t.Helper()
	limits.TmpBytes = usualTmp // as functions have
	b := newBox(t, in, sandbox.ContainerSpec{
		Mounts: []sandbox.Mount{{Host: probeDir, Guest: "/probe"}}, Limits: limits,
	})
	b.start(append([]string{"/probe/probe"}, args...)...)
	exit, out := b.wait()
	if exit.Code != 0 {
		t.Errorf("the probe %v: %+v\n%s", args, exit, out)
	}
	return strings.Split(strings.TrimSpace(out), "\n")
}

// expect checks lines of the form "attempt result". Every line needs a rule:
// the results that are right, separated by "|".
func expect(t *testing.T, lines []string, rules map[string]string) {
	t.Helper()
	for _, line := range lines {
		i := strings.LastIndexByte(line, ' ')
		attempt, result := line[:max(i, 0)], line[i+1:]
		if right, ok := rules[attempt]; !ok || !slices.Contains(strings.Split(right, "|"), result) {
			t.Errorf("%s: %s, not %s", attempt, result, right)
		}
		delete(rules, attempt)
	}
	for attempt := range rules {
		t.Errorf("%s was not tried", attempt)
	}
}

func TestEscapeFilesOfTheHostAreNotThere(t *testing.T) {
	d := newDriver(t, nil)
	secret := codeDir(t, map[string]string{"secret": "x"})
	paths := map[string]string{}
	var args []string
	for _, path := range []string{
		"/etc/shadow", "/etc/sudoers", "/etc/ssl/private", "/root", "/home", "/srv", "/mnt", "/sys/kernel", "/boot",
		"/.dockerenv", "/run/systemd", "/var/lib", "/var/log", "/dev/mem", "/dev/kvm", "/dev/net/tun", "/dev/vda",
		"/dev/sda", "/dev/tty", "/dev/ptmx", "/dev/fuse", d.cfg.DataDir, d.cfg.DataDir + "/sandbox/stage",
		filepath.Join(secret, "secret"), programPath, "/old_root", "/stage", "/rw/etc/passwd", "/mask",
	} {
		args, paths["read "+path] = append(args, path), "ENOENT"
	}
	for _, path := range []string{"/proc/kcore", "/proc/keys", "/proc/kallsyms", "/proc/cmdline", "/proc/timer_list", "/proc/interrupts"} {
		args, paths["read "+path] = append(args, path), "EOF|ENOENT"
	}
	paths["read /usr/local"], paths["read /var/.layers/0"] = "EISDIR", "EISDIR" // there, and empty
	args = append(args, "/usr/local", "/var/.layers/0")
	expect(t, probe(t, newInstance(t, d), sandbox.Limits{}, append([]string{"read"}, args...)...), paths)
}

func TestEscapeOnlyTmpCanBeWritten(t *testing.T) {
	d := newDriver(t, nil)
	rules := map[string]string{
		"write /tmp": "ok", "chmod /tmp": "EPERM", // not its owner
		"write /dev/shm": "ok", "chmod /dev/shm": "EPERM",
		"write /proc/sys/kernel/core_pattern": "EROFS|EACCES",
		"write /proc/sys/net/ipv4/ip_forward": "EROFS|EACCES",
		"write /proc/self/oom_score_adj":      "EACCES",
	}
	if !d.root {
		rules["chmod /tmp"], rules["chmod /dev/shm"] = "ok", "ok" // init has the same id
	}
	args := []string{"write", "/tmp", "/dev/shm"}
	for _, dir := range []string{
		"/", "/usr", "/usr/bin", "/usr/local", "/etc", "/etc/ssl/certs", "/dev", "/run", "/opt", "/var", "/var/task", "/var/runtime", "/probe",
	} {
		args = append(args, dir)
		rules["write "+dir], rules["chmod "+dir] = "EROFS", "EROFS"
	}
	rules["write /proc"], rules["chmod /proc"] = "ENOENT|EACCES", "EPERM"
	args = append(args, "/proc")
	expect(t, probe(t, newInstance(t, d), sandbox.Limits{}, args...), rules)
}

func TestEscapeSystemCallsAreRefused(t *testing.T) {
	d := newDriver(t, nil)
	newNeighbour(t, d)
	rules := map[string]string{
		"clone3": "ENOSYS", "io_uring_setup": "ENOSYS", "beyond the list": "ENOSYS",
		"setgroups":  "EPERM",
		"socket raw": "EPERM", "socket raw six": "EPERM", "socket netfilter": "EPERM",
		"socket packet": "EAFNOSUPPORT", "socket vsock": "EAFNOSUPPORT", "socket alg": "EAFNOSUPPORT",
		"socket route": "ok", "socket unix": "ok", "socket tcp": "ok", "socket udp six": "ok",
		"setuid 0": "EPERM|EINVAL", "setgid 0": "EPERM|EINVAL", // EINVAL: there is no such id
	}
	for _, call := range []string{
		"mount", "mount with a guess", "umount2", "move_mount", "open_tree", "fsopen", "mount_setattr", "pivot_root",
		"chroot", "unshare user", "unshare mount", "clone user", "setns", "ptrace", "process_vm_readv", "pidfd_getfd",
		"keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd", "kexec_load", "init_module",
		"reboot", "swapon", "acct", "syslog", "quotactl", "open_by_handle_at", "name_to_handle_at", "personality",
		"sethostname", "settimeofday", "memfd_secret", "ioctl TIOCSTI", "prlimit of init", "mknod memory", "mknod disk",
		"raising open files",
	} {
		rules[call] = "EPERM"
	}
	expect(t, probe(t, newInstance(t, d), sandbox.Limits{}, "calls"), rules)
}

func TestEscapeOtherProcessesAreOutOfReach(t *testing.T) {
	d := newDriver(t, nil)
	n := newNeighbour(t, d)
	in := newInstance(t, d)
	// A sibling has the same ids as the probe, a neighbour others.
	sibling := newBox(t, in, sandbox.ContainerSpec{})
	sibling.start("/bin/sleep", "1000")
	pids := []string{fmt.Sprint(os.Getpid()), fmt.Sprint(n.Container.(*container).initPID)}
	for _, pid := range children(sibling.Container.(*container).initPID) {
		pids = append(pids, fmt.Sprint(pid))
	}
	rules := map[string]string{
		"list processes": "ok", "read own status": "ok", "list files": "ok",
		"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000",
		"CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
		"Uid 993 993 993": "993", "Gid 990 990 990": "990",
	}
	for _, pid := range append(pids, "1") {
		for _, file := range []string{"mem", "environ", "maps", "root/etc/passwd", "fd/0"} {
			rules["read /proc/"+pid+"/"+file] = "ENOENT"
		}
		if pid != "1" {
			rules["signal "+pid] = "ESRCH"
		}
	}
	expect(t, probe(t, in, sandbox.Limits{}, append([]string{"others"}, pids...)...), rules)
	select {
	case <-sibling.Exited():
		t.Error("the sibling was ended")
	default:
	}
}

func TestEscapeNetworkOfTheHostIsOutOfReach(t *testing.T) {
	d := newDriver(t, nil)
	host, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	abstract, err := net.Listen("unix", fmt.Sprintf("@hearth-escape-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	rules := map[string]string{
		"connect " + host.Addr().String():     "ECONNREFUSED",
		"connect " + abstract.Addr().String(): "ECONNREFUSED",
		"connect 169.254.169.254:80":          "ENETUNREACH",
		"connect 10.0.0.1:80":                 "ENETUNREACH",
		"listen on the runtime API's address": "EADDRINUSE",
	}
	expect(t, probe(t, newInstance(t, d), sandbox.Limits{}, "connect",
		host.Addr().String(), abstract.Addr().String(), "169.254.169.254:80", "10.0.0.1:80"), rules)
}

func TestEscapeSetUserIDProgramsGainNothing(t *testing.T) {
	d := newDriver(t, nil)
	content, err := os.ReadFile(filepath.Join(probeDir, "probe"))
	if err != nil {
		t.Fatal(err)
	}
	task := codeDir(t, nil)
	program := filepath.Join(task, "su")
	if err := os.WriteFile(program, content, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(program, 0o755|os.ModeSetuid|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{})
	if err := b.Attach(t.Context(), sandbox.Attachment{Task: task}); err != nil {
		t.Fatal(err)
	}
	b.start("/var/task/su", "who")
	if _, out := b.wait(); out != "effective user 993\n" {
		t.Errorf("a set-user-id program: %q", out)
	}
}

func TestEscapeExhaustionEndsAtTheLimits(t *testing.T) {
	d := newDriver(t, nil)
	newNeighbour(t, d)
	in := newInstance(t, d)
	// A sibling has the same user id: what one takes the other must have.
	sibling := newBox(t, in, sandbox.ContainerSpec{Limits: sandbox.Limits{Processes: 100}})
	limits := sandbox.Limits{Processes: 100, OpenFiles: 512, MemoryBytes: 256 << 20}
	expect(t, probe(t, in, limits, "exhaust"), map[string]string{
		"files": "true", "one more file": "EMFILE", "processes": "true", "one more process": "EAGAIN",
	})
	sibling.start("/bin/sh", "-c", "/bin/true; echo fine")
	if _, out := sibling.wait(); out != "fine\n" {
		t.Errorf("the sibling: %q", out)
	}
}

func TestEscapeOneAccountCannotUseUpAnothersShare(t *testing.T) {
	d := newDriver(t, nil)
	if !d.root {
		return // there is but one user to count for, as the report says
	}
	hog := newBox(t, newInstance(t, d), sandbox.ContainerSpec{
		Mounts: []sandbox.Mount{{Host: probeDir, Guest: "/probe"}},
		Boot:   &sandbox.Process{Argv: []string{"/probe/probe", "hog"}},
	})
	var told [64]byte
	n, err := hog.Control().Read(told[:])
	if err != nil || string(told[:n]) != "EMFILE" {
		t.Fatalf("taking all inotify instances ended with %q, %v", told[:n], err)
	}
	expect(t, probe(t, newInstance(t, d), sandbox.Limits{}, "watch"), map[string]string{"inotify": "ok"})
}

func TestEscapeBombsAreContained(t *testing.T) {
	d := newDriver(t, nil)
	newNeighbour(t, d)
	limits := sandbox.Limits{Processes: 64, MemoryBytes: 64 << 20, CPUs: 0.5, TmpBytes: 512 << 20}
	for _, bomb := range []struct {
		name, script string
		needs        string // a controller without which it just goes on
		ends         bool   // by itself
	}{
		{"fork", "bomb() { bomb | bomb & }; bomb; sleep 1000", "", false},
		{"memory", "exec /probe/probe memory", "", true},
		{"memory in files", "cat /dev/zero > /tmp/a & cat /dev/zero > /dev/shm/b; cat /tmp/* >/dev/null; exec /probe/probe memory", "", true},
		{"fork and memory", "while :; do /probe/probe memory & done", "", false},
	} {
		b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{
			Mounts: []sandbox.Mount{{Host: probeDir, Guest: "/probe"}}, Limits: limits,
		})
		b.start("/bin/sh", "-c", "exec 2>/dev/null; "+bomb.script)
		patience := 300 * time.Millisecond
		if bomb.ends {
			patience = 2 * time.Minute
		}
		select {
		case <-b.Exited():
		case <-time.After(patience):
			if bomb.ends {
				t.Errorf("the %s bomb goes on", bomb.name)
			}
		}
		start := time.Now()
		if err := b.Destroy(); err != nil {
			t.Errorf("the %s bomb: %v", bomb.name, err)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("destroying the %s bomb took %v", bomb.name, took)
		}
	}
}

func TestEscapeNothingIsLeftForTheNextAccount(t *testing.T) {
	d := newDriver(t, nil)
	in := newInstance(t, d)
	mounts := []sandbox.Mount{{Host: probeDir, Guest: "/probe"}}
	b := newBox(t, in, sandbox.ContainerSpec{Mounts: mounts, Limits: sandbox.Limits{TmpBytes: usualTmp}})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b.Container.(*container).output = w
	b.start("/probe/probe", "leave")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	told := ""
	for buf := make([]byte, 512); !strings.HasSuffix(told, "left\n"); {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		told += string(buf[:n])
	}
	if strings.Count(told, " ok\n") != 4 {
		t.Errorf("leaving traces: %s", told)
	}
	nothing := func() map[string]string {
		return map[string]string{
			"read /tmp/secret": "ENOENT", "read /dev/shm/secret": "ENOENT", "find shared memory": "ENOENT",
			"find socket": "ECONNREFUSED", "list /tmp": "ok",
		}
	}
	// Beside it, in the same instance; and after it, with the same ids.
	expect(t, probe(t, in, sandbox.Limits{}, "seek"), nothing())
	uid := in.(*instance).uid
	if err := in.Destroy(); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.nextUID = uidEnd // as if all others were in use
	d.mu.Unlock()
	next := newInstance(t, d)
	if d.root && next.(*instance).uid != uid {
		t.Fatalf("the ids were not used again: %d, not %d", next.(*instance).uid, uid)
	}
	expect(t, probe(t, next, sandbox.Limits{}, "seek"), nothing())
	if d.root {
		if _, err := d.NewInstance(t.Context(), "one-too-many"); err == nil {
			t.Error("two instances have the same ids")
		}
	}
}
