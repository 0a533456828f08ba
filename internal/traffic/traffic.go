// Package traffic counts the requests of APIs that accounts make, for
// Prometheus. However many they make, the page stays bounded, and one account's
// leave room for the others'.
package traffic

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxSeries bounds how many label values have numbers of their own, and
	// maxOwn how many of them are one account's; the others are one, whose labels
	// are all Other.
	maxSeries = 500
	maxOwn    = 100

	// Other is each label of those beyond the bounds.
	Other = "other"
)

// MaxLabels is how many labels there can be.
const MaxLabels = 3

// Key are the values of the labels; what is beyond their number is "".
type Key [MaxLabels]string

// Counts are the requests of a sort of APIs. Safe for concurrent use.
type Counts struct {
	labels   int
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	behind   *prometheus.HistogramVec

	mu   sync.RWMutex
	own  map[string]map[Key]bool // by account
	have int
}

// New registers hearth_NAME_requests_total, hearth_NAME_request_seconds and
// hearth_NAME_BEHIND_seconds with r, nil is nowhere. what are the requests in
// words, behind is what answers them.
func New(r prometheus.Registerer, name, what, behind string, labels ...string) *Counts {
	buckets := prometheus.ExponentialBuckets(0.002, 2.5, 11) // 2 ms to 19 s
	c := &Counts{
		labels: len(labels), own: map[string]map[Key]bool{},
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hearth_" + name + "_requests_total", Help: "Requests of " + what + ", by the class of their status.",
		}, append(append([]string{}, labels...), "code")),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hearth_" + name + "_request_seconds", Help: "How long requests of " + what + " took.", Buckets: buckets,
		}, labels),
		behind: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hearth_" + name + "_" + behind + "_seconds", Help: "How long the " + behind + " of requests of " + what + " took, of those that had one.", Buckets: buckets,
		}, labels),
	}
	if r != nil {
		r.MustRegister(c.requests, c.seconds, c.behind)
	}
	return c
}

// Add counts a request of an account's API, which was answered with the HTTP
// status after took; behind of that was spent on what is behind the API, 0 is
// that nothing was asked there.
func (c *Counts) Add(account string, key Key, status int, took, behind time.Duration) {
	if !c.counted(account, key) {
		for i := range key {
			key[i] = Other
		}
	}
	labels := append(make([]string, 0, MaxLabels+1), key[:c.labels]...)
	c.seconds.WithLabelValues(labels...).Observe(took.Seconds())
	if behind > 0 {
		c.behind.WithLabelValues(labels...).Observe(behind.Seconds())
	}
	c.requests.WithLabelValues(append(labels, strconv.Itoa(status/100)+"xx")...).Inc()
}

// counted tells whether a key has numbers of its own.
func (c *Counts) counted(account string, key Key) bool {
	c.mu.RLock()
	there := c.own[account][key]
	c.mu.RUnlock()
	if there {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.own[account]
	if own[key] {
		return true
	}
	if c.have >= maxSeries || len(own) >= maxOwn {
		return false
	}
	if own == nil {
		own = map[Key]bool{}
		c.own[account] = own
	}
	own[key] = true
	c.have++
	return true
}

// Forget drops the numbers of an account's keys that fit: those of an API that
// is gone. Requests of it that end later may bring one back.
func (c *Counts) Forget(account string, fits func(Key) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.own[account] {
		if !fits(key) {
			continue
		}
		delete(c.own[account], key)
		c.have--
		labels := key[:c.labels]
		c.seconds.DeleteLabelValues(labels...)
		c.behind.DeleteLabelValues(labels...)
		for class := range 5 {
			c.requests.DeleteLabelValues(append(append([]string{}, labels...), strconv.Itoa(class+1)+"xx")...)
		}
	}
	if len(c.own[account]) == 0 {
		delete(c.own, account)
	}
}
