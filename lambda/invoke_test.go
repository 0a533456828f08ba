package lambda

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
)

func TestInvokeHandsOverTheEventAndReturnsTheAnswer(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	ctx := t.Context()
	out, err := w.lambda.Invoke(ctx, &sdk.InvokeInput{
		FunctionName: new("arn:aws:lambda:us-east-1:000000000000:function:hello"), Qualifier: new("$LATEST"),
		Payload: []byte(`{"a":1}`), LogType: types.LogTypeTail,
		ClientContext: new(base64.StdEncoding.EncodeToString([]byte(`{"custom":{}}`))),
	})
	if err != nil {
		t.Fatal(err)
	}
	inv := w.invoker.last()
	if string(out.Payload) != `{"a":1}` || out.StatusCode != 200 || *out.ExecutedVersion != "$LATEST" || out.FunctionError != nil {
		t.Errorf("out %+v", out)
	}
	if tail, err := base64.StdEncoding.DecodeString(*out.LogResult); err != nil || string(tail) != "START RequestId: "+inv.RequestID {
		t.Errorf("log %q %v", tail, err)
	}
	if inv.Name != "hello" || inv.Qualifier != "$LATEST" || inv.InvokedARN != "arn:aws:lambda:us-east-1:000000000000:function:hello:$LATEST" ||
		inv.ClientContext != `{"custom":{}}` || inv.Caller.ARN != "arn:aws:iam::000000000000:root" || inv.Account != testAccount || !inv.Tail ||
		len(inv.RequestID) != 36 {
		t.Errorf("invocation %+v", inv)
	}
	if len(w.done) != 1 || w.done[0] != inv || inv.Timeline.Began != testNow {
		t.Errorf("done %v", w.done)
	}

	if _, err = w.lambda.Invoke(ctx, &sdk.InvokeInput{FunctionName: new("hello")}); err != nil || string(w.invoker.last().Payload) != "{}" {
		t.Errorf("no payload: %v", err)
	}
	event, err := w.lambda.Invoke(ctx, &sdk.InvokeInput{FunctionName: new("hello"), InvocationType: types.InvocationTypeEvent, DurableExecutionName: new("order-1")})
	if got := w.invoker.last(); err != nil || event.StatusCode != 202 || len(event.Payload) != 0 || !got.Async || got.DurableName != "order-1" {
		t.Errorf("event %+v %v", event, err)
	}
	w.invoker.answer = func(inv *hearth.Invocation) (*hearth.Result, error) {
		inv.RequestID = "01a22270-0223-7442-86c2-da673e2cbee3" // as the queue does
		return nil, nil
	}
	event, err = w.lambda.Invoke(ctx, &sdk.InvokeInput{FunctionName: new("hello"), InvocationType: types.InvocationTypeEvent})
	if id, ok := awsmiddleware.GetRequestIDMetadata(event.ResultMetadata); err != nil || !ok || id != "01a22270-0223-7442-86c2-da673e2cbee3" {
		t.Errorf("an event that is stored under an id of its own was answered with %q, %v", id, err)
	}
	//lint:ignore SA1019 it is still in the API
	older, err := w.lambda.InvokeAsync(ctx, &sdk.InvokeAsyncInput{FunctionName: new("hello"), InvokeArgs: strings.NewReader("{}")})
	if id, ok := awsmiddleware.GetRequestIDMetadata(older.ResultMetadata); err != nil || !ok || id != "01a22270-0223-7442-86c2-da673e2cbee3" {
		t.Errorf("by InvokeAsync it was answered with %q, %v", id, err)
	}
	w.invoker.answer = nil
	dry, err := w.lambda.Invoke(ctx, &sdk.InvokeInput{FunctionName: new("hello"), InvocationType: types.InvocationTypeDryRun})
	if err != nil || dry.StatusCode != 204 || len(dry.Payload) != 0 {
		t.Errorf("dry run %+v %v", dry, err)
	}
}

