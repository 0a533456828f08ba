package egress

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"pgregory.net/rapid"
)

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestPolicyAllowsTheInternetAndPrivateRangesAndRefusesWhatIsNear(t *testing.T) {
	own := map[string]bool{"192.0.2.10": true, "10.0.0.1": true, "2001:db8::1": true, "192.0.2.255": true}
	isOwn := func(a netip.Addr) (bool, error) {
		if a.String() == "203.0.113.66" {
			return false, errors.New("netlink is broken")
		}
		return own[a.String()], nil
	}
	for _, test := range []struct {
		allow, deny []netip.Prefix
		address     string
		want        string
	}{
		{address: "8.8.8.8"},
		{address: "10.2.3.4"},
		{address: "192.168.1.1"},
		{address: "172.16.0.9"},
		{address: "100.64.0.8"},
		{address: "2606:4700::1"},
		{address: "fc00::1"},

		{address: "127.0.0.1", want: reasonNever},
		{address: "127.255.0.3", want: reasonNever},
		{address: "0.0.0.0", want: reasonNever},
		{address: "0.7.7.7", want: reasonNever},
		{address: "224.0.0.251", want: reasonNever},
		{address: "255.255.255.255", want: reasonNever},
		{address: "100.64.0.1", want: reasonNever},
		{address: "100.64.0.2", want: reasonNever},
		{address: "::", want: reasonNever},
		{address: "::1", want: reasonNever},
		{address: "::127.0.0.1", want: reasonNever},
		{address: "ff02::1", want: reasonNever},
		{address: "::ffff:127.0.0.1", want: reasonNever},
		{address: "::ffff:100.64.0.1", want: reasonNever},

		{address: "169.254.169.254", want: "link-local address"},
		{address: "::ffff:169.254.169.254", want: "link-local address"},
		{address: "fe80::1%eth0", want: "link-local address"},
		{address: "fe80::1", want: "link-local address"},
		{address: "250.1.2.3", want: "reserved address"},
		{address: "100.100.100.200", want: "cloud metadata"},
		{address: "168.63.129.16", want: "cloud metadata"},
		{address: "fd00:ec2::254", want: "cloud metadata"},
		{address: "64:ff9b::7f00:1", want: "translated address"},
		{address: "2002:7f00:1::", want: "translated address"},

		{address: "192.0.2.10", want: reasonOwn},
		{address: "192.0.2.255", want: reasonOwn},
		{address: "::ffff:10.0.0.1", want: reasonOwn},
		{address: "2001:db8::1", want: reasonOwn},
		{address: "203.0.113.66", want: reasonUnknown},

		{deny: prefixes("10.0.0.0/8"), address: "10.2.3.4", want: reasonDenied},
		{deny: prefixes("10.0.0.0/8"), address: "::ffff:10.2.3.4", want: reasonDenied},
		{deny: prefixes("::ffff:10.0.0.0/104"), address: "10.2.3.4", want: reasonDenied},
		{deny: prefixes("10.0.0.0/8"), address: "11.2.3.4"},
		{deny: prefixes("0.0.0.0/0"), allow: prefixes("10.1.0.0/16"), address: "10.1.2.3"},
		{deny: prefixes("0.0.0.0/0"), allow: prefixes("10.1.0.0/16"), address: "8.8.8.8", want: reasonDenied},
		{deny: prefixes("10.1.0.0/16"), allow: prefixes("10.0.0.0/8"), address: "10.1.2.3", want: reasonDenied},
		{deny: prefixes("10.1.0.0/16"), allow: prefixes("10.1.0.0/16"), address: "10.1.2.3", want: reasonDenied},
		{allow: prefixes("0.0.0.0/0"), address: "169.254.169.254", want: "link-local address"},
		{allow: prefixes("169.254.169.254/32"), address: "169.254.169.254"},
		{allow: prefixes("169.254.0.0/16"), address: "169.254.1.1"},
		{allow: prefixes("0.0.0.0/0", "127.0.0.0/8", "127.0.0.1/32"), address: "127.0.0.1", want: reasonNever},
		{allow: prefixes("192.0.2.0/24"), address: "192.0.2.10", want: reasonOwn},
		{allow: prefixes("192.0.2.10/32"), address: "192.0.2.10"},
		{allow: prefixes("100.64.0.0/30"), address: "100.64.0.1", want: reasonNever},
	} {
		p := NewPolicy(DefaultGuest.Address, test.allow, test.deny, isOwn)
		if got := p.Refuses(netip.MustParseAddr(test.address)); got != test.want {
			t.Errorf("allow %v deny %v: %s: %q, want %q", test.allow, test.deny, test.address, got, test.want)
		}
	}
	if NewPolicy(DefaultGuest.Address, nil, nil, isOwn).Refuses(netip.Addr{}) != reasonInvalid {
		t.Error("no address at all was allowed")
	}
}

