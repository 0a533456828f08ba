package server

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/hearth-faas/hearth/node"
)

// What the bodies of requests may make this process hold at a time, in bytes:
// they are read whole, and whoever sends all but the end of many would otherwise
// take the machine's memory, which no cgroup of a function counts.
const (
	// leastBody is what each request counts for at least: its connection.
	leastBody = 16 << 10
	// mostBody is what a request counts for at most, or if it does not say how
	// long it is: the longest body that is read (CreateFunction's).
	mostBody = 71 << 20
)

// bodies bounds one sender, and all of them together.
// Bodies of up to free bytes are not counted: the bound of connections bounds
// them, and counting takes a lock.
type bodies struct{ each, all, free int64 }

// insideBodies is of functions' own calls: a sender is a sender.
var insideBodies = bodies{each: mostBody + 32<<20, all: 8 * (mostBody + 32<<20), free: -1}

// outsideBodies is of clients' calls: a sender is an address.
func outsideBodies() bodies {
	all := int64(2 << 30)
	if mib, err := MachineMiB(); err == nil {
		all = max(512<<20, int64(mib)<<20/4)
	}
	return bodies{all / 2, all, 64 << 10}
}

// budget refuses requests of senders that have too much under way. A sender's
// remote address begins with its id (egress.Addr).
type budget struct {
	bodies
	next http.Handler

	mu   sync.Mutex
	held map[string]int64 // by sender
	sum  int64
}

func newBudget(b bodies, next http.Handler) *budget {
	return &budget{bodies: b, next: next, held: map[string]int64{}}
}

// within tells from which container's code a request came; "" is from outside.
func (s *Server) within(r *http.Request) string {
	if id, ok := node.Container(r); ok {
		return id
	}
	// The ids of sandboxes begin so, and no IP address does.
	if !strings.HasPrefix(r.RemoteAddr, "s-") {
		return ""
	}
	sandbox, _, _ := strings.Cut(r.RemoteAddr, ":")
	id, _ := s.worker.ContainerOf(sandbox)
	return id
}

// ServeHTTP implements http.Handler.
func (m *budget) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sender, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		sender = r.RemoteAddr
	}
	size := r.ContentLength
	if size >= 0 && size <= m.free {
		m.next.ServeHTTP(w, r)
		return
	}
	if size < 0 {
		size = mostBody
	}
	size = min(max(size, leastBody), mostBody)
	if !m.take(sender, size) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Amzn-Errortype", "TooManyRequestsException")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"Reason":"CallerRateLimitExceeded","Type":"User","message":"Rate Exceeded."}`) // a caller that left needs no answer
		return
	}
	defer m.give(sender, size)
	m.next.ServeHTTP(w, r)
}

func (m *budget) take(sender string, size int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held[sender]+size > m.each || m.sum+size > m.all {
		return false
	}
	m.held[sender] += size
	m.sum += size
	return true
}

func (m *budget) give(sender string, size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sum -= size
	if m.held[sender] -= size; m.held[sender] == 0 {
		delete(m.held, sender)
	}
}
