package sqs

import "sync"

// bodyCache keeps what was sent lately, encoded, up to a number of bytes: who
// receives a message soon after it was sent does not read the disk.
type bodyCache struct {
	mu    sync.Mutex
	max   int
	bytes int
	m     map[uint64][]byte
	order []uint64 // as they came; those that are gone are passed over
}

func newBodyCache(max int) *bodyCache { return &bodyCache{max: max, m: map[uint64][]byte{}} }

func (c *bodyCache) put(n uint64, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.m[n]; ok || len(b) > c.max {
		return
	}
	c.m[n] = b
	c.bytes += len(b)
	c.order = append(c.order, n)
	for c.bytes > c.max {
		oldest := c.order[0]
		c.order = c.order[1:]
		c.bytes -= len(c.m[oldest])
		delete(c.m, oldest)
	}
	if len(c.order) > 64 && len(c.order) > 2*len(c.m) {
		kept := make([]uint64, 0, len(c.m))
		for _, n := range c.order {
			if _, ok := c.m[n]; ok {
				kept = append(kept, n)
			}
		}
		c.order = kept
	}
}

func (c *bodyCache) get(n uint64) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.m[n]
	return b, ok
}

func (c *bodyCache) remove(n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes -= len(c.m[n])
	delete(c.m, n)
}
