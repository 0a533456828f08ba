package worker

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimeapi"
	"github.com/hearth-faas/hearth/runtimeapi/telemetry"
	"github.com/hearth-faas/hearth/worker/logs"
)

// The init phase: when a container is loaded and, if that failed, once more
// within its first invocation.

// Load implements hearth.Container.
func (c *container) Load(ctx context.Context, f *hearth.Function, t *hearth.Timeline) error {
	return c.load(ctx, f, hearth.InitOnDemand, t)
}

// Provision implements hearth.Container.
func (c *container) Provision(ctx context.Context, f *hearth.Function, t *hearth.Timeline) error {
	if err := c.load(ctx, f, hearth.InitProvisioned, t); err != nil {
		return err
	}
	if err := c.initErr; err != nil {
		c.die()
		failed := &hearth.Error{Op: "worker.Provision", Subject: f.QualifiedARN(), Kind: hearth.InitFailed, Message: err.Error(), Err: err}
		if f.Shared != nil {
			failed.Message, failed.Err = withheldMessage, nil
		}
		return failed
	}
	c.expire(containerLife - rand.N(expirySpread))
	return nil
}

// expirySpread is within which time the provisioned containers of a moment
// end for their age, so that not all of them are made anew at once.
const expirySpread = time.Hour

// expire ends the container after d, or when it is idle next. Nobody may
// invoke it for longer than its credentials last, and then is to find another
// in its place.
func (c *container) expire(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expiry = c.w.cfg.Clock.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.phase == phaseRunning {
			c.expiry.Reset(time.Minute)
			return
		}
		c.dieLocked()
	})
}

