package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// callback is where a result is sent to.
type callback struct {
	URL      string `json:"url"`
	Attempts int    `json:"attempts"`
	// Outcome is delivered, or failed once it was given up; "" is neither.
	Outcome string `json:"outcome,omitempty"`
	Last    string `json:"last,omitempty"` // what the last attempt came to
}

func (c *callback) over() bool { return c.Outcome != "" }

// newCallback checks where a result is to be sent.
func newCallback(v any) (*callback, error) {
	text, ok := v.(string)
	if !ok || len(text) > maxPath {
		return nil, errors.New("it is no URL")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, errors.New("it is neither an http:// nor an https:// URL")
	case u.User != nil:
		return nil, errors.New("a URL with a password would be kept")
	}
	return &callback{URL: text}, nil
}

// sender sends results, where that is allowed.
type sender struct{ client *http.Client }

// newSender makes a sender. Each address that a name has is judged when it is
// connected to, so that no name can be another thing a moment later, and nothing
// leads elsewhere.
func newSender(refuses func(address string) string) *sender {
	if refuses == nil {
		refuses = RefusesInner
	}
	d := &net.Dialer{Timeout: 5 * time.Second, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		if why := refuses(address); why != "" {
			return &refusedAddress{address, why}
		}
		return nil
	}}
	return &sender{&http.Client{
		Transport:     &http.Transport{DialContext: d.DialContext, TLSHandshakeTimeout: 5 * time.Second, MaxIdleConns: 64, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       10 * time.Second,
	}}
}

// refusedAddress is the error of an address to which nothing is sent; asking again
// would change nothing.
type refusedAddress struct{ address, why string }

func (r *refusedAddress) Error() string { return r.address + " may not be called: " + r.why }

// shared is the address space that carriers share (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// RefusesInner refuses all addresses (IP:PORT) that are not public; "" is of one
// that is.
func RefusesInner(address string) string {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return "no address"
	}
	ip := at.Addr().Unmap().WithZone("")
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || shared.Contains(ip) {
		return "it is not public"
	}
	return ""
}

// The waits before a result is sent again are a second, and each twice as long.
const maxCallbacks = 5

// deliver sends a result until it is taken, or given up. It leaves the outcome
// open if the server stops meanwhile.
func (c *calls) deliver(a *asyncCall) {
	b := a.Callback
	for wait := time.Second; ; wait *= 2 {
		b.Attempts++
		err := c.sender.send(c.ctx, a)
		if c.ctx.Err() != nil {
			return
		}
		if err == nil {
			b.Outcome, b.Last = "delivered", ""
			break
		}
		b.Last = err.Error()
		if _, refused := errors.AsType[*refusedAddress](err); refused || b.Attempts >= maxCallbacks {
			b.Outcome = "failed"
			c.s.log.Warn("the result of an asynchronous proxy call could not be sent, and can be fetched only", "call", a.ID, "api", a.API, "attempts", b.Attempts, "error", err)
			break
		}
		if !c.s.cfg.Execution.sleep(c.ctx, wait) {
			return
		}
	}
	c.s.metrics.callbacks.WithLabelValues(b.Outcome).Inc()
}

// send sends a result once.
func (s *sender) send(ctx context.Context, a *asyncCall) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.Callback.URL, bytes.NewReader(a.Response.Body))
	if err != nil {
		return err
	}
	if t := a.Response.Header.Get("Content-Type"); t != "" {
		req.Header.Set("Content-Type", t)
	}
	req.Header.Set("X-Hearth-Call", a.ID)
	req.Header.Set("X-Hearth-Status", strconv.Itoa(a.Response.Status))
	answer, err := s.client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the URL may have a secret in it
		}
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection can be used again
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("it was answered with %s", answer.Status)
	}
	return nil
}
