package runtimeapi

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// rawRuntime is a runtime that costs next to nothing, so that a benchmark
// measures the server: it answers each event with size bytes. It runs in a
// process of its own, as a runtime does.
func rawRuntime(addr string, size int) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	body := bytes.Repeat([]byte{'x'}, size)
	ask := []byte("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nUser-Agent: bench\r\nAccept-Encoding: gzip\r\n\r\n")
	in := bufio.NewReaderSize(nc, 64<<10)
	out := make([]byte, 0, len(body)+1024)
	for {
		if _, err := nc.Write(ask); err != nil {
			return err
		}
		id, n, err := readEvent(in)
		if err != nil {
			return err
		}
		if _, err := in.Discard(n); err != nil {
			return err
		}
		out = append(out[:0], "POST /2018-06-01/runtime/invocation/"...)
		out = append(out, id...)
		out = append(out, "/response HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nUser-Agent: bench\r\nContent-Type: application/json\r\nContent-Length: "...)
		out = strconv.AppendInt(out, int64(len(body)), 10)
		out = append(out, "\r\n\r\n"...)
		out = append(out, body...)
		if _, err := nc.Write(out); err != nil {
			return err
		}
		if _, n, err = readEvent(in); err != nil {
			return err
		}
		if _, err := in.Discard(n); err != nil {
			return err
		}
	}
}

// readEvent reads an answer's head, and returns the request id and the length
// of the body.
func readEvent(in *bufio.Reader) (id []byte, n int, err error) {
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return nil, 0, err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			return id, n, nil
		}
		if v, ok := bytes.CutPrefix(line, []byte("Lambda-Runtime-Aws-Request-Id: ")); ok {
			id = append(id, v...)
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if n, err = strconv.Atoi(string(v)); err != nil {
				return nil, 0, err
			}
		}
	}
}

const benchID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"

func benchEvent(payload []byte) *Event {
	return &Event{
		RequestID: benchID, Deadline: time.Unix(1700000000, 0), Payload: payload,
		ARN:     "arn:aws:lambda:us-east-1:000000000000:function:echo",
		TraceID: "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
	}
}

// BenchmarkInvoke is one whole invocation: event out, response in, next asked.
func BenchmarkInvoke(b *testing.B) {
	for _, size := range []int{1 << 10, 6 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			e := Serve(l, Options{})
			defer e.Close()
			payload := bytes.Repeat([]byte{'x'}, size)
			child(b, l.Addr(), "raw", strconv.Itoa(size))
			ev := benchEvent(payload)
			b.SetBytes(int64(2 * size))
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				if r, err := e.Invoke(context.Background(), ev); err != nil || len(r.Payload) != size {
					b.Fatal(len(r.Payload), err)
				}
			}
		})
	}
}

// BenchmarkInvokeNetHTTP is the same with a server on net/http that does no
// more than hand over: what our own server is measured against.
func BenchmarkInvokeNetHTTP(b *testing.B) {
	for _, size := range []int{1 << 10, 6 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			events, responses := make(chan *Event), make(chan []byte)
			mux := http.NewServeMux()
			mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", func(w http.ResponseWriter, r *http.Request) {
				select {
				case ev := <-events:
					h := w.Header()
					h.Set("Content-Type", "application/json")
					h.Set("Lambda-Runtime-Aws-Request-Id", ev.RequestID)
					h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(ev.Deadline.UnixMilli(), 10))
					h.Set("Lambda-Runtime-Invoked-Function-Arn", ev.ARN)
					h.Set("Lambda-Runtime-Trace-Id", ev.TraceID)
					h.Set("Content-Length", strconv.Itoa(len(ev.Payload)))
					w.Write(ev.Payload)
				case <-r.Context().Done():
				}
			})
			mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 7<<20))
				if err != nil {
					w.WriteHeader(http.StatusBadRequest)
					return
				}
				responses <- body
				w.Header().Set("Content-Length", strconv.Itoa(len(acceptedBody)))
				w.WriteHeader(http.StatusAccepted)
				w.Write(acceptedBody)
			})
			server := &http.Server{Handler: mux}
			go server.Serve(l)
			defer server.Close()
			payload := bytes.Repeat([]byte{'x'}, size)
			child(b, l.Addr(), "raw", strconv.Itoa(size))
			ev := benchEvent(payload)
			b.SetBytes(int64(2 * size))
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				events <- ev
				if body := <-responses; len(body) != size {
					b.Fatal(len(body))
				}
			}
		})
	}
}

// BenchmarkHandOver is the server's part alone: what Invoke costs where the
// runtime's side of the connection is a pipe in memory that answers at once.
func BenchmarkHandOver(b *testing.B) {
	payload := bytes.Repeat([]byte{'x'}, 1<<10)
	var r request
	head := []byte("POST /2018-06-01/runtime/invocation/" + benchID + "/response HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nUser-Agent: aws-lambda-go/go1.26\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nTrailer: Lambda-Runtime-Function-Error-Type,Lambda-Runtime-Function-Error-Body\r\nAccept-Encoding: gzip\r\n\r\n")
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n := headEnd(head, 0)
			if err := r.parse(head[:n]); err != nil {
				b.Fatal(err)
			}
			if ep, _ := endpointOf(r.path); ep != response {
				b.Fatal(ep)
			}
		}
	})
	b.Run("render", func(b *testing.B) {
		b.ReportAllocs()
		ev, out := benchEvent(payload), []byte(nil)
		for b.Loop() {
			out = append(appendEventHead(out[:0], ev), ev.Payload...)
		}
	})
}

// reportCPU reports the processor time of this process per operation: on the
// clock, the runtime's own time and its waking up weigh as much.
func reportCPU(b *testing.B) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}
