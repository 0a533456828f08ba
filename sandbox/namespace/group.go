package namespace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
)

// group is a container's cgroup: one directory in every hierarchy.
type group struct {
	c    *cgroups
	path string // below the parents

	freezer *os.File // cgroup.freeze or freezer.state; nil if there is none
	events  *os.File // cgroup.events, of the second version

	mu      sync.Mutex
	removed bool
	ooms    int // last known, once removed
	used    sandbox.Usage
}

var errNoFreezer = errors.New("no cgroup to freeze by")

// initTasks is what a container's init and its threads may add to the number
// of the code's tasks.
const initTasks = 8

// cpuPeriod is what a CPU limit is counted over.
const cpuPeriod = 100 * time.Millisecond

func (c *cgroups) makeContainer(instance, id string) (_ *group, err error) {
	g := &group{c: c, path: filepath.Join(instance, id)}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.remove())
		}
	}()
	for _, dir := range c.all() {
		if err := os.Mkdir(filepath.Join(dir, g.path), 0o755); err != nil {
			return nil, err
		}
	}
	if c.v2 != "" {
		g.freezer, err = os.OpenFile(filepath.Join(c.v2, g.path, "cgroup.freeze"), os.O_WRONLY, 0)
		if err == nil {
			g.events, err = os.Open(filepath.Join(c.v2, g.path, "cgroup.events"))
		}
	} else if dir := c.v1[freezeController]; dir != "" {
		g.freezer, err = os.OpenFile(filepath.Join(dir, g.path, "freezer.state"), os.O_RDWR, 0)
	}
	return g, err
}

// file is the path of a file of a controller in this group; the names differ
// by version. "" if there is no such controller.
func (g *group) file(controller, first, second string) string {
	if dir := g.c.v1[controller]; dir != "" {
		return filepath.Join(dir, g.path, first)
	}
	for _, c := range g.c.unified {
		if c == controller {
			return filepath.Join(g.c.v2, g.path, second)
		}
	}
	return ""
}

// seats are descriptors by which a process is born in the group.
type seats struct {
	unified *os.File
	tasks   []*os.File
}

