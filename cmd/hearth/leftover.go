package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of whatever its children leave
// running, so that leftBehind sees it.
func adoptOrphans() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// cgroupsOf are the control groups that the namespace driver made for a data
// folder: it notes them there.
func cgroupsOf(dir string) []string {
	data, err := os.ReadFile(filepath.Join(dir, "sandbox", "cgroups"))
	if err != nil {
		return nil // it made none
	}
	return strings.Fields(string(data))
}

// leftBehind tells what is left of a server that has ended: processes, mounts
// under its data folder, and control groups.
func leftBehind(dir string, groups []string) (left []string) {
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(tasks) == 0 {
		left = append(left, "perhaps processes: this kernel does not list children")
	}
	for _, task := range tasks {
		children, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for _, pid := range strings.Fields(string(children)) {
			name, err := os.ReadFile("/proc/" + pid + "/comm")
			if err != nil {
				continue // so has the process
			}
			left = append(left, fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(name))))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		left = append(left, "perhaps mounts: "+err.Error())
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir) {
			left = append(left, "mount "+f[4])
		}
	}
	for _, group := range groups {
		if _, err := os.Stat(group); err == nil {
			left = append(left, "cgroup "+group)
		}
	}
	return left
}
