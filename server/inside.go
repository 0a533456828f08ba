package server

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/hearth-faas/hearth/node"
)

// What the bodies of functions' own calls of the API may make this process
// hold at a time, in bytes: they are read whole, and a function that sends all
// but the end of many would otherwise take the machine's memory, which no
// cgroup of its own counts.
const (
	// insideLeast is what each request counts for at least: its connection.
	insideLeast = 16 << 10
	// insideMost is what a request counts for at most, or if it does not say
	// how long it is: the longest body that is read (CreateFunction's).
	insideMost = 71 << 20
	// insideEach bounds one container, insideAll all of them together.
	insideEach = insideMost + 32<<20
	insideAll  = 8 * insideEach
)

// insideMeter refuses requests of containers that have too much under way. The
// remote address of a request begins with the container's id (egress.Addr).
type insideMeter struct {
	next http.Handler

	mu   sync.Mutex
	held map[string]int64 // by container
	all  int64
}

func newInsideMeter(next http.Handler) *insideMeter {
	return &insideMeter{next: next, held: map[string]int64{}}
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
func (m *insideMeter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	container, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		container = r.RemoteAddr
	}
	size := r.ContentLength
	if size < 0 {
		size = insideMost
	}
	size = min(max(size, insideLeast), insideMost)
	if !m.take(container, size) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Amzn-Errortype", "TooManyRequestsException")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"Reason":"CallerRateLimitExceeded","Type":"User","message":"Rate Exceeded."}`) // a caller that left needs no answer
		return
	}
	defer m.give(container, size)
	m.next.ServeHTTP(w, r)
}

func (m *insideMeter) take(container string, size int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held[container]+size > insideEach || m.all+size > insideAll {
		return false
	}
	m.held[container] += size
	m.all += size
	return true
}

func (m *insideMeter) give(container string, size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all -= size
	if m.held[container] -= size; m.held[container] == 0 {
		delete(m.held, container)
	}
}
