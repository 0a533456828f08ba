package folder

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watch sees what happens in folders, by inotify. read is for one goroutine, add
// and close for any.
type watch struct {
	root string
	file *os.File
	fd   int

	mu   sync.Mutex
	dirs map[int32]string // by watch descriptor; relative to root
	buf  [64 << 10]byte
}

// seen is what has happened: paths relative to the root.
type seen struct {
	files []string // closed after writing, or renamed in
	dirs  []string // made, or renamed in
	gone  []string // files deleted, or renamed away
	lost  bool     // more has happened than could be told
}

func newWatch(root string) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		if errors.Is(err, unix.EMFILE) {
			return nil, errors.New("this user has as many inotify instances as it may; raise fs.inotify.max_user_instances")
		}
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	return &watch{root: root, fd: fd, file: os.NewFile(uintptr(fd), "inotify"), dirs: map[int32]string{}}, nil
}

// add watches a folder; watching one again does nothing.
func (w *watch) add(dir string) error {
	const mask = unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	w.mu.Lock()
	defer w.mu.Unlock()
	wd, err := unix.InotifyAddWatch(w.fd, filepath.Join(w.root, dir), mask)
	if err != nil {
		if errors.Is(err, unix.ENOSPC) {
			return errors.New("this user has as many inotify watches as it may; raise fs.inotify.max_user_watches")
		}
		return err
	}
	w.dirs[int32(wd)] = dir
	return nil
}

// read waits for something to happen.
func (w *watch) read() (s seen, err error) {
	n, err := w.file.Read(w.buf[:])
	if err != nil {
		return s, err
	}
	for at := 0; at+unix.SizeofInotifyEvent <= n; {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&w.buf[at]))
		nameAt := at + unix.SizeofInotifyEvent
		at = nameAt + int(e.Len)
		if at > n {
			return s, errors.New("inotify told less than it said")
		}
		name := string(bytes.TrimRight(w.buf[nameAt:at], "\x00"))
		w.mu.Lock()
		dir, known := w.dirs[e.Wd]
		if e.Mask&unix.IN_IGNORED != 0 {
			delete(w.dirs, e.Wd)
		}
		w.mu.Unlock()
		path := filepath.Join(dir, name)
		isDir := e.Mask&unix.IN_ISDIR != 0
		switch {
		case e.Mask&unix.IN_Q_OVERFLOW != 0:
			s.lost = true
		case !known:
		case e.Mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0:
			if dir == "" {
				return s, fmt.Errorf("the folder %s is gone", w.root)
			}
		case isDir && e.Mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0:
			s.dirs = append(s.dirs, path)
		case isDir:
		case e.Mask&(unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO) != 0:
			s.files = append(s.files, path)
		case e.Mask&(unix.IN_DELETE|unix.IN_MOVED_FROM) != 0:
			s.gone = append(s.gone, path)
		}
	}
	return s, nil
}

func (w *watch) close() error { return w.file.Close() }
