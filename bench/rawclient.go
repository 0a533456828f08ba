package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// rawConn sends one prepared HTTP/1.1 request again and again over one
// connection and reads the answers. It costs next to nothing itself, so that
// what is measured is the server; the floor and Hearth are asked by the same
// code. The request is signed once: a signature holds for five minutes.
type rawConn struct {
	c   net.Conn
	r   *bufio.Reader
	req []byte
}

func dialRaw(addr string, req []byte) (*rawConn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &rawConn{c: c, r: bufio.NewReaderSize(c, 16<<10), req: req}, nil
}

var errStatus = errors.New("answer is not 200")

// roundTrip sends the request and discards the answer's body; a status other
// than 200 or a function error is an error with the body in it.
func (rc *rawConn) roundTrip() error {
	if err := rc.c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := rc.c.Write(rc.req); err != nil {
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
		return fmt.Errorf("%w: %s: %s", errStatus, status, body)
	}
	_, err = rc.r.Discard(length)
	return err
}

func (rc *rawConn) Close() error { return rc.c.Close() }
