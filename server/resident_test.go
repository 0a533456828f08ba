package server

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// fileKiB is how much of what this process holds is of files.
func fileKiB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(status), "RssFile:")
	if !found {
		t.Fatal("the kernel does not tell")
	}
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib
}

func TestTheProgramsPagesAreGivenBackAndItRunsOn(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := releaseProgram(); err != nil {
		t.Fatal(err)
	}
	if kib := fileKiB(t); int64(kib) > file.Size()>>10*3/4 {
		t.Errorf("%d KiB of a program of %d are held", kib, file.Size()>>10)
	}
}
