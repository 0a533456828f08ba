package guest

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
)

// reexecEnv tells the test program that it is already in namespaces of its own.
const reexecEnv = "HEARTH_TEST_IN_NAMESPACE"

// TestMain gives an ordinary user the privileges over namespaces that these
// tests need, by a user namespace.
func TestMain(m *testing.M) {
	if os.Getuid() == 0 || os.Getenv(reexecEnv) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), reexecEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		println("running the tests in a user namespace:", err.Error())
		os.Exit(1)
	}
}

// inNewNamespace runs f on a thread that has a network namespace of its own.
// The thread ends with it, and with the thread the namespace.
func inNewNamespace(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread must not be reused
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("unshare: %v", err)
	}
}

func config() Config {
	return Config{Address: netip.MustParsePrefix("100.64.0.2/30"), Gateway: netip.MustParseAddr("100.64.0.1")}
}

func TestKindsAreThoseOfPackageSandbox(t *testing.T) {
	if sandbox.LinkKind(TUN) != sandbox.LinkTUN || sandbox.LinkKind(Packet) != sandbox.LinkPacket {
		t.Fatal("the kinds of package guest differ from package sandbox's")
	}
}

// send sends a datagram to an address outside from within the namespace.
func send(t *testing.T, payload string) {
	conn, err := net.Dial("udp4", "203.0.113.9:5000")
	if err != nil {
		t.Errorf("dial: %v", err)
		return
	}
	defer conn.Close()
	if local := conn.LocalAddr().(*net.UDPAddr).IP.String(); local != "100.64.0.2" {
		t.Errorf("packets leave from %s", local)
	}
	if _, err := conn.Write([]byte(payload)); err != nil {
		t.Errorf("write: %v", err)
	}
}

func TestTUNLinkCarriesPacketsAndNoChatterBeforeThem(t *testing.T) {
	if _, err := os.Stat(defaultTUN); err != nil {
		t.Fatalf("this test needs a TUN device: %v", err)
	}
	inNewNamespace(t, func() {
		link, kind, err := Up(config())
		if err != nil {
			t.Error(err)
			return
		}
		defer link.Close()
		if kind != TUN {
			if os.Getenv(reexecEnv) == "" {
				t.Errorf("kind %d though there is a TUN device", kind)
			}
			return // an ordinary user who may not open it has the other test
		}
		send(t, "hello")
		packet := read(t, link)
		if packet[0]>>4 != 4 || !bytes.HasSuffix(packet, []byte("hello")) {
			t.Errorf("the first packet is not ours: %x", packet)
		}
	})
}

func TestPacketLinkCarriesFramesOfTheContainerOnly(t *testing.T) {
	inNewNamespace(t, func() {
		c := config()
		c.TUNPath = "/nonexistent/tun"
		link, kind, err := Up(c)
		if err != nil {
			t.Error(err)
			return
		}
		defer link.Close()
		if kind != Packet {
			t.Errorf("kind %d without a TUN device", kind)
		}
		send(t, "hello")
		request := read(t, link)
		if binary.BigEndian.Uint16(request[12:]) != unix.ETH_P_ARP {
			t.Errorf("the first frame is not an ARP request: %x", request)
			return
		}
		if _, err := link.Write(answer(request)); err != nil {
			t.Errorf("answer: %v", err)
		}
		frame := read(t, link)
		if binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IP || !bytes.HasSuffix(frame, []byte("hello")) {
			t.Errorf("the second frame is not ours: %x", frame)
		}
	})
}

// answer answers an ARP request with an invented hardware address.
func answer(request []byte) []byte {
	gateway := []byte{2, 0, 0, 0, 0, 9}
	b := bytes.Clone(request)
	copy(b, request[6:12])
	copy(b[6:], gateway)
	b[21] = 2 // reply
	copy(b[22:], gateway)
	copy(b[28:32], request[38:42])
	copy(b[32:42], request[22:32])
	return b
}

func read(t *testing.T, link *os.File) []byte {
	if err := link.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Errorf("the link does not poll: %v", err)
	}
	b := make([]byte, 1<<17)
	n, err := link.Read(b)
	if err != nil {
		t.Errorf("read: %v", err)
		return make([]byte, 64)
	}
	return b[:n]
}

func TestInterfaceNeedsIPv4(t *testing.T) {
	c := config()
	c.Gateway = netip.MustParseAddr("fe80::1")
	if link, _, err := Up(c); err == nil {
		link.Close()
		t.Fatal("an IPv6 gateway was taken")
	}
}

func TestLoopbackUpServesLoopback(t *testing.T) {
	inNewNamespace(t, func() {
		if err := LoopbackUp(); err != nil {
			t.Error(err)
			return
		}
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close()
		conn, err := net.DialTimeout("tcp4", l.Addr().String(), time.Minute)
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	})
}

func FuzzAcknowledgement(f *testing.F) {
	f.Add([]byte{}, uint32(1))
	f.Add(make([]byte, 20), uint32(0))
	f.Add([]byte{36, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, seq uint32) {
		if errno, ok := acknowledgement(b, seq); !ok && errno != 0 {
			t.Fatal("an error that answers nothing")
		}
	})
}
