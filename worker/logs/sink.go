package logs

import (
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth"
)

// Sink takes one container's output and the platform's lines about it into a
// stream of the store. Safe for concurrent use.
type Sink struct {
	stream Appender
	clock  hearth.Clock
	json   bool
	app    Level // JSON only: less is dropped
	system Level

	withheld  bool // what the processes write, and what they are, is for nobody
	mu        sync.Mutex
	tap       Tap    // nil if nobody listens
	requestID string // "" outside invocations
	pipes     []*pipe
	tail      tail
	line      []byte // for rendering
}

// Tap is told of each line that the container's processes write, as it goes
// into the log, with the lock of the sink held: it must not wait, nor keep the
// line.
type Tap func(at time.Time, extension, asJSON bool, line []byte)

// Tap has t told of each line from now on; nil ends that.
func (s *Sink) Tap(t Tap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain() // what came before is not for t
	s.tap = t
}

// NewSink makes a sink into stream, with the format and levels of l.
func NewSink(stream Appender, l hearth.Logging, clock hearth.Clock) *Sink {
	s := &Sink{stream: stream, clock: clock, json: l.Format == "JSON"}
	if s.json {
		s.app, s.system = ParseLevel(l.ApplicationLevel), ParseLevel(l.SystemLevel)
		if s.app == LevelNone {
			s.app = LevelInfo
		}
		if s.system == LevelNone {
			s.system = LevelInfo
		}
	}
	return s
}

// Withhold keeps of what follows only the lines about invocations themselves:
// START, END, REPORT and why one failed. It comes before all else.
func (s *Sink) Withhold() { s.withheld = true }

// pipe is one source of output.
type pipe struct {
	sink  *Sink
	emit  func(piece) // what becomes of what it gives
	file  *os.File
	raw   syscall.RawConn
	room  int // how much the kernel holds at most, in bytes
	split splitter
	ended bool
	done  chan struct{}
}

// scratches are the buffers that pipes are read into: as much as a pipe holds.
var scratches = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// Pipe makes the pipe that takes a container's output. The end to read can be
// waited on; the end to write blocks, as programs expect of their output.
func Pipe() (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fds[0]), "output"), os.NewFile(uintptr(fds[1]), "output"), nil
}

// Read starts to take output from r, the read end of a pipe, until its other
// end is closed everywhere or r itself is; r stays the caller's to close. There
// may be several.
func (s *Sink) Read(r *os.File) error { return s.read(r, s.application) }

// ReadExtensions is Read for the output of the container's extensions.
func (s *Sink) ReadExtensions(r *os.File) error { return s.read(r, s.extension) }

func (s *Sink) read(r *os.File, emit func(piece)) error {
	raw, err := r.SyscallConn()
	if err != nil {
		return err
	}
	p := &pipe{sink: s, emit: emit, file: r, raw: raw, room: 64 << 10, done: make(chan struct{})}
	if err := raw.Control(func(fd uintptr) {
		// Read is called under the lock and must not block under it.
		err = syscall.SetNonblock(int(fd), true)
		if n, err := unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0); err == nil {
			p.room = n
		}
	}); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.pipes = append(s.pipes, p)
	s.mu.Unlock()
	go p.follow()
	return nil
}

// follow reads whenever there is something to read. Each read and what is made
// of it happen under the lock, so that Drain finds nothing half done.
func (p *pipe) follow() {
	defer close(p.done)
	// The function returns false to be called again when there is more. An
	// error says that the file was closed, which Read's caller did.
	err := p.raw.Read(func(fd uintptr) bool {
		for {
			p.sink.mu.Lock()
			more, ended := p.take(int(fd), p.room, true), p.ended
			p.sink.mu.Unlock()
			if !more {
				return ended
			}
		}
	})
	p.sink.mu.Lock()
	defer p.sink.mu.Unlock()
	if err != nil {
		p.ended = true
	}
	p.split.end(p.emit)
	p.sink.drop(p)
}

// drop forgets a pipe that has ended. s.mu is held.
func (s *Sink) drop(p *pipe) {
	for i := range s.pipes {
		if s.pipes[i] == p {
			s.pipes = append(s.pipes[:i], s.pipes[i+1:]...)
			return
		}
	}
}

