package worker

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/runtimes"
	"github.com/hearth-faas/hearth/sandbox"
)

// program is what a process does; it ends with exit code 0 when it returns.
type program func(p *process)

// process is a process of a fakeContainer: a goroutine that speaks the runtime
// API to the container's listener and writes to its output. Its methods are
// its system calls: in each it stops while it is frozen and ends when it was
// killed.
type process struct {
	c   *fakeContainer
	env map[string]string
	out *os.File // its own, as after a fork

	dead   context.Context
	expire context.CancelCauseFunc
	client *http.Client

	mu      sync.Mutex
	conns   []net.Conn
	running chan struct{} // closed while it is not frozen
}

// exitNow is the panic by which a process ends amid its program, and the cause
// of its context's end.
type exitNow struct{ sandbox.Exit }

func (exitNow) Error() string { return "the process has ended" }

func newProcess(c *fakeContainer, sp sandbox.Process, output *os.File) (*process, error) {
	p := &process{c: c, running: make(chan struct{})}
	close(p.running)
	p.setEnv(sp.Env)
	fd := -1
	raw, err := output.SyscallConn()
	if err != nil {
		return nil, err
	}
	if cerr := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil || err != nil {
		return nil, fmt.Errorf("fake: the output cannot be passed on: %v %v", cerr, err)
	}
	p.out = os.NewFile(uintptr(fd), "stdout")
	p.dead, p.expire = context.WithCancelCause(context.Background())
	p.client = &http.Client{Transport: &http.Transport{DisableCompression: true, DialContext: p.dial}}
	return p, nil
}

func (p *process) setEnv(list []string) {
	p.env = map[string]string{}
	for _, kv := range list {
		k, v, _ := strings.Cut(kv, "=")
		p.env[k] = v
	}
}

// dial connects to the runtime API and remembers the connection, so that it
// ends with the process.
func (p *process) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	addr := p.c.listener.Addr()
	nc, err := d.DialContext(ctx, addr.Network(), addr.String())
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := context.Cause(p.dead); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	p.conns = append(p.conns, nc)
	return nc, nil
}

// run runs the program to its end. What the process holds is closed when it
// returns, as the kernel does before it tells of the end.
func (p *process) run(f program) (exit sandbox.Exit) {
	defer func() {
		p.close()
		if r := recover(); r != nil {
			e, ok := r.(exitNow)
			if !ok {
				panic(r)
			}
			exit = e.Exit
		}
	}()
	f(p)
	return sandbox.Exit{}
}

func (p *process) close() {
	p.expire(exitNow{})
	p.mu.Lock()
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for _, nc := range conns {
		nc.Close()
	}
	p.client.CloseIdleConnections()
	p.out.Close()
}

// kill ends the process at its next, or present, system call.
func (p *process) kill(exit sandbox.Exit) { p.expire(exitNow{exit}) }

// stop freezes the process, or lets it go on.
func (p *process) stop(frozen bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if frozen {
		p.running = make(chan struct{})
	} else {
		close(p.running)
	}
}

// syscall is the way in and out of every system call.
func (p *process) syscall() {
	p.mu.Lock()
	running := p.running
	p.mu.Unlock()
	select {
	case <-running:
	case <-p.dead.Done():
	}
	if p.dead.Err() != nil {
		panic(context.Cause(p.dead))
	}
}

// exitWith ends the process.
func (p *process) exitWith(code int) { panic(exitNow{sandbox.Exit{Code: code}}) }

// signal ends the process as by the signal of that name.
func (p *process) signal(name string) { panic(exitNow{sandbox.Exit{Code: -1, Signal: name}}) }

// bomb uses more memory than there is.
func (p *process) bomb() {
	p.c.outOfMemory()
	p.syscall()
}

// wait waits for something outside.
func (p *process) wait(event <-chan struct{}) {
	p.syscall()
	select {
	case <-event:
	case <-p.dead.Done():
	}
	p.syscall()
}

