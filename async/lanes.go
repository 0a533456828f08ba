package async

import (
	"container/heap"
	"time"

	"github.com/hearth-faas/hearth"
)

// lanes decide which event runs next: one lane a function, so that the flood
// of one does not delay the trickle of another. The lane with the fewest
// events at work goes first, and of those with as many the one that was served
// longest ago. The last quarter of the places, and of the machine's memory, is
// kept for lanes with nothing at work: however many floods there are and however
// long their events take, a newcomer finds a place, and memory to run in. Not
// safe for concurrent use; pure over what it is told.
type lanes struct {
	places  int // how many events may be at work
	room    int // the memory, in MiB, that they may need together; 0 is any
	cost    func(*event) int
	running int
	used    int // of room
	served  uint64
	byName  map[laneName]*lane
	ready   laneHeap // those with something to run
	later   entryHeap
	// holds tells whether an event's first attempt may have to wait for a better
	// time, and may whether the first of a lane of such ones may begin, or when
	// to ask again. nil is that none waits.
	holds   func(*event) bool
	may     func(en *entry, running int, now time.Time) (ok bool, again time.Time)
	blocked map[*lane]time.Time // lanes that wait for it, and when they are asked again
	// stopped tells of accounts of which nothing is to run; nil is that all are.
	stopped func(hearth.Account) bool
}

// laneName names a lane. What may have to wait for a better time has one of its
// own, so that retries do not wait behind it.
type laneName struct {
	account  hearth.Account
	function string
	held     bool
}

// lane is the events of one function.
type lane struct {
	name    laneName
	waiting []*entry // in the order in which they became due
	running int
	last    uint64 // when it was served
	index   int    // in the heap; -1 if it is not there
}

// entry is an event in memory: enough to order it.
type entry struct {
	id       string
	accepted time.Time
	due      time.Time
	mib      int // what running it takes
	lane     *lane
	// Of one that was held: what was decided in the end, and whether it was told
	// that it waits.
	start Start
	told  bool
}

// newLanes makes lanes for so many places and so much memory. cost tells what
// an event needs of that; nil is that memory is not looked at.
func newLanes(places, room int, cost func(*event) int) *lanes {
	if cost == nil || room <= 0 {
		cost = func(*event) int { return 0 }
	}
	return &lanes{places: max(places, 1), room: room, cost: cost, byName: map[laneName]*lane{}, blocked: map[*lane]time.Time{}}
}

// add takes in an event.
func (l *lanes) add(e *event, now time.Time) {
	name := laneName{e.Account, e.Function, l.holds != nil && l.holds(e)}
	ln := l.byName[name]
	if ln == nil {
		ln = &lane{name: name, index: -1}
		l.byName[name] = ln
	}
	en := &entry{id: e.ID, accepted: e.Accepted, due: e.Due, mib: l.cost(e), lane: ln}
	if e.Due.After(now) {
		heap.Push(&l.later, en)
		return
	}
	l.enqueue(en)
}

func (l *lanes) enqueue(en *entry) {
	en.lane.waiting = append(en.lane.waiting, en)
	l.place(en.lane)
}

// place brings the lane to where it belongs.
func (l *lanes) place(ln *lane) {
	switch {
	case len(ln.waiting) > 0 && ln.index < 0:
		if _, waits := l.blocked[ln]; !waits {
			heap.Push(&l.ready, ln)
		}
	case len(ln.waiting) > 0:
		heap.Fix(&l.ready, ln.index)
	case ln.index >= 0:
		heap.Remove(&l.ready, ln.index)
	}
	if len(ln.waiting) == 0 && ln.running == 0 {
		// What waits for its time in later keeps a pointer to the lane, and
		// brings it back.
		delete(l.byName, ln.name)
	}
}

