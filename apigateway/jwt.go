package apigateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth/gateway"
	"github.com/hearth-faas/hearth/jwt"
)

// authorizeJWT lets in whoever has a token of the authorizer's issuer.
func (c *call) authorizeJWT(a *authorizer) error {
	text := jwt.Bearer(a.source[0].text(c.value))
	if text == "" {
		return unauthorized("", "")
	}
	token, err := c.s.Issuers.Verify(c.ctx, *a.JWT, text)
	if bad, ok := errors.AsType[jwt.BadToken](err); ok {
		return unauthorized("invalid_token", string(bad))
	}
	if err != nil {
		if c.ctx.Err() != nil {
			return errGone
		}
		c.s.Log.Warn("the keys of a JWT authorizer's issuer can't be had", "api", c.table.id, "authorizer", a.ID, "issuer", a.JWT.Issuer, "error", err)
		return unauthorized("invalid_token", "the issuer's keys can't be had").because(err.Error())
	}
	j := &gateway.JWT{Claims: make(map[string]string, len(token.Claims))}
	if wanted := c.route.Scopes; len(wanted) > 0 {
		const why = "the token has none of the route's scopes"
		if j.Scopes = token.Wanted(wanted); j.Scopes == nil {
			r := *errForbidden
			r.header = http.Header{"Www-Authenticate": {jwt.Challenge(wanted, "insufficient_scope", why)}}
			return r.because(why)
		}
	}
	for name, raw := range token.Claims {
		j.Claims[name] = claimText(raw)
	}
	c.who.jwt = j
	return nil
}

// unauthorized is the refusal for who has not shown who it is.
func unauthorized(code, why string) *refusal {
	return &refusal{status: http.StatusUnauthorized, message: "Unauthorized", sort: "UNAUTHORIZED", reason: why, header: http.Header{"Www-Authenticate": {jwt.Challenge(nil, code, why)}}}
}

// claimText is a claim as a text; a list is [a b].
func claimText(raw json.RawMessage) string {
	var v any
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return string(raw)
	}
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return v.String()
	case []any:
		var parts []string
		for _, p := range v {
			parts = append(parts, fmt.Sprint(p))
		}
		return "[" + strings.Join(parts, " ") + "]"
	case nil:
		return "null"
	}
	return string(raw)
}