// hang waits until the process is killed.
func (p *process) hang() { p.wait(nil) }

func (p *process) print(format string, args ...any) {
	p.syscall()
	if _, err := fmt.Fprintf(p.out, format, args...); err != nil {
		p.syscall()
		p.signal("broken pipe")
	}
}

// event is what the runtime API gave.
type event struct {
	id      string
	header  http.Header
	payload []byte
}

const apiPrefix = "http://runtime/2018-06-01/runtime/"

// ask makes a request of the runtime API. A process whose request fails ends.
func (p *process) ask(method, path string, header map[string]string, body io.Reader) (*http.Response, []byte) {
	p.syscall()
	defer p.syscall()
	req, err := http.NewRequestWithContext(p.dead, method, apiPrefix+path, body)
	if err != nil {
		p.exitWith(101)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		p.syscall()
		p.exitWith(102)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		p.syscall()
		p.exitWith(103)
	}
	return resp, answer
}

// next waits for an event.
func (p *process) next() event {
	resp, body := p.ask("GET", "invocation/next", nil, nil)
	if resp.StatusCode != http.StatusOK {
		p.exitWith(104)
	}
	return event{id: resp.Header.Get("Lambda-Runtime-Aws-Request-Id"), header: resp.Header, payload: body}
}

// respond answers an event, and returns the status of the API's answer.
func (p *process) respond(e event, payload string) int {
	resp, _ := p.ask("POST", "invocation/"+e.id+"/response", nil, strings.NewReader(payload))
	return resp.StatusCode
}

// stream answers an event by what comes out of r.
func (p *process) stream(e event, r io.Reader) int {
	resp, _ := p.ask("POST", "invocation/"+e.id+"/response", map[string]string{
		"Lambda-Runtime-Function-Response-Mode": "streaming", "Content-Type": "text/plain",
	}, r)
	return resp.StatusCode
}

// report answers an event by an error.
func (p *process) report(e event, errorType, body string) {
	p.ask("POST", "invocation/"+e.id+"/error", map[string]string{"Lambda-Runtime-Function-Error-Type": errorType}, strings.NewReader(body))
}

// initError reports that the init phase has failed.
func (p *process) initError(errorType, body string) {
	p.ask("POST", "init/error", map[string]string{"Lambda-Runtime-Function-Error-Type": errorType}, strings.NewReader(body))
}

// serve answers every event by what f makes of it.
func (p *process) serve(f func(e event) string) {
	for {
		e := p.next()
		p.respond(e, f(e))
	}
}

// echo serves every event by itself.
func echo(p *process) { p.serve(func(e event) string { return string(e.payload) }) }

// runFunction runs what the test has for the function.
func (p *process) runFunction() {
	name := p.env["AWS_LAMBDA_FUNCTION_NAME"]
	p.c.d.mu.Lock()
	f := p.c.d.programs[name]
	p.c.d.mu.Unlock()
	if f == nil {
		p.print("fake: no program for function %q\n", name)
		p.exitWith(127)
	}
	f(p)
}

// waitForFunction is a booted interpreter: it says that it is ready, waits
// until it is told its function, and runs it.
func (p *process) waitForFunction() {
	p.syscall()
	if _, err := p.c.inside.Write([]byte{runtimes.Ready}); err != nil {
		p.exitWith(105)
	}
	stop := context.AfterFunc(p.dead, func() { p.c.inside.Close() })
	defer stop()
	var head [4]byte
	if _, err := io.ReadFull(p.c.inside, head[:]); err != nil {
		p.syscall()
		p.exitWith(0) // nobody will tell it any more
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(p.c.inside, body); err != nil {
		p.syscall()
		p.exitWith(106)
	}
	var message struct{ Env []string }
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&message); err != nil {
		p.exitWith(107)
	}
	p.setEnv(message.Env)
	p.runFunction()
}