func (c *container) load(ctx context.Context, f *hearth.Function, init hearth.InitType, t *hearth.Timeline) error {
	if err := c.move(phaseLoading); err != nil {
		return err
	}
	now := c.w.cfg.Clock.Now
	began := now()
	if f.CapacityProvider != nil {
		init = hearth.InitManaged
	}
	c.f, c.init = f, init
	c.meterFor(f)
	if err := c.hold(ctx); err != nil {
		c.die()
		return err
	}
	c.name = streamName(f, began)
	sink := logs.NewSink(c.w.cfg.Logs.Appender(f.Account, f.LogGroup(), c.name), f.Logging, c.w.cfg.Clock)
	if f.Shared != nil {
		sink.Withhold()
	}
	c.mu.Lock()
	c.sink = sink
	c.mu.Unlock()
	run, err := c.begin(ctx, c.env, c.boot, telemetry.PhaseInit)
	if err != nil {
		c.die()
		return err
	}
	t.End(hearth.StageAttach, now())
	limited, cancel := context.WithTimeout(ctx, c.w.cfg.InitTimeout)
	defer cancel()
	c.started()
	c.initErr = run(limited)
	if c.initErr == nil {
		t.End(hearth.StageBoot, now())
		c.initErr = c.awaitInit(limited, telemetry.PhaseInit)
	}
	if c.initErr == errInitTimeout && ctx.Err() != nil { // it was not the function's fault
		c.die()
		return hearth.Errorf(hearth.Service, "the init phase was given up: %w", context.Cause(ctx))
	}
	if c.initErr != nil && !ofFunction(c.initErr) {
		c.die()
		return c.initErr
	}
	t.End(hearth.StageInit, now())
	c.initDur = now().Sub(began)
	c.initialized(c.initDur, telemetry.PhaseInit, c.initErr)
	if c.initErr != nil {
		c.initDur = 0 // the invocation that runs it again accounts for that
		c.env.shutdown(reasonFailure)
	} else if err := c.env.sb.SetLimits(c.w.limits(f, true)); err != nil {
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

// ofFunction reports whether an error of an init phase is of the function's
// making, so that the phase is run again and its caller told.
func ofFunction(err error) bool {
	var bad *entrypointError
	var failed *extensionError
	var reported *runtimeapi.FunctionError
	return err == errInitTimeout || errors.As(err, &bad) || errors.As(err, &failed) || errors.As(err, &reported)
}

// begin attaches the code to env, takes its output into the log, and returns
// how to start the extensions and the runtime; what it is given bounds how long
// the extensions may take.
func (c *container) begin(ctx context.Context, env *environment, boot hearth.Boot, phase string) (run func(context.Context) error, err error) {
	c.sink.Tap(env.ext.hub.Line)
	if err := c.sink.Read(env.output); err != nil {
		return nil, env.broken("read its output", err)
	}
	c.keyed = c.w.cfg.Clock.Now()
	if run, err = env.start(ctx, c, boot); err != nil {
		return nil, err
	}
	version, arn := runtimeVersion(c.w.cfg.Runtimes, c.f)
	c.sink.InitStart(logs.InitStart{
		RuntimeVersion: version, RuntimeVersionARN: arn, Function: c.f.Name, Version: c.f.Version, Phase: phase, Type: c.init,
	})
	env.ext.hub.InitStart(telemetry.InitStart{
		Type:  c.init,
		Phase: phase, RuntimeVersion: version, RuntimeVersionARN: arn, Function: c.f.Name, Version: c.f.Version,
		Instance: c.name, MemoryMiB: c.f.MemoryMiB,
	})
	return run, nil
}

// errInitTimeout: the init phase took longer than it may.
var errInitTimeout = errors.New("init timed out")

// awaitInit waits until the runtime and all extensions ask for their first
// event. Its error is a *runtimeapi.FunctionError, an *extensionError, or
// errInitTimeout if ctx was first to end.
func (c *container) awaitInit(ctx context.Context, phase string) error {
	env := c.env
	err := env.awaitRuntime(ctx)
	env.ext.set.Close()
	status, errorType := initStatus(err)
	env.ext.hub.InitRuntimeDone(telemetry.Init{Type: c.init, Phase: phase, Status: status, ErrorType: errorType})
	if err != nil || !env.ext.set.Any() {
		return err
	}
	select {
	case <-env.ext.set.Init():
		return nil
	case <-env.ext.crashed:
		return env.ext.failure()
	case <-env.sb.Exited():
		return env.failure("")
	case <-ctx.Done():
		return errInitTimeout
	}
}

// awaitRuntime waits until the runtime asks for its first event.
func (e *environment) awaitRuntime(ctx context.Context) error {
	select {
	case <-e.api.Ready():
	case <-e.ext.crashed:
	case <-ctx.Done():
		return errInitTimeout
	}
	if crash := e.ext.failure(); crash != nil {
		return crash
	}
	if fe := e.api.InitError(); fe != nil {
		return fe
	}
	if fe := e.api.Failure(); fe != nil {
		return fe
	}
	return nil
}

// initialized tells of the end of an init phase, and of the extensions that it
// brought.
func (c *container) initialized(d time.Duration, phase string, err error) {
	x := c.env.ext
	for _, s := range x.hub.Subscriptions() {
		c.sink.Subscribed(s.Name, s.Logs, s.Types)
	}
	infos := x.set.Infos()
	for _, i := range infos {
		c.sink.Extension(i.Name, i.State.String(), i.Events, i.ErrorType)
		x.hub.Extension(i.Name, i.State.String(), i.Events, i.ErrorType)
	}
	status, errorType := initStatus(err)
	x.hub.InitReport(telemetry.Init{Type: c.init, Phase: phase, Status: status, ErrorType: errorType, Duration: d})
	if !x.hub.Close() {
		c.sink.Tap(nil)
	}
	c.attended = len(infos) > 0
	if err != nil {
		c.sink.InitReport(logs.InitReport{Type: c.init, Duration: d, Phase: phase, Status: status, ErrorType: c.typeOf(errorType)})
	}
}

// initAgain runs the init phase once more, in a fresh environment of the same
// instance and under the function's own timeout, as the service does when the
// first one failed. If it failed again the error is one of those that
// ofFunction knows.
func (c *container) initAgain(ctx context.Context) error {
	env, err := c.renew(ctx)
	if err != nil {
		return err
	}
	began := c.w.cfg.Clock.Now()
	run, err := c.begin(ctx, env, "", telemetry.PhaseInvoke)
	if err != nil {
		return err
	}
	c.started()
	if err = run(ctx); err == nil {
		go c.watch(env)
		err = c.awaitInit(ctx, telemetry.PhaseInvoke)
	}
	if err != nil && !ofFunction(err) {
		return err
	}
	c.initialized(c.w.cfg.Clock.Now().Sub(began), telemetry.PhaseInvoke, err)
	if err != nil {
		return err
	}
	c.initErr = nil
	if err := env.sb.SetLimits(c.w.limits(c.f, true)); err != nil {
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
	c.lookAt(nil)
	if err := stale.destroy(drain); err != nil {
		c.w.cfg.Log.Error("destroy environment", "container", c.id, "err", err)
	}
	c.lookAt(fresh)
	return fresh, nil
}
