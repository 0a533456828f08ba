package namespace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hearth-faas/hearth/sandbox/namespace/inside"
)

// Sweep removes what a driver of this data folder left behind, if it was
// killed: cgroups, and files that were about to lose their names. Processes,
// and all but the topmost groups, are ended by its spawner, unless that was
// killed as well. Mounts, disks, namespaces and interfaces go with the last
// process. New calls it; no driver of the data folder may be running.
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
		// The file is ours, but what it leads to is deadly. An older program's
		// had the server's group, too, which was beside the containers'.
		if strings.TrimSuffix(filepath.Base(parent), "-server") != groupName(dataDir) || !filepath.IsAbs(parent) {
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
	dir, err := os.Open(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("namespace: what was left behind: %w", err)
	}
	err = inside.ClearGroups(int(dir.Fd()))
	_ = dir.Close() // only read from
	if err != nil {
		return fmt.Errorf("namespace: what was left behind in %s: %w", parent, err)
	}
	return removeGroup(parent)
}
