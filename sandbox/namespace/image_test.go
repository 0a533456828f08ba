package namespace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/sandbox/namespace/inside"
)

// imageRoot is an image of two layers, of which the upper deletes and hides
// files of the lower, and whose only program is the probe.
func imageRoot(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(probeDir, "probe"))
	if err != nil {
		t.Fatal(err)
	}
	lower := codeDir(t, map[string]string{
		"app/probe": string(content), "app/secret": "lower", "app/deleted": "lower", "hidden/lower": "x",
		"etc/hosts": "203.0.113.1 api\n", "tmp/below": "x", "proc/below": "x", "usr/bin/of-the-image": "x",
	})
	upper := codeDir(t, map[string]string{"app/secret": "upper", "hidden/upper": "x"})
	for _, layer := range []string{lower, upper} {
		if err := os.Chmod(layer, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(lower, "app/probe"), 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(upper, "app/deleted"), unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(filepath.Join(upper, "hidden"), "user.overlay.opaque", []byte("y"), 0); err != nil {
		t.Fatal(err)
	}
	return []string{lower, upper}
}

// probeImage runs the probe in a new container whose root is an image.
func probeImage(t *testing.T, d *Driver, in sandbox.Instance, root []string, args ...string) []string {
	t.Helper()
	b := newBox(t, in, sandbox.ContainerSpec{
		Mounts: []sandbox.Mount{{Host: probeDir, Guest: "/probe"}}, Limits: sandbox.Limits{TmpBytes: usualTmp},
	})
	if err := b.Attach(t.Context(), sandbox.Attachment{Root: root}); err != nil {
		t.Fatal(err)
	}
	err := b.Start(t.Context(), sandbox.Process{Argv: append([]string{"probe"}, args...), Env: []string{"PATH=/usr/bin:/app"}, Dir: "/app"})
	if err != nil {
		t.Fatal(err)
	}
	exit, out := b.wait()
	if exit.Code != 0 {
		t.Errorf("the probe %v: %+v\n%s", args, exit, out)
	}
	return strings.Split(strings.TrimSpace(out), "\n")
}

func TestAnImageIsTheRootAndTheBaseIsGone(t *testing.T) {
	d := newDriver(t, nil)
	root := imageRoot(t)
	rules := map[string]string{
		"read /app/secret": "upper", "read /app/deleted": "ENOENT", "read /hidden/upper": "x", "read /hidden/lower": "ENOENT",
		"read /tmp/below": "ENOENT", "read /proc/below": "ENOENT", "read /usr/bin/of-the-image": "x",
	}
	var args []string
	for _, gone := range []string{
		"/bin/sh", "/usr/bin/env", "/etc/passwd", "/probe/probe", "/var/.image", "/var/.layers/0", "/var/task", "/sys",
		root[0], d.cfg.DataDir, d.cfg.DataDir + "/sandbox/stage", "/stage", "/old_root", "/dev/mem", "/dev/kvm", "/dev/sda", "/root",
	} {
		rules["read "+gone] = "ENOENT"
	}
	for _, path := range []string{"/proc/kcore", "/proc/keys", "/proc/kallsyms", "/proc/cmdline"} {
		rules["read "+path] = "EOF|ENOENT"
	}
	for rule := range rules {
		args = append(args, strings.TrimPrefix(rule, "read "))
	}
	slices.Sort(args)
	lines := probeImage(t, d, newInstance(t, d), root, append([]string{"read"}, args...)...)
	// What can be read is told by its length: any will do.
	for i, line := range lines {
		for rule, want := range rules {
			if strings.HasPrefix(line, rule+" ") && (want == "upper" || want == "x") {
				if strings.Contains(line, "ENOENT") {
					t.Errorf("%s: not there", rule)
				}
				lines[i] = rule + " " + want
			}
		}
	}
	expect(t, lines, rules)
}

func TestAnImageHasTheDriversFilesOfTheNetwork(t *testing.T) {
	d := newDriver(t, nil)
	root := imageRoot(t)
	content, err := os.ReadFile(filepath.Join(skeletonDir(d.cfg.DataDir), "etc/hosts"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(content), "127.0.0.1 localhost sandbox sandbox.localdomain\n") {
		t.Errorf("hosts: %q", content)
	}
	// A shell of the host's stands for one in the image.
	lines := probeImage(t, d, newInstance(t, d), root, "read", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname")
	for _, line := range lines {
		if strings.Contains(line, "ENOENT") {
			t.Error(line)
		}
	}
}

func TestEscapeInAnImageTheSameIsRefused(t *testing.T) {
	d := newDriver(t, nil)
	root := imageRoot(t)
	in := newInstance(t, d)
	var refused, odd []string
	for _, line := range probeImage(t, d, in, root, "calls") {
		attempt, result := line[:strings.LastIndexByte(line, ' ')], line[strings.LastIndexByte(line, ' ')+1:]
		switch {
		case slices.Contains([]string{"socket route", "socket unix", "socket tcp", "socket udp six"}, attempt):
			if result != "ok" {
				odd = append(odd, line)
			}
		case result == "ok":
			odd = append(odd, line)
		default:
			refused = append(refused, attempt)
		}
	}
	if len(odd) > 0 || len(refused) < 40 {
		t.Errorf("%d are refused, and not right are %q", len(refused), odd)
	}
	rules := map[string]string{"write /tmp": "ok", "write /dev/shm": "ok"}
	for _, dir := range []string{"/", "/app", "/etc", "/dev", "/usr/bin"} {
		rules["write "+dir], rules["chmod "+dir] = "EROFS", "EROFS"
	}
	lines := probeImage(t, d, in, root, "write", "/", "/app", "/etc", "/dev", "/usr/bin", "/tmp", "/dev/shm")
	lines = slices.DeleteFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, "chmod /tmp") || strings.HasPrefix(l, "chmod /dev/shm") || strings.HasPrefix(l, "write /proc")
	})
	expect(t, lines, rules)
	if out := probeImage(t, d, in, root, "who"); out[0] != "effective user 993" {
		t.Errorf("a set-user-id program of the image: %q", out)
	}
	others := strings.Join(probeImage(t, d, in, root, "others", fmt.Sprint(os.Getpid())), "\n")
	for _, want := range []string{
		"CapEff 0000000000000000", "CapPrm 0000000000000000", "NoNewPrivs 1", "Seccomp 2",
		"read /proc/1/mem ENOENT", "read /proc/1/root/etc/passwd ENOENT", fmt.Sprintf("signal %d ESRCH", os.Getpid()),
	} {
		if !strings.Contains(others, want) {
			t.Errorf("there is no %q in\n%s", want, others)
		}
	}
}