// take reads what is in the pipe, about limit bytes at most, without waiting,
// and reports whether there may be more. surely asks until the kernel says that
// there is none: only then does the poller tell of what comes next, or of the
// end. Otherwise a read that gave less than it could was the last, since a pipe
// gives all that it has. sink.mu is held.
func (p *pipe) take(fd, limit int, surely bool) (more bool) {
	if p.ended {
		return false
	}
	scratch := scratches.Get().(*[64 << 10]byte)
	defer scratches.Put(scratch)
	for taken := 0; taken < limit; {
		n, err := syscall.Read(fd, scratch[:])
		switch {
		case n > 0:
			p.split.feed(scratch[:n], p.emit)
			taken += n
			if n < len(scratch) && !surely {
				return false
			}
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return false
		default: // the end, or an error that will not pass
			p.ended = true
			return false
		}
	}
	return true
}

// drain takes everything that is in the pipes already: what a function wrote
// before it answered. A pipe is emptied once, no more, so that a process that
// writes without pause does not keep the caller. s.mu is held.
func (s *Sink) drain() {
	for _, p := range s.pipes {
		// An error says that the file was closed: there is nothing to read.
		_ = p.raw.Control(func(fd uintptr) { p.take(int(fd), p.room, false) })
		p.split.partial(p.emit)
	}
}

// Drain takes everything that the container's processes have written so far.
// It does not wait for more.
func (s *Sink) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain()
}

// application writes one event of the function. s.mu is held.
func (s *Sink) application(p piece) { s.written(p, false) }

// extension writes one event of an extension. s.mu is held.
func (s *Sink) extension(p piece) { s.written(p, true) }

func (s *Sink) written(p piece, extension bool) {
	if s.json {
		level := p.level
		if level == LevelNone {
			level = lineLevel(p.message)
		}
		if level < s.app {
			return
		}
	}
	at := p.at
	now := s.clock.Now()
	if at.After(now) || at.Before(now.Add(-time.Minute)) { // it may say anything
		at = now
	}
	if s.tap != nil {
		s.tap(at, extension, s.json, p.message)
	}
	if s.withheld {
		return
	}
	s.put(at, p.message)
}

// put writes one event. s.mu is held.
func (s *Sink) put(at time.Time, message []byte) {
	s.tail.write(message)
	s.stream.Append(at, s.requestID, message)
}

// Begin says that an invocation begins: output belongs to it from now on.
func (s *Sink) Begin(requestID, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain() // of the one before
	s.requestID = requestID
	s.tail.reset()
	now := s.clock.Now()
	switch {
	case !s.json:
		s.line = appendStart(s.line[:0], requestID, version)
		s.put(now, s.line)
	case s.system <= LevelInfo:
		s.put(now, marshalEvent(now, "platform.start", startRecord{requestID, version}))
	}
}

// End says that the invocation has ended, after taking what it wrote. Output
// that comes later still carries its request id, until the next one begins.
func (s *Sink) End(r *Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain()
	now := s.clock.Now()
	if !s.json {
		s.line = appendEnd(s.line[:0], r.RequestID)
		s.put(now, s.line)
		s.line = appendReport(s.line[:0], r)
		s.put(now, s.line)
		return
	}
	if s.system <= levelOf(r.Status, LevelDebug) {
		s.put(now, marshalEvent(now, "platform.runtimeDone", runtimeDoneRecord{
			RequestID: r.RequestID, Status: statusOf(r.Status), ErrorType: r.ErrorType,
			Metrics: &doneMetrics{millis(r.Duration)},
		}))
	}
	if s.system <= levelOf(r.Status, LevelInfo) {
		s.put(now, reportEvent(now, r))
	}
}