// Whatever is configured, an address that means this host stays closed, in
// every way of writing it, and denying more never opens anything.
func TestPolicyHoldsForAnyConfiguration(t *testing.T) {
	address := rapid.Custom(func(t *rapid.T) netip.Addr {
		if rapid.Bool().Draw(t, "v6") {
			return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes")))
		}
		first := rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte{0, 10, 100, 127, 169, 224, 240, 255})).Draw(t, "first")
		return netip.AddrFrom4([4]byte(append([]byte{first}, rapid.SliceOfN(rapid.Byte(), 3, 3).Draw(t, "rest")...)))
	})
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := address.Draw(t, "address")
		return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
	})
	rapid.Check(t, func(t *rapid.T) {
		allow, deny := rapid.SliceOfN(prefix, 0, 4).Draw(t, "allow"), rapid.SliceOfN(prefix, 0, 4).Draw(t, "deny")
		a := address.Draw(t, "a")
		mine := address.Draw(t, "mine")
		own := func(a netip.Addr) (bool, error) { return a == mine.Unmap(), nil }
		p := NewPolicy(DefaultGuest.Address, allow, deny, own)
		reason := p.Refuses(a)
		u := a.Unmap()
		if (u.IsLoopback() || u.IsMulticast() || u.IsUnspecified() || DefaultGuest.Address.Contains(u)) && reason == "" {
			t.Fatalf("%v is allowed", a)
		}
		if a.Is4() && p.Refuses(netip.AddrFrom16(a.As16())) != reason {
			t.Fatalf("%v is judged differently when mapped into IPv6", a)
		}
		exact := false
		for _, prefix := range allow {
			exact = exact || prefix.IsSingleIP() && prefix.Addr().Unmap() == mine.Unmap()
		}
		if !exact && p.Refuses(mine) == "" {
			t.Fatalf("the host's own address %v is allowed", mine)
		}
		stricter := NewPolicy(DefaultGuest.Address, allow, append(deny, prefix.Draw(t, "more")), own)
		if reason != "" && stricter.Refuses(a) == "" {
			t.Fatalf("denying more opened %v", a)
		}
	})
}

func TestKernelTellsTheHostsOwnAddressesAsTheyChange(t *testing.T) {
	r, err := openRoutes()
	must(t, err)
	defer r.close()
	check := func(address string, want bool) {
		t.Helper()
		got, err := r.isOwn(netip.MustParseAddr(address))
		if err != nil || got != want {
			t.Errorf("%s is the host's own: %v, error %v; want %v", address, got, err, want)
		}
	}
	check("127.0.0.1", true)
	check("127.9.9.9", true)
	check(hostAddr.String(), true)
	check(worldAddr.String(), false)
	check("198.51.100.255", true) // the subnet's broadcast address
	check("192.0.2.1", false)     // unreachable
	check("203.0.113.9", false)   // no route
	check("::1", true)
	check("2001:db8::1", false)

	lo, err := netlink.LinkByName("lo")
	must(t, err)
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(203, 0, 113, 9), Mask: net.CIDRMask(32, 32)}}
	must(t, netlink.AddrAdd(lo, address))
	check("203.0.113.9", true)
	must(t, netlink.AddrDel(lo, address))
	check("203.0.113.9", false)
	// A whole range that is local without being any interface's address.
	route := &netlink.Route{
		LinkIndex: lo.Attrs().Index, Type: 2, Table: 255, Scope: netlink.SCOPE_HOST, Src: hostAddr.AsSlice(),
		Dst: &net.IPNet{IP: net.IPv4(203, 0, 113, 0), Mask: net.CIDRMask(24, 32)},
	}
	must(t, netlink.RouteAdd(route))
	check("203.0.113.77", true)
	must(t, netlink.RouteDel(route))
	must(t, r.close())
	if _, err := r.isOwn(worldAddr); err == nil {
		t.Error("an answer after close")
	}
}

func FuzzRouteReply(f *testing.F) {
	f.Add([]byte{}, uint32(0))
	f.Add([]byte{28, 0, 0, 0, 24, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 32, 0, 0, 255, 0, 0, 2, 0, 0, 0, 0}, uint32(1))
	f.Add([]byte{20, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x9b, 0xff, 0xff, 0xff}, uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, seq uint32) {
		if kind, ok, err := routeReply(b, seq); !ok && (kind != 0 || err != nil) {
			t.Fatal("an answer that is none")
		}
	})
}

func TestResolversFollowTheFile(t *testing.T) {
	clock := newTestClock()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	r := newResolvers(nil, path, clock)
	check := func(want ...string) {
		t.Helper()
		got := r.servers()
		if len(got) != len(want) {
			t.Fatalf("resolvers %v, want %v", got, want)
		}
		for i := range want {
			if got[i].String() != want[i] {
				t.Fatalf("resolvers %v, want %v", got, want)
			}
		}
	}
	check("127.0.0.1:53") // no file
	must(t, os.WriteFile(path, []byte("# comment\nsearch example.com\nnameserver 127.0.0.53\nnameserver nonsense\noptions edns0\n nameserver 2001:db8::53\n"), 0o600))
	check("127.0.0.1:53") // not looked at again yet
	clock.advance(resolvConfAge)
	check("127.0.0.53:53", "[2001:db8::53]:53")
	must(t, os.WriteFile(path, []byte("nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n"), 0o600))
	clock.advance(resolvConfAge)
	check("10.0.0.1:53", "10.0.0.2:53", "10.0.0.3:53")
	must(t, os.Remove(path))
	clock.advance(resolvConfAge)
	check("127.0.0.1:53")
}
