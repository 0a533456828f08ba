package brokers

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// command is a program of a broker.
type command struct {
	path string
	args []string
	env  []string // beside PATH
	// says is what a line of its output has in it when it is ready; answers, of
	// one that says nothing, a URL that is then answered with 200.
	says, answers string
}

// earlyEnd is that a program ended before it was ready.
type earlyEnd struct {
	path string
	err  error
	log  string
}

func (e *earlyEnd) Error() string {
	return fmt.Sprintf("%s ended before it was ready (%v) and said:\n%s", e.path, e.err, e.log)
}

// process is a running program.
type process struct {
	path  string
	cmd   *exec.Cmd
	isUp  chan struct{} // closed when it is ready
	ended chan struct{} // closed when it was waited for
	read  chan struct{} // closed when all it said was read
	err   error         // of Wait, once ended is closed

	mu  sync.Mutex
	log []string // the last lines
}

// logLines are how many lines of what a program says are kept, to tell why it
// did not start.
const logLines = 40

// starter is the thread that starts programs. The kernel ends a child with
// Pdeathsig when the *thread* that made it ends, so this one must not.
var starter = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

func startProcess(c command) (*process, error) {
	path, err := find(c.path)
	if err != nil {
		return nil, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p := &process{path: path, isUp: make(chan struct{}), ended: make(chan struct{}), read: make(chan struct{})}
	p.cmd = exec.Command(path, c.args...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/usr/bin:/bin"}, c.env...)
	p.cmd.Stdout, p.cmd.Stderr = in, in
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	starter() <- func() { started <- p.cmd.Start() }
	err = <-started
	in.Close()
	if err != nil {
		out.Close()
		return nil, err
	}
	up := sync.OnceFunc(func() { close(p.isUp) })
	go p.follow(out, c.says, up)
	if c.answers != "" {
		go p.ask(c.answers, up)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// ask asks the program until it answers or has ended.
func (p *process) ask(url string, up func()) {
	for !p.gone() {
		if answer, err := http.Get(url); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				up()
				return
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// follow reads what the program says.
func (p *process) follow(out *os.File, says string, up func()) {
	defer close(p.read)
	defer out.Close()
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			p.mu.Lock()
			p.log = append(p.log, strings.TrimRight(line, "\n"))
			if len(p.log) > logLines {
				p.log = p.log[1:]
			}
			p.mu.Unlock()
		}
		if says != "" && strings.Contains(line, says) {
			up()
		}
		if err != nil {
			if err != io.EOF {
				fmt.Fprintf(os.Stderr, "%s: its output can't be read: %v\n", p.path, err)
			}
			return
		}
	}
}

// ready waits until the program is.
func (p *process) ready(within time.Duration) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	select {
	case <-p.isUp:
		return nil
	case <-p.ended:
		// What it said last may not be read yet; a child of its own may keep
		// the pipe open, so that is not waited for without end.
		select {
		case <-p.read:
		case <-time.After(time.Second):
		}
		return &earlyEnd{p.path, p.err, p.said()}
	case <-deadline.C:
		return fmt.Errorf("%s is not ready after %v and said:\n%s", p.path, within, p.said())
	}
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.log, "\n")
}

func (p *process) gone() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// kill ends the program and returns when it is gone.
func (p *process) kill() {
	p.cmd.Process.Kill() // fails only if it is gone
	<-p.ended
}

// find finds a program also where only root's PATH has it.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin/", "/usr/local/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: run .ci/install as root", name)
}
