package runtimeapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

func serve(t *testing.T, opt Options) *Environment {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := Serve(l, opt)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// peer is a hand-driven connection of a runtime.
type peer struct {
	t  *testing.T
	nc net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, e *Environment) *peer {
	t.Helper()
	nc, err := net.Dial("tcp", e.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(2 * time.Minute))
	return &peer{t, nc, bufio.NewReader(nc)}
}

func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.nc, s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) answer() (*http.Response, string) {
	p.t.Helper()
	resp, err := http.ReadResponse(p.in, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp, string(body)
}

const askNext = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"

func post(path, body string, header ...string) string {
	return "POST /2018-06-01/runtime/" + path + " HTTP/1.1\r\nHost: x\r\n" + strings.Join(append(header, ""), "\r\n") +
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

type result struct {
	Response
	err error
}

func invoke(e *Environment, ctx context.Context, ev *Event) <-chan result {
	ch := make(chan result, 1)
	go func() {
		r, err := e.Invoke(ctx, ev)
		ch <- result{r, err}
	}()
	return ch
}

func event(id, payload string) *Event {
	return &Event{RequestID: id, Deadline: time.UnixMilli(1700000003000), ARN: "arn:f", Payload: []byte(payload)}
}

func TestAWSsOwnGoModuleRunsOnIt(t *testing.T) {
	e := serve(t, Options{})
	cmd := child(t, e.listener.Addr(), "aws-lambda-go", "")
	<-e.Ready()
	call := func(payload string) (Response, error) {
		ev := event("8476a536-e9f4-11e8-9739-2dfe598c3fcd", payload)
		ev.Deadline = time.Now().Add(time.Minute).Truncate(time.Millisecond)
		ev.TraceID, ev.TenantID = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700", "blue"
		ev.ClientContext = "{\"client\":\n{\"app_title\":\"app\"}}"
		ev.CognitoID = `{"cognitoIdentityId":"me"}`
		return e.Invoke(t.Context(), ev)
	}

	r, err := call(`{"Do":"context"}`)
	if err != nil || r.ErrorType != "" {
		t.Fatal(r, err)
	}
	var seen map[string]any
	if err := json.Unmarshal(r.Payload, &seen); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{
		"id": "8476a536-e9f4-11e8-9739-2dfe598c3fcd", "arn": "arn:f", "tenant": "blue",
		"client": "app", "cognito": "me", "trace": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
	} {
		if seen[k] != want {
			t.Errorf("the function saw %s = %v, want %q", k, seen[k], want)
		}
	}

	big := strings.Repeat("p", 6<<20-100)
	if r, err = call(`{"Do":"` + big + `"}`); err != nil || len(r.Payload) != len(big)+len(`{"done":""}`) {
		t.Error("a payload of 6 MiB came back as", len(r.Payload), err)
	}
	if r, err = call(`{"Do":"error"}`); err != nil || r.ErrorType == "" || string(r.Payload) != `{"errorMessage":"no such luck","errorType":"errorString"}` {
		t.Errorf("error: %s %s %v", r.ErrorType, r.Payload, err)
	}
	if r, err = call(`{"Do":"break"}`); err != nil || r.ErrorType == "" || !bytes.Contains(r.Payload, []byte("dried up")) {
		t.Errorf("a response that broke off: %s %.80s %v", r.ErrorType, r.Payload, err)
	}
	if r, err = call(`{"Do":"big","Size":7000000}`); err != nil || r.ErrorType != TypeTooLarge ||
		string(r.Payload) != `{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes)."}` {
		t.Errorf("too large: %s %.200s %v", r.ErrorType, r.Payload, err)
	}
	cmd.Wait() // the module exits when its response is refused
	go e.Fail(Exited("x", 1, ""))
	if _, err := call(`{}`); err == nil {
		t.Error("an invocation of a runtime that has ended succeeded")
	}
}

func TestExitBeforeTheResponseIsReportedAtOnce(t *testing.T) {
	e := serve(t, Options{})
	cmd := child(t, e.listener.Addr(), "aws-lambda-go", "")
	go func() {
		cmd.Wait()
		e.Fail(Exited("id-1", cmd.ProcessState.ExitCode(), ""))
	}()
	_, err := e.Invoke(t.Context(), event("id-1", `{"Do":"exit"}`))
	fe, ok := errors.AsType[*FunctionError](err)
	if !ok || string(fe.Body) != `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: id-1 Error: Runtime exited with error: exit status 3"}` {
		t.Errorf("got %v", err)
	}
	if _, err = e.Invoke(t.Context(), event("id-2", `{}`)); hearth.KindOf(err) != hearth.ContainerGone {
		t.Errorf("an invocation of a dead environment: %v, want kind ContainerGone", err)
	}
}

func TestEventReachesTheRuntimeWhicheverComesFirst(t *testing.T) {
	for _, runtimeFirst := range []bool{true, false} {
		e := serve(t, Options{})
		p := dial(t, e)
		var done <-chan result
		if runtimeFirst {
			p.send(askNext)
			<-e.Ready()
			if !e.NextWaiting() {
				t.Error("NextWaiting is false although the runtime asked")
			}
			done = invoke(e, t.Context(), event("id-1", "[1]"))
		} else {
			done = invoke(e, t.Context(), event("id-1", "[1]"))
			p.send(askNext)
		}
		resp, body := p.answer()
		if resp.StatusCode != 200 || body != "[1]" || resp.Header.Get("Lambda-Runtime-Aws-Request-Id") != "id-1" ||
			resp.Header.Get("Lambda-Runtime-Deadline-Ms") != "1700000003000" || resp.Header.Get("Content-Type") != "application/json" {
			t.Error(resp, body)
		}
		p.send(post("invocation/id-1/response", "[2]", "Content-Type: text/x"))
		if r := <-done; r.err != nil || string(r.Payload) != "[2]" || r.ContentType != "text/x" || r.ErrorType != "" {
			t.Errorf("%+v", r)
		}
		if resp, body := p.answer(); resp.StatusCode != 202 || body != "{\"status\":\"OK\"}\n" {
			t.Error(resp, body)
		}
		if e.NextWaiting() {
			t.Error("NextWaiting is true although the runtime has not asked again")
		}
	}
}

func TestErrorsAreTheServices(t *testing.T) {
	big := strings.Repeat("x", hearth.MaxPayload+1)
	for _, c := range []struct {
		name    string
		running bool
		send    string
		status  int
		body    string
		outcome string // error type of the invocation, "-" for still under way
	}{
		{"unknown path", true, "GET /2018-06-01/runtime/nothing HTTP/1.1\r\n\r\n", 404, "404 page not found\n", "-"},
		{"restore outside SnapStart", true, "GET /2018-06-01/runtime/restore/next HTTP/1.1\r\n\r\n", 404, "404 page not found\n", "-"},
		{"wrong method", true, "PUT /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n", 405, "", "-"},
		{"ping", true, "GET /2018-06-01/ping HTTP/1.1\r\n\r\n", 200, "pong", "-"},
		{"response before any event", false, post("invocation/id-1/response", "1"), 400, `{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}` + "\n", ""},
		{"another's request id", true, post("invocation/id-2/response", "1"), 400, `{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}` + "\n", "-"},
		{"init/error after init", true, post("init/error", "{}"), 403, `{"errorMessage":"State transition from Running to InitError failed for runtime. Error: State transition is not allowed","errorType":"InvalidStateTransition"}` + "\n", "-"},
		{"unknown response mode", true, post("invocation/id-1/response", "1", "Lambda-Runtime-Function-Response-Mode: drip"), 400, `{"errorMessage":"Invalid function response mode","errorType":"InvalidFunctionResponseMode"}` + "\n", TypeResponseMode},
		{"too large", true, post("invocation/id-1/response", big), 413, `{"errorMessage":"Exceeded maximum allowed payload size (6291556 bytes).","errorType":"RequestEntityTooLarge"}` + "\n", TypeTooLarge},
		{"bad chunk", true, "POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, `{"errorMessage":"malformed HTTP request","errorType":"MalformedHTTPRequest"}` + "\n", TypeTruncated},
		{"malformed head", true, "GET\r\n\r\n", 400, `{"errorMessage":"malformed HTTP request","errorType":"MalformedHTTPRequest"}` + "\n", "-"},
		{"two lengths", true, "GET /ping HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, `{"errorMessage":"malformed HTTP request","errorType":"MalformedHTTPRequest"}` + "\n", "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := serve(t, Options{})
			p := dial(t, e)
			var done <-chan result
			if c.running {
				p.send(askNext)
				done = invoke(e, t.Context(), event("id-1", "1"))
				p.answer()
			}
			p.send(c.send)
			resp, body := p.answer()
			if resp.StatusCode != c.status || body != c.body {
				t.Errorf("got %d %q, want %d %q", resp.StatusCode, body, c.status, c.body)
			}
			switch c.outcome {
			case "":
			case "-":
				select {
				case r := <-done:
					t.Errorf("the invocation ended: %+v", r)
				default:
				}
			default:
				if r := <-done; r.ErrorType != c.outcome {
					t.Errorf("the invocation ended as %+v, want %s", r, c.outcome)
				}
			}
		})
	}
}

func TestSecondResponseIsForbidden(t *testing.T) {
	e := serve(t, Options{})
	p := dial(t, e)
	p.send(askNext)
	done := invoke(e, t.Context(), event("id-1", "1"))
	p.answer()
	p.send(post("invocation/id-1/response", "1") + post("invocation/id-1/response", "2"))
	p.answer()
	resp, body := p.answer()
	if resp.StatusCode != 403 || !strings.Contains(body, "InvalidStateTransition") {
		t.Error(resp.StatusCode, body)
	}
	if r := <-done; string(r.Payload) != "1" {
		t.Errorf("%+v", r)
	}
}

func TestLateResponseIsRefusedAndTheEnvironmentServesOn(t *testing.T) {
	e := serve(t, Options{})
	p := dial(t, e)
	p.send(askNext)
	ctx, cancel := context.WithCancel(t.Context())
	done := invoke(e, ctx, event("id-1", "1"))
	p.answer()
	cancel()
	if r := <-done; hearth.KindOf(r.err) != hearth.Canceled {
		t.Fatal(r.err)
	}
	p.send(post("invocation/id-1/response", "late"))
	if resp, body := p.answer(); resp.StatusCode != 400 || !strings.Contains(body, "InvalidRequestID") {
		t.Error(resp.StatusCode, body)
	}
	p.send(askNext)
	done = invoke(e, t.Context(), event("id-2", "1"))
	p.answer()
	p.send(post("invocation/id-2/response", "2"))
	if r := <-done; r.err != nil || string(r.Payload) != "2" {
		t.Errorf("%+v", r)
	}
}

func TestInitErrorEndsTheInitPhase(t *testing.T) {
	e := serve(t, Options{})
	p := dial(t, e)
	p.send(post("init/error", `{"errorType":"Runtime.ImportModuleError"}`, "Lambda-Runtime-Function-Error-Type: Runtime.ImportModuleError"))
	if resp, _ := p.answer(); resp.StatusCode != 202 {
		t.Error(resp.StatusCode)
	}
	<-e.Ready()
	if fe := e.InitError(); fe == nil || fe.Type != "Runtime.ImportModuleError" || string(fe.Body) != `{"errorType":"Runtime.ImportModuleError"}` {
		t.Error(fe)
	}
	if _, err := e.Invoke(t.Context(), event("id", "")); err != error(e.InitError()) {
		t.Error(err)
	}
	p.send(askNext)
	if resp, _ := p.answer(); resp.StatusCode != 403 {
		t.Error("next after init/error:", resp.StatusCode)
	}
}

func TestPipelinedRequestWaitsForItsTurn(t *testing.T) {
	e := serve(t, Options{})
	p := dial(t, e)
	p.send(askNext + "GET /ping HTTP/1.1\r\n\r\n")
	<-e.Ready()
	done := invoke(e, t.Context(), event("id-1", "first"))
	if _, body := p.answer(); body != "first" {
		t.Errorf("first answer is %q", body)
	}
	if _, body := p.answer(); body != "pong" {
		t.Errorf("second answer is %q", body)
	}
	e.Fail(Exited("id-1", 1, ""))
	<-done
}

func TestBrokenConnectionDoesNotEatTheEvent(t *testing.T) {
	next := make(chan struct{}, 8)
	e := serve(t, Options{OnNext: func() { next <- struct{}{} }})
	p := dial(t, e)
	p.send(askNext)
	<-next
	p.nc.Close()
	// The event is written to the dead connection or, if its end was seen,
	// kept; a runtime that asks again gets it either way.
	done := invoke(e, t.Context(), event("id-1", "x"))
	q := dial(t, e)
	q.send(askNext)
	if _, body := q.answer(); body != "x" {
		t.Errorf("got %q", body)
	}
	q.send(post("invocation/id-1/error", "{}"))
	if r := <-done; r.ErrorType != TypeUnknown {
		t.Errorf("%+v", r)
	}
}

func TestExpectContinueIsHonoured(t *testing.T) {
	e := serve(t, Options{})
	p := dial(t, e)
	p.send(askNext)
	done := invoke(e, t.Context(), event("id-1", "x"))
	p.answer()
	p.send("POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
	line, err := p.in.ReadString('\n')
	if err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatal(line, err)
	}
	p.in.ReadString('\n')
	p.send("42")
	if r := <-done; string(r.Payload) != "42" {
		t.Errorf("%+v", r)
	}
}

func TestHugeHeaderIsTakenAndItsMemoryGivenBack(t *testing.T) {
	e := serve(t, Options{})
	p := dial(t, e)
	p.send(askNext)
	done := invoke(e, t.Context(), event("id-1", "x"))
	p.answer()
	p.send(post("invocation/id-1/error", "{}", "Lambda-Runtime-Function-Xray-Error-Cause: "+strings.Repeat("c", 1<<20-100)))
	if r := <-done; r.ErrorType == "" {
		t.Errorf("%+v", r)
	}
	p.answer()
	p.send("GET /ping HTTP/1.1\r\n\r\n")
	p.answer()
	if e.mu.Lock(); e.big != 0 {
		t.Error("the large buffer is still counted")
	}
	e.mu.Unlock()
	p.send("GET /ping HTTP/1.1\r\nX: " + strings.Repeat("c", 2<<20))
	if resp, _ := p.answer(); resp.StatusCode != 431 {
		t.Error(resp.StatusCode)
	}
}

func TestOtherAPIsCanBeMounted(t *testing.T) {
	e := serve(t, Options{Handlers: []Mount{{"/2020-01-01/extension/", func(r *Request) Reply {
		return Reply{Status: 200, ContentType: "text/plain", Header: [][2]string{{"Lambda-Extension-Identifier", "7"}},
			Body: []byte(r.Method + " " + r.Path + " " + r.Header("lambda-extension-name") + " " + string(r.Body))}
	}}}})
	p := dial(t, e)
	p.send("POST /2020-01-01/extension/register?x=y HTTP/1.1\r\nLambda-Extension-Name: tracer\r\nContent-Length: 2\r\n\r\n{}")
	if resp, body := p.answer(); body != "POST /2020-01-01/extension/register tracer {}" || resp.Header.Get("Lambda-Extension-Identifier") != "7" {
		t.Error(resp, body)
	}
}

func TestTooManyConnectionsAreTurnedAway(t *testing.T) {
	e := serve(t, Options{})
	for range maxConns {
		p := dial(t, e)
		p.send("GET /ping HTTP/1.1\r\n\r\n")
		p.answer()
	}
	p := dial(t, e)
	if _, err := p.in.ReadByte(); err == nil {
		t.Error("one connection too many was served")
	}
}