func TestInvokeRefusals(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	invoke := func(edit func(*sdk.InvokeInput)) error {
		in := &sdk.InvokeInput{FunctionName: new("hello")}
		edit(in)
		_, err := w.lambda.Invoke(t.Context(), in)
		return err
	}
	wantError(t, invoke(func(in *sdk.InvokeInput) { in.FunctionName = new("nobody") }), "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:nobody")
	wantError(t, invoke(func(in *sdk.InvokeInput) { in.FunctionName = new("a b") }), "ValidationException", "1 validation error detected: Value 'a b' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: ")
	wantError(t, invoke(func(in *sdk.InvokeInput) { in.Qualifier = new("a b") }), "ValidationException", "Value 'a b' at 'qualifier' failed to satisfy constraint")
	wantError(t, invoke(func(in *sdk.InvokeInput) { in.InvocationType = "Later" }), "ValidationException", "Value 'Later' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [")
	wantError(t, invoke(func(in *sdk.InvokeInput) { in.LogType = "Head" }), "ValidationException", "at 'logType'")
	wantError(t, invoke(func(in *sdk.InvokeInput) { in.TenantId = new("bad tenant!") }), "ValidationException", "at 'tenantId'")
	wantError(t, invoke(func(in *sdk.InvokeInput) { in.DurableExecutionName = new("has space") }), "ValidationException", "at 'durableExecutionName'")
	wantError(t, invoke(func(in *sdk.InvokeInput) { in.Payload = []byte(`{"a":`) }), "InvalidRequestContentException", "Could not parse request body into json: ")
	wantError(t, invoke(func(in *sdk.InvokeInput) { in.ClientContext = new("***") }), "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object.")
	wantError(t, invoke(func(in *sdk.InvokeInput) { in.ClientContext = new(strings.Repeat("a", 3584)) }), "InvalidRequestContentException", "3583")
	wantError(t, invoke(func(in *sdk.InvokeInput) { in.FunctionName = new("hello:1"); in.Qualifier = new("2") }), "InvalidParameterValueException", "The derived qualifier")

	w.invoker.answer = func(*hearth.Invocation) (*hearth.Result, error) {
		return nil, &hearth.Error{Kind: hearth.TooManyRequests, Message: "Rate Exceeded.", Reason: hearth.ReasonConcurrency}
	}
	err := invoke(func(*sdk.InvokeInput) {})
	wantError(t, err, "TooManyRequestsException", "Rate Exceeded.")
	if e, ok := errors.AsType[*types.TooManyRequestsException](err); !ok || e.Reason != types.ThrottleReasonConcurrentInvocationLimitExceeded || *e.Type != "User" {
		t.Errorf("got %#v", err)
	}
	w.invoker.answer = func(*hearth.Invocation) (*hearth.Result, error) {
		return nil, errors.New("disk on fire at /secret/path")
	}
	wantError(t, invoke(func(*sdk.InvokeInput) {}), "ServiceException", "An internal error occurred.")
	w.invoker.answer = func(*hearth.Invocation) (*hearth.Result, error) {
		return &hearth.Result{Payload: []byte(`{"errorType":"E"}`), FunctionError: "Unhandled", Version: "1"}, nil
	}
	out, err := w.lambda.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: new("hello")})
	if err != nil || *out.FunctionError != "Unhandled" || string(out.Payload) != `{"errorType":"E"}` {
		t.Errorf("function error %+v %v", out, err)
	}
}

