package brokers

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv("HEARTH_BROKERS_CHILD") != "" {
		child()
		return
	}
	os.Exit(Main(m))
}

// greeting is what a client says and how the answer begins.
var greeting = map[string]struct{ says, hears string }{
	"redis":     {"PING\r\n", "+PONG"},
	"nats":      {"", "INFO {"},
	"mosquitto": {"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a", "\x20\x02\x00\x00"},
	"rabbitmq":  {"AMQP\x00\x00\x09\x01", "\x01\x00\x00"},
	"versitygw": {"GET /healthy HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\n"},
	"kafka":     {"\x00\x00\x00\x0f\x00\x03\x00\x00\x00\x00\x00\x01\x00\x01a\x00\x00\x00\x00", "\x00\x00"},
}

// greet makes a connection that the broker has answered.
func greet(t *testing.T, b *Broker) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", b.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	g := greeting[b.Kind.Name()]
	if _, err := io.WriteString(c, g.says); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(g.hears))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != g.hears {
		t.Fatalf("%s answered %q (%v), want %q", b.Kind.Name(), got, err, g.hears)
	}
	return c
}

func ends(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the connection did not end")
	}
}

func TestBrokerServesAtTheSameAddressAfterAKill(t *testing.T) {
	for _, kind := range []Kind{Redis, NATS, Mosquitto, RabbitMQ, Kafka, VersityGW} {
		t.Run(kind.Name(), func(t *testing.T) {
			b := Start(t, kind, Options{})
			greet(t, b)
			c := greet(t, b)
			b.Cut()
			ends(t, c)
			c = greet(t, b)
			b.Kill()
			ends(t, c)
			c, err := net.Dial("tcp", b.Addr)
			if err != nil {
				t.Fatal(err)
			}
			ends(t, c)
			b.Start(t)
			greet(t, b)
		})
	}
}

func TestBrokersAskForPasswordsAndTLS(t *testing.T) {
	cert := NewCertificate(t)
	for _, kind := range []Kind{Redis, NATS, Mosquitto} { // RabbitMQ, which is slow to start: event/rabbitmq
		t.Run(kind.Name(), func(t *testing.T) {
			Start(t, kind, Options{User: "ada", Password: "lovelace", TLS: cert})
		})
	}
}

func TestSharedBrokerIsOneAndIsStartedAgainIfATestLeftItDead(t *testing.T) {
	b := Shared(t, Redis)
	c := greet(t, b)
	if Shared(t, Redis) != b {
		t.Fatal("another broker")
	}
	b.Kill()
	ends(t, c)
	greet(t, Shared(t, Redis))
}

func TestNothingPassesWhileTheProxyHolds(t *testing.T) {
	b := Shared(t, Redis)
	c := greet(t, b)
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil { // the rest of the greeting
		t.Fatal(err)
	}
	b.Pass(false)
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := r.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("something came through: ", err)
	}
	c.SetReadDeadline(time.Now().Add(time.Minute))
	b.Pass(true)
	if line, err := r.ReadString('\n'); err != nil || line != "+PONG\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
}

func TestMissingProgramIsNamed(t *testing.T) {
	_, err := launch(Kind{name: "none", commands: func(*Broker) ([]command, error) { return []command{{path: "no-such-broker"}}, nil }}, t.TempDir(), Options{})
	if err == nil || !strings.Contains(err.Error(), "no-such-broker is not installed: run .ci/install") {
		t.Fatal(err)
	}
}

// child starts a broker, says where, and waits to be killed.
func child() {
	dir, err := os.MkdirTemp("", "")
	if err == nil {
		var b *Broker
		if b, err = launch(Redis, dir, Options{}); err == nil {
			fmt.Println(b.port, dir)
			select {}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func TestBrokerEndsWhenTheTestBinaryIsKilled(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HEARTH_BROKERS_CHILD=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var port int
	var dir string
	if _, err := fmt.Fscan(out, &port, &dir); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	c := greet(t, &Broker{Kind: Redis, Addr: fmt.Sprintf("127.0.0.1:%d", port)})
	cmd.Process.Kill()
	cmd.Wait() // says that it was killed
	ends(t, c)
}