func (g *group) seats() (_ *seats, err error) {
	s := &seats{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if g.c.v2 != "" {
		if s.unified, err = os.Open(filepath.Join(g.c.v2, g.path)); err != nil {
			return nil, err
		}
	}
	for _, dir := range g.c.parents {
		f, err := os.OpenFile(filepath.Join(dir, g.path, "tasks"), os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		s.tasks = append(s.tasks, f)
	}
	return s, nil
}

func (s *seats) fds() []int {
	var fds []int
	if s.unified != nil {
		fds = append(fds, int(s.unified.Fd()))
	}
	for _, f := range s.tasks {
		fds = append(fds, int(f.Fd()))
	}
	return fds
}

func (s *seats) close() {
	if s.unified != nil {
		_ = s.unified.Close() // only read from
	}
	for _, f := range s.tasks {
		_ = f.Close() // never written to by us
	}
}

// write sets a cgroup's file. The system calls are made directly: this is on
// an invocation's way, and package os would register the file with its poller.
func write(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	_, err = unix.Write(fd, []byte(value))
	_ = unix.Close(fd) // the write has told
	if err != nil {
		return &fs.PathError{Op: "write " + value, Path: path, Err: err}
	}
	return nil
}

// limit changes limits from what they were; what is the same isn't written.
func (g *group) limit(before, l sandbox.Limits) error {
	if before.MemoryBytes != l.MemoryBytes {
		if err := g.limitMemory(before.MemoryBytes, l.MemoryBytes); err != nil {
			return err
		}
	}
	if before.CPUs != l.CPUs {
		if err := g.limitCPU(l.CPUs); err != nil {
			return err
		}
	}
	if before.Processes != l.Processes {
		value := "max"
		if l.Processes > 0 {
			value = strconv.Itoa(l.Processes + initTasks)
		}
		if path := g.file(pidsController, "pids.max", "pids.max"); path != "" {
			return write(path, value)
		}
	}
	return nil
}

// limitMemory limits memory with swap: a container has none. In the first
// version the sum of both may never be less than memory alone, so that the
// order of the two writes depends on the direction.
func (g *group) limitMemory(before, bytes int64) error {
	if path := g.file(memoryController, "", "memory.max"); path == "" {
		return nil
	} else if g.c.v1[memoryController] == "" {
		if err := write(filepath.Join(filepath.Dir(path), "memory.swap.max"), "0"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		value := "max"
		if bytes > 0 {
			value = strconv.FormatInt(bytes, 10)
		}
		return write(path, value)
	}
	dir := filepath.Join(g.c.v1[memoryController], g.path)
	value := "-1"
	if bytes > 0 {
		value = strconv.FormatInt(bytes, 10)
	}
	memory := func() error { return write(filepath.Join(dir, "memory.limit_in_bytes"), value) }
	sum := func() error {
		err := write(filepath.Join(dir, "memory.memsw.limit_in_bytes"), value)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the kernel does not account for swap
		}
		return err
	}
	lower := before == 0 || (bytes > 0 && bytes < before)
	if lower {
		if err := memory(); err != nil {
			return err
		}
		return sum()
	}
	if err := sum(); err != nil {
		return err
	}
	return memory()
}

func (g *group) limitCPU(cpus float64) error {
	quota := int64(cpus * float64(cpuPeriod.Microseconds()))
	if g.c.v1[cpuController] != "" {
		value := "-1"
		if quota > 0 {
			value = strconv.FormatInt(max(quota, 1000), 10) // the kernel's least
		}
		// The period is 100 ms from the start.
		return write(g.file(cpuController, "cpu.cfs_quota_us", ""), value)
	}
	path := g.file(cpuController, "", "cpu.max")
	if path == "" {
		return nil
	}
	value := "max"
	if quota > 0 {
		value = strconv.FormatInt(max(quota, 1000), 10)
	}
	return write(path, fmt.Sprintf("%s %d", value, cpuPeriod.Microseconds()))
}

// freezePatience bounds the wait for a process that is in the kernel's hands.
const freezePatience = 2 * time.Second

func (g *group) freeze(frozen bool) error {
	if g.freezer == nil {
		return errNoFreezer
	}
	if g.events == nil {
		return g.freezeFirst(frozen)
	}
	want, value := "frozen 0", "0"
	if frozen {
		want, value = "frozen 1", "1"
	}
	if _, err := g.freezer.WriteAt([]byte(value), 0); err != nil {
		return err
	}
	if !frozen {
		return nil // they go on as soon as they are told
	}
	deadline := time.Now().Add(freezePatience)
	var buf [128]byte
	for {
		n, err := unix.Pread(int(g.events.Fd()), buf[:], 0)
		if err != nil {
			return err
		}
		if strings.Contains(string(buf[:n]), want) {
			return nil
		}
		if time.Now().After(deadline) {
			_, err := g.freezer.WriteAt([]byte("0"), 0)
			return errors.Join(errors.New("some process can't be stopped now"), err)
		}
		// Wakes when the file's content has changed since it was read.
		fds := []unix.PollFd{{Fd: int32(g.events.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, 10); err != nil && err != unix.EINTR {
			return err
		}
	}
}

func (g *group) freezeFirst(frozen bool) error {
	want := "THAWED"
	if frozen {
		want = "FROZEN"
	}
	deadline := time.Now().Add(freezePatience)
	wait := 20 * time.Microsecond
	var buf [32]byte
	for {
		if _, err := g.freezer.WriteAt([]byte(want), 0); err != nil {
			return err
		}
		n, err := unix.Pread(int(g.freezer.Fd()), buf[:], 0)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(buf[:n])) == want {
			return nil
		}
		if time.Now().After(deadline) {
			_, err := g.freezer.WriteAt([]byte("THAWED"), 0)
			return errors.Join(errors.New("some process can't be stopped now"), err)
		}
		time.Sleep(wait) // there is no event for it
		wait = min(2*wait, 5*time.Millisecond)
	}
}

// release lets a frozen group's processes die of the SIGKILL they have got.
func (g *group) release() error {
	if g.events != nil {
		return nil // the second version does it by itself
	}
	if err := g.freeze(false); err != nil && !errors.Is(err, errNoFreezer) {
		return err
	}
	return nil
}

// remove removes the group; its processes are gone.
func (g *group) remove() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.removed {
		return nil
	}
	g.ooms = g.readOOMKills()
	if used, err := g.readUsage(); err == nil { // else the last that is known
		g.used = used
	}
	g.removed = true
	var errs []error
	for _, f := range []*os.File{g.freezer, g.events} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	for _, dir := range g.c.all() {
		errs = append(errs, removeGroup(filepath.Join(dir, g.path)))
	}
	return errors.Join(errs...)
}
