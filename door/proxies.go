package door

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"strings"
)

// Proxies are reverse proxies whose word is taken for whom they ask, and whether
// that one came to them by TLS. The zero Proxies trusts nobody's word.
type Proxies struct {
	Networks []netip.Prefix
	// Standard is that they say it by Forwarded (RFC 7239), and not by
	// X-Forwarded-For and X-Forwarded-Proto. Only one of the two is read: what a
	// proxy does not set itself, it may pass on as its client wrote it.
	Standard bool
}

// The headers that are read.
const (
	forwarded      = "Forwarded"
	forwardedFor   = "X-Forwarded-For"
	forwardedProto = "X-Forwarded-Proto"
)

// Trust tells whether the word of who has an address is taken.
func (p *Proxies) Trust(a netip.Addr) bool {
	for _, n := range p.Networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// Over serves with next as if clients had come without a proxy: a request's
// RemoteAddr is the client's, with port 0, and its TLS is nil unless the client
// spoke TLS with the proxy. Of the headers is left what the client himself sent,
// or a proxy that is not trusted. Who is not trusted is taken for the client,
// whatever his headers say.
func (p *Proxies) Over(next http.Handler) http.Handler {
	if len(p.Networks) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		from := address(peer.Addr())
		if err != nil || !p.Trust(from) {
			if r.Header[forwardedProto] != nil { // it would be believed for the URLs that are told
				r = copied(r)
				r.Header.Del(forwardedProto)
			}
			next.ServeHTTP(w, r)
			return
		}
		r = copied(r)
		header, read := forwardedFor, listed
		if p.Standard {
			header, read = forwarded, standard
		}
		client, rest, hops := p.client(from, strings.Join(r.Header[header], ", "), read)
		if r.Header.Del(header); rest != "" {
			r.Header.Set(header, rest)
		}
		secure := r.TLS != nil
		switch {
		case p.Standard && len(hops) > 0:
			secure = overTLS(hops)
		case !p.Standard && r.Header[forwardedProto] != nil:
			secure = overTLS(strings.Split(strings.Join(r.Header[forwardedProto], ","), ","))
		case client != from: // of how he came nothing is said
			secure = false
		}
		r.Header.Del(forwardedProto)
		if client != from {
			r.RemoteAddr = netip.AddrPortFrom(client, 0).String()
		}
		if !secure {
			r.TLS = nil
		} else if r.TLS == nil {
			r.TLS = &tls.ConnectionState{HandshakeComplete: true}
		}
		next.ServeHTTP(w, r)
	})
}

// client is the last address of the chain that is not a trusted proxy's, or the
// first of all, by what from, which is one, and the proxies before it have
// written. rest is what was not needed: nobody trusted wrote it. hops is how the
// client, and then each proxy, came to the next. What can't be read ends the
// chain at who wrote it.
func (p *Proxies) client(from netip.Addr, chain string, read func(string) (hop, string)) (client netip.Addr, rest string, hops []string) {
	client = from
	for chain != "" && p.Trust(client) {
		last, before := read(chain)
		if !last.from.IsValid() {
			break
		}
		client, chain, hops = last.from, before, append(hops, last.proto)
	}
	return client, chain, hops
}

// hop is what a proxy says of who asked it: the zero address is that it can't be
// read.
type hop struct {
	from  netip.Addr
	proto string
}

// overTLS tells whether each of the hops was by TLS. Some proxies call what
// carries a WebSocket so.
func overTLS(hops []string) bool {
	for _, proto := range hops {
		if proto = strings.TrimSpace(proto); !strings.EqualFold(proto, "https") && !strings.EqualFold(proto, "wss") {
			return false
		}
	}
	return len(hops) > 0
}

// listed reads the last element of X-Forwarded-For.
func listed(chain string) (last hop, before string) {
	at := strings.LastIndexByte(chain, ',')
	return hop{from: hostAddress(strings.TrimSpace(chain[at+1:]))}, strings.TrimSpace(chain[:max(at, 0)])
}

// standard reads the last element of Forwarded.
func standard(chain string) (last hop, before string) {
	text := chain
	for more := true; more; {
		at, sep := cutFrom(text)
		name, value, _ := strings.Cut(text[at:], "=")
		value = unquoted(strings.TrimSpace(value))
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "for":
			last.from = hostAddress(value)
		case "proto":
			last.proto = value
		}
		text, more = text[:max(at-1, 0)], sep == ';'
	}
	return last, strings.TrimSpace(text)
}

// cutFrom is where the last parameter begins, and which sign is before it. It
// looks from the end, so that what a proxy wrote there is read as that, whatever
// is before it: a quote that a client did not close, for one.
func cutFrom(text string) (at int, sep byte) {
	quoted := false
	for i := len(text) - 1; i >= 0; i-- {
		switch c := text[i]; {
		case c == '"' && (i == 0 || text[i-1] != '\\'):
			quoted = !quoted
		case !quoted && (c == ',' || c == ';'):
			return i + 1, c
		}
	}
	return 0, 0
}

// unquoted is the text of a quoted string. What is quoted within it is no
// address's.
func unquoted(text string) string {
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		return text[1 : len(text)-1]
	}
	return text
}

// hostAddress reads an address that may have a port, and brackets as IPv6 has
// them; the zero one is of what is none.
func hostAddress(text string) netip.Addr {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return address(at.Addr())
	}
	if len(text) >= 2 && text[0] == '[' && text[len(text)-1] == ']' {
		text = text[1 : len(text)-1]
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return address(a)
}

// address is one in the form in which it is compared.
func address(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func copied(r *http.Request) *http.Request {
	c := *r
	c.Header = r.Header.Clone()
	return &c
}
