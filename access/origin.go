package access

import (
	"context"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
)

// Origin is how a request came to the server, as far as conditions ask about it.
// The zero Origin is of one of which nothing is known.
type Origin struct {
	IP string // whence: aws:SourceIp; "" is no address of a network
	// Secure is that nobody on the way could read or change the request:
	// aws:SecureTransport.
	Secure    bool
	UserAgent string // as the request says: aws:UserAgent; "" is that it does not
	Referer   string // likewise: aws:Referer
}

// Inside is the Origin of what the server does by itself, for an account or as a
// service: nothing of it is sent.
var Inside = Origin{Secure: true}

// FromNetwork is the Origin of a request that came to a listener of the server's.
// Only TLS that the server itself speaks is believed: that something before it
// did so, anybody can write into a header.
func FromNetwork(r *http.Request) Origin {
	o := Origin{Secure: r.TLS != nil, UserAgent: r.UserAgent(), Referer: r.Referer()}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		if _, err := netip.ParseAddr(host); err == nil {
			o.IP = host
		}
	}
	return o
}

// FromCode is the Origin of a request of code in a sandbox. It is secure: its way
// is this process's memory, or a node's and from there TLS.
func FromCode(r *http.Request) Origin {
	return Origin{Secure: true, UserAgent: r.UserAgent(), Referer: r.Referer()}
}

type originKey struct{}

// Arrived is ctx, and how the request came that is served with it. A Judge asks
// the context that a request is judged with.
func Arrived(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// Noting serves with next, in contexts that say how requests came.
func Noting(next http.Handler, origin func(*http.Request) Origin) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(Arrived(r.Context(), origin(r))))
	})
}

// Came is what conditions may ask about how the request came that a context
// serves, by the key in lower case.
func Came(ctx context.Context) map[string][]string {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o.keys()
}

func (o Origin) keys() map[string][]string {
	c := map[string][]string{"aws:securetransport": {strconv.FormatBool(o.Secure)}}
	for key, value := range map[string]string{"aws:sourceip": o.IP, "aws:useragent": o.UserAgent, "aws:referer": o.Referer} {
		if value != "" {
			c[key] = []string{value}
		}
	}
	return c
}

// cameFor is Came of a request of id's. Services call from inside, for whatever
// request of whomever they do it.
func cameFor(ctx context.Context, id hearth.Identity) map[string][]string {
	if id.Service != "" {
		return Inside.keys()
	}
	return Came(ctx)
}

// ContextOf is what conditions may ask about any request, without what a
// directory knows of who makes it: who does, when and where, and how it came.
func ContextOf(ctx context.Context, id hearth.Identity, now time.Time, region string) map[string][]string {
	c := cameFor(ctx, id)
	maps.Copy(c, policy.ContextOf(id, now))
	c[requestedRegion] = []string{region}
	return c
}

// requestedRegion is the key of where a request is made.
const requestedRegion = "aws:requestedregion"