func TestStartTellsAMissingDirectoryFromAMissingProgram(t *testing.T) {
	d := newDriver(t, nil)
	root := imageRoot(t)
	in := newInstance(t, d)
	for _, c := range []struct {
		argv, dir string
		want      error
	}{
		{"/app/probe", "/nowhere", sandbox.ErrWorkingDir}, {"/app/probe", "/app/secret", sandbox.ErrWorkingDir},
		{"/app/nothing", "/", syscall.ENOENT}, {"nothing", "/", syscall.ENOENT},
		{"/app/secret", "/", syscall.EACCES}, {"secret", "/", syscall.EACCES}, {"./probe", "/app", nil}, {"probe", "/", nil},
	} {
		b := newBox(t, in, sandbox.ContainerSpec{})
		if err := b.Attach(t.Context(), sandbox.Attachment{Root: root}); err != nil {
			t.Fatal(err)
		}
		err := b.Start(t.Context(), sandbox.Process{Argv: []string{c.argv, "who"}, Env: []string{"PATH=/none:/app"}, Dir: c.dir})
		if !errors.Is(err, c.want) {
			t.Errorf("%s in %s: %v, not %v", c.argv, c.dir, err, c.want)
		}
		if err := b.Destroy(); err != nil {
			t.Error(err)
		}
	}
}

func TestManyLayersAreMergedAlsoByOlderKernelsMeans(t *testing.T) {
	var layers []string
	for i := range 127 {
		layer := codeDir(t, map[string]string{fmt.Sprintf("f%d", i): "x", "all": fmt.Sprint(i)})
		layers = append(layers, layer)
	}
	d := newDriver(t, nil)
	look := func(fd int) {
		defer syscall.Close(fd)
		dir := fmt.Sprintf("/proc/self/fd/%d/", fd)
		if got, err := os.ReadFile(dir + "all"); err != nil || string(got) != "126" {
			t.Errorf("the highest does not win: %q, %v", got, err)
		}
		if names, err := os.ReadDir(dir); err != nil || len(names) != 128 {
			t.Errorf("of 128 files there are %d, %v", len(names), err)
		}
	}
	fd, err := d.spawn.overlay(t.Context(), layers)
	if err != nil {
		t.Fatal(err)
	}
	if d.root { // the mount of an ordinary user's spawner is for containers only
		look(fd)
		if err := inside.OverlayByName(layers, t.TempDir(), look); err != nil {
			t.Fatal(err)
		}
		return
	}
	message := syscall.Close(fd)
	if message != nil {
		t.Error(message)
	}
}