// next takes the event that is to run now, or returns nil if there is none or
// no place for it.
func (l *lanes) next(now time.Time) *entry {
	for len(l.later) > 0 && !l.later[0].due.After(now) {
		en := heap.Pop(&l.later).(*entry)
		if at := l.byName[en.lane.name]; at != nil {
			en.lane = at
		} else {
			l.byName[en.lane.name] = en.lane
		}
		l.enqueue(en)
	}
	for ln, again := range l.blocked {
		if !again.After(now) {
			l.unblock(ln)
		}
	}
	for len(l.ready) > 0 && l.running < l.places {
		ln := l.ready[0]
		if l.stopped != nil && l.stopped(ln.name.account) {
			heap.Remove(&l.ready, ln.index)
			l.blocked[ln] = now.Add(askStopped)
			continue
		}
		en := ln.waiting[0]
		if ln.running > 0 && (l.running >= l.places-l.places/4 || !l.fits(en, l.room-l.room/4)) {
			return nil // and no other lane has less at work
		}
		if !l.fits(en, l.room) {
			return nil // nor may a smaller event overtake it for ever
		}
		if ln.name.held {
			if ok, again := l.may(en, ln.running, now); !ok {
				// Those behind it were accepted later, and can wait longer.
				heap.Remove(&l.ready, ln.index)
				l.blocked[ln] = again
				continue
			}
		}
		return l.take(ln)
	}
	return nil
}

// askStopped is when a lane of a stopped account is asked about again by itself;
// whoever lets the account go on calls Reconsider.
const askStopped = time.Minute

// unblock has the lane asked again.
func (l *lanes) unblock(ln *lane) {
	delete(l.blocked, ln)
	l.place(ln)
}

// unblockAll has all lanes asked again.
func (l *lanes) unblockAll() {
	for ln := range l.blocked {
		l.unblock(ln)
	}
}

// held is how many events wait for a better time.
func (l *lanes) held() (n int) {
	for ln := range l.blocked {
		n += len(ln.waiting)
	}
	return n
}

// take takes the first event of a lane that is ready.
func (l *lanes) take(ln *lane) *entry {
	en := ln.waiting[0]
	ln.waiting[0] = nil
	ln.waiting = ln.waiting[1:]
	l.served++
	l.running++
	l.used += en.mib
	ln.running++
	ln.last = l.served
	l.place(ln)
	return en
}

// fits tells whether the event can run within room. What is alone may run in
// any case: the machine decides whether it can.
func (l *lanes) fits(en *entry, room int) bool {
	return en.mib == 0 || l.used == 0 || l.used+en.mib <= room
}

// done gives back the place of an event that next gave out.
func (l *lanes) done(en *entry) {
	l.running--
	l.used -= en.mib
	en.lane.running--
	if _, waits := l.blocked[en.lane]; waits {
		l.unblock(en.lane) // it may have waited for that
		return
	}
	l.place(en.lane)
}

// waits is how long it is until a further event becomes due; false if none
// will by itself.
func (l *lanes) waits(now time.Time) (time.Duration, bool) {
	first, ok := time.Time{}, false
	if len(l.later) > 0 {
		first, ok = l.later[0].due, true
	}
	for _, again := range l.blocked {
		if !ok || again.Before(first) {
			first, ok = again, true
		}
	}
	return first.Sub(now), ok
}

// depth is how many events wait, due or not.
func (l *lanes) depth() int {
	n := len(l.later)
	for _, ln := range l.byName {
		n += len(ln.waiting)
	}
	return n
}

type laneHeap []*lane

func (h laneHeap) Len() int { return len(h) }
func (h laneHeap) Less(i, j int) bool {
	if h[i].running != h[j].running {
		return h[i].running < h[j].running
	}
	return h[i].last < h[j].last
}
func (h laneHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *laneHeap) Push(x any) {
	ln := x.(*lane)
	ln.index = len(*h)
	*h = append(*h, ln)
}
func (h *laneHeap) Pop() any {
	old := *h
	ln := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	ln.index = -1
	return ln
}

type entryHeap []*entry

func (h entryHeap) Len() int           { return len(h) }
func (h entryHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h entryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *entryHeap) Push(x any)        { *h = append(*h, x.(*entry)) }
func (h *entryHeap) Pop() any {
	old := *h
	en := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return en
}
