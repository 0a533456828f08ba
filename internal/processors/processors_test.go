package processors

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// machine is one whose processors are at work for a part of the time.
type machine struct {
	mu     sync.Mutex
	since  time.Time
	part   float64
	idle   float64
	all    float64
	broken bool
	looks  int
}

func newMachine() (*machine, *Load) {
	m := &machine{since: time.Now(), all: 1e6, idle: 5e5}
	return m, &Load{read: m.read}
}

// pass counts the time until now. Called with mu held.
func (m *machine) pass() {
	ticks := 10 * time.Since(m.since).Seconds() * 100 // so that none is lost to rounding
	m.since = time.Now()
	m.all += ticks
	m.idle += ticks * (1 - m.part)
}

func (m *machine) work(part float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pass()
	m.part = part
}

func (m *machine) read() (idle, all uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looks++
	if m.broken {
		return 0, 0, errors.New("broken")
	}
	m.pass()
	return uint64(m.idle), uint64(m.all), nil
}

// after asks each 50 ms for so long, and tells what is said then.
func after(l *Load, d time.Duration) bool {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		l.Pressed()
	}
	return l.Pressed()
}

func TestPressedIsWhatTheProcessorsAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, l := newMachine()
		for _, step := range []struct {
			part float64
			d    time.Duration
			want bool
		}{
			{0.5, time.Second, false},
			{1, 300 * time.Millisecond, true},
			{0.85, time.Minute, true},            // neither
			{0.5, 1500 * time.Millisecond, true}, // not for long
			{1, 200 * time.Millisecond, true},
			{0.5, 1500 * time.Millisecond, true},
			{0.5, time.Second, false},
			{0.85, time.Minute, false},
		} {
			m.work(step.part)
			if got := after(l, step.d); got != step.want {
				t.Errorf("%v at work for %v: pressed is %v", step.part, step.d, got)
			}
		}
		// Nobody has asked for long: what was is no reason.
		m.work(1)
		after(l, time.Second)
		m.work(0)
		time.Sleep(time.Hour)
		if l.Pressed() {
			t.Error("pressed, after an hour of rest")
		}
	})
}

// Whoever asks, however often, and whatever, the kernel is asked ten times a
// second, and by nobody when nobody asks; each who asks for the part in turn
// gets one that is new.
func TestAllShareOneLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, l := newMachine()
		m.work(0.25)
		for range 1000 {
			l.Pressed()
			l.Busy()
			time.Sleep(time.Millisecond)
		}
		if m.looks != 10 {
			t.Errorf("%d looks in a second", m.looks)
		}
		if part, ok := l.Busy(); !ok || part < 0.24 || part > 0.26 {
			t.Error(part, ok)
		}
		looks := m.looks
		time.Sleep(time.Hour)
		if m.looks != looks {
			t.Error("somebody looks though nobody asks")
		}
	})
}

func TestWhatCannotBeReadIsNotPressed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, l := newMachine()
		m.work(1)
		if !after(l, time.Second) {
			t.Fatal("not pressed")
		}
		m.broken = true
		if after(l, 200*time.Millisecond) {
			t.Error("pressed, it is said")
		}
		if _, ok := l.Busy(); ok {
			t.Error("known, it is said")
		}
		m.broken = false
		if !after(l, 300*time.Millisecond) {
			t.Error("not pressed when it is known again")
		}
	})
}

func TestThisMachineIsRead(t *testing.T) {
	idle, all, err := readStat([]byte("cpu  10 20 30 400 50 1 2 3 7 8\ncpu0 1"))
	if err != nil || idle != 450 || all != 516 {
		t.Error(idle, all, err)
	}
	l := New()
	if part, ok := l.Busy(); !ok || part < 0 || part > 1 {
		t.Error(part, ok)
	}
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("cpu  10 20 30 400 50 1 2 3\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = readStat(b)
	})
}

// To ask between two looks costs a reading of the clock.
func BenchmarkPressed(b *testing.B) {
	l := New()
	b.ReportAllocs()
	for b.Loop() {
		l.Pressed()
	}
}
