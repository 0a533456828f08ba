package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// demoServer is a server in a process of its own.
type demoServer struct {
	dir     string
	cmd     *exec.Cmd
	log     *lockedBuffer
	exited  chan struct{}
	exitErr error // once exited is closed

	once sync.Once
	left []string
	err  error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startDemoServer(ctx context.Context) (*demoServer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := adoptOrphans(); err != nil {
		return nil, err
	}
	s := &demoServer{log: &lockedBuffer{}, exited: make(chan struct{})}
	if s.dir, err = os.MkdirTemp("", "hearth-demo-"); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(self, "up", "--listen", "127.0.0.1:0", "--data", s.dir, "--json", "--log-level", "warn")
	s.cmd.Stderr = s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,            // so that an interrupt at the terminal reaches it through us only
		Pdeathsig: syscall.SIGTERM, // should we be killed
	}
	// Whoever reads what we print may leave, as head does: that must not end
	// us before the server.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	started, ready := make(chan error, 1), make(chan struct{})
	go s.watch(started, ready)
	if err := <-started; err != nil {
		return nil, errors.Join(failed("the server can't be started", err, ""), os.RemoveAll(s.dir))
	}
	select {
	case <-ready:
		return s, nil
	case <-s.exited:
		err = refused("the server did not start:\n"+strings.TrimSpace(s.log.String()), "")
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(time.Minute):
		err = refused("the server is not ready after a minute:\n"+strings.TrimSpace(s.log.String()), "")
	}
	_, _ = s.stop() // the first error counts
	return nil, err
}

// watch starts the server and waits for its end. It keeps its thread: the
// kernel takes the end of the thread that started a process for the parent's.
func (s *demoServer) watch(started chan<- error, ready chan<- struct{}) {
	runtime.LockOSThread()
	stdout, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	started <- err
	if err != nil {
		return
	}
	lines := bufio.NewScanner(stdout)
	if lines.Scan() {
		close(ready)
	}
	_, _ = io.Copy(io.Discard, stdout) // what else it says is not for us
	s.exitErr = s.cmd.Wait()
	close(s.exited)
}

// stop ends the server as an operator would, tells what it left behind, and
// removes its data folder. It may be called again.
func (s *demoServer) stop() ([]string, error) {
	s.once.Do(func() {
		groups := cgroupsOf(s.dir)
		select {
		case <-s.exited:
		default:
			if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
				s.err = err
			}
			select {
			case <-s.exited:
			case <-time.After(time.Minute):
				s.err = errors.Join(refused("the server did not stop within a minute", ""), s.cmd.Process.Kill())
				<-s.exited
			}
		}
		if s.err == nil && s.exitErr != nil {
			s.err = refused("the server ended badly: "+s.exitErr.Error()+"\n"+strings.TrimSpace(s.log.String()), "")
		}
		s.left = leftBehind(s.dir, groups)
		if err := os.RemoveAll(s.dir); err != nil {
			s.left = append(s.left, err.Error())
		}
	})
	return s.left, s.err
}
