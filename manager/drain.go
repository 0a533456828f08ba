package manager

import (
	"context"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
)

// track has Drain wait for the caller until it calls m.bg.Done; false if it is
// too late for that. Whoever may claim a container or make one is tracked
// before it does, so that Drain misses none: invocations by inflight, all
// others by this.
func (m *Manager) track() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return false
	}
	m.bg.Add(1)
	return true
}

// background runs f in a goroutine that Drain waits for. When it is too late
// for that, f runs in the caller's own, which Drain waits for if it may.
func (m *Manager) background(f func()) {
	if !m.track() {
		f()
		return
	}
	go func() {
		defer m.bg.Done()
		f()
	}()
}

// onTimer runs f if nothing has been closed yet.
func (m *Manager) onTimer(f func()) func() {
	return func() {
		if m.track() {
			defer m.bg.Done()
			f()
		}
	}
}

// record leaves a decision.
func (m *Manager) record(d *hearth.Decision) {
	if m.cfg.Recorder != nil {
		if account, owner := d.Account.Pair(); owner != "" {
			d.Account, d.Owner = account, owner
		}
		m.cfg.Recorder.Record(d)
	}
}

// drainGrace bounds how long Drain waits for calls of the worker that have
// not returned although their context has ended.
const drainGrace = 5 * time.Second

// Drain stops taking invocations, waits until those that were taken have
// ended, and destroys every container and instance. When ctx ends first, what
// still runs is destroyed under its invocation, and ctx's error returned.
// After the first call the Manager is of no more use.
func (m *Manager) Drain(ctx context.Context) error {
	err := m.drain(ctx)
	if kept := m.learned.Close(); kept != nil {
		m.cfg.Log.Warn("what was learned about functions' idle times can't be kept", "error", kept)
	}
	if kept := m.spent.Close(); kept != nil {
		m.cfg.Log.Warn("what functions have cost can't be kept", "error", kept)
	}
	if kept := m.seasons.Close(); kept != nil {
		m.cfg.Log.Warn("what was learned about the warming pool can't be kept", "error", kept)
	}
	return err
}

func (m *Manager) drain(ctx context.Context) error {
	m.draining.Store(true)
	if m.inflight.Load() == 0 {
		m.drainOne.Do(func() { close(m.drained) })
	}
	var err error
	select {
	case <-m.drained:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}

	m.mu.Lock()
	m.closed.Store(true)
	m.sweeper.Stop()
	if m.booting.timer != nil {
		m.booting.timer.Stop()
	}
	var slots []*slot
	for _, s := range m.stocked() {
		for _, sh := range s.pool.shelves {
			for len(sh.ready) > 0 {
				slots = append(slots, sh.ready[0])
				s.pool.remove(sh.ready[0])
			}
		}
	}
	var own []func()
	for _, d := range m.dedicated {
		for _, inst := range d.kept {
			inst.kept = false
			if inst.containers == 0 {
				own = append(own, m.finish(inst))
			}
		}
	}
	m.mu.Unlock()
	m.cancel() // boots and makers end early, and destroy what they made

	var all sync.WaitGroup
	for _, end := range own {
		all.Go(end)
	}
	for _, s := range slots {
		all.Go(func() { m.discard(s) })
	}
	for _, g := range m.groups.all(func(hearth.Key) bool { return true }) {
		all.Go(func() { m.endIdle(g) })
	}
	if err != nil {
		// Those that have not come to rest in time.
		m.mu.Lock()
		var left []*instance
		for _, own := range m.tenants {
			left = append(left, own...)
		}
		m.mu.Unlock()
		for _, inst := range left {
			all.Go(func() { m.destroyed("instance", inst.env.ID(), inst.env.Destroy()) })
		}
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		m.bg.Wait()
		if err := m.sizes.Close(); err != nil {
			m.cfg.Log.Warn("what was learned about functions' memory can't be kept", "error", err)
		}
		close(done)
	}()
	if err == nil {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	late := make(chan struct{})
	timer := m.clock.AfterFunc(drainGrace, func() { close(late) })
	defer timer.Stop()
	select {
	case <-done:
	case <-late:
	}
	return err
}
