package runtimeapi

import (
	"context"
	"io"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

const (
	// maxStreamed bounds a streamed response, in bytes: the service's 200 MB.
	maxStreamed = 200 << 20
	// exitGrace is how long a response that broke off waits to hear that the
	// runtime has ended, which is the better reason to report. The news are no
	// later than that where the processors are kept busy by others, or are held
	// back by a quota.
	exitGrace = time.Second
)

// Invoke gives the runtime one event, as soon as it asks for one, and returns
// what it answers, at the last byte of the response: the runtime may have work
// of its own to do before it asks for the next event (see NextWaiting).
//
// A function that reported an error is a Response with ErrorType. An error
// means something else:
//   - a *FunctionError: the runtime ended (Fail), its init failed, or it
//     streamed more than a response may have; the environment is to serve no
//     more.
//   - kind ContainerGone: it had ended before the runtime saw the event.
//   - kind Canceled: ctx ended, and a late answer of the runtime is refused;
//     or the Stream refused a write, and what the runtime sent after that was
//     read to its end. It can serve again once it asks for an event.
//   - kind Service: an invocation is under way already.
//
// With an error, Response tells only whether a stream was begun.
func (e *Environment) Invoke(ctx context.Context, ev *Event) (Response, error) {
	e.mu.Lock()
	switch {
	case e.event != nil:
		e.mu.Unlock()
		return Response{}, hearth.Errorf(hearth.Service, "the execution environment serves another invocation")
	case e.state == Dead:
		e.seen = false
		err := e.gone()
		e.mu.Unlock()
		return Response{}, err
	case e.initError != nil:
		e.mu.Unlock()
		return Response{}, e.initError
	case ctx.Err() != nil:
		e.mu.Unlock()
		return Response{}, canceled(ctx)
	}
	e.seq++
	seq := e.seq
	e.event, e.pending, e.seen = ev, true, false
	e.deliver(ctx) // unlocks

	var o outcome
	select {
	case o = <-e.outcomes:
	case <-ctx.Done():
		if e.abandon(seq) {
			return Response{}, canceled(ctx)
		}
		o = <-e.outcomes
	}
	return e.finish(ctx, ev, o)
}

// deliver hands the present event to a connection that waits for one, if there
// is one; otherwise the next one to ask gets it. A connection that breaks on
// the way has not shown the function a whole event, so that another may get
// it. e.mu is held, and released on return. ctx bounds the write.
func (e *Environment) deliver(ctx context.Context) {
	for e.pending && e.state == Ready && len(e.parked) > 0 {
		c, ev, seq := e.parked[0], e.event, e.seq
		e.parked = append(e.parked[:0], e.parked[1:]...)
		e.must(StepHandOver)
		e.seen, e.id = true, ev.RequestID
		c.parked = false
		last := c.last
		c.writing.Lock()
		if c.turn != nil {
			close(c.turn)
			c.turn = nil
		}
		e.mu.Unlock()
		err := c.sendEvent(ctx, ev)
		c.writing.Unlock()
		if err != nil || last {
			c.net.Close()
		}
		if err == nil {
			return
		}
		e.mu.Lock()
		if e.seq != seq || e.state != Running {
			break
		}
		e.must(StepUndelivered)
		e.seen, e.id = false, ""
	}
	e.mu.Unlock()
}

// abandon takes the caller off invocation seq and reports whether it was
// still waiting; if not, its outcome is in the channel.
func (e *Environment) abandon(seq uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seq != seq || !e.pending {
		return false
	}
	e.pending, e.event, e.id = false, nil, ""
	if e.seen {
		e.must(StepAbandon)
	}
	return true
}

// finish turns an outcome into Invoke's result.
func (e *Environment) finish(ctx context.Context, ev *Event, o outcome) (Response, error) {
	if o.stream == nil {
		return o.response, o.err
	}
	return e.pump(ctx, ev, o.stream, o.response.ContentType)
}

// pump passes a streamed response on, piece by piece: a receiver that is slow
// makes the function slow, through the connection's own window. One that has
// gone does not end the function, whose response is then read and forgotten.
func (e *Environment) pump(ctx context.Context, ev *Event, c *conn, contentType string) (Response, error) {
	end := breakOff(ctx, c.net.SetReadDeadline)
	r := Response{ContentType: contentType}
	err, refused := c.body.passOn(ev, &r)
	end()

	e.mu.Lock()
	e.event = nil
	verdict := streamBroken
	switch {
	case e.state == Dead:
		err = e.failure
	case err == nil:
		e.must(StepAnswered)
		verdict = streamTaken
		if refused != nil {
			err = &hearth.Error{Op: "runtimeapi.Invoke", Kind: hearth.Canceled, Message: "the caller has gone", Err: refused}
		}
	case err == errTooLarge:
		e.must(StepAnswered)
		verdict, err = streamTooLarge, tooLarge(maxStreamed)
	case ctx.Err() != nil:
		e.must(StepAbandon)
		e.id = ""
		err = canceled(ctx)
	default:
		e.mu.Unlock()
		died := e.died()
		e.mu.Lock()
		if died || e.state == Dead {
			err = e.failure
			break
		}
		e.must(StepAnswered)
		fe := truncated(ev.RequestID)
		r.ErrorType, r.Payload, err = fe.Type, fe.Body, nil
	}
	e.mu.Unlock()
	c.verdict <- verdict
	return r, err
}

// died waits a moment for the runtime to be reported as ended.
func (e *Environment) died() bool {
	t := time.NewTimer(exitGrace)
	defer t.Stop()
	select {
	case <-e.dead:
		return true
	case <-t.C:
		return false
	}
}

// passOn copies the body to the event's stream until its end and fills in r
// what the trailers say. err is the body's failure, refused the first of the
// stream, which is given nothing more after it.
func (b *body) passOn(ev *Event, r *Response) (err, refused error) {
	scratch := scratches.Get().(*[scratchSize]byte)
	defer scratches.Put(scratch)
	for total := 0; ; {
		n, err := b.Read(scratch[:])
		if n > 0 && !r.Streamed || err == io.EOF && !r.Streamed && b.errorType == "" {
			r.Streamed = true
			refused = ev.Stream.Start(r.ContentType, ev.Deadline)
		}
		if n > 0 && refused == nil {
			_, refused = ev.Stream.Write(scratch[:n])
		}
		if total += n; total > maxStreamed {
			return errTooLarge, refused
		}
		switch {
		case err == io.EOF:
			r.ErrorType, r.Payload = b.errorType, b.errorBody
			return nil, refused
		case err != nil:
			return err, refused
		}
	}
}
