package manager

import "github.com/hearth-faas/hearth"

// Search decides where a container is made that no idle one could spare: the
// search order of S00.3 without its first step, which the warm path takes.
//
//	b  a ready slot in an instance of the account with room
//	c  a ready instance from the warming pool
//	b  room in an instance of the account: a slot is made there first
//	d  nothing: an instance is made first
//
// S00.3 puts an instance of the account before the warming pool. That order
// is kept among what is ready, and among what is not; but making a slot means
// making a sandbox and often booting an interpreter, and no boot is put
// before a caller whom something ready could serve. A slot is ready for a
// function if it has the function's interpreter booted ("exact") or nothing
// at all ("blank": the interpreter is then started in it). Exact ones go
// before blank ones, on the same ground: a blank one has a boot left to do.
//
// Of several instances that would do, the fullest is taken, so that the
// emptiest run dry and end; of equals, the first.
type Search struct {
	// Spread has the emptiest instance taken instead, so that each of them has a
	// container of what it is to serve: of instances that stay whether they have
	// any or not.
	Spread bool
}

// Room is what Search sees of an instance of the account.
type Room struct {
	FreeMiB int // memory of the instance that no container has
	Exact   int // ready slots with the function's boot
	Blank   int // ready slots with nothing booted, if the function has a boot
}

// Choice is what Search found. Room is the index of the chosen instance, -1
// on the paths c and d. Ready says that a slot is there, and Exact that it
// has the function's boot; if not ready, one must be made.
type Choice struct {
	Path  hearth.Path
	Room  int
	Ready bool
	Exact bool
	Why   string
}

// Choose finds a place for a container of mib MiB. exact and blank count the
// fitting ready instances of the warming pool.
func (s Search) Choose(mib int, rooms []Room, exact, blank int) Choice {
	fullest := func(ready func(Room) bool) int {
		best := -1
		for i, r := range rooms {
			if r.FreeMiB >= mib && ready(r) && (best < 0 || (r.FreeMiB < rooms[best].FreeMiB) != s.Spread && r.FreeMiB != rooms[best].FreeMiB) {
				best = i
			}
		}
		return best
	}
	if i := fullest(func(r Room) bool { return r.Exact > 0 }); i >= 0 {
		return Choice{hearth.PathContainer, i, true, true, "an instance of the account had a ready slot"}
	}
	if exact > 0 {
		return Choice{hearth.PathWarm, -1, true, true, "no instance of the account had a ready slot, the warming pool had a ready instance"}
	}
	if i := fullest(func(r Room) bool { return r.Blank > 0 }); i >= 0 {
		return Choice{hearth.PathContainer, i, true, false, "an instance of the account had a ready slot, without the interpreter"}
	}
	if blank > 0 {
		return Choice{hearth.PathWarm, -1, true, false, "the warming pool had a ready instance, without the interpreter"}
	}
	if i := fullest(func(Room) bool { return true }); i >= 0 {
		return Choice{hearth.PathContainer, i, false, true, "nothing was ready, an instance of the account had room for a new slot"}
	}
	return Choice{hearth.PathCold, -1, false, true, "nothing was ready, and no instance of the account had room"}
}
