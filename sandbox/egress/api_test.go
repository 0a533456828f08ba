package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox"
)

func TestAPIIsServedInProcessAndKnowsTheContainer(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind sandbox.LinkKind) {
		n, err := New(Config{})
		must(t, err)
		defer n.Close()
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, err := net.SplitHostPort(r.RemoteAddr)
			must(t, err)
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s sent %d bytes", host, len(body))
		})}
		go server.Serve(n.APIListener())
		defer server.Close()
		for _, id := range []string{"c1", "c2"} {
			c := joinContainer(t, n, id, kind)
			client := &http.Client{Timeout: brief, Transport: &http.Transport{
				DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
					return c.dial(network, address, brief)
				},
			}}
			for range 3 { // over one connection
				response, err := client.Post("http://"+n.Guest().API.String()+"/", "", io.LimitReader(zeros{}, 100_000))
				must(t, err)
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				if want := id + " sent 100000 bytes"; err != nil || string(body) != want {
					t.Errorf("%q, %v; want %q", body, err, want)
				}
			}
			client.CloseIdleConnections()
			soon(t, "the connection is forgotten", func() bool { return tcpFlows(c.link) == 0 })
		}
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestAPIConnectionsThatNobodyAcceptsAreReset(t *testing.T) {
	c := newContainer(t, sandbox.LinkPacket, Config{})
	conn, err := c.dial("tcp4", "100.64.0.1:9070", brief)
	must(t, err)
	defer conn.Close()
	soon(t, "the connection waits", func() bool { return len(c.network.api.queue) == 1 })
	must(t, c.network.APIListener().Close())
	must(t, conn.SetDeadline(time.Now().Add(brief)))
	if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("it stays open: %v", err)
	}
	if conn, err := c.dial("tcp4", "100.64.0.1:9070", brief); !errors.Is(err, unix.ECONNREFUSED) {
		if err == nil {
			conn.Close()
		}
		t.Errorf("a connection after the listener closed: %v", err)
	}
	if _, err := c.network.APIListener().Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
}

func TestAPIConnectionEndsWithItsContainer(t *testing.T) {
	c := newContainer(t, sandbox.LinkPacket, Config{})
	conn, err := c.dial("tcp4", "100.64.0.1:9070", brief)
	must(t, err)
	defer conn.Close()
	server, err := c.network.APIListener().Accept()
	must(t, err)
	if id, ok := ContainerOf(server.RemoteAddr()); !ok || id != "c1" {
		t.Errorf("the connection is of %q", id)
	}
	if _, ok := ContainerOf(conn.RemoteAddr()); ok {
		t.Error("an ordinary address names a container")
	}
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := server.Read(make([]byte, 1)); err == nil {
			t.Error("read from a container that is gone")
		}
	})
	must(t, c.link.Close())
	group.Wait()
	must(t, server.Close())
}
