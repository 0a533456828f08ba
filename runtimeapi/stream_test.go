package runtimeapi

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// stream records what it is given.
type stream struct {
	started string
	buf     bytes.Buffer
	wrote   chan struct{}
	refuse  error
}

func (s *stream) Start(ct string, deadline time.Time) error { s.started = ct; return nil }
func (s *stream) Write(p []byte) (int, error) {
	if s.refuse != nil {
		return 0, s.refuse
	}
	s.buf.Write(p)
	if s.wrote != nil {
		s.wrote <- struct{}{}
	}
	return len(p), nil
}

const streamHead = "POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n" +
	"Content-Type: application/vnd.awslambda.http-integration-response\r\nTransfer-Encoding: chunked\r\nTrailer: Lambda-Runtime-Function-Error-Type\r\n\r\n"

func TestStreamedResponseIsPassedOnAsItComes(t *testing.T) {
	e := serve(t, Options{})
	p := dial(t, e)
	p.send(askNext)
	ev, s := event("id-1", "1"), &stream{wrote: make(chan struct{})}
	ev.Stream = s
	done := invoke(e, t.Context(), ev)
	p.answer()
	p.send(streamHead + "5\r\nhello\r\n")
	<-s.wrote // before the response is complete
	p.send("6;ext=1\r\n\x00world\r\n0\r\n\r\n")
	<-s.wrote
	r := <-done
	if r.err != nil || !r.Streamed || r.ErrorType != "" || len(r.Payload) != 0 || s.buf.String() != "hello\x00world" ||
		s.started != "application/vnd.awslambda.http-integration-response" {
		t.Errorf("%+v %q %q", r, s.started, s.buf.String())
	}
	if resp, _ := p.answer(); resp.StatusCode != 202 {
		t.Error(resp.StatusCode)
	}
}

func TestStreamThatFailsOnItsWayTellsWhy(t *testing.T) {
	e := serve(t, Options{})
	p := dial(t, e)
	p.send(askNext)
	ev, s := event("id-1", "1"), &stream{}
	ev.Stream = s
	done := invoke(e, t.Context(), ev)
	p.answer()
	p.send(streamHead + "5\r\nhello\r\n0\r\nLambda-Runtime-Function-Error-Type: Runtime.Broke\r\nLambda-Runtime-Function-Error-Body: eyJhIjoxfQ==\r\n\r\n")
	if r := <-done; r.err != nil || !r.Streamed || r.ErrorType != "Runtime.Broke" || string(r.Payload) != `{"a":1}` {
		t.Errorf("%+v", r)
	}
}

func TestStreamRefusedByItsReceiverLeavesTheEnvironmentUsable(t *testing.T) {
	e := serve(t, Options{})
	p := dial(t, e)
	p.send(askNext)
	ev := event("id-1", "1")
	ev.Stream = &stream{refuse: errors.New("gone")}
	done := invoke(e, t.Context(), ev)
	p.answer()
	p.send(streamHead + "5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n")
	if r := <-done; hearth.KindOf(r.err) != hearth.Canceled {
		t.Errorf("%+v", r)
	}
	if resp, _ := p.answer(); resp.StatusCode != 202 {
		t.Error(resp.StatusCode)
	}
}

func TestDeathAmidAStreamIsReportedAsDeath(t *testing.T) {
	e := serve(t, Options{})
	p := dial(t, e)
	p.send(askNext)
	ev, s := event("id-1", "1"), &stream{wrote: make(chan struct{})}
	ev.Stream = s
	done := invoke(e, t.Context(), ev)
	p.answer()
	p.send(streamHead + "5\r\nhello\r\n")
	<-s.wrote
	p.nc.Close()
	death := OutOfMemory("id-1")
	e.Fail(death)
	if r := <-done; r.err != error(death) || !r.Streamed {
		t.Errorf("%+v", r)
	}
}

// aws-lambda-go streams so: in chunks, and without saying that it does.
func TestChunksAreStreamedWithoutAHeader(t *testing.T) {
	e := serve(t, Options{})
	p := dial(t, e)
	p.send(askNext)
	ev, s := event("id-1", "1"), &stream{wrote: make(chan struct{})}
	ev.Stream = s
	done := invoke(e, t.Context(), ev)
	p.answer()
	p.send("POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	<-s.wrote // before the response is complete
	p.send("0\r\n\r\n")
	if r := <-done; r.err != nil || !r.Streamed || s.buf.String() != "hello" || s.started != "text/plain" {
		t.Errorf("%+v %q %q", r, s.started, s.buf.String())
	}
}

func TestAStreamBeyondItsLimitEndsTheEnvironment(t *testing.T) {
	e := serve(t, Options{})
	p := dial(t, e)
	p.send(askNext)
	ev := event("id-1", "1")
	ev.Stream = forgetful{}
	done := invoke(e, t.Context(), ev)
	p.answer()
	go func() { // until the environment, or the test, ends
		_, err := io.WriteString(p.nc, streamHead)
		for chunk := []byte("100000\r\n" + strings.Repeat("x", 1<<20) + "\r\n"); err == nil; {
			_, err = p.nc.Write(chunk)
		}
	}()
	r := <-done
	var fe *FunctionError
	if !errors.As(r.err, &fe) || fe.Type != TypeTooLarge || !r.Streamed {
		t.Errorf("%+v", r)
	}
}

// forgetful takes everything.
type forgetful struct{}

func (forgetful) Start(string, time.Time) error { return nil }
func (forgetful) Write(p []byte) (int, error)   { return len(p), nil }
