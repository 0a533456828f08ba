package gateway

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
)

func streaming(u *registry.URL) { u.InvokeMode = "RESPONSE_STREAM" }

// streams is a function that streams the pieces; wait is called between them.
func streams(contentType string, wait func(), pieces ...string) func(*hearth.Invocation) (*hearth.Result, error) {
	return func(inv *hearth.Invocation) (*hearth.Result, error) {
		err := inv.Stream.Start(contentType, time.Now().Add(time.Minute))
		for i, p := range pieces {
			if err != nil {
				return nil, &hearth.Error{Kind: hearth.Canceled, Err: err}
			}
			if i > 0 && wait != nil {
				wait()
			}
			_, err = inv.Stream.Write([]byte(p))
		}
		if err != nil {
			return nil, &hearth.Error{Kind: hearth.Canceled, Err: err}
		}
		return &hearth.Result{}, nil
	}
}

const end = "\x00\x00\x00\x00\x00\x00\x00\x00"

func TestAStreamReachesTheClientWhileTheFunctionRuns(t *testing.T) {
	w := newWorld(t, streaming)
	seen := make(chan struct{})
	w.answer = streams(integrationType, func() { <-seen },
		`{"statusCode":201,"headers":{"Content-Type":"text/event-stream"},"cookies":["a=b"]}`+end+"first\n", "second\n")
	resp, err := http.DefaultTransport.RoundTrip(w.request("GET", "/", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); line != "first\n" || err != nil {
		t.Fatalf("%q %v", line, err)
	}
	close(seen)
	rest, err := io.ReadAll(lines)
	if err != nil || string(rest) != "second\n" {
		t.Errorf("%q %v", rest, err)
	}
	if resp.StatusCode != 201 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Set-Cookie") != "a=b" || resp.ContentLength != -1 {
		t.Errorf("%+v", resp)
	}
}

func TestAStreamsPreludeMayComeInAnyPieces(t *testing.T) {
	w := newWorld(t, streaming)
	whole := `{"statusCode":202}` + end + "body"
	w.answer = streams(integrationType, nil, strings.Split(whole, "")...)
	if g := w.get("/"); g.status != 202 || g.body != "body" || g.header.Get("Content-Type") != "application/json" || g.err != nil {
		t.Errorf("%+v", g)
	}
	w.answer = func(*hearth.Invocation) (*hearth.Result, error) {
		return &hearth.Result{ContentType: integrationType, Payload: []byte(whole)}, nil
	}
	if g := w.get("/"); g.status != 202 || g.body != "body" {
		t.Errorf("at once: %+v", g)
	}
	w.answer = streams(integrationType, nil, `{"statusCode":204}`+end, "no body")
	if g := w.get("/"); g.status != 204 || g.body != "" {
		t.Errorf("%+v", g)
	}
	for what, pieces := range map[string][]string{
		"no end": {`{"statusCode":200}`}, "no JSON": {"x" + end}, "no object": {"[]" + end}, "no status": {`{"statusCode":"x"}` + end},
		"too long": {`{"a":"`, strings.Repeat("x", maxPrelude)}, "empty": {},
	} {
		w.answer = streams(integrationType, nil, pieces...)
		if g := w.get("/"); g.status != 502 || g.body != "Internal Server Error" {
			t.Errorf("%s: %+v", what, g)
		}
	}
}

func TestAStreamWithoutPreludeIsABody(t *testing.T) {
	w := newWorld(t, streaming)
	w.answer = streams("text/plain", nil, "a", "b")
	if g := w.get("/"); g.status != 200 || g.body != "ab" || g.header.Get("Content-Type") != "text/plain" {
		t.Errorf("%+v", g)
	}
	w.answer = streams("text/plain", nil)
	if g := w.get("/"); g.status != 200 || g.body != "" {
		t.Errorf("nothing: %+v", g)
	}
	// What was not streamed is not looked into.
	w.answer = returns(`{"statusCode":404}`)
	if g := w.get("/"); g.status != 200 || g.body != `{"statusCode":404}` || g.header.Get("Content-Type") != "application/json" {
		t.Errorf("not streamed: %+v", g)
	}
}

func TestAStreamThatFailsOnItsWayBreaksOff(t *testing.T) {
	w := newWorld(t, streaming)
	for what, after := range map[string]func() (*hearth.Result, error){
		"the function": func() (*hearth.Result, error) { return &hearth.Result{FunctionError: "Unhandled"}, nil },
		"the server":   func() (*hearth.Result, error) { return nil, errors.New("on fire") },
	} {
		w.answer = func(inv *hearth.Invocation) (*hearth.Result, error) {
			if _, err := streams("text/plain", nil, "part")(inv); err != nil {
				return nil, err
			}
			return after()
		}
		if g := w.get("/"); g.status != 200 || g.body != "part" || !errors.Is(g.err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %+v", what, g)
		}
		<-w.done
	}
}

func TestABufferedURLUnderstandsAStreamedPrelude(t *testing.T) {
	w := newWorld(t, nil)
	w.answer = func(*hearth.Invocation) (*hearth.Result, error) {
		return &hearth.Result{ContentType: integrationType, Payload: []byte(`{"statusCode":203,"headers":{"a":"b"}}` + end + "body")}, nil
	}
	if g := w.get("/"); g.status != 203 || g.body != "body" || g.header.Get("A") != "b" || g.length != 4 {
		t.Errorf("%+v", g)
	}
}
