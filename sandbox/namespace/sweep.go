package namespace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sweep removes what a driver of this data folder left behind, if it was
// killed: its processes (those of frozen groups of the first version could
// not die with it), cgroups, and files that were about to lose their names.
// Mounts, disks, namespaces and interfaces go with the last process. New calls
// it; no driver of the data folder may be running.
func Sweep(dataDir string) error {
	dataDir, err := filepath.Abs(dataDir)
	if err != nil {
		return fmt.Errorf("namespace: data folder: %w", err)
	}
	if err := sweepDisks(dataDir); err != nil {
		return err
	}
	state := filepath.Join(sandboxDir(dataDir), "cgroups")
	content, err := os.ReadFile(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("namespace: what was left behind: %w", err)
	}
	var errs []error
	for _, parent := range strings.Fields(string(content)) {
		// The file is ours, but what it leads to is deadly.
		if strings.TrimSuffix(filepath.Base(parent), serverSuffix) != groupName(dataDir) || !filepath.IsAbs(parent) {
			errs = append(errs, fmt.Errorf("namespace: %s names a cgroup that is not Hearth's: %s", state, parent))
			continue
		}
		errs = append(errs, sweepGroup(parent))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.Remove(state)
}

// sweepGroup kills what is in a group and below it, and removes it.
func sweepGroup(parent string) error {
	var dirs []string
	err := filepath.WalkDir(parent, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if entry.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("namespace: what was left behind: %w", err)
	}
	var errs []error
	for _, dir := range slices.Backward(dirs) { // the lowest first
		if err := emptyGroup(dir); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, removeGroup(dir))
	}
	return errors.Join(errs...)
}

// emptyGroup kills every process of a group and waits until none is left.
func emptyGroup(dir string) error {
	deadline := time.Now().Add(patience)
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		content, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("namespace: what was left behind: %w", err)
		}
		pids := strings.Fields(string(content))
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("namespace: the processes %v in %s do not die", pids, dir)
		}
		for _, field := range pids {
			pid, err := strconv.Atoi(field)
			if err != nil || pid <= 1 || pid == os.Getpid() {
				continue // 0: of another pid namespace, out of reach
			}
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
				return fmt.Errorf("namespace: killing process %d in %s: %w", pid, dir, err)
			}
		}
		// Frozen ones of the first version have to be let go to die.
		thaw := filepath.Join(dir, "freezer.state")
		if _, err := os.Stat(thaw); err == nil {
			if err := write(thaw, "THAWED"); err != nil {
				return err
			}
		}
		time.Sleep(wait)
	}
}
