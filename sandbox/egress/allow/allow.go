// Package allow reads lists of destinations that a container may reach: pure,
// so that who takes such a list in can check it as who enforces it does.
package allow

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Max bounds a list.
const Max = 100

// List is what may be reached. The zero List is nothing. It is immutable.
type List struct{ entries []entry }

type entry struct {
	name   string       // lower case, without a final dot; "" is an address
	under  bool         // the names under it, not itself
	prefix netip.Prefix // IPv4
	port   uint16       // 0 is all
}

// Parse reads destinations: "NAME:PORT", "*.SUFFIX:PORT", "ADDRESS:PORT" or
// "PREFIX/BITS:PORT", where the port may be "*". Addresses are of IPv4, which is
// all that containers have. A List that is nil after an error allows nothing.
func Parse(destinations []string) (*List, error) {
	if len(destinations) > Max {
		return nil, fmt.Errorf("there are %d destinations, and %d is the limit", len(destinations), Max)
	}
	l := &List{}
	for _, d := range destinations {
		e, err := parse(d)
		if err != nil {
			return nil, err
		}
		l.entries = append(l.entries, e)
	}
	return l, nil
}

func parse(d string) (e entry, err error) {
	host, port, ok := strings.Cut(d, ":")
	if !ok || strings.Contains(port, ":") {
		return e, fmt.Errorf("%q is not HOST:PORT: add a port such as :443, or :* for all; IPv6 is not carried", d)
	}
	if port != "*" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return e, fmt.Errorf("the port of %q is not a number from 1 to 65535, or *", d)
		}
		e.port = uint16(n)
	}
	if address, bits, ok := strings.Cut(host, "/"); ok {
		e.prefix, err = netip.ParsePrefix(address + "/" + bits)
		if err != nil || !e.prefix.Addr().Is4() || e.prefix != e.prefix.Masked() {
			return e, fmt.Errorf("%q is not an IPv4 prefix such as 10.1.0.0/16", host)
		}
		return e, nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if !a.Is4() {
			return e, fmt.Errorf("%q is not an IPv4 address", host)
		}
		e.prefix = netip.PrefixFrom(a, 32)
		return e, nil
	}
	e.name, e.under = strings.CutPrefix(canonical(host), "*.")
	if !validName(e.name) {
		return e, fmt.Errorf("%q is not a host name: letters, digits, - and dots, or *. and such", host)
	}
	if e.under && !strings.Contains(e.name, ".") {
		return e, fmt.Errorf("%q would allow a whole top-level domain: name more of it", host)
	}
	return e, nil
}

func canonical(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }

func validName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	// What looks like a number is one to a resolver: 0x7f.1 is 127.0.0.1.
	last := name[strings.LastIndexByte(name, '.')+1:]
	return strings.Trim(last, "0123456789") != "" && !strings.HasPrefix(last, "0x")
}

func (e *entry) fits(name string) bool {
	if e.name == "" {
		return false
	}
	if e.under {
		return strings.HasSuffix(name, "."+e.name)
	}
	return name == e.name
}

// Name reports whether a name may be asked for.
func (l *List) Name(name string) bool {
	name = canonical(name)
	return slices.ContainsFunc(l.entries, func(e entry) bool { return e.fits(name) })
}

// Address reports whether an address itself is allowed, whatever its names.
func (l *List) Address(to netip.AddrPort) bool {
	a := to.Addr().Unmap()
	return slices.ContainsFunc(l.entries, func(e entry) bool {
		return e.prefix.IsValid() && e.prefix.Contains(a) && (e.port == 0 || e.port == to.Port())
	})
}

// Port reports whether a port of what a name resolves to is allowed.
func (l *List) Port(name string, port uint16) bool {
	name = canonical(name)
	return slices.ContainsFunc(l.entries, func(e entry) bool {
		return e.fits(name) && (e.port == 0 || e.port == port)
	})
}
