package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Dial connects to a port of the environment's loopback interface.
type Dial func(ctx context.Context, port int) (net.Conn, error)

// sendTimeout bounds one try of a delivery.
const sendTimeout = 5 * time.Second

// client delivers batches. It is used by one goroutine.
type client interface {
	send(ctx context.Context, batch [][]byte) error
	close()
}

func newClient(s *subscription, dial Dial) client {
	if s.method == "" {
		return &tcpClient{dial: dial, port: s.port}
	}
	transport := &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, s.port) },
		DisableCompression:     true,
		MaxIdleConns:           1,
		MaxResponseHeaderBytes: 64 << 10, // the answer is of code that nobody vouches for
	}
	return &httpClient{
		method: s.method, url: "http://sandbox.localdomain:" + strconv.Itoa(s.port) + s.path, transport: transport,
		client: http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

// httpClient delivers a batch as one request whose body is a JSON array.
type httpClient struct {
	method, url string
	transport   *http.Transport
	client      http.Client
}

func (c *httpClient) send(ctx context.Context, batch [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	body := append([]byte{'['}, bytes.Join(batch, []byte{','})...)
	req, err := http.NewRequestWithContext(ctx, c.method, c.url, bytes.NewReader(append(body, ']')))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// So that the connection can be used again; an error shows at the next try.
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	if resp.StatusCode >= 400 {
		return fmt.Errorf("the subscriber answered %s", resp.Status)
	}
	return nil
}

func (c *httpClient) close() { c.transport.CloseIdleConnections() }

// tcpClient delivers a batch as lines of JSON on a connection that it keeps.
type tcpClient struct {
	dial Dial
	port int
	conn net.Conn
}

func (c *tcpClient) send(ctx context.Context, batch [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if c.conn == nil {
		conn, err := c.dial(ctx, c.port)
		if err != nil {
			return err
		}
		c.conn = conn
	}
	conn := c.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // an error says that it is closed
	_, err := conn.Write(append(bytes.Join(batch, []byte{'\n'}), '\n'))
	if !stop() && err == nil {
		err = ctx.Err() // the deadline has passed, and would hold for the next batch
	}
	if err != nil {
		c.close()
	}
	return err
}

func (c *tcpClient) close() {
	if c.conn != nil {
		_ = c.conn.Close() // what it did not take is sent again
		c.conn = nil
	}
}