// TestInvokeByHandReadsWhatTheSchemaBinds holds the warm path against the
// general one.
func TestInvokeByHandReadsWhatTheSchemaBinds(t *testing.T) {
	c := clock.NewFake(testNow)
	h := New(Config{Region: "us-east-1", Clock: c, Credentials: testKeys{}, Registry: newTestRegistry(t, c)})
	for _, label := range []string{"hello", "hello%3A1", "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Ahello%3Alive", "function:hello"} {
		for _, query := range []string{"", "?Qualifier=$LATEST", "?x=1&Qualifier=%24LATEST"} {
			r, rt := request(t, "POST /2015-03-31/functions/"+label+"/invocations"+query, "")
			r.Header.Set(headerLogType, "Tail")
			r.Header.Set(headerTenantID, "t-1")
			bound, err := bind(rt, r, []byte(`1`))
			if err != nil {
				t.Fatal(err)
			}
			in := bound.(*sdk.InvokeInput)
			c := &call{http: r, route: rt, began: testNow}
			c.claim.Identity.Account = testAccount
			want, _ := parseName(*in.FunctionName)
			want, wantErr := h.resolve(want, str(in.Qualifier), c.claim.Identity)
			inv := &hearth.Invocation{}
			if err := h.readInvocation(inv, c, in.Payload); (err == nil) != (wantErr == nil) {
				t.Errorf("%s%s: %v, want %v", label, query, err, wantErr)
			} else if err == nil && (inv.Name != want.name || inv.Qualifier != want.qualifier || !inv.Tail || inv.TenantID != *in.TenantId) {
				t.Errorf("%s%s is read as %+v", label, query, inv)
			}
		}
	}
}

func TestACallerMayInsistOnCodeAndHearsWhichRan(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	sum := sha256Hex(anyZip)
	for required, want := range map[string]string{"newest": hearth.NewestCode, sum: sum, codeSHA256(sum): sum} {
		out, err := w.lambda.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: new("hello")}, func(o *sdk.Options) {
			o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue("X-Hearth-Require-Code", required))
		})
		if err != nil || w.invoker.last().RequireCode != want {
			t.Errorf("%s is read as %q, %v", required, w.invoker.last().RequireCode, err)
			continue
		}
		if raw, ok := awsmiddleware.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response); !ok || raw.Header.Get("X-Hearth-Code-Sha256") != sum {
			t.Errorf("the code that ran is told as %v", raw.Header)
		}
	}
	for _, required := range []string{"latest", sum[1:], "AAAA"} {
		_, err := w.lambda.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: new("hello")}, func(o *sdk.Options) {
			o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue("X-Hearth-Require-Code", required))
		})
		if want := fmt.Sprintf("X-Hearth-Require-Code: %q is neither newest nor a CodeSha256", required); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestManyCallersAtOnceNeverMix is for the race detector, and for the buffers
// and keys that requests share.
func TestManyCallersAtOnceNeverMix(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	var callers sync.WaitGroup
	for caller := range 16 {
		callers.Go(func() {
			for i := range 20 {
				event := fmt.Sprintf(`{"caller":%d,"i":%d,"pad":"%s"}`, caller, i, strings.Repeat("x", i*100))
				out, err := w.lambda.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: new("hello"), Payload: []byte(event)})
				if err != nil || string(out.Payload) != event {
					t.Errorf("%s came back as %+v (%v)", event, out, err)
					return
				}
			}
		})
	}
	callers.Wait()
}

func BenchmarkInvoke1KB(b *testing.B) {
	c := clock.NewFake(testNow)
	h := New(Config{Registry: newTestRegistry(b, c), Invoker: echo{}, Credentials: testKeys{}, Clock: c, Region: "us-east-1"})
	body := []byte(`"` + strings.Repeat("x", 1022) + `"`)
	r := httptest.NewRequest("POST", "http://127.0.0.1:9070/2015-03-31/functions/hello/invocations", bytes.NewReader(body))
	creds := aws.Credentials{AccessKeyID: "AKIDROOT", SecretAccessKey: "secret"}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, sha256Hex(body), "lambda", "us-east-1", testNow); err != nil {
		b.Fatal(err)
	}
	w := &discard{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		r.Body = io.NopCloser(bytes.NewReader(body))
		clear(w.header)
		h.ServeHTTP(w, r)
		if w.status != 200 {
			b.Fatal(w.status)
		}
	}
}

type echo struct{}

func (echo) Invoke(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	return &hearth.Result{Payload: inv.Payload, Version: hearth.Latest}, nil
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
