package worker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox"
)

// TestHammer with extensions in every container, some of which subscribe, work
// on after the answer, or die: whoever is answered is answered rightly, all
// comes to an end, and nothing is left.
func TestHammerWithExtensions(t *testing.T) {
	const users, rounds = 8, 12
	h := newHarness(t, freezesSoon, unpackExtensions, initWithin(2*time.Second))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var delivered atomic.Int64
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { delivered.Add(1) })}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	subscription := fmt.Sprintf(
		`{"schemaVersion":"2022-12-13","types":["platform","function","extension"],"buffering":{"timeoutMs":25},"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:%d/"}}`,
		l.Addr().(*net.TCPAddr).Port)
	var turn, heard atomic.Int64
	for _, name := range []string{"one", "two"} {
		h.d.run(name, func(p *process) {
			id := p.register(name, "INVOKE", "SHUTDOWN")
			if name == "one" {
				p.call("PUT", "/2022-07-01/telemetry", subscription, "Lambda-Extension-Identifier", id)
			}
			for {
				e := p.nextEvent(id)
				if e.Type == "SHUTDOWN" {
					return
				}
				heard.Add(1)
				switch turn.Add(1) % 23 {
				case 5:
					p.exitWith(1)
				case 6, 7, 8:
					time.Sleep(time.Millisecond)
				case 9:
					p.extensionError("exit/error", id, "Extension.Tired")
					p.exitWith(2)
				}
				p.print("%s saw %s\n", name, e.ID)
			}
		})
	}
	f := h.function(func(p *process) {
		p.serve(func(e event) string {
			p.print("event\n")
			return string(e.payload)
		})
	}, withExtensions("one", "two"), timeout(5*time.Second))
	var answered, killed atomic.Int64
	var all sync.WaitGroup
	for u := range users {
		r := rand.New(rand.NewPCG(uint64(u), 7))
		all.Go(func() {
			for range rounds {
				in, err := h.w.NewInstance(context.Background(), "")
				if err != nil {
					t.Error(err)
					return
				}
				c := in.FirstSlot().(*container)
				if err := c.Load(context.Background(), f, &hearth.Timeline{}); err != nil {
					t.Errorf("Load: %v", err)
				}
				if r.IntN(4) == 0 {
					time.AfterFunc(time.Duration(r.IntN(3000))*time.Microsecond, func() {
						killed.Add(1)
						c.mu.Lock()
						sb := c.env.sb.(*fakeContainer)
						c.mu.Unlock()
						sb.end(sandbox.Exit{Code: 1})
					})
				}
				for i := range 1 + r.IntN(6) {
					payload := fmt.Sprintf(`"%d.%d"`, u, i)
					result, reusable, err := c.Invoke(context.Background(), h.invocation(c, payload))
					switch {
					case err != nil && hearth.KindOf(err) != hearth.ContainerGone:
						t.Errorf("Invoke: %v", err)
					case err == nil && result.FunctionError == "" && string(result.Payload) != payload:
						t.Errorf("%s was answered by %s", payload, result.Payload)
					case err == nil && result.FunctionError == "":
						answered.Add(1)
					}
					if !reusable {
						break
					}
					if s := c.Settled(); s != nil && r.IntN(5) != 0 { // sometimes it is destroyed under them
						await(t, "the extensions have done", s)
						c.Idle()
					} else if s != nil {
						break
					}
					if isDone(c) {
						break
					}
				}
				if err := in.Destroy(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d answered, %d killed, %d events heard, %d deliveries", answered.Load(), killed.Load(), heard.Load(), delivered.Load())
	if answered.Load() < users*rounds/2 || killed.Load() == 0 || delivered.Load() == 0 {
		t.Error("it was no hammer")
	}
}
