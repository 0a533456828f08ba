package async

import (
	"time"

	"github.com/hearth-faas/hearth"
)

// Policy is how a function wants its asynchronous invocations handled.
type Policy struct {
	MaxAge     time.Duration // of an event; beyond it there is no further attempt
	MaxRetries int           // after an attempt that the function failed
	// OnSuccess and OnFailure are the ARNs of what is told of an event's end,
	// DeadLetter of what gets the event itself after a failure; "" is nothing.
	OnSuccess, OnFailure, DeadLetter string
	// Halted is that nothing of the function may run: its reserved concurrency
	// is none. Its events fail at once, as with the service.
	Halted bool
}

// DefaultPolicy is the service's for a function that configured nothing.
var DefaultPolicy = Policy{MaxAge: 6 * time.Hour, MaxRetries: 2}

// Delays are how long an event waits for its next attempt.
type Delays struct {
	// Failed is for the first retry after the function failed; each further
	// one waits twice as long. The service's is a minute.
	Failed time.Duration
	// Missed is for the first retry after an attempt that did not get to run
	// the function, because it was throttled or something else broke; each
	// further one waits twice as long, up to MissedMax. The service's are a
	// second and five minutes.
	Missed, MissedMax time.Duration
}

// DefaultDelays are the service's.
var DefaultDelays = Delays{Failed: time.Minute, Missed: time.Second, MissedMax: 5 * time.Minute}

// fate is what becomes of an event after an attempt.
type fate uint8

const (
	fateRetry   fate = iota
	fateSuccess      // it ended well
	fateFailure      // there is no further attempt
	fateVoid         // its function is gone: nobody is to be told
)

// verdict is what is decided after an attempt.
type verdict struct {
	fate fate
	due  time.Time // of a retry
	// condition is the service's word for the end, as destinations are told.
	condition string
}

// The service's words.
const (
	conditionSuccess   = "Success"
	conditionExhausted = "RetriesExhausted"
	conditionAge       = "EventAgeExceeded"
)

// judge decides after an attempt at e, which it counts in e. jitter is a
// number from 0 to below 1 that spreads what would else be tried again at
// once.
func (p Policy) judge(e *event, r *hearth.Result, err error, d Delays, now time.Time, jitter float64) verdict {
	var wait time.Duration
	switch kind := hearth.KindOf(err); {
	case err == nil && r.FunctionError == "":
		return verdict{fate: fateSuccess, condition: conditionSuccess}
	case err == nil:
		e.Attempts++
		e.Misses = 0
		if e.Attempts > p.MaxRetries {
			return verdict{fate: fateFailure, condition: conditionExhausted}
		}
		wait = d.Failed << (e.Attempts - 1)
	case kind == hearth.NotFound:
		return verdict{fate: fateVoid}
	case final(kind), p.Halted && kind == hearth.TooManyRequests:
		return verdict{fate: fateFailure, condition: conditionExhausted}
	default:
		e.Misses++
		wait = min(d.Missed<<min(e.Misses-1, 30), d.MissedMax)
		if wait <= 0 { // shifted out
			wait = d.MissedMax
		}
		wait = wait/2 + time.Duration(jitter*float64(wait))/2
	}
	due := now.Add(wait)
	if due.Sub(e.Accepted) > p.MaxAge {
		return verdict{fate: fateFailure, condition: conditionAge}
	}
	return verdict{fate: fateRetry, due: due}
}

// final tells errors that no further attempt can mend.
func final(k hearth.Kind) bool {
	switch k {
	case hearth.TooManyRequests, hearth.Conflict, hearth.NotReady, hearth.Canceled:
		return false
	}
	return k.Status() < 500
}
