// Package redis reads Redis streams. Each mapping is a consumer group, so that
// Redis itself keeps how far it has read and what it has not acknowledged, and
// several servers share one stream.
//
// The place's URL is redis://host:6379/0?stream=NAME, or rediss:// with TLS;
// &group=NAME names the group, which otherwise has the mapping's ID.
package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/access"
	"github.com/hearth-faas/hearth/event/message"
	"github.com/hearth-faas/hearth/event/poll"
)

// Opener opens Redis streams.
var Opener poll.Opener = opener{}

type opener struct{}

// Open implements poll.Opener.
func (opener) Open(ctx context.Context, m *event.Mapping, at poll.Place) (poll.Source, error) {
	q, err := open(m, at)
	if err != nil {
		return nil, err
	}
	if err := q.begin(ctx, start(m)); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return q, nil
}

// Forget removes the consumer group, if it was made for the mapping alone.
func (opener) Forget(ctx context.Context, m *event.Mapping, at poll.Place) error {
	q, err := open(m, at)
	if err != nil {
		return err
	}
	if q.group == ownGroup(m) {
		err = q.client.XGroupDestroy(ctx, q.stream, q.group).Err()
	}
	return errors.Join(err, q.Close())
}

func ownGroup(m *event.Mapping) string { return "hearth-" + m.ID }

func open(m *event.Mapping, at poll.Place) (*queue, error) {
	a, err := access.Of(m, at, access.Want{Port: "6379", Secure: []string{"rediss"}})
	if err != nil {
		return nil, err
	}
	stream := access.Name(m, at, "stream")
	if stream == "" {
		return nil, errors.New("the URL names no stream: redis://host:6379/0?stream=NAME")
	}
	db := 0
	if at.URL != nil {
		if path := strings.Trim(at.URL.Path, "/"); path != "" {
			if db, err = strconv.Atoi(path); err != nil {
				return nil, fmt.Errorf("the database %q of the URL is no number", path)
			}
		}
	}
	quiet()
	options := redis.Options{
		Addr: a.Addrs[0], Username: a.User, Password: a.Password, DB: db, TLSConfig: a.TLS,
		Protocol: 2, MaxRetries: -1, PoolSize: 4, // what fails is tried again by the framework
		ReadTimeout: ioTimeout, WriteTimeout: ioTimeout,
		DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	group := m.Group
	if group == "" {
		group = access.Parameter(at.URL, "group")
	}
	if group == "" {
		group = ownGroup(m)
	}
	return &queue{
		client: redis.NewClient(&options), stream: stream, group: group, consumer: consumer(),
		form: message.Of(m, "redis"), own: "0",
	}, nil
}

// quiet has the library's own lines, of what is an error to its callers as well,
// go nowhere: a server's standard error is not the library's.
var quiet = sync.OnceFunc(func() { redis.SetLogger(silent{}) })

type silent struct{}

// Printf implements the library's logger.
func (silent) Printf(context.Context, string, ...any) {}

// ioTimeout is how long Redis may take to answer what does not wait.
const ioTimeout = 10 * time.Second

// consumer is the name under which this server takes entries: the same after a
// restart, so that it finds what it had taken.
func consumer() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return "hearth-" + host
}

// start is the ID after which a new group reads.
func start(m *event.Mapping) string {
	switch {
	case m.From == "AT_TIMESTAMP" && m.FromAt != nil:
		return strconv.FormatInt(m.FromAt.UnixMilli()-1, 10) + "-18446744073709551615"
	case m.From == "TRIM_HORIZON":
		return "0"
	}
	return "$"
}

// begin makes the group unless it is there.
func (q *queue) begin(ctx context.Context, from string) error {
	err := q.client.XGroupCreateMkStream(ctx, q.stream, q.group, from).Err()
	if err == nil || strings.HasPrefix(err.Error(), "BUSYGROUP") {
		return nil
	}
	return fmt.Errorf("the consumer group %s of the stream %s: %w", q.group, q.stream, err)
}
