package durable

import (
	"time"

	"github.com/hearth-faas/hearth"
)

// Callback is what an outsider says of a callback: that it went well, with a
// result or none, or with Error that it did not, or with Heartbeat that it is
// still being worked on.
type Callback struct {
	ID        string
	Result    *string
	Error     *Error
	Heartbeat bool
}

func errCallbackID() error { return invalid("Invalid callback id") }

func errCallbackClosed() error {
	return hearth.Errorf(hearth.CallbackTimeout, "The callback is either timed out or already completed")
}

// calledBack ends the callback, or notes that it lives.
func (c *change) calledBack(operation string, b Callback) error {
	o := c.find(operation)
	if c.record.Status != Running || o == nil || o.CallbackID != b.ID || o.Status != Started {
		return errCallbackClosed()
	}
	// It is late, even if nothing has noticed yet.
	if next := o.next(); !next.IsZero() && !next.After(c.now) {
		return errCallbackClosed()
	}
	if b.Heartbeat {
		if o.Heartbeat > 0 {
			// This is no change that the function has to know of.
			before := c.record.Changes
			changed := o.Changed
			o = c.edit(operation)
			o.HeartbeatDue = c.now.Add(time.Duration(o.Heartbeat) * time.Second)
			o.Changed, c.record.Changes = changed, before
		}
		return nil
	}
	o = c.edit(operation)
	o.Status, o.Ended = Succeeded, c.now
	if b.Error != nil {
		o.Status = Failed
	}
	o.Result, o.Error = b.Result, b.Error
	c.wrote(b.Result, b.Error)
	c.happenedTo(o, ending[TypeCallback][o.Status], Event{Result: b.Result, Error: b.Error})
	return nil
}
