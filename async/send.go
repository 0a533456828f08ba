package async

import (
	"fmt"
	"time"
)

// How often a destination outside is tried before the event is parked, and how
// long the first pause is, of which each further one is twice as long. The
// event keeps its place meanwhile, so it is not long.
const (
	sendTries = 4
	sendPause = 500 * time.Millisecond
)

// send delivers to a destination that is no function. The error is why that
// could not be done, and the way out if there is one.
func (q *Queue) send(service, arn string, body []byte, attributes map[string]string) error {
	s := q.cfg.Senders[service]
	if s == nil {
		return fmt.Errorf("nothing here delivers to %s: give the function a destination that Hearth has, such as another function, and redrive this event", arn)
	}
	pause := sendPause
	for try := 1; ; try++ {
		err := s.Send(q.ctx, arn, body, attributes)
		switch {
		case err == nil:
			return nil
		case try == sendTries || q.ctx.Err() != nil || !q.pause(pause):
			return fmt.Errorf("could not be sent to %s: %w", arn, err)
		}
		pause *= 2
	}
}

// pause waits; false is that the Queue stopped.
func (q *Queue) pause(d time.Duration) bool {
	over := make(chan struct{})
	t := q.cfg.Clock.AfterFunc(d, func() { close(over) })
	select {
	case <-over:
		return true
	case <-q.ctx.Done():
		t.Stop()
		return false
	}
}
