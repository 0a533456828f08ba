package namespace

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

// CPU implements sandbox.Instance.
func (in *instance) CPU() (time.Duration, error) {
	c := in.d.groups
	switch {
	case c.v2 != "":
		// The unified hierarchy counts time without any controller.
		usec, err := readField(filepath.Join(c.v2, in.id, "cpu.stat"), "usage_usec")
		return time.Duration(usec) * time.Microsecond, err
	case c.v1[cpuUseController] != "":
		nsec, err := readNumber(filepath.Join(c.v1[cpuUseController], in.id, "cpuacct.usage"))
		return time.Duration(nsec), err
	}
	return 0, fmt.Errorf("namespace: no control group counts the processors' time: %w", errors.ErrUnsupported)
}

// Yield implements sandbox.Instance, by the policy SCHED_IDLE of the instance's
// group, which came with Linux 5.15. Whatever else wakes is let in at once then,
// where it would wait for the end of another's slice else, which is noticed at a
// tick of the clock.
func (in *instance) Yield(yes bool) error {
	c := in.d.groups
	dir := c.v1[cpuController]
	if dir == "" {
		if !c.can(cpuController) {
			return fmt.Errorf("namespace: no control group weighs the processors' time: %w", errors.ErrUnsupported)
		}
		dir = c.v2
	}
	value := "0"
	if yes {
		value = "1"
	}
	err := write(filepath.Join(dir, in.id, "cpu.idle"), value)
	if errors.Is(err, fs.ErrNotExist) {
		if _, readErr := readNumber(filepath.Join(dir, "cpu.idle")); errors.Is(readErr, fs.ErrNotExist) {
			err = fmt.Errorf("namespace: this kernel's control groups have no cpu.idle: %w", errors.ErrUnsupported)
		}
	}
	return err
}
