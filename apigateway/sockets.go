package apigateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	hearth "github.com/hearth-faas/hearth"
)

// The bounds of WebSockets, as the service has them but for how many there may
// be.
const (
	maxMessage = 128 << 10        // bytes
	socketIdle = 10 * time.Minute // without a message
	socketLife = 2 * time.Hour
	// maxSockets bounds an account's connections, maxConnects how many it makes in
	// a second, maxBusy how many messages of one are at work.
	maxSockets  = 5000
	maxConnects = 500
	maxBusy     = 8
	// sendTimeout bounds how long a client may take to take a message.
	sendTimeout = 10 * time.Second
)

// sockets are the connections that are open. Safe for concurrent use.
type sockets struct {
	clock hearth.Clock
	most  int // in all; 0 is no bound

	mu     sync.Mutex
	open   int
	byID   map[string]*socket
	of     map[hearth.Account]*share
	closed bool
	wait   sync.WaitGroup // for those that are not released
}

// share is what an account has of them.
type share struct {
	open     int
	connects *rate.Limiter
}

// socket is one connection: at first a place for it.
type socket struct {
	id      string
	account hearth.Account
	api     string
	stage   string
	began   time.Time
	from    string // an IP address
	agent   string
	last    atomic.Int64 // when a message came or went; nanoseconds since 1970
	conn    *websocket.Conn

	mu     sync.Mutex
	code   websocket.StatusCode // with which it is closed from here; 0 is not
	reason string
}

// reserve takes a place for a connection; nil if there is none.
func (x *sockets) reserve(account hearth.Account, api, stage, from, agent string) *socket {
	now := x.clock.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	have := x.of[account]
	if have == nil {
		have = &share{connects: rate.NewLimiter(maxConnects, maxConnects)}
		x.of[account] = have
	}
	full := have.open >= maxSockets || x.most > 0 && (x.open >= x.most || have.open >= max(1, x.most/2))
	if x.closed || full || !have.connects.AllowN(now, 1) {
		return nil
	}
	n := &socket{id: newID(16), account: account, api: api, stage: stage, began: now, from: from, agent: agent}
	n.last.Store(now.UnixNano())
	have.open++
	x.open++
	x.wait.Add(1)
	return n
}

// release gives the place back, of a connection that is not shown.
func (x *sockets) release(n *socket) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.open--
	have := x.of[n.account]
	if have.open--; have.open == 0 && have.connects.TokensAt(x.clock.Now()) >= maxConnects {
		delete(x.of, n.account) // else it would have its connects of this second again
	}
	x.wait.Done()
}

// show lets messages be sent to a connection. It reports false if none may be
// open any more.
func (x *sockets) show(n *socket, conn *websocket.Conn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	n.conn = conn
	x.byID[n.id] = n
	return !x.closed
}

// hide has a connection be gone for all who would send to it.
func (x *sockets) hide(n *socket) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.byID, n.id)
}

// find finds a connection of a stage; nil is none.
func (x *sockets) find(id, api, stage string) *socket {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n := x.byID[id]; n != nil && n.api == api && n.stage == stage {
		return n
	}
	return nil
}

func (x *sockets) count() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.byID)
}

// end closes the connections that fit.
func (x *sockets) end(code websocket.StatusCode, reason string, fits func(*socket) bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, n := range x.byID {
		if fits(n) {
			n.close(code, reason)
		}
	}
}

// drain closes all connections, lets nobody in any more, and waits until what
// is run at their ends has ended.
func (x *sockets) drain(ctx context.Context) error {
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	x.end(websocket.StatusGoingAway, "the server stops", func(*socket) bool { return true })
	done := make(chan struct{})
	go func() { x.wait.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watch closes the connection when it has been idle for too long, or is too
// old. stop ends that.
func (n *socket) watch(clock hearth.Clock) (stop func()) {
	var mu sync.Mutex
	var idle hearth.Timer
	over := false
	var look func()
	again := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			idle = clock.AfterFunc(d, look)
		}
	}
	look = func() {
		left := socketIdle - clock.Now().Sub(time.Unix(0, n.last.Load()))
		if left <= 0 {
			n.close(websocket.StatusGoingAway, "idle for 10 minutes")
			return
		}
		again(left)
	}
	again(socketIdle)
	old := clock.AfterFunc(socketLife, func() { n.close(websocket.StatusGoingAway, "open for 2 hours") })
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		idle.Stop()
		old.Stop()
	}
}

// close closes the connection, and does not wait for the client to do so too.
func (n *socket) close(code websocket.StatusCode, reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.code != 0 {
		return
	}
	n.code, n.reason = code, reason
	go func() { _ = n.conn.Close(code, reason) }() // ends in 10 s, whatever the client does; how does not matter
}

// sent is what a client is sent. Without a kind it is nothing.
type sent struct {
	kind websocket.MessageType
	data []byte
}

// sentOf is data as a text, or if it is none as bytes: a text must be UTF-8.
func sentOf(data []byte) sent {
	if utf8.Valid(data) {
		return sent{websocket.MessageText, data}
	}
	return sent{websocket.MessageBinary, data}
}

// send sends a message. An error is that the connection is not there any more.
func (n *socket) send(ctx context.Context, now time.Time, m sent) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if err := n.conn.Write(ctx, m.kind, m.data); err != nil {
		return err
	}
	n.touch(now)
	return nil
}

// touch notes that a message came or went.
func (n *socket) touch(at time.Time) {
	for was := n.last.Load(); at.UnixNano() > was && !n.last.CompareAndSwap(was, at.UnixNano()); {
		was = n.last.Load()
	}
}
