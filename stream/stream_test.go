package stream

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestEachPieceIsSentAtOnceAndTheConnectionServesOn(t *testing.T) {
	const stall = 500 * time.Millisecond // in which a busy machine gets from one line to the next
	first := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := New(w, stall)
		if _, err := s.Write([]byte("a")); err != nil {
			t.Error(err)
		}
		if r.URL.Path == "/wait" {
			<-first
		}
		if _, err := s.Write([]byte("b")); err != nil {
			t.Error(err)
		}
		if err := s.End(); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	resp, err := server.Client().Get(server.URL + "/wait")
	if err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if _, err := io.ReadFull(resp.Body, one); err != nil || string(one) != "a" {
		t.Fatalf("%q %v", one, err)
	}
	time.Sleep(stall + stall/5) // longer than a client may stall: nothing is being written
	close(first)
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "b" {
		t.Errorf("%q %v", rest, err)
	}
	resp.Body.Close()
	time.Sleep(stall + stall/5) // no deadline is left on the connection
	resp, err = server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "ab" {
		t.Errorf("%q %v", body, err)
	}
}

func TestAWriteEndsWithTheStallOrTheDeadline(t *testing.T) {
	for name, writer := range map[string]func(http.ResponseWriter) *Writer{
		"stall": func(w http.ResponseWriter) *Writer { return New(w, 50*time.Millisecond) },
		"deadline": func(w http.ResponseWriter) *Writer {
			s := New(w, 0)
			s.Until(time.Now().Add(50 * time.Millisecond))
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			failed := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				defer close(failed)
				s, piece, err := writer(w), make([]byte, 64<<10), error(nil)
				for err == nil {
					_, err = s.Write(piece)
				}
			}))
			defer server.Close()
			resp, err := http.Get(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close() // nothing of it is read
			select {
			case <-failed:
			case <-time.After(2 * time.Minute):
				t.Error("it writes on")
			}
		})
	}
}
