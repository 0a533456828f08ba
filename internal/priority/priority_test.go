package priority

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// child tells its niceness and those of all its threads.
const child = "HEARTH_PRIORITY"

func TestMain(m *testing.M) {
	if os.Getenv(child) == "" {
		os.Exit(m.Run())
	}
	is, err := nice(0)
	if err != nil {
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString(strconv.Itoa(is))
	os.Exit(0)
}

func TestTheServersThreadsGoFirstAndItsChildrenDoNot(t *testing.T) {
	was, err := nice(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := Raise(); errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		t.Skip("an ordinary user has no such right:", err)
	} else if err != nil {
		t.Fatal(err)
	}
	want := max(was-niceness, -20)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				cmd := exec.Command(os.Args[0])
				cmd.Env = []string{child + "=1"}
				var out bytes.Buffer
				cmd.Stdout = &out
				if err := errors.Join(Ordinary(cmd.Start), cmd.Wait()); err != nil {
					t.Error(err)
				} else if out.String() != strconv.Itoa(was) {
					t.Errorf("a child's niceness is %s, not %d", out.String(), was)
				}
			}
		})
	}
	wg.Wait()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			t.Fatal(err)
		}
		if is, err := nice(id); err == nil && is != want {
			t.Errorf("a thread's niceness is %d, not %d", is, want)
		}
	}
}
