package extension

import "fmt"

// State is where an extension is in its life.
type State uint8

// The states.
const (
	// Started: an external extension's process was started; it has not
	// registered.
	Started State = iota
	// Registered: it registered and has not asked for an event.
	Registered
	// Ready: it asked for an event; there is none in its hands.
	Ready
	// Running: it has an event and works on it.
	Running
	// InitError: it reported that its init failed.
	InitError
	// ExitError: it reported that it cannot go on.
	ExitError
	// LaunchError: its process could not be started.
	LaunchError
	// Exited: its process has ended.
	Exited

	states = iota
)

// String names the state as the service does.
func (s State) String() string {
	return [states]string{
		"Started", "Registered", "Ready", "Running", "InitError", "ExitError", "LaunchError", "Exited",
	}[s]
}

// Step is something that happens to an extension and may move it to another
// state.
type Step uint8

// The steps.
const (
	StepRegister    Step = iota // it registers
	StepNext                    // it asks for an event
	StepDeliver                 // an event is handed to it
	StepInitError               // it posts init/error
	StepExitError               // it posts exit/error
	StepLaunchError             // its process could not be started
	StepExit                    // its process has ended

	steps = iota
)

// String names the state that the step leads to, as the service does in its
// error messages.
func (s Step) String() string {
	return [steps]string{"Registered", "Ready", "Running", "InitError", "Exited", "LaunchError", "Exited"}[s]
}

// no marks a step that a state does not allow.
const no = State(0xff)

// transitions is the whole state machine: the state that follows, by the state
// before and the step. A report may be repeated; what was reported stays known
// when the process has ended.
var transitions = [states][steps]State{
	//            register    next   deliver  initError  exitError  launchError  exit
	Started:     {Registered, no, no, no, no, LaunchError, Exited},
	Registered:  {no, Ready, no, InitError, ExitError, no, Exited},
	Ready:       {no, no, Running, no, ExitError, no, Exited},
	Running:     {no, Ready, no, no, ExitError, no, Exited},
	InitError:   {no, no, no, InitError, no, no, InitError},
	ExitError:   {no, no, no, no, ExitError, no, ExitError},
	LaunchError: {no, no, no, no, no, no, no},
	Exited:      {no, no, no, no, no, no, no},
}

// After returns the state that follows s by step, or a [TransitionError] and s
// itself where s does not allow it.
func (s State) After(step Step) (State, error) {
	if to := transitions[s][step]; to != no {
		return to, nil
	}
	return s, &TransitionError{From: s, Step: step}
}

// TransitionError says that a state does not allow a step. The extension is
// told so by status 403 and error type Extension.InvalidExtensionState.
type TransitionError struct {
	From State
	Step Step
	// Extension is its name at registration, afterwards its identifier.
	Extension string
}

// Error is worded as the service's own message.
func (e *TransitionError) Error() string {
	return fmt.Sprintf("State transition from %s to %s failed for extension %s. Error: State transition is not allowed", e.From, e.Step, e.Extension)
}
