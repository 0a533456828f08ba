package namespace

import (
	"context"
	"errors"
	"fmt"

	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/sandbox/namespace/message"
)

// What bounds a running container, and what stops and continues it.

func (c *container) SetLimits(l sandbox.Limits) error {
	c.freezing.Lock()
	defer c.freezing.Unlock()
	c.mu.Lock()
	before, fixed := c.limits, c.disk != nil
	c.mu.Unlock()
	if fixed && before.TmpBytes != l.TmpBytes {
		return fmt.Errorf("namespace: container %s: /tmp is a disk by now and keeps its size", c.id)
	}
	if err := c.group.limit(before, l); err != nil {
		return fmt.Errorf("namespace: container %s: %w", c.id, err)
	}
	if c.link != nil && before.NetworkBytes != l.NetworkBytes {
		c.link.SetRate(l.NetworkBytes)
	}
	c.mu.Lock()
	c.limits = l
	c.mu.Unlock()
	if before.TmpBytes == l.TmpBytes {
		return nil
	}
	if c.frozen { // and init with it
		c.resizes = true
		return nil
	}
	return c.resizeTmp(l)
}

func (c *container) resizeTmp(l sandbox.Limits) error {
	return c.ask(context.Background(), &message.Tmp{Bytes: uint64(max(l.TmpBytes, 0))})
}

func (c *container) Freeze() error { return c.setFrozen(true) }
func (c *container) Thaw() error   { return c.setFrozen(false) }

func (c *container) setFrozen(frozen bool) error {
	c.freezing.Lock()
	defer c.freezing.Unlock()
	switch {
	case c.killed:
		return errGone
	case c.frozen == frozen:
		return nil
	}
	err := c.group.freeze(frozen)
	if errors.Is(err, errNoFreezer) {
		err = c.ask(context.Background(), &message.Stop{Continue: !frozen})
	}
	if err != nil {
		return fmt.Errorf("namespace: freezing or thawing container %s: %w", c.id, err)
	}
	c.frozen = frozen
	if frozen {
		c.trim()
		return nil
	}
	if !c.resizes {
		return nil
	}
	c.resizes = false
	c.mu.Lock()
	limits := c.limits
	c.mu.Unlock()
	return c.resizeTmp(limits)
}

// trim has the space of files that were deleted in /tmp given back to the host
// while the container is idle, if it is worth it.
func (c *container) trim() {
	c.mu.Lock()
	defer c.mu.Unlock()
	disk := c.disk
	if disk == nil || c.removed || !disk.wasted() || !disk.trimming.CompareAndSwap(false, true) {
		return
	}
	c.d.closing.Go(func() {
		defer disk.trimming.Store(false)
		if err := disk.trim(); err != nil {
			c.d.log.Warn("trimming a container's disk", "container", c.id, "error", err)
		}
	})
}
