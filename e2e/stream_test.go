package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// streamer deploys testdata/streamer, a function that streams its responses.
func (s *server) streamer(name string, edit ...func(*function)) {
	s.t.Helper()
	code, err := os.ReadFile(filepath.Join("testdata", "streamer", "index.js"))
	if err != nil {
		s.t.Fatal(err)
	}
	f := function{name: name, runtime: "nodejs20.x", files: map[string]string{"index.js": string(code)}, timeout: 60}
	for _, e := range edit {
		e(&f)
	}
	s.deploy(f)
}

// tag sets a tag of the function, for which it may be waiting.
func (s *server) tag(name, key string) {
	s.t.Helper()
	if _, err := s.client().TagResource(context.Background(), &lambda.TagResourceInput{
		Resource: ptr("arn:aws:lambda:us-east-1:000000000000:function:" + name), Tags: map[string]string{key: "set"},
	}); err != nil {
		s.t.Error(err)
	}
}

// events is what a streamed invocation gave.
type events struct {
	text     string
	complete *types.InvokeWithResponseStreamCompleteEvent
}

// stream invokes the function and calls each, if it is there, with all that
// has come, whenever a piece has.
func (s *server) stream(name, payload string, each func(string)) events {
	s.t.Helper()
	out, err := s.client().InvokeWithResponseStream(context.Background(), &lambda.InvokeWithResponseStreamInput{
		FunctionName: &name, Payload: []byte(payload), LogType: types.LogTypeTail,
	})
	if err != nil {
		s.t.Fatalf("%s: %v", payload, err)
	}
	var got events
	var text strings.Builder
	es := out.GetStream()
	for event := range es.Events() {
		switch e := event.(type) {
		case *types.InvokeWithResponseStreamResponseEventMemberPayloadChunk:
			text.Write(e.Value.Payload)
			if each != nil {
				each(text.String())
			}
		case *types.InvokeWithResponseStreamResponseEventMemberInvokeComplete:
			got.complete = &e.Value
		}
	}
	if err := errors.Join(es.Err(), es.Close()); err != nil {
		s.t.Fatalf("%s: %v", payload, err)
	}
	if got.text = text.String(); got.complete == nil {
		s.t.Fatalf("%s: no last event", payload)
	}
	return got
}

