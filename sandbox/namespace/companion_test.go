package namespace

import (
	"bufio"
	"context"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/sandbox"
)

// run starts a shell script as a further process.
func (b *box) run(script string, o *output) sandbox.Companion {
	b.t.Helper()
	p, err := b.Run(b.t.Context(), sandbox.Process{Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/"}, o.write)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// awaitExit waits for the end of a process.
func awaitExit(t testing.TB, what string, exited <-chan struct{}) {
	t.Helper()
	select {
	case <-exited:
	case <-time.After(2 * time.Minute):
		t.Fatalf("%s does not end", what)
	}
}

func ended(exited <-chan struct{}) bool {
	select {
	case <-exited:
		return true
	default:
		return false
	}
}

func TestFurtherProcessesHaveEndsAndOutputOfTheirOwn(t *testing.T) {
	d := newDriver(t, nil)
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{})
	first, second := newOutput(t), newOutput(t)
	one := b.run("echo one; id -u; exit 3", first) // before there is a main process
	awaitExit(t, "the first", one.Exited())
	b.start("/bin/sh", "-c", "echo main; sleep 1000")
	two := b.run("echo two; kill -9 $$", second)
	awaitExit(t, "the second", two.Exited())
	if got := one.Exit(); got.Code != 3 || got.Signal != "" || got.At.IsZero() {
		t.Errorf("the first ended by %+v", got)
	}
	if got := two.Exit(); got.Code != -1 || got.Signal != "killed" {
		t.Errorf("the second ended by %+v", got)
	}
	if got := first.all(); got != "one\n993\n" {
		t.Errorf("the first wrote %q", got)
	}
	if got := second.all(); got != "two\n" {
		t.Errorf("the second wrote %q", got)
	}
	if ended(b.Exited()) {
		t.Error("the main process ended with them")
	}
	if _, err := b.Run(t.Context(), sandbox.Process{Argv: []string{"/opt/none"}, Dir: "/"}, nil); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a program that is not there: %v", err)
	}
}

func TestAFurtherProcessOutlivesTheMainOneUntilItIsKilled(t *testing.T) {
	d := newDriver(t, nil)
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{})
	o := newOutput(t)
	further := b.run("trap '' TERM; echo ready; sleep 1000", o)
	b.start("/bin/sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.02; done")
	// The signal is for the main process alone, and it may come before the trap.
	for !ended(b.Exited()) {
		if err := b.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if got := b.Exit(); got.Code != 5 && got.Signal != "terminated" {
		t.Errorf("the main process ended by %+v", got)
	}
	if ended(further.Exited()) {
		t.Fatal("the further process ended with the main one")
	}
	if err := b.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("a signal to nobody: %v", err)
	}
	if err := b.Destroy(); err != nil {
		t.Fatal(err)
	}
	awaitExit(t, "the further process", further.Exited())
	if got := further.Exit(); got.Signal != "killed" {
		t.Errorf("the further process ended by %+v", got)
	}
	if _, err := b.Run(t.Context(), sandbox.Process{Argv: []string{"/bin/true"}}, nil); err == nil {
		t.Error("a process was started in a container that is gone")
	}
	_ = o.all()
}

func TestDialReachesALoopbackPortOfItsOwnContainer(t *testing.T) {
	d := newDriver(t, nil)
	in := newInstance(t, d)
	b, other := newBox(t, in, sandbox.ContainerSpec{}), newBox(t, in, sandbox.ContainerSpec{})
	o := newOutput(t)
	b.run(`exec perl -MIO::Socket::INET -e '
		my $l = IO::Socket::INET->new(LocalAddr => "sandbox.localdomain", LocalPort => 4243, Listen => 9, ReuseAddr => 1) or die "listen: $!";
		while (my $c = $l->accept) { my $line = <$c>; print $c "got $line"; close $c }'`, o)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		c, err := b.Dial(ctx, 4243)
		if errors.Is(err, syscall.ECONNREFUSED) { // not there yet
			time.Sleep(5 * time.Millisecond)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "hello\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(c).ReadString('\n'); line != "got hello\n" {
			t.Errorf("the listener answered %q, %v", line, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		break
	}
	if _, err := other.Dial(ctx, 4243); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("from another container of the instance: %v", err)
	}
	if err := b.Freeze(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Dial(ctx, 4243); !errors.Is(err, errFrozen) {
		t.Errorf("while it is frozen: %v", err)
	}
	if err := b.Destroy(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Dial(ctx, 4243); !errors.Is(err, errGone) {
		t.Errorf("when it is gone: %v", err)
	}
	_ = o.all()
}
