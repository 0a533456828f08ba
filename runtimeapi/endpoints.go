package runtimeapi

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strconv"

	hearth "github.com/hearth-faas/hearth"
)

// forbidden answers a step that the state does not allow.
func (c *conn) forbidden(err error) bool {
	return c.fail(http.StatusForbidden, invalidTransition, err.Error())
}

// unreadable answers a body that could not be read, or not be taken.
func (c *conn) unreadable(err error, limit int) bool {
	if errors.Is(err, errTooLarge) {
		return c.fail(http.StatusRequestEntityTooLarge, entityTooLarge,
			"Exceeded maximum allowed payload size ("+strconv.Itoa(limit)+" bytes).")
	}
	c.refuse(answerMalformed(err))
	return false
}

// next serves the long poll for an event: it parks the connection, from where
// deliver takes it, here or in a later Invoke.
func (c *conn) next() bool {
	if c.body.discard() != nil {
		return false
	}
	e := c.env
	e.mu.Lock()
	before := e.state
	if err := e.step(StepNext); err != nil {
		e.mu.Unlock()
		return c.forbidden(err)
	}
	if before == Running {
		ev := e.event
		c.writing.Lock()
		e.mu.Unlock()
		err := c.sendEvent(context.Background(), ev)
		c.writing.Unlock()
		return err == nil && !c.req.close
	}
	e.markReady()
	c.parked, c.last = true, c.req.close
	e.parked = append(e.parked, c)
	idle := e.event == nil
	e.deliver(context.Background()) // unlocks
	if idle && e.opt.OnNext != nil {
		e.opt.OnNext()
	}
	return true
}

// respond serves a response or an error report. The caller gets it before the
// runtime gets its answer.
func (c *conn) respond(id []byte, step Step) bool {
	e := c.env
	mode := c.req.responseMode
	contentType := contentTypeOf(c.req.contentType)
	errorType := ""
	if step == StepErrorResponse {
		errorType = validType(c.req.errorType)
	}

	e.mu.Lock()
	if e.id == "" || string(id) != e.id {
		e.mu.Unlock()
		return c.stale()
	}
	if err := e.step(step); err != nil {
		e.mu.Unlock()
		return c.forbidden(err)
	}
	ev, seq := e.event, e.seq
	requestID := ev.RequestID
	// What a runtime sends in chunks is streamed for a caller who wants that,
	// whatever the header says: aws-lambda-go has no such header.
	streaming := step == StepResponse && (string(mode) == "streaming" || len(mode) == 0 && c.body.chunked)
	switch {
	case step == StepResponse && len(mode) > 0 && string(mode) != "streaming":
		e.mu.Unlock()
		e.answered(seq, errorOutcome(invalidMode(requestID)))
		return c.fail(http.StatusBadRequest, invalidModeHeader, "Invalid function response mode")
	case streaming && ev.Stream != nil:
		if c.verdict == nil {
			c.verdict = make(chan streamEnds, 1)
		}
		e.settle(outcome{response: Response{ContentType: contentType}, stream: c})
		e.mu.Unlock()
		return c.streamed()
	}
	e.mu.Unlock()

	payload, err := c.body.readAll(hearth.MaxPayload)
	if err != nil {
		return c.brokenResponse(err, seq, requestID)
	}
	r := Response{Payload: payload, ContentType: contentType, ErrorType: errorType}
	if c.body.errorType != "" && errorType == "" { // in the trailers
		r.ErrorType, r.Payload = c.body.errorType, c.body.errorBody
	}
	if !e.answered(seq, outcome{response: r}) {
		return c.stale()
	}
	// Let the caller go on first: it has an answer to write, too.
	runtime.Gosched()
	return c.accepted()
}

// stale answers a response to an event that nobody waits for.
func (c *conn) stale() bool {
	return c.fail(http.StatusBadRequest, invalidRequestID, "Invalid request ID")
}

// brokenResponse deals with a response that could not be read as a whole.
func (c *conn) brokenResponse(err error, seq uint64, requestID string) bool {
	e := c.env
	if errors.Is(err, errTooLarge) {
		e.answered(seq, errorOutcome(tooLarge(hearth.MaxPayload)))
		return c.unreadable(err, hearth.MaxPayload)
	}
	if !errors.Is(err, errMalformed) && !errors.Is(err, errHeadTooBig) && e.died() {
		return false
	}
	e.answered(seq, errorOutcome(truncated(requestID)))
	return c.unreadable(err, hearth.MaxPayload)
}

// streamed waits until the response was passed on, and answers.
func (c *conn) streamed() bool {
	switch <-c.verdict {
	case streamTaken:
		return c.accepted()
	case streamTooLarge:
		return c.unreadable(errTooLarge, maxStreamed)
	default:
		c.refuse(answerMalformed(errTruncated))
		return false
	}
}

// answered settles invocation seq, whose response was read; false if its
// caller has gone.
func (e *Environment) answered(seq uint64, o outcome) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seq != seq || !e.pending {
		return false
	}
	e.must(StepAnswered)
	e.settle(o)
	return true
}

// errorOutcome is an invocation that failed in the function's half.
func errorOutcome(fe *FunctionError) outcome {
	return outcome{response: Response{Payload: fe.Body, ContentType: "application/json", ErrorType: fe.Type}}
}

// initError serves the report that the init phase has failed.
func (c *conn) initError() bool {
	e := c.env
	errorType := validType(c.req.errorType)
	e.mu.Lock()
	if err := e.step(StepInitError); err != nil {
		e.mu.Unlock()
		return c.forbidden(err)
	}
	e.mu.Unlock()

	body, err := c.body.readAll(hearth.MaxPayload)
	fe := &FunctionError{Type: errorType, Body: body}
	if err != nil || len(body) == 0 {
		fe = NewFunctionError(errorType, "Unknown application error occurred")
	}
	e.mu.Lock()
	if e.state == InitFailed {
		e.initError = fe
		if e.pending {
			e.settle(outcome{err: fe})
		}
		e.markReady()
	}
	e.mu.Unlock()
	if err != nil {
		return c.unreadable(err, hearth.MaxPayload)
	}
	return c.accepted()
}
