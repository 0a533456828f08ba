package runtimeapi

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// FuzzRequest holds the parser to net/http's: what both take, they take alike,
// and what ours takes has no second reading.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		askNext, post("invocation/id/response", "{}"), streamHead,
		"GET http://h:1/ping?x HTTP/1.0\nConnection: keep-alive\n\n",
		"POST /x HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\nConnection: a, close\r\n\r\n",
		"GET / HTTP/1.1\r\nA : b\r\n\r\n", "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", "\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := headEnd(b, 0)
		for from := range len(b) { // found in whatever pieces it arrives
			if from < n && headEnd(b[:from], 0) == 0 && headEnd(b, from) != n {
				t.Fatalf("headEnd from %d: %d, want %d", from, headEnd(b, from), n)
			}
		}
		if n == 0 {
			return
		}
		var r request
		if r.parse(b[:n]) != nil {
			return
		}
		theirs, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b[:n])))
		if err != nil {
			return // stricter about targets, hosts and unknown versions
		}
		if theirs.Method != string(r.method) {
			t.Errorf("method %q, net/http %q", r.method, theirs.Method)
		}
		if te := len(theirs.TransferEncoding) > 0; te != (r.length < 0 && r.hasBody) {
			t.Errorf("chunked %v, net/http %v", !te, te)
		}
		if !r.hasBody && theirs.ContentLength > 0 || r.length > 0 && theirs.ContentLength != r.length {
			t.Errorf("length %d, net/http %d", r.length, theirs.ContentLength)
		}
		endpointOf(r.path)
		r.header("x")
	})
}

// bodyOf gives b as a connection's body.
func bodyOf(b []byte, r *request) (*body, func()) {
	ours, theirs := net.Pipe()
	go func() {
		theirs.Write(b)
		theirs.Close()
	}()
	c := &conn{net: ours, env: &Environment{}, base: new([bufferSize]byte)}
	c.buf = c.base[:]
	c.body.begin(c, r)
	return &c.body, func() { ours.Close() }
}

// FuzzChunked holds the body's decoder to net/http's.
func FuzzChunked(f *testing.F) {
	for _, s := range []string{"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "A;x\r\n0123456789\r\n0\r\nLambda-Runtime-Function-Error-Type: Runtime.X\r\n\r\n", "ffffffffffffffff\r\n", "1\r\nab", "-1\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, done := bodyOf(b, &request{length: -1, hasBody: true})
		defer done()
		got, err := ours.readAll(1 << 20)
		if err != nil {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"), bytes.NewReader(b))))
		if err != nil {
			t.Fatal(err)
		}
		if want, err := io.ReadAll(r.Body); err == nil && !bytes.Equal(got, want) {
			t.Errorf("%q, net/http %q", got, want)
		}
	})
}

func TestAnyChunkingGivesTheSameBody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Byte(), 0, 20000).Draw(t, "body")
		var wire bytes.Buffer
		for rest := want; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "chunk")
			wire.WriteString(strings.ToUpper(string("0123456789abcdef"[n>>12&15])) + string("0123456789abcdef"[n>>8&15]) + string("0123456789abcdef"[n>>4&15]) + string("0123456789abcdef"[n&15]) + "\r\n")
			wire.Write(rest[:n])
			wire.WriteString("\r\n")
			rest = rest[n:]
		}
		wire.WriteString("0\r\n\r\n")
		b, done := bodyOf(wire.Bytes(), &request{length: -1, hasBody: true})
		defer done()
		if got, err := b.readAll(1 << 20); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v; want %d", len(got), err, len(want))
		}
	})
}

// TestStateMachineKeepsItsInvariants walks the machine at random: the dead stay
// dead, nothing but a response's end leads to Responded, and an event is in the
// runtime's hands in the states that say so.
func TestStateMachineKeepsItsInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, hasEvent := Started, false
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			step := Step(rapid.IntRange(0, steps-1).Draw(t, "step"))
			to, err := s.After(step)
			if err != nil {
				if to != s {
					t.Fatalf("a refused %v moved %v to %v", step, s, to)
				}
				continue
			}
			switch step {
			case StepHandOver:
				if s != Ready || hasEvent {
					t.Fatalf("an event was handed over in %v", s)
				}
				hasEvent = true
			case StepUndelivered, StepAnswered, StepAbandon, StepDie:
				hasEvent = false
			}
			if s == Dead || to == Responded && step != StepAnswered || to == InitFailed && s != Started {
				t.Fatalf("%v went to %v by %v", s, to, step)
			}
			s = to
			if holds := s == Running || s == Responding || s == RespondingError; holds != hasEvent {
				t.Fatalf("in %v, has an event: %v", s, hasEvent)
			}
		}
	})
}

// FuzzConnection throws bytes at a whole environment: it must neither hang nor
// panic, and must serve the next connection.
func FuzzConnection(f *testing.F) {
	f.Add([]byte(askNext + post("invocation/id-1/response", "{}")))
	f.Add([]byte(askNext + streamHead + "5\r\nhello\r\n0\r\n\r\n"))
	f.Add([]byte(post("init/error", "{}") + askNext))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		e := Serve(l, Options{})
		defer e.Close()
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			ev := event("id-1", "1")
			ev.Stream = &stream{}
			e.Invoke(t.Context(), ev)
		}()
		nc.SetDeadline(time.Now().Add(2 * time.Minute))
		nc.Write(b)
		nc.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, nc)
		nc.Close()
		e.Fail(Exited("id-1", 1, ""))
		<-done
	})
}
