package egress

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
)

// memory is what this process holds, in bytes: heap and goroutines' stacks.
func memory() int {
	runtime.GC()
	runtime.GC() // the first one only retires what pools hold
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// idleLinks joins so many links whose other ends are sockets: what a device
// costs in the kernel is not this process's.
func idleLinks(t testing.TB, n *Network, count int) (links []*link) {
	t.Helper()
	for range count {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { unix.Close(pair[1]) })
		joined, err := n.Join("c", os.NewFile(uintptr(pair[0]), "pair"), sandbox.LinkTUN)
		must(t, err)
		links = append(links, joined.(*link))
	}
	return links
}

func TestIdleLinkCostsLittle(t *testing.T) {
	const count, budget = 400, 10 << 10
	n, err := New(Config{})
	must(t, err)
	defer n.Close()
	idleLinks(t, n, 10) // what is made once
	before := memory()
	links := idleLinks(t, n, count)
	each := 0
	soon(t, "the links' goroutines are parked and hold little", func() bool {
		each = (memory() - before) / count
		return each <= budget
	})
	t.Logf("an idle link holds %d bytes", each)
	// One with a TCP stack, for comparison: nothing depends on it.
	before = memory()
	for _, l := range links[:50] {
		if _, ok := l.activate().tcp.handshake(1); !ok {
			t.Fatal("no stack")
		}
		l.active.Load().tcp.handshake(-1)
	}
	t.Logf("one with a TCP stack holds %d more", (memory()-before)/50)
}
