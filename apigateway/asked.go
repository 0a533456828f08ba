package apigateway

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/gateway"
	"github.com/hearth-faas/hearth/policy"
)

// maxOpinions bounds how many callers of an authorizer are remembered.
const maxOpinions = 10000

// opinion is what an authorizer's function said of a caller.
type opinion struct {
	until     time.Time
	allowed   bool             // of a simple response
	policy    *policy.Document // of the others; nil is none
	principal string
	context   json.RawMessage // an object, or nil
}

// forget has the function asked again.
func (a *authorizer) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said = nil
	a.number++
}

// remembered is what was said of an identity, unless it is too old, and the
// number that an answer is kept by.
func (a *authorizer) remembered(identity string, now time.Time) (opinion, bool, uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o, ok := a.said[identity]
	return o, ok && now.Before(o.until), a.number
}

// remember keeps what was said, unless all was forgotten meanwhile.
func (a *authorizer) remember(identity string, o opinion, number uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if number != a.number {
		return
	}
	if a.said == nil || len(a.said) >= maxOpinions {
		a.said = map[string]opinion{} // those who still call come again
	}
	a.said[identity] = o
}

// authorizeRequest lets in whom the authorizer's function lets in.
func (c *call) authorizeRequest(a *authorizer) error {
	sources := make([]string, len(a.source))
	for n, t := range a.source {
		if sources[n] = t.text(c.value); sources[n] == "" {
			r := unauthorized("", "an identity source is missing")
			r.header = nil
			return r
		}
	}
	var o opinion
	ok := false
	ttl := time.Duration(*a.TTLSeconds) * time.Second
	identity, number := strings.Join(sources, "\x00"), uint64(0)
	if ttl > 0 {
		o, ok, number = a.remembered(identity, c.s.Clock.Now())
	}
	if !ok {
		var err error
		if o, err = c.ask(a, sources); err != nil {
			return err
		}
		if ttl > 0 {
			o.until = c.s.Clock.Now().Add(ttl)
			a.remember(identity, o, number)
		}
	}
	if !o.allowed && !c.allowedBy(o.policy) {
		return errForbidden.because("the authorizer " + a.ID + " does not let the caller in")
	}
	c.who.said = &o
	return nil
}

// allowedBy tells whether a policy lets the caller call the route.
func (c *call) allowedBy(d *policy.Document) bool {
	outcome, _ := d.Evaluate(&policy.Request{
		Action: "execute-api:Invoke", Resource: c.routeARN(),
		Context: access.ContextOf(c.ctx, hearth.Identity{}, c.s.Clock.Now(), c.s.Region),
	})
	return outcome == policy.Allowed
}

// asking2 is what a function is asked in the format 2.0.
type asking2 struct {
	Version               string                 `json:"version"`
	Type                  string                 `json:"type"`
	RouteARN              string                 `json:"routeArn"`
	IdentitySource        []string               `json:"identitySource"`
	RouteKey              string                 `json:"routeKey"`
	RawPath               string                 `json:"rawPath"`
	RawQueryString        string                 `json:"rawQueryString"`
	Cookies               []string               `json:"cookies,omitempty"`
	Headers               map[string]string      `json:"headers"`
	QueryStringParameters map[string]string      `json:"queryStringParameters,omitempty"`
	RequestContext        gateway.RequestContext `json:"requestContext"`
	PathParameters        map[string]string      `json:"pathParameters,omitempty"`
	StageVariables        map[string]string      `json:"stageVariables,omitempty"`
}

// asking1 is what a function is asked in the format 1.0.
type asking1 struct {
	Version               string            `json:"version"`
	Type                  string            `json:"type"`
	MethodARN             string            `json:"methodArn"`
	IdentitySource        string            `json:"identitySource"`
	AuthorizationToken    string            `json:"authorizationToken"`
	Resource              string            `json:"resource"`
	Path                  string            `json:"path"`
	HTTPMethod            string            `json:"httpMethod"`
	Headers               map[string]string `json:"headers"`
	QueryStringParameters map[string]string `json:"queryStringParameters"`
	PathParameters        map[string]string `json:"pathParameters"`
	StageVariables        map[string]string `json:"stageVariables"`
	RequestContext        context1          `json:"requestContext"`
}

// ask asks the authorizer's function about the caller.
func (c *call) ask(a *authorizer, sources []string) (o opinion, _ error) {
	var question any
	switch {
	case c.table.websocket:
		question = askingSocket{"REQUEST", c.routeARN(), c.socketEvent()}
	case a.PayloadFormat == "1.0":
		e := c.event1(c.http, c.path)
		joined := strings.Join(sources, ",")
		question = asking1{
			"1.0", "REQUEST", c.routeARN(), joined, joined, e.Resource, e.Path, e.HTTPMethod,
			e.Headers, e.QueryStringParameters, e.PathParameters, e.StageVariables, e.RequestContext,
		}
	default:
		e := c.event2(c.http, c.path)
		question = asking2{
			"2.0", "REQUEST", c.routeARN(), sources, e.RouteKey, e.RawPath, e.RawQueryString, e.Cookies,
			e.Headers, e.QueryStringParameters, e.RequestContext, e.PathParameters, e.StageVariables,
		}
	}
	payload, err := gateway.Encode(question)
	if err != nil {
		return o, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, 10*time.Second)
	defer cancel()
	source := c.s.executeARN(c.table.account, c.table.id) + "/authorizers/" + a.ID
	result, err := c.runFunction(ctx, a.function, a.Credentials, source, payload)
	failed := *errInternal
	failed.sort = "AUTHORIZER_FAILURE"
	switch {
	case c.ctx.Err() != nil:
		return o, errGone
	case err != nil:
		return o, failed.because("the authorizer's function was not run: " + err.Error())
	case result.FunctionError != "":
		return o, failed.because("the authorizer's function failed: " + result.FunctionError)
	}
	if o, err = readOpinion(result, a.Simple); err != nil {
		return o, failed.because("the authorizer's function returned what is no answer: " + err.Error())
	}
	return o, nil
}

// readOpinion reads what an authorizer's function returned.
func readOpinion(r *hearth.Result, simple bool) (o opinion, err error) {
	var out struct {
		Allowed   *bool            `json:"isAuthorized"`
		Principal string           `json:"principalId"`
		Policy    *policy.Document `json:"policyDocument"`
		Context   json.RawMessage  `json:"context"`
	}
	if err := json.Unmarshal(r.Payload, &out); err != nil {
		return o, err
	}
	if len(out.Context) > 0 && string(out.Context) != "null" {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(out.Context, &members); err != nil {
			return o, err
		}
		o.context = out.Context
	}
	if simple {
		if out.Allowed == nil {
			return o, invalid("isAuthorized is missing")
		}
		o.allowed = *out.Allowed
		return o, nil
	}
	if out.Policy == nil {
		return o, invalid("policyDocument is missing")
	}
	o.principal, o.policy = out.Principal, out.Policy
	return o, nil
}
