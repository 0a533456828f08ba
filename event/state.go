package event

// State is where a mapping is in its life, as the Lambda API spells it.
type State string

// The states. Enabled and Disabled are where a mapping rests; in each other
// one something is being done to it, and nothing else can be.
const (
	Creating  State = "Creating"
	Enabling  State = "Enabling"
	Enabled   State = "Enabled"
	Disabling State = "Disabling"
	Disabled  State = "Disabled"
	Updating  State = "Updating"
	Deleting  State = "Deleting"
)

// Rests tells whether nothing is in progress.
func (s State) Rests() bool { return s == Enabled || s == Disabled }

// changing is the state of a mapping in s while it is changed to be enabled
// or not. s must rest.
func (s State) changing(enabled bool) State {
	switch {
	case s == Disabled && enabled:
		return Enabling
	case s == Enabled && !enabled:
		return Disabling
	}
	return Updating
}

// settled is the state after whatever is in progress.
func settled(enabled bool) State {
	if enabled {
		return Enabled
	}
	return Disabled
}
