package namespace

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/sandbox"
)

func TestMainProcessRunsAndItsExitIsTold(t *testing.T) {
	d := newDriver(t, nil)
	for _, test := range []struct {
		script, output string
		exit           sandbox.Exit
	}{
		{"echo out; echo err >&2; exit 7", "out\nerr\n", sandbox.Exit{Code: 7}},
		{"true", "", sandbox.Exit{}},
		{"kill -SEGV $$", "", sandbox.Exit{Code: -1, Signal: "segmentation fault"}},
		{"id -u; id -g; hostname; pwd", "993\n990\nsandbox\n/\n", sandbox.Exit{}},
		{"echo again > /dev/stdout; echo again > /dev/stderr", "again\nagain\n", sandbox.Exit{}},
		{"ulimit -c; ulimit -n; umask", "0\n1024\n0022\n", sandbox.Exit{}},
		{"env -u PWD", "PATH=/usr/bin:/bin\n", sandbox.Exit{}},
		// What the main process leaves behind ends with it.
		{"sleep 1000 & echo gone", "gone\n", sandbox.Exit{}},
	} {
		exit, out := shell(t, d, test.script)
		if exit.At.IsZero() || time.Since(exit.At) > time.Minute {
			t.Errorf("%s: exit at %v", test.script, exit.At)
		}
		exit.At = time.Time{}
		if exit != test.exit || out != test.output {
			t.Errorf("%s: exit %+v and output %q, not %+v and %q", test.script, exit, out, test.exit, test.output)
		}
	}
}

func TestStartTellsWhyAProgramCannotRun(t *testing.T) {
	b := newBox(t, newInstance(t, newDriver(t, nil)), sandbox.ContainerSpec{})
	err := b.Start(t.Context(), sandbox.Process{Argv: []string{"/var/task/bootstrap"}})
	if !errors.Is(err, syscall.ENOENT) {
		t.Errorf("starting what isn't there: %v, not ENOENT", err)
	}
	err = b.Start(t.Context(), sandbox.Process{Argv: []string{"/etc/passwd"}})
	if !errors.Is(err, syscall.EACCES) {
		t.Errorf("starting what isn't a program: %v, not EACCES", err)
	}
	b.start("/bin/true") // a failed start is none
	if err := b.Start(t.Context(), sandbox.Process{Argv: []string{"/bin/true"}}); err == nil {
		t.Error("a second main process started")
	}
}

func TestAttachedCodeIsShownReadOnly(t *testing.T) {
	d := newDriver(t, nil)
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{})
	task := codeDir(t, map[string]string{"handler": "v1"})
	if err := b.Attach(t.Context(), sandbox.Attachment{Task: task}); err != nil {
		t.Fatal(err)
	}
	if err := b.Attach(t.Context(), sandbox.Attachment{Task: task}); err == nil {
		t.Error("code was attached twice")
	}
	b.start("/bin/sh", "-c", "cat /var/task/handler; touch /var/task/new; ls /opt; touch /opt/new")
	_, out := b.wait()
	want := "v1touch: cannot touch '/var/task/new': Read-only file system\n" +
		"touch: cannot touch '/opt/new': Read-only file system\n"
	if out != want {
		t.Errorf("inside: %q, not %q", out, want)
	}
}

func TestLaterLayersLieOverEarlierOnes(t *testing.T) {
	d := newDriver(t, nil)
	one := codeDir(t, map[string]string{"shared": "one", "one": "1"})
	two := codeDir(t, map[string]string{"shared": "two", "two": "2"})
	three := codeDir(t, map[string]string{"shared": "three"})
	for _, test := range []struct {
		layers []string
		want   string
	}{
		{[]string{one}, "one shared:one"},
		{[]string{one, two}, "one shared two:two"},
		{[]string{three, two, one}, "one shared two:one"},
		{[]string{one, two, three}, "one shared two:three"},
	} {
		b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{})
		if err := b.Attach(t.Context(), sandbox.Attachment{Layers: test.layers}); err != nil {
			t.Fatal(err)
		}
		b.start("/bin/sh", "-c", "echo -n $(ls /opt):; cat /opt/shared; touch /opt/new 2>/dev/null && echo written; ls /var/.layers/0")
		if _, out := b.wait(); out != test.want {
			t.Errorf("%d layers: %q, not %q", len(test.layers), out, test.want)
		}
	}
}

