package jwt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hearth-faas/hearth"
)

const (
	// keysLife is how long an issuer's keys are used before they are asked for
	// again; keysAgain how long at least between two questions, for tokens can
	// name keys that there are not.
	keysLife  = 2 * time.Hour
	keysAgain = 10 * time.Second
	// fetchTimeout bounds a question, maxDocument its answer in bytes.
	fetchTimeout = 5 * time.Second
	maxDocument  = 512 << 10
	// maxIssuers bounds how many issuers' keys are kept.
	maxIssuers = 4096
)

// Issuers keep the public keys of those whose tokens are taken. Safe for
// concurrent use.
type Issuers struct {
	clock  hearth.Clock
	client *http.Client
	mu     sync.Mutex
	m      map[string]*issuer
}

// NewIssuers asks issuers for their keys by the client, which must not follow
// redirects, nor call whom nobody may have called.
func NewIssuers(clock hearth.Clock, client *http.Client) *Issuers {
	return &Issuers{clock: clock, client: client, m: map[string]*issuer{}}
}

// issuer is whose tokens are taken.
type issuer struct {
	url string

	mu    sync.Mutex
	known []jose.JSONWebKey
	at    time.Time     // when known was read
	asked time.Time     // when it was asked last, with or without an answer
	err   error         // of the last question
	busy  chan struct{} // closed when the question that is under way has an answer; nil is none
}

func (x *Issuers) issuer(url string) *issuer {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := x.m[url]
	if i == nil {
		if len(x.m) >= maxIssuers {
			clear(x.m) // those in use come again
		}
		i = &issuer{url: url}
		x.m[url] = i
	}
	return i
}

// keys are those of the issuer that fit. If none does of those that are known,
// it is asked again, but not all the time.
func (x *Issuers) keys(ctx context.Context, url string, fit func(jose.JSONWebKey) bool) ([]jose.JSONWebKey, error) {
	i := x.issuer(url)
	for {
		i.mu.Lock()
		now := x.clock.Now()
		var found []jose.JSONWebKey
		for _, k := range i.known {
			if fit(k) {
				found = append(found, k)
			}
		}
		fresh := len(i.known) > 0 && now.Sub(i.at) < keysLife
		again := i.asked.IsZero() || now.Sub(i.asked) >= keysAgain
		switch {
		case len(found) > 0 && (fresh || !again):
			i.mu.Unlock()
			return found, nil
		case !again && i.busy == nil:
			err := i.err
			i.mu.Unlock()
			return nil, err // or none, where the issuer has answered and has no such key
		case i.busy == nil:
			i.busy = make(chan struct{})
			i.asked = now
			go x.ask(i)
		}
		busy := i.busy
		i.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ask asks an issuer for its keys, for all who wait.
func (x *Issuers) ask(i *issuer) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	keys, err := x.fetch(ctx, i.url)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err = err; err == nil {
		i.known, i.at = keys, x.clock.Now()
	}
	close(i.busy)
	i.busy = nil
}

// fetch reads the issuer's configuration, and the keys that it names.
func (x *Issuers) fetch(ctx context.Context, issuer string) ([]jose.JSONWebKey, error) {
	var config struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	at := strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
	if err := x.get(ctx, at, &config); err != nil {
		return nil, err
	}
	if config.Issuer != issuer {
		return nil, fmt.Errorf("%s is the configuration of another issuer: %.200q", at, config.Issuer)
	}
	if err := checkKeysURL(issuer, config.Keys); err != nil {
		return nil, err
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := x.get(ctx, config.Keys, &set); err != nil {
		return nil, err
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if err := json.Unmarshal(raw, &k); err != nil {
			continue // of a kind that is not known here; others may be
		}
		if k.Valid() && k.IsPublic() {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New(config.Keys + " has no public keys")
	}
	return keys, nil
}

// CheckIssuer takes URLs that keys can be asked of: by TLS, since whoever can
// put himself between could else make tokens; without only on this machine.
func CheckIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return fmt.Errorf("%.200q: Issuer must have a valid discovery endpoint ended with '/.well-known/openid-configuration', and begin with https://", issuer)
	}
	return nil
}

// isLoopback tells whether a host can only be this machine.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// checkKeysURL takes addresses by TLS only, and without on this machine if the
// issuer is there too.
func checkKeysURL(issuer, keys string) error {
	of, err := url.Parse(issuer)
	if err != nil {
		return err
	}
	u, err := url.Parse(keys)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || of.Scheme != "http" || !isLoopback(u.Hostname())) {
		return fmt.Errorf("the issuer's jwks_uri can't be used: %.200q", keys)
	}
	return nil
}

// get reads a JSON document.
func (x *Issuers) get(ctx context.Context, url string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	resp, err := x.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return err
	}
	if len(b) > maxDocument {
		return fmt.Errorf("%s answers with more than %d bytes", url, maxDocument)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s can't be read: %w", url, err)
	}
	return nil
}
