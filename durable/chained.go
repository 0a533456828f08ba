package durable

import (
	"fmt"

	"github.com/hearth-faas/hearth"
)

// outcome is what came of a CHAINED_INVOKE.
type outcome struct {
	status Status
	result *string
	err    *Error
}

// refused is the outcome of a call that could not be made.
func refused(err error) outcome {
	message := err.Error()
	if e, ok := asError(err); ok {
		message = e.Message
	}
	return outcome{Failed, nil, failure(string(hearth.KindOf(err)), message)}
}

// updateChained starts the call of another function: at once a new execution,
// if that one is durable, and a plain invocation after the commit if not.
func (c *change) updateChained(u *Update, o *Operation) error {
	switch {
	case o != nil:
		return invalid("Cannot start a CHAINED_INVOKE that already exist.")
	case u.Function == "":
		return invalid("Update for CHAINED_INVOKE operation requires ChainedInvokeOptions.")
	}
	o = c.started(u)
	o.Function, o.TenantID, o.TraceID, o.Input = u.Function, u.TenantID, u.TraceID, u.Payload
	c.wrote(u.Payload, nil)
	e := Event{Function: u.Function, TenantID: u.TenantID, Input: u.Payload}
	f, err := c.setup.resolve(c.record.Account, u.Function)
	if err != nil {
		c.happenedTo(o, ChainedInvokeStarted, e)
		c.chainedEnded(o.ID, refused(err))
		return nil
	}
	e.Version = f.Version
	if f.Durable == nil {
		c.happenedTo(o, ChainedInvokeStarted, e)
		c.calls = append(c.calls, o.ID)
		return nil
	}
	if c.record.Depth == maxDepth {
		c.happenedTo(o, ChainedInvokeStarted, e)
		c.chainedEnded(o.ID, refused(hearth.Errorf(hearth.Recursive,
			"Durable executions may call one another %d deep.", maxDepth)))
		return nil
	}
	s := Begin{Function: f, Input: "{}", Caller: c.record.Caller, TraceID: c.record.TraceID, TenantID: u.TenantID, MaxResult: maxChained}
	if u.Payload != nil {
		s.Input = *u.Payload
	}
	if u.TraceID != "" {
		s.TraceID = u.TraceID
	}
	child := start(s, c.now, c.setup)
	child.record.Depth = c.record.Depth + 1
	child.record.Parent, child.record.ParentOperation = c.record.key(), o.ID
	c.children = append(c.children, child)
	o.Child = child.record.arn()
	e.Child = o.Child
	c.happenedTo(o, ChainedInvokeStarted, e)
	return nil
}

// chainedEnded notes what came of a CHAINED_INVOKE; nothing, if that is known
// already.
func (c *change) chainedEnded(operation string, r outcome) {
	o := c.find(operation)
	if c.record.Status != Running || o == nil || o.Type != TypeChainedInvoke || o.Status != Started {
		return
	}
	if r.result != nil && len(*r.result) > maxChained {
		r = outcome{Failed, nil, failure("", fmt.Sprintf("CHAINED_INVOKE output payload size must be less than or equal to %d bytes.", maxChained))}
	}
	o = c.edit(operation)
	o.Status, o.Ended, o.Result, o.Error = r.status, c.now, r.result, r.err
	c.wrote(r.result, r.err)
	c.happenedTo(o, ending[TypeChainedInvoke][r.status], Event{Result: r.result, Error: r.err})
}

// outcome is what an ended execution is to the one that called it.
func (x *execution) outcome() outcome {
	o := x.byID[x.ID]
	r := outcome{x.Status, o.Result, o.Error}
	if x.Status == TimedOut {
		r.err = failure("ChainedInvoke.Timeout", fmt.Sprintf("CHAINED_INVOKE timed out after %d seconds.", int(x.Timeout.Seconds())))
	}
	return r
}
