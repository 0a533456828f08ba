package manager

// Pack decides when an account has more instances than its load needs, and
// which one goes: scale-in by packing (S04.5). The one that is chosen may be at
// work. From then on nothing new comes to it, even where it has more room than
// others; what it runs is let end, and with its last execution it ends.
//
// A victim must be one whose end nobody will feel: without it the account
// still has room for the most that it did at once lately, and each function
// has as many containers elsewhere as it needed at once, and one at least.
type Pack struct {
	// Level is the share of the instances' memory that was needed at once
	// lately, below which there is one too many.
	Level float64
}

// Load is what Pack sees of an instance of an account.
type Load struct {
	CapMiB  int
	BusyMiB int // of the containers at work now
	// Pinned says that somebody would feel its end: something is being made in
	// it, or it has a container that is provisioned, foretold or needed.
	Pinned bool
}

// Choose returns the index of the victim, or -1: of those that are not pinned
// the one that is least at work, of equals the first. needMiB is the memory
// that the account's containers needed at once lately.
func (p Pack) Choose(needMiB int, loads []Load) int {
	capacity := 0
	for _, l := range loads {
		capacity += l.CapMiB
	}
	if len(loads) < 2 || float64(needMiB) >= p.Level*float64(capacity) {
		return -1
	}
	best := -1
	for i, l := range loads {
		if l.Pinned || needMiB > capacity-l.CapMiB {
			continue
		}
		if best < 0 || l.BusyMiB < loads[best].BusyMiB {
			best = i
		}
	}
	return best
}
