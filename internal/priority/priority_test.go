package priority

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// child tells its niceness and its slice.
const child = "HEARTH_PRIORITY"

func TestMain(m *testing.M) {
	if os.Getenv(child) == "" {
		os.Exit(m.Run())
	}
	is, err := of(0)
	if err != nil {
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString(is)
	os.Exit(0)
}

// of tells a thread's niceness and its slice, which a kernel without slices says
// is 0.
func of(thread int) (string, error) {
	attr, err := unix.SchedGetAttr(thread, 0)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("niceness %d, slice %v", attr.Nice, time.Duration(attr.Runtime)), nil
}

func TestTheServersThreadsGoFirstAndItsChildrenDoNot(t *testing.T) {
	was, err := of(0)
	if err != nil {
		t.Fatal(err)
	}
	ordinary, err := nice(0)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("niceness %d, slice %v", max(ordinary-niceness, -20), slice)
	if strings.HasSuffix(was, "slice 0s") {
		want = fmt.Sprintf("niceness %d, slice 0s", max(ordinary-niceness, -20))
	}
	err = Raise()
	switch denied := errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM); {
	case denied && os.Getenv("CI") == "": // an ordinary user has no such right
		want = was
	case err != nil:
		t.Fatal(err)
	}
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
				} else if out.String() != was {
					t.Errorf("a child has %s, not %s", &out, was)
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
		if is, err := of(id); err == nil && is != want {
			t.Errorf("a thread has %s, not %s", is, want)
		}
	}
}
