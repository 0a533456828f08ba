package namespace

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// disks makes the disks that are containers' /tmp, and keeps a few ready.
// Where there can be none, a container's /tmp stays a tmpfs: that is no error.
//
// A disk is made only if the host's has room for all that could be written to
// every disk there is, and some more: one full of functions' files would stop
// the server, too. So no write inside fails for want of the host's space,
// unless others take it.
type disks struct {
	dir  string
	root bool
	log  *slog.Logger
	// spare is what the host's disk must have left if all were full.
	spare int64

	makers chan struct{} // as many as may be made at once: the rest is waiting for each other
	work   sync.WaitGroup

	formatting sync.Mutex // held while a template is made; before mu

	mu        sync.Mutex
	templates map[int64]*template // by size
	live      map[*disk]bool
	promised  int64 // bytes of images that are being made
	ready     []*disk
	filling   bool
	closed    bool
	why       error // the last one could not be made; nil if it was
}

const (
	// usualTmp is the size of which disks are kept ready; that of functions
	// that don't ask for another.
	usualTmp = 512 << 20
	// readyDisks is how many: what a burst takes while one is made anew, in
	// 3 ms or so. Each costs the machine some 300 KiB of memory and 100 KiB of
	// disk.
	readyDisks = 8
	// spareDisk is left to the server.
	spareDisk = 1 << 30
	// diskMakers is how many are made at once.
	diskMakers = 4
	// maxTemplates bounds the memory for sizes that were once asked for.
	maxTemplates = 16
)

// diskError says why there is no disk, and what would help.
type diskError struct {
	err error
	fix string
}

func (e *diskError) Error() string { return e.err.Error() }
func (e *diskError) Unwrap() error { return e.err }

const (
	loopHint = "let Hearth use loop devices: /dev/loop-control and /dev/loop* (modprobe loop; no PrivateDevices= in its systemd unit)"
	ext4Hint = "use a kernel with ext4, and a current e2fsprogs"
)

func roomHint(dir string) string {
	return "free space at " + dir + ", or mount a larger disk there"
}

func disksDir(dataDir string) string { return filepath.Join(sandboxDir(dataDir), "tmp") }

func newDisks(dataDir string, root bool, log *slog.Logger) (*disks, error) {
	s := &disks{
		dir: disksDir(dataDir), root: root, log: log, spare: spareDisk,
		makers: make(chan struct{}, diskMakers), templates: map[int64]*template{}, live: map[*disk]bool{},
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("namespace: data folder: %w", err)
	}
	return s, nil
}

// take gives a disk of a size, at once if it is the usual one; nil if there
// can be none.
func (s *disks) take(size int64) *disk {
	if size <= 0 {
		return nil // bounded by the memory limit alone, so that it is memory
	}
	var k *disk
	if size == usualTmp {
		s.mu.Lock()
		n := len(s.ready)
		if n > 0 {
			k, s.ready = s.ready[n-1], s.ready[:n-1]
		}
		s.mu.Unlock()
		if n <= readyDisks/2 { // else the next container's making does it: here somebody waits
			defer s.fill()
		}
	}
	if k != nil {
		return k
	}
	k, err := s.make(size)
	s.result(err)
	return k
}

// result remembers why there was no disk, and says so if it is news.
func (s *disks) result(err error) {
	s.mu.Lock()
	before := s.why
	if s.closed {
		err = before // that it is closed is no news
	}
	s.why = err
	s.mu.Unlock()
	if err != nil && s.root && (before == nil || before.Error() != err.Error()) {
		s.log.Warn("a container's /tmp is memory, for want of a disk", "error", err)
	}
}

// lack tells why the last disk that was asked for could not be made.
func (s *disks) lack() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// fill sees to it that the usual disks are ready.
func (s *disks) fill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.filling || s.closed || !s.root || len(s.ready) >= readyDisks {
		return
	}
	s.filling = true
	s.work.Go(func() {
		for {
			k, err := s.make(usualTmp)
			s.mu.Lock()
			if err == nil && !s.closed {
				s.ready, k = append(s.ready, k), nil
			}
			s.filling = err == nil && !s.closed && len(s.ready) < readyDisks
			again := s.filling
			s.mu.Unlock()
			s.result(err)
			if k != nil {
				s.release(k)
			}
			if !again {
				return
			}
		}
	})
}

// make makes a disk.
func (s *disks) make(size int64) (*disk, error) {
	if !s.root {
		return nil, &diskError{errors.New("an ordinary user can't mount one"), asRoot}
	}
	s.makers <- struct{}{}
	defer func() { <-s.makers }()
	t, err := s.template(size)
	if err != nil {
		return nil, err
	}
	if err := s.promise(t.image); err != nil {
		return nil, err
	}
	k, err := newDisk(s.dir, t)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.promised -= t.image
	if err != nil {
		return nil, err
	}
	s.live[k] = true
	return k, nil
}

// promise takes note of a disk to come, if there is room for it.
func (s *disks) promise(image int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return &diskError{fmt.Errorf("looking at the host's disk: %w", err), roomHint(s.dir)}
	}
	free := int64(st.Bavail) * st.Bsize
	promised := s.promised
	for k := range s.live {
		promised += k.image - k.allocated()
	}
	if free-promised-image < s.spare {
		return &diskError{fmt.Errorf("of %d MiB free at %s, %d MiB may be taken by other containers and %d MiB are kept free",
			free>>20, s.dir, promised>>20, s.spare>>20), roomHint(s.dir)}
	}
	s.promised += image
	return nil
}

func (s *disks) template(size int64) (*template, error) {
	s.formatting.Lock()
	defer s.formatting.Unlock()
	s.mu.Lock()
	t := s.templates[size]
	s.mu.Unlock()
	if t != nil {
		return t, nil
	}
	t, err := formatTemplate(s.dir, size)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.templates) >= maxTemplates {
		clear(s.templates)
	}
	s.templates[size] = t
	return t, nil
}

// release gives a disk up.
func (s *disks) release(k *disk) {
	s.mu.Lock()
	delete(s.live, k) // before its file is closed
	s.mu.Unlock()
	if err := k.release(); err != nil {
		s.log.Warn("giving up a container's disk", "error", err)
	}
}

// close gives up those that are ready; all others have been given up.
func (s *disks) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.work.Wait()
	s.mu.Lock()
	ready := s.ready
	s.ready = nil
	s.mu.Unlock()
	var all sync.WaitGroup
	for _, k := range ready {
		all.Go(func() { s.release(k) })
	}
	all.Wait()
}

// sweepDisks removes the files that were about to lose their names when a
// driver was killed.
func sweepDisks(dataDir string) error {
	dir := disksDir(dataDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("namespace: what was left behind: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), diskPrefix) {
			continue // such as lost+found, where a disk of its own is mounted
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
