package worker

import (
	"context"
	"sync"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimes"
	"github.com/hearth-faas/hearth/sandbox"
)

// held is the code that a container has on this node: from when it is loaded
// until its sandbox has gone. An instance may live as long as its account calls
// anything, and would keep what all its containers ever ran.
type held struct {
	at      sandbox.Attachment
	choice  runtimes.Choice // what runs it
	release []func()
	once    sync.Once
}

// hold makes the code of c's function present for as long as c lives.
func (c *container) hold(ctx context.Context) error {
	h := &held{}
	err := h.get(ctx, c.w, c.f)
	if err == nil {
		c.mu.Lock()
		if c.phase == phaseDead {
			err = c.gone(nil)
		} else {
			c.code = h
		}
		c.mu.Unlock()
	}
	if err != nil {
		h.letGo()
	}
	return err
}

// get acquires f's image or packages.
func (h *held) get(ctx context.Context, w *Worker, f *hearth.Function) (err error) {
	h.at.Network = networkOf(f)
	if isImage(f) {
		i, release, err := w.cfg.Images.Acquire(ctx, f)
		if err != nil {
			return err
		}
		h.release = append(h.release, release)
		h.at.Root, h.choice = i.Layers, runtimes.ForImage(i.Run)
		return nil
	}
	if h.choice, err = w.cfg.Runtimes.For(f.Runtime); err != nil {
		return err
	}
	var dirs []string
	for _, p := range packagesOf(f) {
		dir, release, err := w.code.Acquire(ctx, f, p)
		if err != nil {
			return err
		}
		h.release = append(h.release, release)
		dirs = append(dirs, dir)
	}
	h.at.Task, h.at.Layers = dirs[0], dirs[1:]
	return nil
}

// letGo lets the code go, once. A nil held has none.
func (h *held) letGo() {
	if h == nil {
		return
	}
	h.once.Do(func() {
		for _, release := range h.release {
			release()
		}
	})
}
