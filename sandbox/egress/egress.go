// Package egress is the network of the sandboxes: it lets a container reach
// the world outside and Hearth's own API, and nothing else.
//
// A container's network namespace has one interface, whose packets arrive here
// as a file (package guest makes it). What the container sends ends in this
// process: a user-space TCP stack answers its connections, and for each of
// them an ordinary socket of the host is opened, if the policy lets it. So
// there are no interfaces, routes, firewall rules or sysctls on the host, root
// and ordinary users get the same network, and a process that dies leaves
// nothing behind.
//
//	container ──▶ TUN or packet socket ──▶ link ─┬─ TCP ──▶ policy ──▶ dial ──▶ gVisor's TCP ◀──▶ splice
//	                                             ├─ UDP ──▶ policy ──▶ connected socket, until idle
//	                                             ├─ DNS ──▶ the host's resolvers
//	                                             ├─ API ──▶ Network.APIListener
//	                                             └─ ICMP ─▶ the gateway answers echo requests
//
// The policy judges the address that is about to be dialled, at that moment:
// what a name resolved to, or resolved to before, plays no part.
//
// Only IPv4 is carried. A container has no IPv6 address but ::1, programs fall
// back to IPv4 at once, and a destination that has IPv6 addresses only cannot
// be reached. ICMP goes as far as the gateway: pinging anything else is
// refused. Fragments and packets with IP options are dropped; neither occurs
// with the MTU that containers are given.
//
// A link that carries nothing costs a descriptor and a parked goroutine; the
// TCP stack is made when the first connection is through and goes away when
// the last one has been gone for a while. A frozen container's connections
// stall and go on when it is thawed.
package egress

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/sandbox/egress/guest"
)

// Config says what containers see and what they may reach. The zero value of
// each field has a meaning of its own, so that Config{} works.
type Config struct {
	// Guest is the configuration of the containers' interfaces. A zero field
	// takes the default of DefaultGuest.
	Guest sandbox.Guest
	// Allow and Deny add to the policy; see Policy.
	Allow, Deny []netip.Prefix
	// Resolvers answer the containers' DNS queries; empty means those of the
	// file ResolvConf, which is read again when it changes.
	Resolvers []netip.AddrPort
	// ResolvConf is "" for /etc/resolv.conf.
	ResolvConf string
	// Limits of each container; zero fields take those of DefaultLimits.
	Limits Limits
	// Refused, if set, is told of each connection that the policy refuses. It
	// is called on the packets' path and must not block.
	Refused func(container string, destination netip.AddrPort, reason string)
	// Clock times idle flows and rates; nil is the real one.
	Clock hearth.Clock
	// Log takes what goes wrong on the host's side; nil is slog.Default().
	Log *slog.Logger
}

// Limits bound what one container can make this process hold.
type Limits struct {
	// TCP is how many connections it may have, pending ones included. Each
	// holds at most some 400 KB, when neither side reads. A further one is
	// reset.
	TCP int
	// UDP is how many flows (pairs of source port and destination) it may
	// have. A further one ends the one that was idle longest.
	UDP int
	// UDPIdle is how long a flow without packets lives.
	UDPIdle time.Duration
	// DNS is how many queries may be under way. A further one is dropped.
	DNS int
	// NewPerSecond is how many connections and flows it may start per second,
	// in bursts of up to twice as many. Beyond that the first packets are
	// dropped, so that the container's TCP tries again a second later.
	NewPerSecond int
	// StackIdle is how long the TCP stack outlives the last connection.
	StackIdle time.Duration
}

// DefaultLimits are far above what a function needs that is bound to 1,024
// open files.
var DefaultLimits = Limits{
	TCP: 512, UDP: 256, UDPIdle: 60 * time.Second, DNS: 64, NewPerSecond: 200,
	StackIdle: 10 * time.Second,
}

// DefaultGuest is the configuration of a container's interface unless told
// otherwise. The address is one of the range that providers use behind their
// own address translation (RFC 6598), of which few networks use the first four
// addresses.
var DefaultGuest = sandbox.Guest{
	Address: netip.MustParsePrefix("100.64.0.2/30"),
	Gateway: netip.MustParseAddr("100.64.0.1"),
	DNS:     netip.MustParseAddr("100.64.0.1"),
	API:     netip.MustParseAddrPort("100.64.0.1:9070"),
	MTU:     guest.MaxMTU,
}

// Network serves the links of any number of containers. Safe for concurrent
// use.
type Network struct {
	config    Config
	policy    *Policy
	resolvers *resolvers
	api       *apiListener

	mu     sync.Mutex
	links  map[*link]struct{} // nil once closed
	routes *routes
}

var _ sandbox.Network = (*Network)(nil)

