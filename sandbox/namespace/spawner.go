package namespace

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/internal/priority"
	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/sandbox/namespace/inside"
	"github.com/hearth-faas/hearth/sandbox/namespace/message"
)

// spawner is the daemon's side of the spawner process. If the process dies,
// its containers die with it; the next request starts another.
type spawner struct {
	cfg    Config
	root   bool
	groups *cgroups

	starting sync.Mutex // held by who starts a process
	mu       sync.Mutex
	live     *spawnerProcess
	closed   bool
}

type spawnerProcess struct {
	cmd  *exec.Cmd
	conn *net.UnixConn
	gone chan struct{}

	mu      sync.Mutex
	seq     uint64
	waiting map[uint64]chan spawnReply
}

type spawnReply struct {
	m   *message.Reply
	fds []int
}

var errSpawnerDied = errors.New("namespace: the spawner died")

// kernelError is an errno with the step that met it.
func kernelError(subject string, r *message.Reply) error {
	if r.Step == inside.StepWorkingDir {
		return fmt.Errorf("namespace: %s: %w", subject, sandbox.ErrWorkingDir)
	}
	return fmt.Errorf("namespace: %s: %s: %w", subject, r.Step, syscall.Errno(r.Errno))
}

func (s *spawner) start(ctx context.Context) error {
	_, err := s.process(ctx)
	return err
}

// process gives the live process, and starts it if there is none.
func (s *spawner) process(ctx context.Context) (*spawnerProcess, error) {
	s.starting.Lock()
	defer s.starting.Unlock()
	s.mu.Lock()
	live, closed := s.live, s.closed
	s.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	if live != nil {
		select {
		case <-live.gone:
		default:
			return live, nil
		}
	}
	p, err := s.launch(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.live = p
	s.mu.Unlock()
	return p, nil
}

func (s *spawner) launch(ctx context.Context) (*spawnerProcess, error) {
	conn, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(s.cfg.Program)
	cmd.Args = []string{inside.SpawnerName}
	cmd.Env = []string{"GOGC=50", "GOMAXPROCS=2"}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWNS}
	if !s.root {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	err = priority.Ordinary(cmd.Start)
	_ = theirs.Close() // the process has its own
	if err != nil {
		_ = conn.Close()
		if !s.root && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL)) {
			return nil, fmt.Errorf("namespace: this machine gives ordinary users no user namespaces (%w): %s", err, namespaceHint)
		}
		return nil, fmt.Errorf("namespace: starting the spawner %s: %w", s.cfg.Program, err)
	}
	p := &spawnerProcess{cmd: cmd, conn: conn, gone: make(chan struct{}), waiting: map[uint64]chan spawnReply{}}
	go p.read(s.died)
	t := &message.Template{Rootless: !s.root, Stage: stageDir(s.cfg.DataDir)}
	if s.cfg.Network != nil {
		if dns := s.cfg.Network.Guest().DNS; dns.IsValid() {
			t.DNS = dns.String()
		}
	}
	err = s.groups.leaveServer(cmd.Process.Pid)
	if err == nil {
		err = s.prepare(ctx, p, t)
	}
	if err != nil {
		_ = cmd.Process.Kill() // it may have ended
		<-p.gone
		return nil, err
	}
	return p, nil
}

// prepare has the process build what containers are made from.
func (s *spawner) prepare(ctx context.Context, p *spawnerProcess, t *message.Template) error {
	var fds []int
	for _, dir := range s.groups.all() {
		f, err := os.Open(dir)
		if err != nil {
			return fmt.Errorf("namespace: cgroups: %w", err)
		}
		defer f.Close() // the process has its own
		fds = append(fds, int(f.Fd()))
	}
	t.Parents = uint32(len(fds))
	for _, f := range s.groups.home {
		fds = append(fds, int(f.Fd()))
	}
	reply, _, err := p.request(ctx, t, 0, fds...)
	if err == nil && reply.Errno != 0 {
		err = kernelError("the spawner's root", reply)
	}
	return err
}

// died is told when a process has ended.
func (s *spawner) died(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.cfg.Log.Error("the spawner of containers died, and its containers with it; the next container starts it again", "error", err)
	}
}

func (s *spawner) stop() error {
	s.mu.Lock()
	s.closed = true
	live := s.live
	s.mu.Unlock()
	if live == nil {
		return nil
	}
	err := live.conn.Close()
	<-live.gone
	if errors.Is(err, net.ErrClosed) {
		return nil // it had died
	}
	return err
}

