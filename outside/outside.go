// Package outside calls what tenants name, and neither this machine nor what
// only it can reach.
package outside

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// refused are addresses that no tenant can have this server call: those of the
// machine itself, of its links, and of the services that hand out a cloud
// machine's credentials.
var refused = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba Cloud's metadata
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure's
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle Cloud's
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("fd00:ec2::254/128"), // AWS's
	netip.MustParsePrefix("fd20:ce::254/128"),  // Google Cloud's
	netip.MustParsePrefix("64:ff9b::/96"),      // translated to any address
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("2001::/32"),
}

// Refuses tells why an address is not called, "" if it is: those of this machine
// are not, nor link-local ones and those of clouds' metadata services.
func Refuses(to netip.AddrPort) string {
	a := to.Addr().Unmap().WithZone("")
	for _, p := range refused {
		if p.Contains(a) {
			return "it is an address that is not called for others (" + p.String() + ")"
		}
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return "this machine's own addresses can't be read"
	}
	for _, o := range own {
		if n, ok := o.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == a {
				return "it is an address of the machine that Hearth is on"
			}
		}
	}
	return ""
}

// Opened is Refuses but for the addresses that an operator has opened, each an
// IP:PORT. What cannot be read as one opens nothing.
func Opened(open []string) func(netip.AddrPort) string {
	opened := map[netip.AddrPort]bool{}
	for _, s := range open {
		if a, err := netip.ParseAddrPort(s); err == nil {
			opened[netip.AddrPortFrom(a.Addr().Unmap(), a.Port())] = true
		}
	}
	return func(a netip.AddrPort) string {
		if opened[netip.AddrPortFrom(a.Addr().Unmap(), a.Port())] {
			return ""
		}
		return Refuses(a)
	}
}

// ErrAddress: an address that is not called.
var ErrAddress = errors.New("the address is not called")

// NewClient makes what calls whoever refuses gives no reason against. An address is judged when it
// is dialled, after its name was resolved, so that no name can lead elsewhere
// between the two. Redirects are the caller's affair, proxies of the
// environment are not asked.
func NewClient(refuses func(netip.AddrPort) string) *http.Client {
	dialer := &net.Dialer{
		Timeout: 5 * time.Second, KeepAlive: 30 * time.Second,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("%w: %s", ErrAddress, address)
			}
			if why := refuses(to); why != "" {
				return fmt.Errorf("%w: %s: %s", ErrAddress, to.Addr(), why)
			}
			return nil
		},
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, MaxIdleConns: 512, MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second,
			TLSHandshakeTimeout: 5 * time.Second, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
