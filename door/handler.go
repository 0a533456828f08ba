package door

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth/guard"
)

// How slowly a request's body may come: minRate bytes a second from its first
// byte on, beside a grace; what came faster is to a client's credit, but never
// more than credit.
const (
	minRate = 16 << 10
	grace   = 10 * time.Second
	credit  = 30 * time.Second
	// step is after how many bytes the time is set anew.
	step = 64 << 10
)

// Handler bounds how slowly bodies come, and how many requests an address makes.
type Handler struct {
	Next http.Handler
	// Rate is how many requests an address (an IPv6 address by its /64) may make
	// in a second, and twice as many at once; 0 is any number.
	Rate int

	slow, fast atomic.Uint64
	mu         sync.Mutex
	buckets    map[string]*bucket
}

type bucket struct {
	left float64
	at   time.Time
}

// maxBuckets bounds the addresses that are kept, some 100 bytes each.
const maxBuckets = 16384

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.Rate > 0 {
		if wait := h.wait(r.RemoteAddr, time.Now()); wait > 0 {
			h.fast.Add(1)
			header := w.Header()
			header.Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
			header.Set("Content-Type", "application/json")
			header.Set("X-Amzn-Errortype", "TooManyRequestsException")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"Reason":"CallerRateLimitExceeded","Type":"User","message":"Rate exceeded: too many requests from this address."}`) // a caller that left needs no answer
			return
		}
	}
	if r.ContentLength != 0 && r.Body != nil {
		r.Body = &body{ReadCloser: r.Body, of: h, control: http.NewResponseController(w)}
	}
	h.Next.ServeHTTP(w, r)
}

// wait takes one of the address's requests, or tells when there is one.
func (h *Handler) wait(remote string, now time.Time) time.Duration {
	from, rate := guard.Source(remote), float64(h.Rate)
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.buckets[from]
	if b == nil {
		if h.buckets == nil {
			h.buckets = map[string]*bucket{}
		}
		if len(h.buckets) >= maxBuckets {
			h.sweep(now)
		}
		b = &bucket{2 * rate, now}
		h.buckets[from] = b
	}
	b.left = min(2*rate, b.left+now.Sub(b.at).Seconds()*rate)
	b.at = now
	if b.left >= 1 {
		b.left--
		return 0
	}
	return time.Duration((1 - b.left) / rate * float64(time.Second))
}

// sweep forgets the addresses that have all of their requests again; if that
// is nobody, some of them. Called with mu held.
func (h *Handler) sweep(now time.Time) {
	for from, b := range h.buckets {
		if b.left+now.Sub(b.at).Seconds()*float64(h.Rate) >= 2*float64(h.Rate) {
			delete(h.buckets, from)
		}
	}
	for from := range h.buckets {
		if len(h.buckets) <= maxBuckets*3/4 {
			return
		}
		delete(h.buckets, from)
	}
}

// Slow and Fast are how many requests were ended because their bodies came too
// slowly, and refused because there were too many.
func (h *Handler) Slow() uint64 { return h.slow.Load() }

// Fast is how many requests were refused, beyond Rate.
func (h *Handler) Fast() uint64 { return h.fast.Load() }

// body is a request's body that must come in time. It is read by one goroutine.
type body struct {
	io.ReadCloser
	of      *Handler
	control *http.ResponseController
	began   time.Time
	read    int64
	next    int64 // at how many bytes the time is set anew
	ended   bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.ended {
		return b.ReadCloser.Read(p)
	}
	if b.read >= b.next {
		now := time.Now()
		if b.began.IsZero() {
			b.began = now
		}
		until := b.began.Add(grace + time.Duration((b.read+step)*int64(time.Second)/minRate))
		if most := now.Add(credit); until.After(most) {
			until = most
		}
		// A connection that knows no deadlines is one of a test's.
		_ = b.control.SetReadDeadline(until)
		b.next = b.read + step
	}
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	if err != nil {
		b.ended = true
		if errors.Is(err, os.ErrDeadlineExceeded) {
			b.of.slow.Add(1)
		} else {
			_ = b.control.SetReadDeadline(time.Time{})
		}
	}
	return n, err
}
