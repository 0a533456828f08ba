// Package processors tells how much this machine's processors have to do.
package processors

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// From Full of their time on the processors are all at work, and below Calm
// there are some to spare. Between the two it stays as it was.
const (
	Full = 0.92
	Calm = 0.8
)

const (
	// lookEvery is how often the kernel is asked at most.
	lookEvery = 100 * time.Millisecond
	// calmFor is how long there must be some to spare until Pressed says so: what
	// is held back for its sake would else come back at once.
	calmFor = 2 * time.Second
)

// Load looks at the processors when somebody asks, and not more often than each
// 100 ms, whoever asks. Nothing is done in between. Safe for concurrent use.
type Load struct {
	read func() (idle, all uint64, err error) // ticks since the machine started

	looked  atomic.Int64 // Unix nanoseconds; written under mu
	pressed atomic.Bool  // the same

	mu        sync.Mutex
	idle, all uint64
	part      float64
	known     bool
	calm      time.Duration // for how long there were some to spare
}

// New makes a Load that reads /proc/stat.
func New() *Load { return &Load{read: readProc} }

// Busy tells which part of the processors' time was used of late, from 0 to 1:
// since they were looked at before, 100 ms ago or more. ok is false if it is
// not known.
func (l *Load) Busy() (part float64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look(time.Now())
	return l.part, l.known
}

// Pressed tells whether the processors are all at work, so that who could use
// more of them should not. It is false as long as it is not known. It waits for
// nobody, but may look, which takes some 50 µs.
func (l *Load) Pressed() bool {
	if now := time.Now(); now.UnixNano()-l.looked.Load() >= int64(lookEvery) && l.mu.TryLock() {
		l.look(now)
		l.mu.Unlock()
	}
	return l.pressed.Load()
}

// look reads anew what is known if that is old. Called with mu held.
func (l *Load) look(now time.Time) {
	since := time.Duration(now.UnixNano() - l.looked.Load())
	if since < lookEvery {
		return
	}
	l.looked.Store(now.UnixNano())
	idle, all, err := l.read()
	if err != nil {
		l.part, l.known = 0, false
		l.idle, l.all = 0, 0
		l.pressed.Store(false)
		return
	}
	first := l.all == 0 || all <= l.all || idle < l.idle
	l.part, l.known = 0, true
	if !first {
		l.part = 1 - float64(idle-l.idle)/float64(all-l.all)
	}
	l.idle, l.all = idle, all
	switch {
	case l.part >= Full:
		l.calm = 0
		l.pressed.Store(true)
	case l.part < Calm && !first:
		if l.calm += since; l.calm >= calmFor {
			l.pressed.Store(false)
		}
	}
}

func readProc() (idle, all uint64, err error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	return readStat(data)
}

var errStat = errors.New("/proc/stat has no line of all processors")

// readStat reads the first line: user, nice, system, idle, iowait, irq,
// softirq, steal, in ticks. What a hypervisor steals is not idle.
func readStat(data []byte) (idle, all uint64, err error) {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 6 || string(fields[0]) != "cpu" {
		return 0, 0, errStat
	}
	for i, f := range fields[1:min(len(fields), 9)] {
		n, err := strconv.ParseUint(string(f), 10, 64)
		if err != nil {
			return 0, 0, errStat
		}
		all += n
		if i == 3 || i == 4 {
			idle += n
		}
	}
	return idle, all, nil
}
