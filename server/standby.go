package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/postgres"
)

// standbyPause is between two attempts of a server that stands by to take over.
const standbyPause = 250 * time.Millisecond

// standBy opens what another server may hold, the data folder or the database.
// With Config.Standby it waits until that one has ended; what fails meanwhile,
// such as the database's own restart, is waited for too.
func (s *Server) standBy(ctx context.Context, open func() error) error {
	waiting := false
	for {
		err := open()
		held := isA[*store.InUseError](err) || isA[*postgres.InUseError](err)
		switch {
		case err == nil && waiting:
			s.log.Info("taking over")
			return nil
		case err == nil, !s.cfg.Standby, !held && !waiting, isA[*postgres.NewerError](err):
			return err
		case !waiting:
			s.log.Info("standing by: this server takes over once the other has ended", "because", err)
		case !held:
			s.log.Warn("standing by, and it can't be told whether the other has ended", "error", err)
		}
		waiting = true
		pause := standbyPause
		if !held {
			pause *= 4
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func isA[E error](err error) bool { _, ok := errors.AsType[E](err); return ok }

// answerStandingBy answers whoever asks a server that stands by, which has
// its address already, until stop is called: so that a load balancer knows.
func answerStandingBy(l net.Listener) (stop func()) {
	h := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"status":"standby","message":"This server stands by: another one works on its records."}`+"\n") // who has gone needs no answer
	})}
	lent := &lentListener{Listener: l}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = h.Serve(lent) // it ends when the listener is taken back
	}()
	return sync.OnceFunc(func() {
		soon, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if h.Shutdown(soon) != nil {
			_ = h.Close() // an answer that takes longer is cut off
		}
		<-done
		lent.restore()
	})
}

// lentListener is a listener that can be taken back.
type lentListener struct{ net.Listener }

type deadlined interface{ SetDeadline(time.Time) error }

// Close ends the Accept that waits, and all that follow, and closes nothing.
func (l *lentListener) Close() error {
	return l.Listener.(deadlined).SetDeadline(time.Unix(1, 0))
}

// restore lets the listener accept again.
func (l *lentListener) restore() { _ = l.Listener.(deadlined).SetDeadline(time.Time{}) }
