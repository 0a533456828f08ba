package egress

import (
	"net/netip"
	"slices"
)

// Policy decides which addresses containers may reach. It is immutable and
// safe for concurrent use.
//
// The longest prefix that holds an address decides, of those of Deny, of Allow
// and of the built-in refusals; of equally long ones Deny wins over Allow and
// Allow over the built-in ones. The host's own addresses count as built-in
// refusals of full length: only an Allow of that very address opens one. What
// no prefix holds is allowed.
//
// Private ranges (10/8, 172.16/12, 192.168/16, fc00::/7) are allowed, because
// the people who run Hearth themselves mostly do so next to what their
// functions need: a team's database, queue or registry. Who runs the functions
// of strangers denies them, or denies 0.0.0.0/0 and allows what is meant.
//
// A few refusals hold whatever is allowed: see never.
type Policy struct {
	never []netip.Prefix
	rules []rule // longest prefix first
	own   func(netip.Addr) (bool, error)
}

type rule struct {
	prefix netip.Prefix
	allow  bool
	reason string
}

// Reasons for a refusal, beyond the built-in names.
const (
	reasonDenied  = "denied by configuration"
	reasonOwn     = "the host's own address"
	reasonUnknown = "the host's routes cannot be read"
	reasonInvalid = "not an address"
	reasonNever   = "not an address of another host"
)

// never are addresses that no configuration opens, for dialling them would
// reach this host, many hosts or none.
var never = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), // "this host": Linux takes 0.0.0.0 for loopback
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::/96"), // unspecified, loopback, IPv4-compatible
	netip.MustParsePrefix("ff00::/8"),
}

// builtin are refused unless they are allowed more exactly.
var builtin = []rule{
	{netip.MustParsePrefix("169.254.0.0/16"), false, "link-local address"}, // with most clouds' metadata
	{netip.MustParsePrefix("fe80::/10"), false, "link-local address"},
	{netip.MustParsePrefix("240.0.0.0/4"), false, "reserved address"},
	// Metadata services of clouds that are not link-local: they hand out the
	// machine's own credentials to whoever asks.
	{netip.MustParsePrefix("100.100.100.200/32"), false, "cloud metadata"}, // Alibaba Cloud
	{netip.MustParsePrefix("168.63.129.16/32"), false, "cloud metadata"},   // Azure
	{netip.MustParsePrefix("192.0.0.192/32"), false, "cloud metadata"},     // Oracle Cloud
	{netip.MustParsePrefix("fd00:ec2::254/128"), false, "cloud metadata"},  // AWS
	{netip.MustParsePrefix("fd20:ce::254/128"), false, "cloud metadata"},   // Google Cloud
	// Translators turn these into IPv4 addresses which would have to be judged
	// instead, by a mapping that only the translator knows.
	{netip.MustParsePrefix("64:ff9b::/96"), false, "translated address"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), false, "translated address"},
	{netip.MustParsePrefix("2002::/16"), false, "translated address"},
	{netip.MustParsePrefix("2001::/32"), false, "translated address"},
}

// NewPolicy makes a policy for a sandbox network, which is never reachable. own
// reports whether the kernel takes an address for the host's own or for a
// broadcast address; if it fails, the address is refused.
func NewPolicy(sandboxes netip.Prefix, allow, deny []netip.Prefix, own func(netip.Addr) (bool, error)) *Policy {
	p := &Policy{never: append(slices.Clone(never), sandboxes.Masked()), own: own}
	// In the order in which equally long ones win.
	for _, d := range deny {
		p.rules = append(p.rules, rule{unmapped(d), false, reasonDenied})
	}
	for _, a := range allow {
		p.rules = append(p.rules, rule{unmapped(a), true, ""})
	}
	p.rules = append(p.rules, builtin...)
	slices.SortStableFunc(p.rules, func(a, b rule) int { return b.prefix.Bits() - a.prefix.Bits() })
	return p
}

// unmapped turns a prefix of IPv4-mapped IPv6 addresses into one of IPv4.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// Refuses tells why an address may not be reached, or "" if it may. It asks
// the kernel each time, so that an address that the host got a moment ago is
// refused too; that takes some microseconds.
func (p *Policy) Refuses(a netip.Addr) string {
	if !a.IsValid() {
		return reasonInvalid
	}
	a = a.Unmap().WithZone("")
	for _, n := range p.never {
		if n.Contains(a) {
			return reasonNever
		}
	}
	// Deciding rule first: what it refuses need not be looked up.
	var decides *rule
	for i := range p.rules {
		if p.rules[i].prefix.Contains(a) {
			decides = &p.rules[i]
			break
		}
	}
	if decides != nil && !decides.allow {
		return decides.reason
	}
	if decides != nil && decides.prefix.IsSingleIP() {
		return "" // exact, so that it counts more than being the host's own
	}
	own, err := p.own(a)
	switch {
	case err != nil:
		return reasonUnknown
	case own:
		return reasonOwn
	}
	return ""
}
