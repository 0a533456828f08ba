package apigateway

import (
	"encoding/json"
	"fmt"
	"net/http"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/gateway"
)

// caller is who made a call, as far as it is known. One of id, jwt and said is
// set, or none.
type caller struct {
	id        *hearth.Identity // who signed it
	accessKey string
	jwt       *gateway.JWT // whose token it has
	said      *opinion     // what a function said
}

func (w *caller) account() hearth.Account {
	if w.id == nil {
		return ""
	}
	return w.id.Account
}

func (w *caller) userID() string {
	if w.id == nil {
		return ""
	}
	return w.id.UserID
}

func (w *caller) arn() string {
	if w.id == nil {
		return ""
	}
	return w.id.ARN
}

// authorizer2 is the caller in an event of the format 2.0.
func (w *caller) authorizer2() *gateway.Authorizer {
	switch {
	case w.id != nil:
		return &gateway.Authorizer{IAM: &gateway.IAM{
			AccessKey: w.accessKey, AccountID: string(w.id.Account), CallerID: w.id.UserID, UserARN: w.id.ARN, UserID: w.id.UserID,
		}}
	case w.jwt != nil:
		return &gateway.Authorizer{JWT: w.jwt}
	case w.said != nil:
		context := w.said.context
		if context == nil {
			context = json.RawMessage("null")
		}
		return &gateway.Authorizer{Lambda: context}
	}
	return nil
}

// authorizer1 is the caller in an event of the format 1.0.
func (w *caller) authorizer1(latency int64) map[string]any {
	switch {
	case w.jwt != nil:
		return map[string]any{"claims": w.jwt.Claims, "scopes": w.jwt.Scopes}
	case w.said != nil:
		m := map[string]any{}
		if w.said.context != nil {
			_ = json.Unmarshal(w.said.context, &m) // it was read before
		}
		m["principalId"], m["integrationLatency"] = w.said.principal, latency
		return m
	}
	return nil
}

// authorize finds out who calls, and refuses who may not.
func (c *call) authorize(w http.ResponseWriter) error {
	switch c.route.Authorization {
	case "", "NONE":
		return nil
	case "AWS_IAM":
		return c.authorizeIAM(w)
	}
	a := c.route.authorizer
	switch {
	case a == nil:
		return errInternal.because("the route's authorizer is not there")
	case a.broken != "":
		return errInternal.because("the authorizer " + a.ID + " can't be used: " + a.broken)
	case a.Type == "JWT":
		return c.authorizeJWT(a)
	}
	return c.authorizeRequest(a)
}

// authorizeIAM lets in whoever has signed the request and may call the API.
func (c *call) authorizeIAM(w http.ResponseWriter) error {
	claim, err := c.s.verifier.Open(c.http)
	if err == nil { // who has no key is refused before the body is read
		if err := c.readBody(w); err != nil {
			return err
		}
		err = c.s.verifier.Check(&claim, c.http, c.body)
	}
	if err != nil {
		if hearth.KindOf(err) == hearth.Service {
			return errInternal.because(err.Error())
		}
		return errForbidden.because(message(err))
	}
	c.who.id, c.who.accessKey = &claim.Identity, claim.AccessKey
	// HTTP APIs have no policies of their own that could let others in.
	if claim.Identity.Account != c.table.account {
		return errForbidden.because(fmt.Sprintf("%s is of another account than the API", claim.Identity.ARN))
	}
	if c.s.Authorize == nil {
		return nil
	}
	if err := c.s.Authorize(c.ctx, claim.Identity, "execute-api:Invoke", c.routeARN()); err != nil {
		return errForbidden.because(message(err))
	}
	return nil
}