// InitStart says that the init phase begins.
func (s *Sink) InitStart(i InitStart) {
	if s.withheld {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	level := LevelDebug
	if i.RuntimeVersion != "" {
		level = LevelWarn
	}
	switch {
	case !s.json:
		s.line = appendInitStart(s.line[:0], i.RuntimeVersion, i.RuntimeVersionARN)
		s.put(now, s.line)
	case s.system <= level:
		s.put(now, marshalEvent(now, "platform.initStart", initStartRecord{
			InitType: string(i.Type), Phase: i.Phase, Version: i.RuntimeVersion, VersionARN: i.RuntimeVersionARN,
			Function: i.Function, FnVersion: i.Version,
		}))
	}
}

// InitReport says that an init phase has failed.
func (s *Sink) InitReport(r InitReport) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain()
	now := s.clock.Now()
	switch {
	case !s.json:
		s.line = appendInitReport(s.line[:0], &r)
		s.put(now, s.line)
	case s.system <= levelOf(r.Status, LevelDebug):
		s.put(now, marshalEvent(now, "platform.initReport", initReportRecord{
			InitType: string(r.Type), Phase: r.Phase, Status: statusOf(r.Status), ErrorType: r.ErrorType,
			Metrics: doneMetrics{millis(r.Duration)},
		}))
	}
}

// Extension says what became of an extension in the init phase; errorType is
// "" if all went well.
func (s *Sink) Extension(name, state string, events []string, errorType string) {
	if s.withheld {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	level := LevelInfo
	if errorType != "" {
		level = LevelWarn
	}
	switch {
	case !s.json:
		s.line = appendExtension(s.line[:0], name, state, events, errorType)
		s.put(now, s.line)
	case s.system <= level:
		s.put(now, marshalEvent(now, "platform.extension", extensionRecord{name, state, events, errorType}))
	}
}

// Subscribed says that an extension subscribed to telemetry, or by the Logs
// API, to types such as "platform".
func (s *Sink) Subscribed(name string, logs bool, types []string) {
	if s.withheld {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	kind := "platform.telemetrySubscription"
	if logs {
		kind = "platform.logsSubscription"
	}
	switch {
	case !s.json:
		s.line = appendSubscribed(s.line[:0], name, logs, types)
		s.put(now, s.line)
	case s.system <= LevelInfo:
		s.put(now, marshalEvent(now, kind, subscriptionRecord{name, "Subscribed", types}))
	}
}

// TimedOut explains that the invocation took too long. The JSON format tells
// it by the report alone.
func (s *Sink) TimedOut(requestID string, timeout time.Duration) {
	s.explain(func(b []byte, now time.Time) []byte { return appendTimedOut(b, now, requestID, timeout) })
}

// Fault explains that the runtime ended; reason is as runtimeapi.ExitReason
// words it. The JSON format tells it by the report alone.
func (s *Sink) Fault(requestID, reason, errorType string) {
	s.explain(func(b []byte, _ time.Time) []byte { return appendFault(b, requestID, reason, errorType) })
}

func (s *Sink) explain(render func([]byte, time.Time) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain()
	if s.json {
		return
	}
	now := s.clock.Now()
	s.line = render(s.line[:0], now)
	s.put(now, s.line)
}

// Tail returns the last hearth.LogTail bytes of what was logged since Begin.
func (s *Sink) Tail() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tail.bytes()
}

// Close takes what is left in the pipes of ended processes. Their files are
// closed by whoever made them, afterwards.
func (s *Sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain()
	for _, p := range s.pipes {
		p.split.end(p.emit)
	}
	return nil
}

var _ io.Closer = (*Sink)(nil)

// tail keeps the last bytes that were written to it.
type tail struct {
	ring []byte // made at the first write; all of it is used
	n    int    // bytes written so far
}

func (t *tail) reset() { t.n = 0 }

func (t *tail) write(p []byte) {
	if t.ring == nil {
		t.ring = make([]byte, hearth.LogTail)
	}
	if over := len(p) - len(t.ring); over > 0 {
		t.n += over
		p = p[over:]
	}
	at := t.n % len(t.ring)
	t.n += len(p)
	if n := copy(t.ring[at:], p); n < len(p) {
		copy(t.ring, p[n:])
	}
}

func (t *tail) bytes() []byte {
	if t.n <= len(t.ring) {
		return append([]byte(nil), t.ring[:t.n]...)
	}
	at := t.n % len(t.ring)
	return append(append(make([]byte, 0, len(t.ring)), t.ring[at:]...), t.ring[:at]...)
}
