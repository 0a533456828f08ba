package namespace

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox"
)

// tunNetwork keeps the links that it is given and serves none.
type tunNetwork struct {
	mu    sync.Mutex
	links map[string]*tunLink
}

type tunLink struct {
	network *tunNetwork
	id      string
	file    *os.File
	kind    sandbox.LinkKind
	rate    atomic.Int64
	policy  atomic.Pointer[hearth.NetworkPolicy]
	refuse  error // of Restrict
}

func (n *tunNetwork) Join(id string, link *os.File, kind sandbox.LinkKind) (sandbox.NetworkLink, error) {
	l := &tunLink{network: n, id: id, file: link, kind: kind}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.links == nil {
		n.links = map[string]*tunLink{}
	}
	n.links[id] = l
	return l, nil
}

func (n *tunNetwork) Guest() sandbox.Guest {
	return sandbox.Guest{
		Address: netip.MustParsePrefix("10.1.0.2/30"),
		Gateway: netip.MustParseAddr("10.1.0.1"),
		DNS:     netip.MustParseAddr("10.1.0.1"),
		MTU:     1400,
	}
}

func (l *tunLink) Counts() (in, out int64) { return 0, 0 }

func (l *tunLink) Restrict(p *hearth.NetworkPolicy) error {
	l.policy.Store(p)
	return l.refuse
}

func (l *tunLink) SetRate(bytesPerSecond int64) { l.rate.Store(bytesPerSecond) }

func (l *tunLink) Close() error {
	l.network.mu.Lock()
	delete(l.network.links, l.id)
	l.network.mu.Unlock()
	return l.file.Close()
}

// Before there is code, its link is bounded; where it can't be, there is no code.
func TestCodeComesToABoundedNetwork(t *testing.T) {
	network := &tunNetwork{}
	in := newInstance(t, newDriver(t, network))
	for _, refuse := range []error{nil, errors.New("no such list")} {
		b := newBox(t, in, sandbox.ContainerSpec{})
		link := network.links[b.ID()]
		link.refuse = refuse
		want := &hearth.NetworkPolicy{Allow: []string{"192.0.2.7:80"}}
		if err := b.Attach(t.Context(), sandbox.Attachment{Task: probeDir, Network: want}); (err == nil) != (refuse == nil) {
			t.Errorf("%v", err)
		}
		if link.policy.Load() != want {
			t.Error("the link was not told")
		}
	}
}

func TestPacketsOfTheContainerComeOutOfItsLink(t *testing.T) {
	network := &tunNetwork{}
	d := newDriver(t, network)
	b := newBox(t, newInstance(t, d), sandbox.ContainerSpec{})
	b.start("/bin/bash", "-c", "cat /etc/resolv.conf; cat /proc/net/route; echo -n question > /dev/udp/192.0.2.7/4711")
	link := network.links[b.ID()]
	if link == nil {
		t.Fatal("the container did not join the network")
	}
	for {
		p := link.packet(t)
		if strings.HasSuffix(p, "question") {
			if p[12:20] != "\x0a\x01\x00\x02\xc0\x00\x02\x07" {
				t.Errorf("addresses are % x", p[12:20])
			}
			break
		}
	}
	_, out := b.wait()
	if !strings.HasPrefix(out, "nameserver 10.1.0.1\n") || strings.Count(out, "eth0") != 2 {
		t.Errorf("inside: %s", out)
	}
	if b.Link() != network.Guest().Address.Addr() {
		t.Errorf("the link's address is %v", b.Link())
	}
	d.closing.Wait()
	if len(network.links) != 0 {
		t.Error("the link was not closed with the container")
	}
}

// packet reads the next IP packet; of Ethernet it answers what is asked about
// the gateway.
func (l *tunLink) packet(t *testing.T) string {
	t.Helper()
	var frame [2048]byte
	for {
		n, err := l.file.Read(frame[:])
		if err != nil {
			t.Fatal(err)
		}
		f := frame[:n]
		if l.kind == sandbox.LinkTUN {
			return string(f)
		}
		const header = 14
		switch string(f[12:header]) {
		case "\x08\x00":
			return string(f[header:])
		case "\x08\x06":
			answer := bytes.Clone(f)
			us := []byte{2, 0, 0, 0, 0, 1}
			copy(answer[0:6], f[6:12])
			copy(answer[6:12], us)
			answer[21] = 2 // a reply
			copy(answer[22:28], us)
			copy(answer[28:32], f[38:42])
			copy(answer[32:42], f[22:32])
			if _, err := l.file.Write(answer); err != nil {
				t.Fatal(err)
			}
		}
	}
}
