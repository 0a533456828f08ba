package proxy

import (
	"container/list"
	"net/http"
	"sync"
	"time"
)

// maxCached bounds what all cached responses take, in bytes.
const maxCached = 16 << 20

// cache keeps responses until they are too old; who was used least lately goes
// first. What a response depends on is in its key. Safe for concurrent use.
type cache struct {
	mu    sync.Mutex
	byKey map[string]*list.Element
	order list.List // of *cached, the latest used first
	bytes int
}

type cached struct {
	key      string
	until    time.Time
	response *response
}

// response is what a call is answered with.
type response struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

func (c *cached) size() int { return len(c.key) + len(c.response.Body) + 1024 }

func (c *cache) get(key string, now time.Time) *response {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[key]
	if e == nil {
		return nil
	}
	if !now.Before(e.Value.(*cached).until) {
		c.drop(e)
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).response
}

func (c *cache) put(key string, until time.Time, r *response) {
	n := &cached{key, until, r}
	if n.size() > maxCached/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.byKey[key]; old != nil {
		c.drop(old)
	}
	if c.byKey == nil {
		c.byKey = map[string]*list.Element{}
	}
	c.byKey[key] = c.order.PushFront(n)
	c.bytes += n.size()
	for c.bytes > maxCached {
		c.drop(c.order.Back())
	}
}

func (c *cache) drop(e *list.Element) {
	n := c.order.Remove(e).(*cached)
	delete(c.byKey, n.key)
	c.bytes -= n.size()
}
