package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/hearth-faas/hearth"
)

func TestTelemetryAndVariablesAgreeOnHowAnEnvironmentCameToBe(t *testing.T) {
	for want, load := range map[hearth.InitType]func(c *container, f *hearth.Function) error{
		hearth.InitOnDemand: func(c *container, f *hearth.Function) error {
			return c.Load(context.Background(), f, &hearth.Timeline{})
		},
		hearth.InitProvisioned: func(c *container, f *hearth.Function) error {
			return c.Provision(context.Background(), f, &hearth.Timeline{})
		},
		hearth.InitManaged: func(c *container, f *hearth.Function) error {
			f.CapacityProvider = &hearth.CapacityProvider{ARN: "arn:p"}
			return c.Provision(context.Background(), f, &hearth.Timeline{})
		},
	} {
		t.Run(string(want), func(t *testing.T) {
			h := newHarness(t, unpackExtensions)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			types := map[string]string{}
			server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				var batch []struct {
					Type   string
					Record struct{ InitializationType string }
				}
				if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, e := range batch {
					if strings.HasPrefix(e.Type, "platform.init") {
						types[e.Type] = e.Record.InitializationType
					}
				}
			})}
			go server.Serve(l)
			defer server.Close()
			variables := make(chan string, 2)
			h.d.run("outer", func(p *process) {
				variables <- p.env["AWS_LAMBDA_INITIALIZATION_TYPE"]
				id := p.register("outer", "INVOKE")
				p.call("PUT", "/2022-07-01/telemetry", fmt.Sprintf(
					`{"schemaVersion":"2022-12-13","types":["platform"],"buffering":{"timeoutMs":25},"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:%d/"}}`,
					l.Addr().(*net.TCPAddr).Port), "Lambda-Extension-Identifier", id)
				p.nextEvent(id)
			})
			f := h.function(func(p *process) {
				variables <- p.env["AWS_LAMBDA_INITIALIZATION_TYPE"]
				p.serve(func(event) string { return "{}" })
			}, withExtensions("outer"))
			c, _ := h.slot("")
			if err := load(c, f); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if got := <-variables; got != string(want) {
					t.Errorf("the variable is %q", got)
				}
			}
			eventually(t, "the reports to have come", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(types) == 3
			})
			mu.Lock()
			defer mu.Unlock()
			for kind, got := range types {
				if got != string(want) {
					t.Errorf("%s says %q", kind, got)
				}
			}
		})
	}
}
