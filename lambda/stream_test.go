package lambda

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
	hearth "github.com/hearth-faas/hearth"
)

// streamed is what the SDK's client saw of a streamed response.
type streamed struct {
	out      *sdk.InvokeWithResponseStreamOutput
	pieces   []string
	complete *types.InvokeWithResponseStreamCompleteEvent
	err      error // of the stream
}

func (s *streamed) take(event types.InvokeWithResponseStreamResponseEvent) {
	switch e := event.(type) {
	case *types.InvokeWithResponseStreamResponseEventMemberPayloadChunk:
		s.pieces = append(s.pieces, string(e.Value.Payload))
	case *types.InvokeWithResponseStreamResponseEventMemberInvokeComplete:
		s.complete = &e.Value
	}
}

func (w *world) stream(edit func(*sdk.InvokeWithResponseStreamInput)) (streamed, error) {
	in := &sdk.InvokeWithResponseStreamInput{FunctionName: new("hello"), Payload: []byte(`{}`)}
	if edit != nil {
		edit(in)
	}
	var s streamed
	var err error
	if s.out, err = w.lambda.InvokeWithResponseStream(w.t.Context(), in); err != nil {
		return s, err
	}
	events := s.out.GetStream()
	for event := range events.Events() {
		s.take(event)
	}
	s.err = errors.Join(events.Err(), events.Close())
	return s, nil
}

