package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
)

// The floor of a warm invocation is what any server in the middle must pay:
// one HTTP hop in, one HTTP hop on to a separate process that echoes. Both are
// this program again, started with one of these words. They are as bare as
// HTTP/1.1 gets (a keep-alive connection on to the echo for each one in,
// headers looked at only for the length), so that no ratio is flattered by a
// slow floor.
const (
	floorEcho  = "floor-echo"
	floorProxy = "floor-proxy"
)

// runFloor serves as the echo, or as the proxy in front of it, until its
// standard input is closed. It prints its address first.
func runFloor(role, backend string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with whoever started this
		os.Exit(0)
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go serveFloor(c, role, backend)
	}
}

func serveFloor(c net.Conn, role, backend string) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 16<<10)
	answer := func(body []byte) ([]byte, error) { return body, nil }
	if role == floorProxy {
		b, err := net.Dial("tcp", backend)
		if err != nil {
			return
		}
		defer b.Close()
		back := bufio.NewReaderSize(b, 16<<10)
		var buf, reply []byte
		answer = func(body []byte) ([]byte, error) {
			buf = append(buf[:0], "POST / HTTP/1.1\r\nHost: echo\r\nContent-Type: application/json\r\n"...)
			buf = appendBody(buf, body)
			if _, err := b.Write(buf); err != nil {
				return nil, err
			}
			reply, err = readMessage(back, reply)
			return reply, err
		}
	}
	var body, out []byte
	for {
		var err error
		if body, err = readMessage(in, body); err != nil {
			return
		}
		reply, err := answer(body)
		if err != nil {
			return
		}
		out = append(out[:0], "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"...)
		out = appendBody(out, reply)
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func appendBody(buf, body []byte) []byte {
	buf = append(buf, "Content-Length: "...)
	buf = strconv.AppendInt(buf, int64(len(body)), 10)
	buf = append(buf, "\r\n\r\n"...)
	return append(buf, body...)
}

// readMessage reads a request or an answer and returns its body, in buf if it
// fits.
func readMessage(r *bufio.Reader, buf []byte) ([]byte, error) {
	length := 0
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 && !first {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && !first && bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return nil, err
			}
		}
	}
	if cap(buf) < length {
		buf = make([]byte, length)
	}
	buf = buf[:length]
	_, err := io.ReadFull(r, buf)
	return buf, err
}