// New makes a network. It fails if the configuration is contradictory, or if
// the kernel cannot be asked for its routes, without which the host's own
// addresses could not be told from others.
func New(c Config) (*Network, error) {
	if err := c.complete(); err != nil {
		return nil, fmt.Errorf("egress: %w", err)
	}
	routes, err := openRoutes()
	if err != nil {
		return nil, fmt.Errorf("egress: asking for routes: %w", err)
	}
	policy := NewPolicy(c.Guest.Address, c.Allow, c.Deny, routes.isOwn)
	n := &Network{
		config: c, policy: policy, routes: routes,
		resolvers: newResolvers(c.Resolvers, c.ResolvConf, c.Clock),
		links:     map[*link]struct{}{},
	}
	n.api = newAPIListener(c.Guest.API)
	return n, nil
}

// complete fills in defaults and checks.
func (c *Config) complete() error {
	g, d := &c.Guest, DefaultGuest
	if !g.Address.IsValid() {
		g.Address = d.Address
	}
	if !g.Gateway.IsValid() {
		g.Gateway = d.Gateway
	}
	if !g.DNS.IsValid() {
		g.DNS = g.Gateway
	}
	if !g.API.IsValid() {
		g.API = netip.AddrPortFrom(g.Gateway, d.API.Port())
	}
	if g.MTU == 0 {
		g.MTU = d.MTU
	}
	setDefault(&c.Limits.TCP, DefaultLimits.TCP)
	setDefault(&c.Limits.UDP, DefaultLimits.UDP)
	setDefault(&c.Limits.UDPIdle, DefaultLimits.UDPIdle)
	setDefault(&c.Limits.DNS, DefaultLimits.DNS)
	setDefault(&c.Limits.NewPerSecond, DefaultLimits.NewPerSecond)
	setDefault(&c.Limits.StackIdle, DefaultLimits.StackIdle)
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	if c.Clock == nil {
		c.Clock = wallClock{}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	for what, a := range map[string]netip.Addr{"gateway": g.Gateway, "DNS": g.DNS, "API": g.API.Addr()} {
		if !a.Is4() || !g.Address.Contains(a) || a == g.Address.Addr() {
			return fmt.Errorf("%s address %v is not another IPv4 address of %v", what, a, g.Address)
		}
	}
	if g.MTU < 1280 || g.MTU > guest.MaxMTU {
		return fmt.Errorf("MTU %d is not within 1280 and %d", g.MTU, guest.MaxMTU)
	}
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Guest is the configuration that every container gets.
func (n *Network) Guest() sandbox.Guest { return n.config.Guest }

// APIListener accepts the connections that containers make to Guest().API.
// ContainerOf tells whose they are. There is one listener however often it is
// asked for; while nobody accepts, connections wait, and past a bound they are
// reset. Closing it resets all further ones.
func (n *Network) APIListener() net.Listener { return n.api }

// Join serves a container's link until it is closed. The network owns the
// file from then on, also if Join fails.
func (n *Network) Join(id string, file *os.File, kind sandbox.LinkKind) (sandbox.NetworkLink, error) {
	l, err := newLink(n, id, file, kind)
	if err != nil {
		return nil, fmt.Errorf("egress: joining %s: %w", id, err)
	}
	n.mu.Lock()
	if n.links == nil {
		n.mu.Unlock()
		l.file.Close()
		return nil, fmt.Errorf("egress: joining %s: %w", id, net.ErrClosed)
	}
	n.links[l] = struct{}{}
	n.mu.Unlock()
	l.start()
	return l, nil
}

// Close closes every link and the API listener.
func (n *Network) Close() error {
	n.mu.Lock()
	links := n.links
	n.links = nil
	n.mu.Unlock()
	if links == nil {
		return nil
	}
	var errs []error
	for l := range links {
		errs = append(errs, l.Close())
	}
	if err := n.api.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		errs = append(errs, err)
	}
	return errors.Join(append(errs, n.routes.close())...)
}

// forget removes a link that has closed.
func (n *Network) forget(l *link) {
	n.mu.Lock()
	delete(n.links, l)
	n.mu.Unlock()
}

// Refuses tells why containers may not reach an address, or "" if they may.
func (n *Network) Refuses(a netip.Addr) string { return n.policy.Refuses(a) }

// allowed applies the policy to a destination and reports a refusal.
func (n *Network) allowed(id string, destination netip.AddrPort) bool {
	reason := n.policy.Refuses(destination.Addr())
	if reason != "" && n.config.Refused != nil {
		n.config.Refused(id, destination, reason)
	}
	return reason == ""
}

// wallClock is the real time.
type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

func (wallClock) AfterFunc(d time.Duration, f func()) hearth.Timer { return time.AfterFunc(d, f) }
