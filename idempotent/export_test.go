package idempotent

// InFlight is how many runs are not recorded yet.
func (a *Avoider) InFlight() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.flights)
}

// Waiting is how many callers wait for the run of which there is one.
func (a *Avoider) Waiting() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.flights {
		n += f.callers
	}
	return n
}

// Crowd is how many requests wait for states.
func (a *Avoider) Crowd() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.waiting {
		n += w
	}
	return n
}
