package namespace

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-faas/hearth/sandbox"
)

// usage tells what the group has used; once it is removed, what it had.
func (g *group) usage() (sandbox.Usage, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.removed {
		return g.used, nil
	}
	return g.readUsage()
}

func (g *group) readUsage() (u sandbox.Usage, err error) {
	if path := g.file(memoryController, "memory.usage_in_bytes", "memory.current"); path != "" {
		if u.MemoryBytes, err = readNumber(path); err != nil {
			return u, err
		}
		if sum := g.memorySum(); sum > 0 {
			u.MemoryBytes = min(u.MemoryBytes, sum)
		}
	}
	if path := g.file(memoryController, "memory.max_usage_in_bytes", "memory.peak"); path != "" {
		if u.PeakBytes, err = readNumber(path); err != nil {
			u.PeakBytes = u.MemoryBytes // memory.peak came with Linux 5.19
		}
	}
	if g.c.v2 != "" {
		// The unified hierarchy counts time without any controller.
		usec, err := readField(filepath.Join(g.c.v2, g.path, "cpu.stat"), "usage_usec")
		if err != nil {
			return u, err
		}
		u.CPU = time.Duration(usec) * time.Microsecond
	} else if path := g.file(cpuUseController, "cpuacct.usage", ""); path != "" {
		nsec, err := readNumber(path)
		if err != nil {
			return u, err
		}
		u.CPU = time.Duration(nsec)
	}
	if dirs := g.c.all(); len(dirs) > 0 {
		procs, err := os.ReadFile(filepath.Join(dirs[len(dirs)-1], g.path, "cgroup.procs"))
		if err != nil {
			return u, err
		}
		u.Processes = max(strings.Count(string(procs), "\n")-1, 0) // without init
	}
	return u, nil
}

// oomKills is how often the memory limit has killed.
func (g *group) oomKills() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.removed {
		return g.ooms
	}
	return g.readOOMKills()
}

func (g *group) readOOMKills() int {
	path := g.file(memoryController, "memory.oom_control", "memory.events")
	if path == "" {
		return 0
	}
	n, err := readField(path, "oom_kill")
	if err != nil {
		return 0 // a kernel before 4.13 does not count
	}
	return int(n)
}

func readNumber(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// memorySum is what the group's memory adds up to, 0 if that can't be told. The
// counter of what is charged is ahead of it: the kernel charges in batches of
// up to 64 pages for each processor, a quarter of a small container.
func (g *group) memorySum() (sum int64) {
	fields := []string{"anon", "file", "kernel", "sock"}
	if dir := g.c.v1[memoryController]; dir != "" { // which counts the kernel's part elsewhere
		fields = []string{"rss", "cache"}
		kernel, err := readNumber(filepath.Join(dir, g.path, "memory.kmem.usage_in_bytes"))
		if err != nil {
			return 0
		}
		sum = kernel
	}
	stat := g.file(memoryController, "memory.stat", "memory.stat")
	for _, name := range fields {
		n, err := readField(stat, name)
		if err != nil {
			return 0 // "kernel" came with Linux 5.18
		}
		sum += n
	}
	return sum
}

// readField takes a number from a file of lines of name and number.
func readField(path, name string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, &os.PathError{Op: "find " + name, Path: path, Err: os.ErrNotExist}
}
