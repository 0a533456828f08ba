package outside

import (
	"net"
	"net/netip"
	"testing"
)

func TestTheMachineAndMetadataAreNotCalled(t *testing.T) {
	for _, a := range []string{"127.0.0.1", "127.9.9.9", "::1", "169.254.169.254", "::ffff:169.254.169.254", "0.0.0.0", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fe80::1", "224.0.0.1", "64:ff9b::a9fe:a9fe"} {
		if Refuses(netip.AddrPortFrom(netip.MustParseAddr(a), 80)) == "" {
			t.Errorf("%s is called", a)
		}
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range own {
		if a, err := netip.ParsePrefix(o.String()); err == nil && Refuses(netip.AddrPortFrom(a.Addr(), 80)) == "" {
			t.Errorf("%s is this machine, and called", a)
		}
	}
	if why := Refuses(netip.MustParseAddrPort("192.0.2.7:443")); why != "" {
		t.Error(why)
	}
	open := Opened([]string{"127.0.0.1:8080"})
	if open(netip.MustParseAddrPort("127.0.0.1:8080")) != "" || open(netip.MustParseAddrPort("127.0.0.1:8081")) == "" {
		t.Error("what is opened is not what was said")
	}
}