func TestFunctionsStreamTheirResponses(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.streamer("streamer")

	t.Run("the first byte comes while the function runs", func(t *testing.T) {
		got := s.stream("streamer", `{"mode":"gate","tag":"go"}`, func(text string) {
			if text == "first" {
				s.tag("streamer", "go")
			}
		})
		if got.text != "firstsecond" || got.complete.ErrorCode != nil || got.complete.LogResult == nil {
			t.Errorf("%q %+v", got.text, got.complete)
		}
	})
	t.Run("errors", func(t *testing.T) {
		for mode, want := range map[string]struct{ text, details string }{
			"early": {"", "too early"}, "late": {"part", "too late"}, "exit": {"part", "Runtime exited with error: exit status 3"},
		} {
			got := s.stream("streamer", `{"mode":"`+mode+`"}`, nil)
			if c := got.complete; got.text != want.text || c.ErrorCode == nil || *c.ErrorCode != "Unhandled" || !strings.Contains(*c.ErrorDetails, want.details) {
				t.Errorf("%s: %q %+v", mode, got.text, c)
			}
		}
	})
	t.Run("more than an answer that is not streamed may have", func(t *testing.T) {
		if got := s.stream("streamer", `{"mode":"much","mib":12}`, nil); got.text != strings.Repeat("x", 12<<20) || got.complete.ErrorCode != nil {
			t.Errorf("%d bytes, %+v", len(got.text), got.complete)
		}
		a, err := s.invoke("streamer", `{"mode":"much","mib":12}`)
		if err != nil || a.functionError == "" || !strings.Contains(a.payload, "Function.ResponseSizeTooLarge") {
			t.Errorf("by Invoke: %+v %v", a.payload, err)
		}
	})
	t.Run("a plain Invoke gets it whole", func(t *testing.T) {
		if a := s.mustInvoke("streamer", `{"mode":"much","mib":1}`); a.payload != strings.Repeat("x", 1<<20) {
			t.Errorf("%d bytes", len(a.payload))
		}
	})
	t.Run("a client that leaves does not end the function", func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		out, err := s.client().InvokeWithResponseStream(ctx, &lambda.InvokeWithResponseStreamInput{
			FunctionName: ptr("streamer"), Payload: []byte(`{"mode":"gate","tag":"left"}`),
		})
		if err != nil {
			t.Fatal(err)
		}
		<-out.GetStream().Events()
		leave()
		s.tag("streamer", "left")
		// The same container serves on: the function came to its end.
		if got := s.stream("streamer", `{"mode":"gate","tag":"left"}`, nil); got.text != "firstsecond" {
			t.Errorf("%q", got.text)
		}
	})
	t.Run("timeout", func(t *testing.T) {
		s.streamer("hasty", func(f *function) { f.timeout = 1 })
		got := s.stream("hasty", `{"mode":"hang"}`, nil)
		if c := got.complete; got.text != "part" || c.ErrorCode == nil || !strings.Contains(*c.ErrorDetails, "Task timed out after 1.00 seconds") {
			t.Errorf("%q %+v", got.text, c)
		}
	})
	t.Run("a custom runtime", func(t *testing.T) {
		s.deploy(function{name: "gostream", runtime: "provided.al2023", handler: "bootstrap", zip: goZip(t, "gostream")})
		got := s.stream("gostream", `{}`, nil)
		want := `{"statusCode":202,"headers":{"Content-Type":"text/plain"},"cookies":["c=d"]}` + strings.Repeat("\x00", 8) + "from Go"
		if got.text != want || got.complete.ErrorCode != nil {
			t.Errorf("%q %+v", got.text, got.complete)
		}
		if got := s.stream("gostream", `{"queryStringParameters":{"fail":"yes"}}`, nil); got.complete.ErrorCode == nil || !strings.Contains(*got.complete.ErrorDetails, "asked to") {
			t.Errorf("%q %+v", got.text, got.complete)
		}
	})
	t.Run("boto3", func(t *testing.T) {
		if out := s.run(t.TempDir(), "python3", "-c", `
import boto3
c = boto3.client("lambda")
r = c.invoke_with_response_stream(FunctionName="streamer", Payload=b'{"mode":"gate","tag":"boto"}', LogType="Tail")
assert r["ExecutedVersion"] == "$LATEST" and r["StatusCode"] == 200, r
got = b""
for event in r["EventStream"]:
    if "PayloadChunk" in event:
        got += event["PayloadChunk"]["Payload"]
        if got == b"first": c.tag_resource(Resource="arn:aws:lambda:us-east-1:000000000000:function:streamer", Tags={"boto": "set"})
    else: last = event["InvokeComplete"]
assert got == b"firstsecond" and last["LogResult"] and "ErrorCode" not in last, (got, last)
print("done")
`); strings.TrimSpace(out) != "done" {
			t.Error(out)
		}
	})
	t.Run("the JavaScript SDK", func(t *testing.T) {
		dir := javascript(t)
		if out := s.run(dir, "node", "--input-type=module", "-e", `
import { LambdaClient, InvokeWithResponseStreamCommand, TagResourceCommand } from '@aws-sdk/client-lambda'
const client = new LambdaClient({})
const out = await client.send(new InvokeWithResponseStreamCommand({ FunctionName: 'streamer', Payload: '{"mode":"gate","tag":"js"}' }))
let got = '', last
for await (const event of out.EventStream) {
  if (event.PayloadChunk) {
    got += Buffer.from(event.PayloadChunk.Payload).toString()
    if (got === 'first') await client.send(new TagResourceCommand({ Resource: 'arn:aws:lambda:us-east-1:000000000000:function:streamer', Tags: { js: 'set' } }))
  } else last = event.InvokeComplete
}
const late = await client.send(new InvokeWithResponseStreamCommand({ FunctionName: 'streamer', Payload: '{"mode":"late"}' }))
for await (const event of late.EventStream) if (event.InvokeComplete) last.late = event.InvokeComplete.ErrorCode
console.log(got, out.ExecutedVersion, JSON.stringify(last))
`); strings.TrimSpace(out) != `firstsecond $LATEST {"late":"Unhandled"}` {
			t.Error(out)
		}
	})
}
