package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/postgres"
)

func TestAServerThatStandsByAnswersAndGivesItsListenerBack(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 2 {
		stop := answerStandingBy(l)
		for range 2 {
			answer, err := http.Get("http://" + l.Addr().String() + "/healthz")
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			if err := errors.Join(err, answer.Body.Close()); err != nil {
				t.Fatal(err)
			}
			if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" || !strings.Contains(string(body), `"standby"`) {
				t.Errorf("%s %s", answer.Status, body)
			}
		}
		stop()
		stop()
		// The listener is whole: another server takes it.
		h := &http.Server{Handler: http.NotFoundHandler()}
		done := make(chan error, 1)
		lent := &lentListener{l}
		go func() { done <- h.Serve(lent) }()
		answer, err := http.Get("http://" + l.Addr().String() + "/")
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusNotFound {
			t.Errorf("%s of the one that took over", answer.Status)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		<-done
		lent.restore()
	}
}

func TestWhoStandsByWaitsOnlyForAnother(t *testing.T) {
	s := &Server{log: slog.New(slog.DiscardHandler)}
	inUse, other := error(&store.InUseError{Path: "x"}), errors.New("broken")
	if err := s.standBy(t.Context(), func() error { return inUse }); !errors.Is(err, inUse) {
		t.Errorf("not standing by: %v", err)
	}
	s.cfg.Standby = true
	if err := s.standBy(t.Context(), func() error { return other }); !errors.Is(err, other) {
		t.Errorf("what was never another's: %v", err)
	}
	answers := []error{&postgres.InUseError{}, other, inUse, nil}
	if err := s.standBy(t.Context(), func() error { a := answers[0]; answers = answers[1:]; return a }); err != nil || len(answers) > 0 {
		t.Errorf("%v, left %v", err, answers)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.standBy(ended, func() error { return inUse }); !errors.Is(err, context.Canceled) {
		t.Errorf("told to stop: %v", err)
	}
}
