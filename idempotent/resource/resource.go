// Package resource asks for the states of what results depend on: objects of S3
// servers, pages, files and rows. Each is a cheap stand-in for the content.
package resource

import (
	"cmp"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/idempotent"
	"github.com/hearth-faas/hearth/s3"
)

// Config says what may be asked. Clock is needed.
type Config struct {
	Clock hearth.Clock
	// S3 asks about objects of no endpoint of their own. Its Credentials are
	// not used: those are whoever's runs this machine.
	S3 s3.Config
	// Refuses tells why an address must not be asked; "" is that it may. It is
	// asked about each connection, after its name was looked up. Nil refuses
	// nothing.
	Refuses func(address string) string
	// Paths are the folders that files, SQLite's databases and Unix sockets may
	// be in; none is nowhere.
	Paths []string
}

// States asks. Safe for concurrent use.
type States struct {
	cfg       Config
	dialer    net.Dialer
	client    *http.Client
	buckets   cache[*s3.Bucket]
	databases cache[*database]
}

// settled is how long after a change a time stamp is trusted to tell it from
// the next: the coarsest of file systems count in two seconds.
const settled = 2 * time.Second

// New makes States. Nothing is asked yet.
func New(cfg Config) *States {
	s := &States{cfg: cfg, dialer: net.Dialer{Timeout: 10 * time.Second}}
	s.client = &http.Client{
		Transport: &http.Transport{
			DialContext: s.dial, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: time.Minute,
			MaxIdleConns: 256, MaxIdleConnsPerHost: 16, MaxResponseHeaderBytes: 64 << 10,
		},
		// A redirect could lead the headers, which may be secret, elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s.buckets.close = func(b *s3.Bucket) { b.CloseIdle() }
	s.databases.close = func(d *database) { d.close() }
	return s
}

// Close closes what connections there are. Nothing may be asked any more.
func (s *States) Close() error {
	s.client.CloseIdleConnections()
	s.buckets.empty()
	s.databases.empty()
	return nil
}

// State implements idempotent.States.
func (s *States) State(ctx context.Context, r *idempotent.Resource) (idempotent.State, error) {
	d := &r.Dependency
	switch {
	case d.S3 != "":
		return s.object(ctx, r)
	case d.HTTP != "":
		return s.page(ctx, d)
	case d.File != "":
		return s.file(d.File)
	case d.SQL != "":
		return s.rows(ctx, d)
	}
	return idempotent.State{}, errors.New("it is of no known kind")
}

// dial connects where that is allowed. Each address that a name has is judged
// when it is connected to, so that no name can be another thing a moment later.
func (s *States) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network == "unix" {
		if err := s.within(address); err != nil {
			return nil, err
		}
		return s.dialer.DialContext(ctx, network, address)
	}
	d := s.dialer
	d.ControlContext = func(_ context.Context, _, address string, _ syscallConn) error {
		if s.cfg.Refuses == nil {
			return nil
		}
		if why := s.cfg.Refuses(address); why != "" {
			return fmt.Errorf("%s may not be asked: %s (dependency-hosts allows it)", address, why)
		}
		return nil
	}
	return d.DialContext(ctx, network, address)
}

func (s *States) object(ctx context.Context, r *idempotent.Resource) (idempotent.State, error) {
	d, c := &r.Dependency, s.cfg.S3
	if d.Endpoint != "" {
		if err := s3.CheckEndpoint(d.Endpoint); err != nil || strings.HasPrefix(d.Endpoint, "file:") {
			return idempotent.State{}, errors.New("endpoint is neither http://HOST:PORT nor https://HOST")
		}
		c = s3.Config{Endpoint: d.Endpoint, PathStyle: true, Dial: s.dial}
	}
	c.Region, c.Clock = cmp.Or(d.Region, c.Region, s.cfg.S3.Region), s.cfg.Clock
	c.Credentials = aws.Credentials{AccessKeyID: d.AccessKeyID, SecretAccessKey: d.SecretAccessKey, SessionToken: d.SessionToken}
	b, release, err := s.buckets.get(digest(c.Endpoint, c.Region, d.AccessKeyID, d.SecretAccessKey, d.SessionToken), func() (*s3.Bucket, error) { return s3.New(c) })
	if err != nil {
		return idempotent.State{}, err
	}
	defer release()
	o, err := b.Stat(ctx, r.Bucket, r.Key)
	switch {
	case err != nil:
		return idempotent.State{}, err
	case !o.Exists:
		return idempotent.State{Value: absent}, nil
	}
	return idempotent.State{Value: o.Tag, Unsettled: !o.Changed.IsZero() && s.cfg.Clock.Now().Sub(o.Changed) < settled}, nil
}

// absent is the state of what is not there.
const absent = "absent"

func digest(texts ...string) string {
	h := sha256.New()
	for _, t := range texts {
		fmt.Fprintf(h, "%d:%s", len(t), t)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// cache keeps clients by what they were made with, as many as maxClients; who
// was used least lately is closed, once it is not in use. Safe for concurrent
// use.
type cache[T any] struct {
	close func(T)

	mu  sync.Mutex
	of  map[string]*list.Element // of *cached[T]
	all list.List                // used least lately at the end
}

type cached[T any] struct {
	key    string
	client T
	users  int
	gone   bool // closed by the last of the users
}

const maxClients = 64

func (c *cache[T]) get(key string, make func() (T, error)) (client T, release func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]*list.Element{}
	}
	e := c.of[key]
	if e == nil {
		client, err := make()
		if err != nil {
			return client, nil, err
		}
		e = c.all.PushFront(&cached[T]{key: key, client: client})
		c.of[key] = e
		if c.all.Len() > maxClients {
			c.drop(c.all.Back())
		}
	}
	c.all.MoveToFront(e)
	got := e.Value.(*cached[T])
	got.users++
	return got.client, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if got.users--; got.users == 0 && got.gone {
			c.close(got.client)
		}
	}, nil
}

func (c *cache[T]) drop(e *list.Element) {
	old := c.all.Remove(e).(*cached[T])
	delete(c.of, old.key)
	if old.gone = true; old.users == 0 {
		c.close(old.client)
	}
}

func (c *cache[T]) empty() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.all.Len() > 0 {
		c.drop(c.all.Back())
	}
}