func (w *world) streamOK(edit func(*sdk.InvokeWithResponseStreamInput)) streamed {
	w.t.Helper()
	s, err := w.stream(edit)
	if err == nil {
		err = s.err
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func TestAStreamedPieceArrivesWhileTheFunctionRuns(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	seen := make(chan struct{})
	w.invoker.answer = func(inv *hearth.Invocation) (*hearth.Result, error) {
		if err := inv.Stream.Start("text/plain", time.Now().Add(time.Minute)); err != nil {
			return nil, err
		}
		if _, err := inv.Stream.Write([]byte("first")); err != nil {
			return nil, err
		}
		<-seen // the client has the first piece
		if _, err := inv.Stream.Write([]byte("second")); err != nil {
			return nil, err
		}
		return &hearth.Result{Version: "$LATEST", LogTail: []byte("END")}, nil
	}
	out, err := w.lambda.InvokeWithResponseStream(t.Context(), &sdk.InvokeWithResponseStreamInput{FunctionName: new("hello"), LogType: types.LogTypeTail})
	if err != nil {
		t.Fatal(err)
	}
	events := out.GetStream()
	var s streamed
	for event := range events.Events() {
		if s.take(event); len(s.pieces) == 1 && s.complete == nil {
			close(seen)
		}
	}
	if err := errors.Join(events.Err(), events.Close()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.pieces, "|"); got != "first|second" || *out.ExecutedVersion != "$LATEST" || out.StatusCode != 200 ||
		*out.ResponseStreamContentType != "application/vnd.amazon.eventstream" {
		t.Errorf("%q %+v", got, out)
	}
	if c := s.complete; c == nil || c.ErrorCode != nil || *c.LogResult != base64.StdEncoding.EncodeToString([]byte("END")) {
		t.Errorf("complete %+v", c)
	}
	if inv := w.invoker.last(); !inv.Tail || len(w.done) != 1 || w.done[0] != inv {
		t.Errorf("done %v", w.done)
	}
}

func TestAResponseThatWasNotStreamedComesAsAStream(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	if s := w.streamOK(nil); strings.Join(s.pieces, "|") != "{}" || s.complete == nil {
		t.Errorf("%+v", s)
	}
	large := `"` + strings.Repeat("x", hearth.MaxPayload-2) + `"`
	s := w.streamOK(func(in *sdk.InvokeWithResponseStreamInput) { in.Payload = []byte(large) })
	if strings.Join(s.pieces, "") != large || len(s.pieces) != (len(large)+maxChunk-1)/maxChunk {
		t.Errorf("%d pieces", len(s.pieces))
	}
}

func TestAStreamTellsHowTheFunctionFailed(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	failed := &hearth.Result{Version: "$LATEST", FunctionError: "Unhandled", Payload: []byte(`{"errorType":"Error","errorMessage":"\"no\""}`)}
	for name, begin := range map[string]bool{"before the first byte": false, "after it": true} {
		w.invoker.answer = func(inv *hearth.Invocation) (*hearth.Result, error) {
			if begin {
				if err := inv.Stream.Start("", time.Time{}); err != nil {
					return nil, err
				}
				if _, err := inv.Stream.Write([]byte("part")); err != nil {
					return nil, err
				}
			}
			return failed, nil
		}
		s := w.streamOK(nil)
		if c := s.complete; c == nil || *c.ErrorCode != "Unhandled" || *c.ErrorDetails != string(failed.Payload) || c.LogResult != nil {
			t.Errorf("%s: %+v", name, c)
		}
		if begin != (strings.Join(s.pieces, "") == "part") {
			t.Errorf("%s: %q", name, s.pieces)
		}
	}
}

func TestAStreamThatBreaksOffByNoFaultOfTheFunctionEndsWithAnException(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	w.invoker.answer = func(inv *hearth.Invocation) (*hearth.Result, error) {
		if err := inv.Stream.Start("", time.Time{}); err != nil {
			return nil, err
		}
		return nil, errors.New("the disk is on fire")
	}
	s, err := w.stream(nil)
	if err != nil {
		t.Fatal(err)
	}
	var e smithy.APIError
	if !errors.As(s.err, &e) || e.ErrorCode() != "ServiceException" || strings.Contains(e.ErrorMessage(), "fire") || s.complete != nil {
		t.Errorf("%v %+v", s.err, s.complete)
	}
}

func TestRefusalsOfAStreamAreOrdinaryErrors(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	refused := func(edit func(*sdk.InvokeWithResponseStreamInput)) error {
		_, err := w.stream(edit)
		return err
	}
	wantError(t, refused(func(in *sdk.InvokeWithResponseStreamInput) { in.FunctionName = new("nobody") }), "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:nobody")
	wantError(t, refused(func(in *sdk.InvokeWithResponseStreamInput) { in.InvocationType = "Event" }), "ValidationException", "Value 'Event' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [")
	wantError(t, refused(func(in *sdk.InvokeWithResponseStreamInput) { in.Payload = []byte("{") }), "InvalidRequestContentException", "Could not parse request body into json: ")
	wantError(t, refused(func(in *sdk.InvokeWithResponseStreamInput) {
		in.Payload = bytes.Repeat([]byte("1"), hearth.MaxPayload+1)
	}), "RequestTooLargeException", "Request must be smaller than 6291556 bytes")
	w.invoker.answer = func(*hearth.Invocation) (*hearth.Result, error) {
		return nil, &hearth.Error{Kind: hearth.TooManyRequests, Message: "Rate Exceeded.", Reason: hearth.ReasonConcurrency}
	}
	wantError(t, refused(nil), "TooManyRequestsException", "Rate Exceeded.")
	w.invoker.answer = nil
	s := w.streamOK(func(in *sdk.InvokeWithResponseStreamInput) {
		in.InvocationType = types.ResponseStreamingInvocationTypeDryRun
	})
	if s.out.StatusCode != 204 || len(s.pieces) != 0 || s.complete != nil || !w.invoker.last().DryRun {
		t.Errorf("dry run: %+v", s)
	}
	s = w.streamOK(func(in *sdk.InvokeWithResponseStreamInput) { in.Qualifier = new("$LATEST") })
	if inv := w.invoker.last(); inv.Qualifier != "$LATEST" || *s.out.ExecutedVersion != "$LATEST" {
		t.Errorf("%+v", inv)
	}
}

// A client that takes the head of the answer and then nothing holds up the
// function for the stall that is allowed, or up to the function's deadline,
// whichever comes first, and not for ever.
func TestAClientThatStopsReadingIsLeft(t *testing.T) {
	for name, limit := range map[string]struct{ stall, deadline time.Duration }{
		"by the stall": {100 * time.Millisecond, time.Hour}, "by the deadline": {time.Hour, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.StreamStall = limit.stall })
			w.create("hello")
			refused := make(chan error, 1)
			w.invoker.answer = func(inv *hearth.Invocation) (*hearth.Result, error) {
				err := inv.Stream.Start("", time.Now().Add(limit.deadline))
				for piece := make([]byte, 32<<10); err == nil; {
					_, err = inv.Stream.Write(piece)
				}
				refused <- err
				return nil, &hearth.Error{Kind: hearth.Canceled, Message: "the caller has gone", Err: err}
			}
			conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			req, err := http.NewRequest("POST", w.url+"/2021-11-15/functions/hello/response-streaming-invocations", nil)
			if err != nil {
				t.Fatal(err)
			}
			keys, err := w.aws.Credentials.Retrieve(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
			if err := v4.NewSigner().SignHTTP(t.Context(), keys, req, empty, "lambda", "us-east-1", testNow); err != nil {
				t.Fatal(err)
			}
			if err := req.Write(conn); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-refused:
				if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "timeout") {
					t.Error(err)
				}
			case <-time.After(2 * time.Minute):
				t.Fatal("the function is held up")
			}
		})
	}
}
