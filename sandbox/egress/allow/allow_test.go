package allow

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAListAllowsWhatItSaysAndNothingElse(t *testing.T) {
	l, err := Parse([]string{"s3.example.com:443", "*.queue.example.com:*", "10.1.0.0/16:5432", "192.0.2.7:80", "Upper.Example.:1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"s3.example.com": true, "S3.EXAMPLE.COM.": true, "x.s3.example.com": false, "s3.example.com.evil.test": false, "evils3.example.com": false,
		"a.queue.example.com": true, "a.b.queue.example.com": true, "queue.example.com": false, "xqueue.example.com": false, "upper.example": true, "": false, "192.0.2.7": false,
	} {
		if got := l.Name(name); got != want {
			t.Errorf("the name %q: %v", name, got)
		}
	}
	for to, want := range map[string]bool{
		"10.1.2.3:5432": true, "10.1.2.3:5433": false, "10.2.0.0:5432": false, "192.0.2.7:80": true, "192.0.2.7:443": false, "192.0.2.8:80": false, "[::ffff:192.0.2.7]:80": true, "[::1]:80": false,
	} {
		if got := l.Address(netip.MustParseAddrPort(to)); got != want {
			t.Errorf("the address %s: %v", to, got)
		}
	}
	for name, want := range map[string][2]bool{"s3.example.com": {true, false}, "a.queue.example.com": {true, true}, "other": {false, false}} {
		if got := [2]bool{l.Port(name, 443), l.Port(name, 25)}; got != want {
			t.Errorf("the ports of %s: %v", name, got)
		}
	}
}

func TestWhatIsNoDestinationIsRefusedWithTheReason(t *testing.T) {
	for d, why := range map[string]string{
		"": "HOST:PORT", "host": "HOST:PORT", "host:": "port", "host:0": "port", "host:65536": "port", "host:x": "port", ":80": "host name",
		"*:443": "host name", "*.com:443": "top-level", "a..b:1": "host name", "-x y:1": "host name", "http://x:80": "HOST:PORT", "10.0.0.1/8:1": "prefix", "10.0.0.0/33:1": "prefix",
		"1.2.3:80": "host name", "0x7f.1:80": "host name", "a.0x1f:80": "host name", "[::1]:80": "HOST:PORT", "256.1.1.1:80": "host name", strings.Repeat("a", 64) + ".x:1": "host name", "ex*mple.com:1": "host name", "a.*.b.c:1": "host name",
	} {
		if l, err := Parse([]string{d}); err == nil || l != nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, want one about %q", d, err, why)
		}
	}
	if _, err := Parse(slices.Repeat([]string{"a.b:1"}, Max+1)); err == nil {
		t.Error("a list of any length is taken")
	}
}

// Whatever is asked of the empty list, it allows nothing.
func TestNothingIsAllowedByDefault(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address"))), rapid.Uint16().Draw(t, "port"))
		if l := new(List); l.Name(name) || l.Address(a) || l.Port(name, a.Port()) {
			t.Fatalf("%q and %v are allowed by nothing", name, a)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a.b:1", "*.a.b:*", "10.0.0.0/8:80", "1.2.3.4:5", "[::1]:1", "é.x:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := Parse([]string{s})
		if err != nil {
			return
		}
		host := s[:strings.IndexByte(s, ':')]
		if bare, under := strings.CutPrefix(strings.ToLower(host), "*."); under {
			if !l.Name("x."+bare) || l.Name(bare) {
				t.Errorf("%q does not allow what it says", s)
			}
		} else if a, err := netip.ParseAddr(host); err == nil {
			if l.Name(host) || !a.Is4() {
				t.Errorf("%q is a name", s)
			}
		} else if !strings.Contains(host, "/") && !l.Name(host) {
			t.Errorf("%q does not allow what it says", s)
		}
		if l.Name("not.in.any.list.test") && !strings.Contains(strings.ToLower(s), "test") {
			t.Errorf("%q allows anything", s)
		}
	})
}
