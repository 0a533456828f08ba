package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sys/unix"
)

// How long a peer that says nothing is waited for. Without these a connection
// whose other end lost its power is noticed after minutes, on either side.
const (
	quietFor   = 10 * time.Second // then the peer is asked
	askedEvery = 5 * time.Second
	askedTimes = 3
	unheardFor = quietFor + askedTimes*askedEvery // of what was sent
)

// CheckURL tells whether a URL can be one of a database. Its errors have no
// part of the URL, which may have a password in it wherever it is malformed.
func CheckURL(text string) error {
	_, err := parse(Config{URL: text})
	return err
}

// HasPassword tells whether the URL has a password in it.
func HasPassword(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return strings.Contains(text, "@") // likely enough
	}
	_, has := u.User.Password()
	return has || u.Query().Has("password")
}

func parse(cfg Config) (*pgxpool.Config, error) {
	if !strings.HasPrefix(cfg.URL, "postgres://") && !strings.HasPrefix(cfg.URL, "postgresql://") {
		return nil, errors.New("it is no postgres://USER@HOST:PORT/NAME")
	}
	conf, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, errors.New("it is a postgres:// URL that can't be read; characters with a meaning in URLs, such as / and @ in a password, are written as %2F and %40")
	}
	c := conf.ConnConfig
	if cfg.Password != "" {
		c.Password = cfg.Password
	}
	if c.Database == "" {
		return nil, errors.New("the postgres:// URL names no database: add /NAME after the host")
	}
	if u, err := url.Parse(cfg.URL); err == nil && !u.Query().Has("connect_timeout") {
		c.ConnectTimeout = 10 * time.Second
	}
	dialer := &net.Dialer{
		Timeout:         c.ConnectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: quietFor, Interval: askedEvery, Count: askedTimes},
		Control: func(network, _ string, conn syscall.RawConn) (err error) {
			if !strings.HasPrefix(network, "tcp") {
				return nil
			}
			cerr := conn.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unheardFor/time.Millisecond))
			})
			return errors.Join(err, cerr)
		},
	}
	c.DialFunc = dialer.DialContext
	set := func(name, value string) {
		if _, ok := c.RuntimeParams[name]; !ok {
			c.RuntimeParams[name] = value
		}
	}
	set("application_name", "hearth")
	seconds := func(d time.Duration) string { return fmt.Sprint(int(d / time.Second)) }
	set("tcp_keepalives_idle", seconds(quietFor))
	set("tcp_keepalives_interval", seconds(askedEvery))
	set("tcp_keepalives_count", fmt.Sprint(askedTimes))
	set("tcp_user_timeout", fmt.Sprint(int(unheardFor/time.Millisecond)))
	// Everything is found by its key. The planner need not learn how large the
	// table is before it knows that.
	set("enable_seqscan", "off")
	set("enable_hashjoin", "off")
	set("enable_mergejoin", "off")
	set("plan_cache_mode", "force_generic_plan")
	// What can only be scanned is dear to the planner from here on, as the one
	// row of hearth_server is, and what is dear would be compiled first: 80 ms.
	set("jit", "off")
	set("client_min_messages", "warning")
	set("lock_timeout", "0")
	set("statement_timeout", "0")
	// A commit that is acknowledged is on disk, whatever this user's default
	// is. What is stricter stays.
	c.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		return conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`).Close()
	}
	return conf, nil
}

// names are what is said of a database to people.
type names struct {
	what string // NAME at HOST
	user string
}

func namesOf(c *pgconn.Config) names {
	return names{what: fmt.Sprintf("%s at %s", c.Database, c.Host), user: c.User}
}
