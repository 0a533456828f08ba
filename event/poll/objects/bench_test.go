package objects_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/poll/objects"
	"github.com/hearth-faas/hearth/event/sourcetest"
	"github.com/hearth-faas/hearth/internal/brokers"
	"github.com/hearth-faas/hearth/sqs"
	"github.com/hearth-faas/hearth/store/sqlite"
)

const account = hearth.Account("000000000000")

// hook is a web hook whose notifications wait until somebody takes them.
type hook struct {
	mu    sync.RWMutex
	taken sync.Mutex
	wait  [][]byte
	to    func(body []byte) error
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = h.take(body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (h *hook) take(body []byte) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.to != nil {
		return h.to(body)
	}
	h.taken.Lock()
	defer h.taken.Unlock()
	h.wait = append(h.wait, body)
	return nil
}

// give gives what waits and what comes to somebody; what waits of nobody is
// thrown away.
func (h *hook) give(to func(body []byte) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.to = to
	wait := h.wait
	h.wait = nil
	for _, body := range wait {
		if to != nil {
			if err := to(body); err != nil {
				return err
			}
		}
	}
	return nil
}

// BenchmarkNotification is against a web hook that does nothing, of the same S3
// server; its objects are made meanwhile.
func BenchmarkNotification(b *testing.B) {
	st, err := sqlite.Open(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	queues, err := sqs.Open(b.Context(), sqs.Config{Store: st, Clock: clock.System(), Region: "us-east-1"})
	if err != nil {
		b.Fatal(err)
	}
	var h hook
	srv := httptest.NewServer(&h)
	defer srv.Close()
	server := brokers.Start(b, brokers.VersityGW, brokers.Options{Notify: srv.URL})
	if _, err := server.S3(b.Context(), http.MethodPut, "/data", nil); err != nil {
		b.Fatal(err)
	}
	made := 0
	sourcetest.Bench(b, sourcetest.Measured{
		Live: true,
		Opener: poll.OpenerFunc(func(ctx context.Context, m *event.Mapping, at poll.Place) (poll.Source, error) {
			_, name, _ := event.ParseSourceARN(m.Source)
			if err := h.give(func(body []byte) error { return objects.Accept(context.Background(), queues, account, name, body) }); err != nil {
				return nil, err
			}
			return objects.Opener(queues).Open(ctx, m, at)
		}),
		New: func() (*event.Mapping, poll.Place) {
			if err := h.give(nil); err != nil {
				b.Fatal(err)
			}
			made++
			name := fmt.Sprintf("bench%d", made)
			return &event.Mapping{ID: name, Function: "f", Scheme: "s3", Source: event.SourceARN("us-east-1", account, name), Region: "us-east-1",
				Settings: event.Settings{WindowSeconds: new(0)}}, poll.Place{}
		},
		Publish: func(_ *event.Mapping, n int) error {
			const clients = 8
			errs := make([]error, clients)
			var all sync.WaitGroup
			for w := range clients {
				all.Go(func() {
					for i := w; i < n && errs[w] == nil; i += clients {
						_, errs[w] = server.S3(b.Context(), http.MethodPut, "/data/"+string(sourcetest.BenchBody(i)), nil)
					}
				})
			}
			all.Wait()
			for _, err := range errs {
				if err != nil {
					return err
				}
			}
			return nil
		},
		Bare: func(_ *event.Mapping, n int, heard func()) error {
			done := make(chan struct{})
			var mu sync.Mutex
			err := h.give(func([]byte) error {
				mu.Lock()
				defer mu.Unlock()
				heard()
				if n--; n == 0 {
					close(done)
				}
				return nil
			})
			<-done
			return err
		},
	})
	if err := queues.Close(); err != nil {
		b.Error(err)
	}
	if err := st.Close(); err != nil {
		b.Error(err)
	}
}
