package worker

import (
	"context"
	"errors"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/worker/logs"
)

// The init phase: when a container is loaded and, if that failed, once more
// within its first invocation.

// Load implements hearth.Container.
func (c *container) Load(ctx context.Context, f *hearth.Function, t *hearth.Timeline) error {
	if err := c.move(phaseLoading); err != nil {
		return err
	}
	now := c.w.cfg.Clock.Now
	began := now()
	c.f = f
	c.name = streamName(f, began)
	sink := logs.NewSink(c.w.cfg.Logs.Stream(f.Account, f.LogGroup(), c.name), f.Logging, c.w.cfg.Clock)
	c.mu.Lock()
	c.sink = sink
	c.mu.Unlock()
	run, err := c.begin(ctx, c.env, c.boot, "init")
	if err != nil {
		c.die()
		return err
	}
	t.End(hearth.StageAttach, now())
	var bad *entrypointError
	switch err := run(); {
	case err == nil:
		t.End(hearth.StageBoot, now())
		limited, cancel := context.WithTimeout(ctx, c.w.cfg.InitTimeout)
		c.initErr = c.awaitInit(limited)
		cancel()
		if c.initErr == errInitTimeout && ctx.Err() != nil { // it was not the function's fault
			c.die()
			return hearth.Errorf(hearth.Service, "the init phase was given up: %w", context.Cause(ctx))
		}
	case errors.As(err, &bad):
		c.initErr = bad
	default:
		c.die()
		return err
	}
	t.End(hearth.StageInit, now())
	c.initDur = now().Sub(began)
	if c.initErr != nil {
		c.sink.InitReport(initReport(c.initDur, "init", c.initErr))
		c.initDur = 0 // the invocation that runs it again accounts for that
	} else if err := c.env.sb.SetLimits(limits(f, true)); err != nil {
		c.die()
		return c.env.broken("set limits", err)
	}
	return c.loaded()
}

// loaded ends the phase of loading.
func (c *container) loaded() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.moveLocked(phaseIdle); err != nil {
		return err
	}
	if c.noticeLocked(); c.phase == phaseDead {
		return c.gone(nil)
	}
	return nil
}

// begin attaches the code to env, takes its output into the log, and returns
// how to start the runtime.
func (c *container) begin(ctx context.Context, env *environment, boot hearth.Boot, phase string) (run func() error, err error) {
	if err := c.sink.Read(env.output); err != nil {
		return nil, env.broken("read its output", err)
	}
	c.keyed = c.w.cfg.Clock.Now()
	if run, err = env.start(ctx, c.in, c.f, boot, c.name); err != nil {
		return nil, err
	}
	version, arn := runtimeVersion(c.w.cfg.Runtimes, c.f)
	c.sink.InitStart(logs.InitStart{
		RuntimeVersion: version, RuntimeVersionARN: arn, Function: c.f.Name, Version: c.f.Version, Phase: phase,
	})
	return run, nil
}

// errInitTimeout: the init phase took longer than it may.
var errInitTimeout = errors.New("init timed out")

// awaitInit waits until the runtime asks for its first event. Its error is a
// *runtimeapi.FunctionError, or errInitTimeout if ctx was first to end.
func (c *container) awaitInit(ctx context.Context) error {
	select {
	case <-c.env.api.Ready():
	case <-ctx.Done():
		return errInitTimeout
	}
	if fe := c.env.api.InitError(); fe != nil {
		return fe
	}
	if fe := c.env.api.Failure(); fe != nil {
		return fe
	}
	return nil
}

// initAgain runs the init phase once more, in a fresh environment of the same
// instance and under the function's own timeout, as the service does when the
// first one failed. If it failed again the error is as that of awaitInit, or an
// *entrypointError.
func (c *container) initAgain(ctx context.Context) error {
	env, err := c.renew(ctx)
	if err != nil {
		return err
	}
	began := c.w.cfg.Clock.Now()
	run, err := c.begin(ctx, env, "", "invoke")
	if err != nil {
		return err
	}
	var bad *entrypointError
	switch err = run(); {
	case err == nil:
		go c.watch(env)
		err = c.awaitInit(ctx)
	case !errors.As(err, &bad):
		return err
	}
	if err != nil {
		c.sink.InitReport(initReport(c.w.cfg.Clock.Now().Sub(began), "invoke", err))
		return err
	}
	c.initErr = nil
	if err := env.sb.SetLimits(limits(c.f, true)); err != nil {
		return env.broken("set limits", err)
	}
	return nil
}

// renew gives the container a fresh environment in place of the one that it
// has. Only Invoke calls it.
func (c *container) renew(ctx context.Context) (*environment, error) {
	fresh, err := c.in.newEnvironment(ctx, "")
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	if c.phase == phaseDead {
		c.mu.Unlock()
		return nil, errors.Join(c.gone(nil), fresh.destroy(nil))
	}
	stale := c.env
	c.env = fresh
	c.mu.Unlock()
	drain := func() error {
		c.sink.Drain()
		return nil
	}
	if err := stale.destroy(drain); err != nil {
		c.w.cfg.Log.Error("destroy environment", "container", c.id, "err", err)
	}
	return fresh, nil
}