// read hands out replies until the process ends.
func (p *spawnerProcess) read(died func(error)) {
	for {
		m, fds, err := receive(p.conn)
		if err != nil {
			break
		}
		reply, ok := m.(*message.Reply)
		if !ok {
			message.CloseAll(fds)
			break
		}
		p.mu.Lock()
		waiter := p.waiting[reply.Seq]
		delete(p.waiting, reply.Seq)
		p.mu.Unlock()
		if waiter == nil { // gave up
			message.CloseAll(fds)
			continue
		}
		waiter <- spawnReply{reply, fds}
	}
	// Not by closing the connection: it would take the daemon for dead, and end
	// what there is of groups.
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.conn.Close()
	err := p.cmd.Wait()
	died(err)
	close(p.gone)
}

// next gives the number of a request.
func (p *spawnerProcess) next() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	return p.seq
}

// request sends a message that carries seq and waits for its reply.
func (p *spawnerProcess) request(ctx context.Context, m message.Message, seq uint64, fds ...int) (*message.Reply, []int, error) {
	answer := make(chan spawnReply, 1)
	p.mu.Lock()
	p.waiting[seq] = answer
	p.mu.Unlock()
	if err := send(p.conn, m, fds...); err != nil {
		if errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
			<-p.gone // soon: so that who tries again finds another
			return nil, nil, errSpawnerDied
		}
		return nil, nil, fmt.Errorf("namespace: telling the spawner: %w", err)
	}
	select {
	case r := <-answer:
		return r.m, r.fds, nil
	case <-p.gone:
		return nil, nil, errSpawnerDied
	case <-ctx.Done():
		p.mu.Lock()
		_, unanswered := p.waiting[seq]
		delete(p.waiting, seq)
		p.mu.Unlock()
		if !unanswered {
			message.CloseAll((<-answer).fds)
		}
		return nil, nil, ctx.Err()
	}
}

// tree clones the mounts of a path of the host, read-only.
func (s *spawner) tree(ctx context.Context, path string) (int, error) {
	if s.root {
		fd, err := inside.Tree(path)
		if err != nil {
			return -1, fmt.Errorf("namespace: showing %s: %w", path, err)
		}
		return fd, nil
	}
	return s.mount(ctx, "showing "+path, func(seq uint64) message.Message { return &message.Tree{Seq: seq, Path: path} })
}

// overlay merges directories of the host, the lowest first, read-only.
func (s *spawner) overlay(ctx context.Context, paths []string) (int, error) {
	if s.root {
		merged := -1
		if err := inside.Overlay(paths, stageDir(s.cfg.DataDir), func(fd int) { merged = fd }); err != nil {
			return -1, fmt.Errorf("namespace: merging %d layers: %w", len(paths), err)
		}
		return merged, nil
	}
	return s.mount(ctx, "an image", func(seq uint64) message.Message { return &message.Overlay{Seq: seq, Paths: paths} })
}

// mount asks the spawner process for a mount: an ordinary user has the right to
// make one only within its namespaces.
func (s *spawner) mount(ctx context.Context, subject string, order func(seq uint64) message.Message) (int, error) {
	p, err := s.process(ctx)
	if err != nil {
		return -1, err
	}
	seq := p.next()
	r, fds, err := p.request(ctx, order(seq), seq)
	if err != nil {
		return -1, err
	}
	if r.Errno != 0 || len(fds) != 1 {
		message.CloseAll(fds)
		return -1, kernelError(subject, r)
	}
	return fds[0], nil
}

// clone makes a container's init, and returns its id and a descriptor of the
// process.
func (s *spawner) clone(ctx context.Context, m *message.Spawn, fds []int) (int, *os.File, error) {
	p, err := s.process(ctx)
	if err != nil {
		return 0, nil, err
	}
	m.Seq = p.next()
	// Not to be given up: the process that may come of it must be known, to be
	// ended.
	r, got, err := p.request(context.WithoutCancel(ctx), m, m.Seq, fds...)
	if err != nil {
		return 0, nil, err
	}
	if r.Errno != 0 || len(got) != 1 {
		message.CloseAll(got)
		return 0, nil, kernelError("new container", r)
	}
	// Non-blocking, so that the runtime's poller watches it.
	if err := unix.SetNonblock(got[0], true); err != nil {
		message.CloseAll(got)
		return 0, nil, fmt.Errorf("namespace: process descriptor: %w", err)
	}
	return int(r.Value), os.NewFile(uintptr(got[0]), "pidfd"), nil
}
