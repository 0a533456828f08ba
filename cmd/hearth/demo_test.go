package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatAServerLeavesBehindIsFound(t *testing.T) {
	dir := t.TempDir()
	if left := leftBehind(dir, []string{filepath.Join(dir, "no-such-group")}); len(left) != 0 {
		t.Errorf("nothing is left, and it finds %q", left)
	}
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill() // it may have ended by itself
		_ = child.Wait()         // with "killed"
	}()
	got := strings.Join(leftBehind(dir, []string{dir}), ", ")
	if !strings.Contains(got, "(sleep)") || !strings.Contains(got, "cgroup "+dir) {
		t.Errorf("found %q", got)
	}
}

func TestDemoWithoutExamplesSaysWhereToRunIt(t *testing.T) {
	run(t, "", nil, "demo", "--examples", t.TempDir()).want(t, exitFailed, "", "the examples are not in", "--examples")
}

func TestProgressShowsUpOnlyAfterAMomentAndLeavesNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer // which the test reads while progress goes on
		a := &app{err: &out, errTTY: true, getenv: func(string) string { return "" }}
		done := a.progress("waiting")
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		if out.String() != "" {
			t.Errorf("after 0.3 s it shows %q", out.String())
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !strings.Contains(out.String(), "waiting  1.2 s") {
			t.Errorf("after 1.3 s it shows %q", out.String())
		}
		done()
		done() // a deferred one may follow
		if !strings.HasSuffix(out.String(), "\r\x1b[K") {
			t.Errorf("the line is not cleared: %q", out.String())
		}
	})
}
