package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// outside is a host beside this one: a network namespace of its own, joined to
// this one by a cable. To a sandbox it is what the internet would be, and no
// packet leaves the machine.
type outside struct {
	greeter string // address of a listener there, which greets and hangs up
	here    string // this machine's own address at the cable
	// sink is the address of one that takes what it is sent and, if that
	// begins with "d", sends without end. passed counts the bytes of both.
	sink   string
	web    net.Listener // there, for a server of the test's own; webAt is its address
	webAt  string
	passed *atomic.Int64
	// ledger is the address of one that writes down each line that it is sent,
	// and then answers it with "ok" and a line end. written has the lines.
	ledger  string
	written *sync.Map
}

const greeting = "greetings from outside"

// newOutside makes one until the test ends. It needs root.
func newOutside(t *testing.T) outside {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("a host beside this one: %v", err)
		}
	}
	// 10.200.0.0/16 in parts of four addresses, of which few are in use.
	n := rand.IntN(1 << 14)
	at := func(i int) netip.Prefix {
		n := n<<2 + i
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 200, byte(n >> 8), byte(n)}), 30)
	}
	plug := func(end string, address netip.Prefix) error {
		link, err := netlink.LinkByName(end)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(address.String())
		if err != nil {
			return err
		}
		return errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link))
	}
	type made struct {
		ns                   *os.File
		l, sink, web, ledger net.Listener
		err                  error
	}
	ready, cabled, plugged := make(chan made), make(chan bool), make(chan error)
	go func() {
		// This thread stays in the other namespace, so it is never given
		// back: it ends with the goroutine.
		runtime.LockOSThread()
		var m made
		if m.err = unix.Unshare(unix.CLONE_NEWNET); m.err == nil {
			if m.ns, m.err = os.Open("/proc/thread-self/ns/net"); m.err == nil {
				m.l, m.err = net.Listen("tcp4", ":0")
			}
			if m.err == nil {
				m.sink, m.err = net.Listen("tcp4", ":0")
			}
			if m.err == nil {
				m.web, m.err = net.Listen("tcp4", ":0")
			}
			if m.err == nil {
				m.ledger, m.err = net.Listen("tcp4", ":0")
			}
		}
		ready <- m
		if <-cabled {
			plugged <- plug("there", at(2))
		}
	}()
	there := <-ready
	defer close(cabled)
	must(there.err)
	t.Cleanup(func() { there.l.Close(); there.sink.Close(); there.web.Close(); there.ledger.Close(); there.ns.Close() })
	name := fmt.Sprintf("e2e%d", n)
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "there", PeerNamespace: netlink.NsFd(int(there.ns.Fd()))}
	must(netlink.LinkAdd(cable))
	t.Cleanup(func() {
		if err := netlink.LinkDel(cable); err != nil {
			t.Error(err)
		}
	})
	must(plug(name, at(1)))
	cabled <- true
	must(<-plugged)
	go func() {
		for {
			c, err := there.l.Accept()
			if err != nil {
				return // closed
			}
			_, _ = c.Write([]byte(greeting)) // whoever has gone needs none
			c.Close()
		}
	}()
	passed := new(atomic.Int64)
	go func() {
		for {
			c, err := there.sink.Accept()
			if err != nil {
				return // closed
			}
			go carry(c, passed)
		}
	}()
	written := new(sync.Map)
	go func() {
		for {
			c, err := there.ledger.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					written.Store(lines.Text(), true)
					if _, err := c.Write([]byte("ok\n")); err != nil {
						return
					}
				}
			}()
		}
	}()
	address := func(l net.Listener) string {
		return netip.AddrPortFrom(at(2).Addr(), l.Addr().(*net.TCPAddr).AddrPort().Port()).String()
	}
	return outside{greeter: address(there.l), here: at(1).Addr().String(), sink: address(there.sink), passed: passed, web: there.web, webAt: address(there.web), ledger: address(there.ledger), written: written}
}

// carry is the sink's end of a connection.
func carry(c net.Conn, passed *atomic.Int64) {
	defer c.Close()
	b := make([]byte, 64<<10)
	n, err := c.Read(b)
	send := n > 0 && b[0] == 'd'
	for err == nil {
		passed.Add(int64(n))
		if send {
			n, err = c.Write(b)
		} else {
			n, err = c.Read(b)
		}
	}
}
