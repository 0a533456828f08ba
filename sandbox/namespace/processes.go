package namespace

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-faas/hearth/sandbox"
)

// Where no cgroup counts for the driver it looks at the processes themselves,
// through /proc. That is a look now and then: what happens in between is not
// seen, and neither is memory that is not some process's own, such as files
// in /tmp.

// clockTick is the unit of times in /proc/PID/stat: USER_HZ is 100 on every
// Linux there is.
const clockTick = 10 * time.Millisecond

// lookAtProcesses sums up what the descendants of a container's init use.
func lookAtProcesses(initPID int) (u sandbox.Usage, err error) {
	waiting := []int{initPID}
	for len(waiting) > 0 {
		pid := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		own, reaped, err := processTimes(pid)
		if errors.Is(err, fs.ErrNotExist) {
			continue // ended meanwhile
		}
		if err != nil {
			return u, err
		}
		u.CPU += reaped
		if pid != initPID {
			u.CPU += own
			u.Processes++
			u.MemoryBytes += privateMemory(pid)
		}
		waiting = append(waiting, children(pid)...)
	}
	u.PeakBytes = u.MemoryBytes
	return u, nil
}

// processTimes are a process's own time and that of its children that have
// ended.
func processTimes(pid int) (own, reaped time.Duration, err error) {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0, err
	}
	// The name is in parentheses and may hold anything, parentheses too.
	stat := string(content)
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const utime, stime, cutime, cstime = 11, 12, 13, 14 // after the name
	if len(fields) <= cstime {
		return 0, 0, fs.ErrNotExist
	}
	ticks := func(i int) time.Duration {
		n, _ := strconv.ParseInt(fields[i], 10, 64) // the kernel's own number
		return time.Duration(n) * clockTick
	}
	return ticks(utime) + ticks(stime), ticks(cutime) + ticks(cstime), nil
}

// privateMemory is a process's resident memory but for what is shared with
// others.
func privateMemory(pid int) int64 {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	if err != nil {
		return 0 // ended meanwhile
	}
	fields := strings.Fields(string(content))
	if len(fields) < 3 {
		return 0
	}
	resident, _ := strconv.ParseInt(fields[1], 10, 64)
	shared, _ := strconv.ParseInt(fields[2], 10, 64)
	return (resident - shared) * int64(os.Getpagesize())
}

func children(pid int) []int {
	tasks, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "children"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, path := range tasks {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // the thread ended meanwhile
		}
		for _, field := range strings.Fields(string(content)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// watchInterval is how often memory is looked at where no cgroup limits it.
const watchInterval = 100 * time.Millisecond

// watchMemory ends containers that use more memory than their limit, until
// ctx ends.
func (d *Driver) watchMemory(ctx context.Context) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, c := range d.running() {
			c.checkMemory()
		}
	}
}

// running are the containers that have a main process.
func (d *Driver) running() []*container {
	d.mu.Lock()
	var instances []*instance
	for _, in := range d.instances {
		instances = append(instances, in)
	}
	d.mu.Unlock()
	var all []*container
	for _, in := range instances {
		in.mu.Lock()
		for _, c := range in.containers {
			c.mu.Lock()
			if c.started && !c.ended && c.born.Load() {
				all = append(all, c)
			}
			c.mu.Unlock()
		}
		in.mu.Unlock()
	}
	return all
}

// checkMemory looks at what the container uses, remembers the most that was
// seen, and ends the container if it is over its limit.
func (c *container) checkMemory() {
	u, err := lookAtProcesses(c.initPID)
	if err != nil {
		return // it is ending
	}
	c.mu.Lock()
	c.peak = max(c.peak, u.MemoryBytes)
	limit := c.limits.MemoryBytes
	over := limit > 0 && u.MemoryBytes > limit && !c.ended
	if over {
		c.overruns++
	}
	c.mu.Unlock()
	if over {
		if err := c.Kill(); err != nil {
			c.d.log.Warn("ending a container that is over its memory limit", "container", c.id, "error", err)
		}
	}
}
