// Package rawhttp is a client for measurements: it sends one prepared request
// again and again and costs next to nothing itself.
package rawhttp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Conn sends one prepared HTTP/1.1 request over one connection and reads the
// answers. What is measured with it is the server; the floor and Hearth are
// asked by the same code. Not for concurrent use.
type Conn struct {
	// Request is sent by RoundTrip. It may be replaced between two of them.
	Request []byte

	c net.Conn
	r *bufio.Reader
}

// Dial connects to a TCP address.
func Dial(addr string, request []byte) (*Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Conn{Request: request, c: c, r: bufio.NewReaderSize(c, 16<<10)}, nil
}

// Invoke is a whole signed request to invoke a function, and the address to
// send it to. Its signature holds for five minutes.
func Invoke(endpoint, region string, creds aws.Credentials, function string, payload []byte) (addr string, request []byte, err error) {
	req, err := http.NewRequest(http.MethodPost, endpoint+"/2015-03-31/functions/"+function+"/invocations", bytes.NewReader(payload))
	if err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256(payload)
	req.Header.Set("Content-Type", "application/json")
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, req, hex.EncodeToString(sum[:]), "lambda", region, time.Now()); err != nil {
		return "", nil, err
	}
	var buf bytes.Buffer
	if err := req.Write(&buf); err != nil {
		return "", nil, err
	}
	return req.URL.Host, buf.Bytes(), nil
}

// ErrStatus is the error of an answer that tells of a failure.
var ErrStatus = errors.New("answer is not 200")

// RoundTrip sends the request and discards the answer's body; a status other
// than 200 or a function error is an ErrStatus with the body in it.
func (rc *Conn) RoundTrip() error {
	if err := rc.c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := rc.c.Write(rc.Request); err != nil {
		return err
	}
	line, err := rc.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	ok := bytes.HasPrefix(line, []byte("HTTP/1.1 200"))
	status := string(bytes.TrimSpace(line))
	length := -1
	for {
		line, err := rc.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		case bytes.EqualFold(name, []byte("X-Amz-Function-Error")):
			ok = false
			status = "function error"
		}
	}
	if length < 0 {
		return fmt.Errorf("%s: no Content-Length", status)
	}
	if !ok {
		body := make([]byte, length)
		if _, err := io.ReadFull(rc.r, body); err != nil {
			return err
		}
		return fmt.Errorf("%w: %s: %s", ErrStatus, status, body)
	}
	_, err = rc.r.Discard(length)
	return err
}

// Close closes the connection.
func (rc *Conn) Close() error { return rc.c.Close() }
