package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Folder is a data folder that this process holds alone.
type Folder struct {
	Path string
	lock *os.File
}

// lockName is the file whose flock(2) says that a server uses the folder. It
// holds that server's process id, for the one who is told to stop it.
const lockName = "lock"

// OpenFolder makes the data folder if it is not there, checks that it can be
// written, and takes its lock. The lock belongs to the process: the kernel
// releases it however the process ends, so that there is none to clean up. A
// folder that another process holds fails with *InUseError; other failures
// are sentences for whoever started the server.
func OpenFolder(path string) (*Folder, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, Explain(path, err)
	}
	f, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, Explain(path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &InUseError{Path: path, PID: holder(f)}
		}
		return nil, Explain(path, fmt.Errorf("lock: %w", err))
	}
	if err := writePID(f); err != nil {
		f.Close()
		return nil, Explain(path, err)
	}
	return &Folder{Path: path, lock: f}, nil
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder reads the process id that the lock's holder wrote; 0 if it has not
// written it yet.
func holder(f *os.File) int {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}

// Close releases the folder. The lock's file stays: removing it would let two
// processes lock two files of the same name.
func (f *Folder) Close() error { return f.lock.Close() }

// InUseError says that another process holds the data folder.
type InUseError struct {
	Path string
	PID  int // 0 if it is not known
}

// Error is one sentence with the way out.
func (e *InUseError) Error() string {
	who := "another Hearth server"
	if e.PID != 0 {
		who += fmt.Sprintf(" (process %d)", e.PID)
	}
	return fmt.Sprintf("the data folder %s is in use by %s: stop that one, or give this one a folder of its own", e.Path, who)
}

// Sentinels that errors of folders, records and blobs wrap, for those who act
// on the cause.
var (
	ErrFull     = errors.New("no space left")
	ErrReadOnly = errors.New("cannot be written")
)

// Explain turns an operating system's error at path into one sentence that
// says the thing, the reason and, where there is one, the way out. It returns
// other errors with the path before them, and nil for nil.
func Explain(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return Full(path, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, os.ErrPermission):
		return ReadOnly(path, err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("the data folder %s is not a folder: %w", path, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// Full is the sentence for a full disk. The error wraps ErrFull and cause.
func Full(path string, cause error) error {
	return &explained{
		text: fmt.Sprintf("the disk that holds %s is full: free some space and try again", path),
		errs: []error{ErrFull, cause},
	}
}

// ReadOnly is the sentence for a folder or file system that cannot be
// written. The error wraps ErrReadOnly and cause.
func ReadOnly(path string, cause error) error {
	return &explained{
		text: fmt.Sprintf("the data folder %s cannot be written: let the server's user write there, or choose another folder", path),
		errs: []error{ErrReadOnly, cause},
	}
}

// explained shows its sentence only, and keeps the causes for errors.Is.
type explained struct {
	text string
	errs []error
}

func (e *explained) Error() string   { return e.text }
func (e *explained) Unwrap() []error { return e.errs }
