package control

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	hearth "github.com/hearth-faas/hearth"
)

// Client calls the API of a server. Safe for concurrent use.
type Client struct {
	Endpoint    string // such as http://127.0.0.1:9070
	Region      string
	Credentials aws.CredentialsProvider
	HTTP        *http.Client // nil is http.DefaultClient
}

// PS tells what the machine holds.
func (c *Client) PS(ctx context.Context) (Snapshot, error) {
	return get[Snapshot](ctx, c, "/ps", nil)
}

// Find looks decisions up, newest first. q.Account is not sent: it is the
// caller's.
func (c *Client) Find(ctx context.Context, q DecisionQuery) ([]hearth.Decision, error) {
	v := url.Values{}
	set(v, "request", q.RequestID)
	set(v, "function", q.Function)
	set(v, "kind", string(q.Kind))
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	list, err := get[DecisionList](ctx, c, "/decisions", v)
	return list.Decisions, err
}

// Runtimes lists the runtimes of the Lambda API as the server has them.
func (c *Client) Runtimes(ctx context.Context) ([]Runtime, error) {
	list, err := get[RuntimeList](ctx, c, "/runtimes", nil)
	return list.Runtimes, err
}

// Doctor tells what the server's machine gives.
func (c *Client) Doctor(ctx context.Context) (Report, error) {
	return get[Report](ctx, c, "/doctor", nil)
}

// Parked lists parked events, the oldest first, at most limit.
func (c *Client) Parked(ctx context.Context, limit int) ([]ParkedEvent, error) {
	list, err := get[ParkedList](ctx, c, "/parked", url.Values{"limit": {strconv.Itoa(limit)}})
	return list.Events, err
}

// Redrive takes a parked event back into the queue.
func (c *Client) Redrive(ctx context.Context, id string) error {
	_, err := send[Redriven](ctx, c, http.MethodPost, "/parked/redrive", url.Values{"id": {id}}, nil)
	return err
}

// Logs calls emit with each line that q selects until there are no more, emit
// returns an error, or ctx ends. q.Account is not sent: it is the caller's.
func (c *Client) Logs(ctx context.Context, q LogQuery, emit func(LogLine) error) error {
	v := url.Values{"function": {q.Function}}
	set(v, "request", q.RequestID)
	if !q.Since.IsZero() {
		v.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if q.Follow {
		v.Set("follow", "true")
	}
	body, err := c.open(ctx, http.MethodGet, "/logs", v, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	dec := json.NewDecoder(bufio.NewReaderSize(body, 64<<10))
	for {
		var line struct {
			LogLine
			Error *Failure `json:"error"`
		}
		switch err := dec.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the log broke off: %w", err)
		case line.Error != nil:
			return line.Error
		}
		if err := emit(line.LogLine); err != nil {
			return err
		}
	}
}

func set(v url.Values, name, value string) {
	if value != "" {
		v.Set(name, value)
	}
}

func get[T any](ctx context.Context, c *Client, path string, q url.Values) (v T, err error) {
	return send[T](ctx, c, http.MethodGet, path, q, nil)
}

func send[T any](ctx context.Context, c *Client, method, path string, q url.Values, content []byte) (v T, err error) {
	body, err := c.open(ctx, method, path, q, content)
	if err != nil {
		return v, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&v); err != nil {
		return v, fmt.Errorf("%s%s: %w", Prefix, path, err)
	}
	return v, nil
}

// open sends a signed request and returns the body of a 200; anything else is
// a *Failure.
func (c *Client) open(ctx context.Context, method, path string, q url.Values, body []byte) (io.ReadCloser, error) {
	u := c.Endpoint + Prefix + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	creds, err := c.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, creds, req, hex.EncodeToString(hash[:]), SigningService, c.Region, time.Now()); err != nil {
		return nil, err
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	// The Lambda API's verifier answers with "message"; both spellings decode.
	var f Failure
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&f); err != nil || f.Message == "" {
		return nil, fmt.Errorf("%s %s%s: %s", method, Prefix, path, resp.Status)
	}
	return nil, &f
}
