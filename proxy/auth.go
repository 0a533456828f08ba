package proxy

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/jwt"
	"github.com/hearth-faas/hearth/proxy/expression"
)

// caller is who calls an API. The zero value is anybody.
type caller struct {
	name   string         // as expressions and caches have it
	claims map[string]any // of a token
	scopes []any          // of a token
}

// authenticate finds out who calls an API, and whether he may.
func (s *Service) authenticate(r *http.Request, body []byte, account hearth.Account, id string, auth Auth) (caller, error) {
	switch auth.Kind {
	case "none":
		return caller{}, nil
	case "key":
		name, err := s.byKey(r, account, auth)
		return caller{name: name}, err
	case "jwt":
		return s.byToken(r, account, id, auth)
	}
	claim, err := s.verifier.Verify(r, body)
	if e, ok := errors.AsType[*hearth.Error](err); ok && e.Kind == hearth.TooManyRequests {
		return caller{}, &fault{Fault: Throttled, message: e.Message, retryAfter: e.RetryAfter, err: err}
	}
	if err != nil {
		return caller{}, &fault{Fault: Unauthorized, message: "This needs a valid signature (AWS Signature Version 4, for the service " + SigningService + ").", challenge: "AWS4-HMAC-SHA256", err: err}
	}
	err = nil
	if s.cfg.Authorize != nil {
		err = s.cfg.Authorize(r.Context(), claim.Identity, "hearth:InvokeProxy", "arn:aws:hearth:"+s.cfg.Region+":"+string(account)+":proxy/"+id)
	} else if claim.Identity.Account != account {
		err = hearth.Errorf(hearth.AccessDenied, "another account's")
	}
	if err != nil {
		return caller{}, &fault{Fault: Forbidden, message: "You may not call this.", err: err}
	}
	return caller{name: claim.Identity.ARN}, nil
}

// byKey finds whose key a request has.
func (s *Service) byKey(r *http.Request, account hearth.Account, auth Auth) (name string, _ error) {
	const challenge = `ApiKey header="X-Api-Key"`
	text := r.Header.Get("X-Api-Key")
	if text == "" {
		return "", &fault{Fault: Unauthorized, message: "This needs a key, in the header X-Api-Key.", challenge: challenge}
	}
	k, ok := s.keys.Load(string(account) + "/" + hashKey(text))
	if !ok {
		return "", &fault{Fault: Unauthorized, message: "The key in X-Api-Key is not known.", challenge: challenge}
	}
	name = k.(*Key).Name
	if len(auth.Keys) > 0 && !slices.Contains(auth.Keys, name) {
		return "", &fault{Fault: Forbidden, message: "The key in X-Api-Key is not for this."}
	}
	return "key/" + name, nil
}

// byToken finds out whose token a request has.
func (s *Service) byToken(r *http.Request, account hearth.Account, id string, auth Auth) (c caller, _ error) {
	text := jwt.Bearer(r.Header.Get("Authorization"))
	if text == "" {
		return c, &fault{Fault: Unauthorized, message: "This needs a token of " + auth.Issuer + ", in the header Authorization.", challenge: jwt.Challenge(nil, "", "")}
	}
	token, err := s.cfg.Issuers.Verify(r.Context(), jwt.Trust{Issuer: auth.Issuer, Audience: auth.Audience}, text)
	if bad, ok := errors.AsType[jwt.BadToken](err); ok {
		return c, &fault{Fault: Unauthorized, message: "The token in Authorization is not taken: " + string(bad) + ".", challenge: jwt.Challenge(nil, "invalid_token", string(bad))}
	}
	if err != nil {
		if r.Context().Err() != nil {
			return c, &fault{Fault: CallerLeft, message: "The caller left before the token was checked.", err: err}
		}
		s.log.Warn("the keys of a proxy API's issuer can't be had", "account", account, "api", id, "issuer", auth.Issuer, "error", err)
		const why = "the issuer's keys can't be had"
		return c, &fault{Fault: Unauthorized, message: "The token in Authorization can't be checked: " + why + ".", challenge: jwt.Challenge(nil, "invalid_token", why), err: err}
	}
	if len(auth.Scopes) > 0 && token.Wanted(auth.Scopes) == nil {
		const why = "the token has none of the scopes that this is for"
		return c, &fault{Fault: Forbidden, message: "You may not call this: " + why + " (" + strings.Join(auth.Scopes, ", ") + ").", challenge: jwt.Challenge(auth.Scopes, "insufficient_scope", why)}
	}
	if c, err = bearer(token); err != nil {
		return c, &fault{Fault: Unauthorized, message: "The token in Authorization is not taken: its claims can't be read.", challenge: jwt.Challenge(nil, "invalid_token", "the token's claims can't be read"), err: err}
	}
	return c, nil
}

// bearer is who has a token.
func bearer(token *jwt.Token) (c caller, err error) {
	c.claims, c.scopes = make(map[string]any, len(token.Claims)), make([]any, len(token.Scopes))
	for name, raw := range token.Claims {
		if c.claims[name], err = expression.FromJSON(raw); err != nil {
			return c, err
		}
	}
	for n, scope := range token.Scopes {
		c.scopes[n] = scope
	}
	for _, name := range []string{"sub", "client_id"} {
		if v, ok := c.claims[name].(string); ok && v != "" {
			c.name = "jwt/" + v
			break
		}
	}
	return c, nil
}
