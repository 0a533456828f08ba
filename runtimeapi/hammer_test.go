package runtimeapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	hearth "github.com/hearth-faas/hearth"
)

// TestManyEnvironmentsNeverMixTheirEvents is the hammer: every path through the
// locks, in many environments at once, with each answer checked against its
// event.
func TestManyEnvironmentsNeverMixTheirEvents(t *testing.T) {
	const environments, invocations = 8, 150
	var all sync.WaitGroup
	for n := range environments {
		e := serve(t, Options{OnNext: func() {}})
		all.Go(func() { echo(t, e) })
		all.Go(func() {
			defer e.Fail(Exited("", 0, ""))
			for i := range invocations {
				id := fmt.Sprintf("%d-%d", n, i)
				ctx, cancel := context.WithCancel(context.Background())
				if i%7 == 0 {
					go cancel()
				}
				size := []int{10, 5 << 10, 200 << 10}[i%3]
				payload := bytes.Repeat([]byte{byte('a' + i%26)}, size)
				r, err := e.Invoke(ctx, &Event{RequestID: id, Payload: payload})
				cancel()
				if err == nil && (r.ContentType != id || !bytes.Equal(r.Payload, payload)) || err != nil && hearth.KindOf(err) != hearth.Canceled {
					t.Errorf("%s: %q %d bytes, %v", id, r.ContentType, len(r.Payload), err)
					return
				}
				e.NextWaiting()
			}
		})
	}
	all.Wait()
}

// echo is a runtime that answers each event with itself, its request id as the
// content type, until the environment is dead. An event that its caller gave up
// half written breaks the connection, and it asks again.
func echo(t *testing.T, e *Environment) {
	base := "http://" + e.listener.Addr().String() + "/2018-06-01/runtime/invocation/"
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for e.State() != Dead {
		resp, err := client.Get(base + "next")
		if err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			continue
		}
		id := resp.Header.Get("Lambda-Runtime-Aws-Request-Id")
		resp, err = client.Post(base+id+"/response", id, bytes.NewReader(body))
		if err != nil {
			continue
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 202 && resp.StatusCode != 400 {
			t.Errorf("%s: %s", id, resp.Status)
		}
	}
}