func TestMountsOfTheSpecAreThere(t *testing.T) {
	host := codeDir(t, map[string]string{"bin/node": "#!/bin/sh\necho runs\n", "lib": "x"})
	if err := os.Chmod(filepath.Join(host, "bin/node"), 0o755); err != nil {
		t.Fatal(err)
	}
	b := newBox(t, newInstance(t, newDriver(t, nil)), sandbox.ContainerSpec{Mounts: []sandbox.Mount{
		{Host: host, Guest: "/usr/local/lib/node"},
		{Host: filepath.Join(host, "lib"), Guest: "/var/runtime/lib"},
		{Host: host, Guest: "/var/lang"},
	}})
	b.start("/bin/sh", "-c", "ls /usr/local /usr/local/lib/node; cat /var/runtime/lib; exec /var/lang/bin/node")
	if _, out := b.wait(); out != "/usr/local:\nlib\n\n/usr/local/lib/node:\nbin\nlib\nxruns\n" {
		t.Errorf("inside: %q", out)
	}
}

func TestListenerHearsItsOwnContainer(t *testing.T) {
	in := newInstance(t, newDriver(t, nil))
	probe := []sandbox.Mount{{Host: probeDir, Guest: "/probe"}}
	for range 2 {
		b := newBox(t, in, sandbox.ContainerSpec{Mounts: probe})
		b.start("/probe/probe", "call")
		conn, err := b.Listener().Accept()
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || line != "hello from inside\n" {
			t.Errorf("heard %q, %v", line, err)
		}
		fmt.Fprintf(conn, "answer to %s\n", b.ID())
		if _, out := b.wait(); out != "answer to "+b.ID()+"\n" {
			t.Errorf("inside heard %q", out)
		}
		_ = conn.Close()
	}
}

func TestBootedProcessGetsItsCodeLater(t *testing.T) {
	b := newBox(t, newInstance(t, newDriver(t, nil)), sandbox.ContainerSpec{
		Mounts: []sandbox.Mount{{Host: probeDir, Guest: "/probe"}},
		Boot:   &sandbox.Process{Argv: []string{"/probe/probe", "control"}},
	})
	control := bufio.NewReader(b.Control())
	ask := func(file string) string {
		t.Helper()
		fmt.Fprintln(b.Control(), file)
		line, err := control.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	if got := ask("/var/task/code"); !strings.Contains(got, "no such file") {
		t.Errorf("before the code is attached: %q", got)
	}
	task := codeDir(t, map[string]string{"code": "the code\n"})
	if err := b.Attach(t.Context(), sandbox.Attachment{Task: task}); err != nil {
		t.Fatal(err)
	}
	if got := ask("/var/task/code"); got != "the code\n" {
		t.Errorf("after it: %q", got)
	}
	if err := b.Kill(); err != nil {
		t.Fatal(err)
	}
	<-b.Exited()
	if exit := b.Exit(); exit.Signal != "killed" {
		t.Errorf("exit of a killed container: %+v", exit)
	}
}

// codeDir makes a directory of files that everybody may read.
func codeDir(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAProgramCanServeAsItsOwnSandboxProgram(t *testing.T) {
	d, err := New(t.Context(), Config{Program: "/proc/self/exe", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	if exit, out := shell(t, d, "echo hello"); exit.Code != 0 || out != "hello\n" {
		t.Errorf("exit %+v, output %q", exit, out)
	}
}
