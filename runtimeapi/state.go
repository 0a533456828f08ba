package runtimeapi

import "fmt"

// State is where an environment is in its life, as its runtime sees it.
type State uint8

// The states.
const (
	// Started: the runtime runs its init and has not asked for an event.
	Started State = iota
	// InitFailed: the runtime reported that its init failed.
	InitFailed
	// Ready: the runtime asked for an event; there is none in its hands.
	Ready
	// Running: the runtime has an event and works on it.
	Running
	// Responding: the response to the event is being read.
	Responding
	// RespondingError: the error report for the event is being read.
	RespondingError
	// Responded: the event was answered; the runtime may finish its own
	// business until it asks for the next one.
	Responded
	// Abandoned: the runtime works on an event whose caller has gone; the
	// answer would be refused.
	Abandoned
	// Dead: the runtime has ended. No state follows.
	Dead

	states = iota
)

// String names the state as the service does in its error messages.
func (s State) String() string {
	return [states]string{
		"Started", "InitError", "Ready", "Running", "InvocationResponse",
		"InvocationErrorResponse", "ResponseSent", "Abandoned", "Dead",
	}[s]
}

// Step is something that happens to an environment and may move it to another
// state.
type Step uint8

// The steps.
const (
	StepNext          Step = iota // the runtime asks for an event
	StepInitError                 // the runtime posts init/error
	StepHandOver                  // an event is written to the runtime
	StepUndelivered               // ... and the connection broke on the way
	StepResponse                  // a response to the event begins
	StepErrorResponse             // an error report for the event begins
	StepAnswered                  // the response or report was read
	StepAbandon                   // the caller has gone
	StepDie                       // the runtime has ended

	steps = iota
)

// String names the state that the step leads to, as the service does in its
// error messages.
func (s Step) String() string {
	return [steps]string{
		"Ready", "InitError", "Running", "Ready", "InvocationResponse",
		"InvocationErrorResponse", "ResponseSent", "Abandoned", "Dead",
	}[s]
}

// no marks a step that a state does not allow.
const no = State(0xff)

// transitions is the whole state machine: the state that follows, by the state
// before and the step. Two entries are the service's own habits: a runtime may
// ask for the next event more than once, and while it has one it is given the
// same one again, so that it can retry after a broken connection.
var transitions = [states][steps]State{
	//                next     initError   handOver undeliv. response    error            answered   abandon    die
	Started:         {Ready, InitFailed, no, no, no, no, no, no, Dead},
	InitFailed:      {no, no, no, no, no, no, no, no, Dead},
	Ready:           {Ready, no, Running, no, no, no, no, no, Dead},
	Running:         {Running, no, no, Ready, Responding, RespondingError, no, Abandoned, Dead},
	Responding:      {no, no, no, no, no, no, Responded, Abandoned, Dead},
	RespondingError: {no, no, no, no, no, no, Responded, Abandoned, Dead},
	Responded:       {Ready, no, no, no, no, no, no, no, Dead},
	Abandoned:       {Ready, no, no, no, no, no, no, no, Dead},
	Dead:            {no, no, no, no, no, no, no, no, no},
}

// After returns the state that follows s by step, or a [TransitionError] and s
// itself where s does not allow it.
func (s State) After(step Step) (State, error) {
	if to := transitions[s][step]; to != no {
		return to, nil
	}
	return s, &TransitionError{From: s, Step: step}
}

// TransitionError says that a state does not allow a step. The runtime is told
// so by status 403 and error type InvalidStateTransition.
type TransitionError struct {
	From State
	Step Step
}

// Error is worded as the service's own message.
func (e *TransitionError) Error() string {
	return fmt.Sprintf("State transition from %s to %s failed for runtime. Error: State transition is not allowed", e.From, e.Step)
}
