package apigateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/gateway"
)

// service is who calls functions, as their policies see it.
const service = "apigateway.amazonaws.com"

// executeARN is how policies name an API that is called.
func (s *Service) executeARN(account hearth.Account, api string) string {
	return "arn:aws:execute-api:" + s.Region + ":" + string(account) + ":" + api
}

// sourceARN is what a function is called for: API/STAGE/METHOD/PATH of the
// route, or API/STAGE/$default.
func (c *call) sourceARN() string {
	arn := c.s.executeARN(c.table.account, c.table.id) + "/" + c.stage.Name + "/"
	if c.table.websocket {
		return arn + c.route.Key
	}
	if c.route.key.Method == "" {
		return arn + defaultRoute
	}
	method := c.route.key.Method
	if method == "ANY" {
		method = "*"
	}
	return arn + method + c.route.key.path(func(name string) string { return name })
}

// routeARN is what a caller asks for: API/STAGE/METHOD/PATH of the request, or
// API/STAGE/$connect.
func (c *call) routeARN() string {
	if c.table.websocket {
		return c.sourceARN()
	}
	return c.s.executeARN(c.table.account, c.table.id) + "/" + c.stage.Name + "/" + c.http.Method + c.below
}

// session is who calls for an API of the account with a role's credentials.
func session(account hearth.Account, role, name string) hearth.Identity {
	_, path, _ := strings.Cut(role, ":role/")
	return hearth.Identity{
		Account: account, UserID: "AROA:" + name,
		ARN: "arn:aws:sts::" + string(account) + ":assumed-role/" + path[strings.LastIndexByte(path, '/')+1:] + "/" + name,
	}
}

// runFunction runs a function, and waits for it as long as ctx lasts: what has
// begun runs to its end all the same. role is "" for the service itself, which
// the function's policy must let in for source.
func (c *call) runFunction(ctx context.Context, f function, role, source string, payload []byte) (*hearth.Result, error) {
	inv := &hearth.Invocation{
		RequestID: c.requestID, TraceID: c.traceID, Payload: payload,
		Account: f.account, Name: f.name, Qualifier: f.qualifier, InvokedARN: f.arn,
	}
	if role == "" {
		inv.Caller = hearth.Identity{Service: service}
		inv.Source = &hearth.Source{ARN: source, Account: c.table.account}
	} else {
		inv.Caller = session(c.table.account, role, c.requestID)
		ctx = access.Arrived(ctx, access.Inside)
	}
	if c.s.Within != nil {
		inv.Within = c.s.Within(c.http)
	}
	type outcome struct {
		result *hearth.Result
		err    error
	}
	ended := make(chan outcome, 1)
	go func() {
		inv.Timeline.Begin(c.s.Clock.Now())
		result, err := c.s.Invoker.Invoke(ctx, inv)
		inv.Timeline.End(hearth.StageAnswer, c.s.Clock.Now())
		if c.s.Done != nil {
			c.s.Done(inv)
		}
		ended <- outcome{result, err}
	}()
	select {
	case o := <-ended:
		return o.result, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// outgoing is the request as the integration gets it: with the changes that
// its mappings make.
func (c *call) outgoing(i *integration) outgoing {
	if c.socket != nil {
		return c.outgoingOfSocket(i)
	}
	o := outgoing{query: c.http.URL.RawQuery, header: c.http.Header}
	if len(i.request) > 0 {
		o.header = maps.Clone(o.header)
		o.apply(i.request, c.value)
	}
	return o
}

// invoke answers by a function.
func (c *call) invoke(ctx context.Context, w http.ResponseWriter, i *integration) error {
	payload, err := c.payload(i)
	if err != nil {
		return err
	}
	if len(payload) > hearth.MaxPayload {
		return errTooLarge
	}
	began := c.s.Clock.Now()
	result, err := c.runFunction(ctx, i.function, i.Credentials, c.sourceARN(), payload)
	c.integrated = c.s.Clock.Now().Sub(began)
	if err != nil {
		return c.notRun(ctx, err)
	}
	c.integrationIs = http.StatusOK
	if result.FunctionError != "" {
		return errInternal.because("the function " + i.function.arn + " failed: " + result.FunctionError)
	}
	var a *gateway.Answer
	if i.PayloadFormat == "1.0" {
		a, err = answer1(result)
	} else {
		a, err = gateway.AnswerOf(result)
	}
	if err != nil {
		return errInternal.because("the function " + i.function.arn + " returned what is no response in the payload format " + i.PayloadFormat)
	}
	c.returned = a.Status
	return c.answer(w, i, a)
}

// notRun is the refusal for a function that was not run.
func (c *call) notRun(ctx context.Context, err error) error {
	switch {
	case c.ctx.Err() != nil:
		return errGone
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errUnavailable.because("the integration took longer than its timeout")
	}
	switch hearth.KindOf(err) {
	case hearth.RequestTooLarge:
		return errTooLarge
	case hearth.TooManyRequests:
		return errUnavailable.because(err.Error())
	}
	return errInternal.because(err.Error())
}

// answer answers with what an integration made.
func (c *call) answer(w http.ResponseWriter, i *integration, a *gateway.Answer) error {
	header := http.Header{}
	a.Head(header)
	status := a.Status
	if ms := i.response[status]; len(ms) > 0 {
		c.response, c.responseBody = header.Clone(), a.Body
		for _, m := range ms {
			value := ""
			if m.value != nil {
				value = oneLine(m.value.text(c.value))
			}
			if m.where == "header" {
				change(header, m, value)
				continue
			}
			var n int
			if _, err := fmt.Sscanf(value, "%d", &n); err != nil || n < 200 || n > 599 {
				return errInternal.because("a response mapping overwrites the status by " + value)
			}
			status = n
		}
	}
	gateway.AllowOrigin(header, c.http, c.stage.cors)
	maps.Copy(w.Header(), header)
	c.write(w, status, a.Body)
	return nil
}
