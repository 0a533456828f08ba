// Package brokers starts real message brokers, and a server of S3, for tests:
// the programs that Debian has, or that .ci/install gets otherwise, with a data
// folder of their own, on ports of the loopback address that the kernel chose,
// as whoever runs the tests. What is missing fails the test and says what to
// install; .ci/install does.
//
// A test reaches its broker through a proxy in the test's own process. So the
// broker's address stays the same when it is killed and started again, and
// connections can be cut without either side having wished it.
//
// A broker ends with its test (Start) or with the test binary (Shared), and
// also when that is killed: the kernel then ends it.
package brokers

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Kind is a kind of broker: what is to be started, and how.
type Kind struct {
	name string
	// commands are the programs that make up a broker, in the order in which
	// they are started; the last is the one that serves, at b.port.
	commands func(b *Broker) ([]command, error)
	// end is how Kill ends the one that serves; 0 is SIGKILL.
	end syscall.Signal
}

// Name is the broker's name, such as "redis".
func (k Kind) Name() string { return k.name }

// Options are what of a broker a test may choose.
type Options struct {
	// User and Password are what clients must show; "" is none, where the
	// broker can do without (RabbitMQ has guest, guest then).
	User, Password string
	// TLS is whether clients must encrypt, and trust the authority CA.
	TLS *Certificate
	// Notify is the URL that an S3 server notifies; "" is nobody.
	Notify string
}

// Broker is a running broker. Its methods are for one goroutine, that of the
// test.
type Broker struct {
	Kind    Kind
	Addr    string  // host:port at which clients reach it; stays when it is started again
	Options Options // heeded at each start

	dir    string
	port   int // at which it listens, this time
	helper int // at which its helper listens (epmd, ZooKeeper)
	proxy  *proxy
	procs  []*process // the last serves
}

// startTime is how long a broker may take to be ready: RabbitMQ needs two
// seconds, and many times that on a machine that does everything at once.
const startTime = 4 * time.Minute

// attempts are how often a broker is started that ends before it is ready: its
// port may have been taken, or what is left of a killed one not be gone yet.
const attempts = 20

// Start starts a broker that ends with the test.
func Start(t testing.TB, kind Kind, o Options) *Broker {
	t.Helper()
	b, err := launch(kind, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b
}

var shared struct {
	sync.Mutex
	dir     string // "" unless Main runs
	brokers map[string]*Broker
}

// Main runs the tests and ends what Shared started. It is for TestMain.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "hearth-brokers-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	shared.dir, shared.brokers = dir, map[string]*Broker{}
	defer func() {
		for _, b := range shared.brokers {
			b.close()
		}
	}()
	return m.Run()
}

// Shared is the test binary's broker of the kind, without credentials: started
// by the first test that asks, and started again if one before left it dead.
// Tests that use it must not run in parallel if one of them kills it, and each
// uses names of its own for what it makes there.
func Shared(t testing.TB, kind Kind) *Broker {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.dir == "" {
		t.Fatal("brokers.Shared needs func TestMain(m *testing.M) { os.Exit(brokers.Main(m)) }")
	}
	if b := shared.brokers[kind.name]; b != nil {
		if !b.serving() {
			b.Start(t)
		}
		return b
	}
	dir := filepath.Join(shared.dir, kind.name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := launch(kind, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	shared.brokers[kind.name] = b
	return b
}

func launch(kind Kind, dir string, o Options) (*Broker, error) {
	p, err := newProxy()
	if err != nil {
		return nil, err
	}
	b := &Broker{Kind: kind, Addr: p.addr(), Options: o, dir: dir, proxy: p}
	if err := b.start(); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// Kill ends the broker at once (mosquitto and RabbitMQ: in order), and returns when it is
// gone.
// Those who are connected see the connection end.
func (b *Broker) Kill() {
	b.proxy.to("")
	n := len(b.procs)
	if n == 0 {
		return
	}
	p := b.procs[n-1]
	if b.Kind.end != 0 {
		p.cmd.Process.Signal(b.Kind.end) // fails only if it is gone
		select {
		case <-p.ended:
			return
		case <-time.After(startTime):
		}
	}
	p.kill()
}

// Start starts a killed broker again, with what it had on disk.
func (b *Broker) Start(t testing.TB) {
	t.Helper()
	if err := b.start(); err != nil {
		t.Fatal(err)
	}
}

// Cut ends all connections with the broker, which goes on serving: one that is
// made after Cut returned is served.
func (b *Broker) Cut() { b.proxy.cut() }

// Pass lets nothing through in either direction until it is called again with
// true; connections stay. So a test can stand between what was sent and what
// is answered.
func (b *Broker) Pass(pass bool) { b.proxy.pass(pass) }

// serving tells whether the broker's process runs.
func (b *Broker) serving() bool {
	n := len(b.procs)
	return n > 0 && !b.procs[n-1].gone()
}

// start starts those of the broker's programs that do not run.
func (b *Broker) start() (err error) {
	for range attempts {
		if b.port, err = freePort(); err != nil {
			return err
		}
		var commands []command
		if commands, err = b.Kind.commands(b); err != nil {
			return fmt.Errorf("%s: %w", b.Kind.name, err)
		}
		if err = b.run(commands); err == nil {
			b.proxy.to(fmt.Sprintf("127.0.0.1:%d", b.port))
			return nil
		}
		if _, early := err.(*earlyEnd); !early {
			break
		}
	}
	return fmt.Errorf("%s did not start: %w", b.Kind.name, err)
}

func (b *Broker) run(commands []command) error {
	for i, c := range commands {
		if i < len(b.procs) && !b.procs[i].gone() {
			continue
		}
		p, err := startProcess(c)
		if err != nil {
			return err
		}
		if i < len(b.procs) {
			b.procs[i] = p
		} else {
			b.procs = append(b.procs, p)
		}
		if err := p.ready(startTime); err != nil {
			p.kill()
			return err
		}
	}
	return nil
}

func (b *Broker) close() {
	for i := len(b.procs) - 1; i >= 0; i-- {
		b.procs[i].kill()
	}
	b.proxy.close()
}

// freePort is a port at which nothing listens now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// file writes a file into the broker's folder and returns its path.
func (b *Broker) file(name, content string) (string, error) {
	path := filepath.Join(b.dir, name)
	return path, os.WriteFile(path, []byte(content), 0o600)
}
