package apigateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-faas/hearth/gateway"

	"github.com/go-jose/go-jose/v4"
)

// algorithms are those that tokens may be signed with: none that goes by a
// shared secret, for an issuer's public keys would be that secret.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512,
}

// skew is how far the clocks of an issuer and of this machine may be apart.
const skew = 60 * time.Second

// maxToken bounds a token, in bytes.
const maxToken = 8 << 10

// claims are what a token says that decides. Times are seconds since 1970.
type claims struct {
	Issuer    string       `json:"iss"`
	Audience  audience     `json:"aud"`
	ClientID  string       `json:"client_id"`
	Expires   *json.Number `json:"exp"`
	NotBefore *json.Number `json:"nbf"`
	Issued    *json.Number `json:"iat"`
	Scope     scopes       `json:"scope"`
	SCP       scopes       `json:"scp"`
}

// audience is one text or a list of them.
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*a = []string{""}
		return json.Unmarshal(b, &(*a)[0])
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// scopes is a list, or a text of words.
type scopes []string

func (s *scopes) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var text string
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
		*s = strings.Fields(text)
		return nil
	}
	return json.Unmarshal(b, (*[]string)(s))
}

// badToken is why a token is not taken. It is told to whoever has sent it.
type badToken string

func (e badToken) Error() string { return string(e) }

// authorizeJWT lets in whoever has a token of the authorizer's issuer.
func (c *call) authorizeJWT(a *authorizer) error {
	token := strings.TrimSpace(a.source[0].text(c.value))
	if scheme, rest, ok := strings.Cut(token, " "); ok && strings.EqualFold(scheme, "bearer") {
		token = strings.TrimSpace(rest)
	}
	if token == "" {
		return unauthorized("", "")
	}
	j, err := c.s.issuers.verify(c.ctx, a.JWT, token, c.s.Clock.Now())
	if bad, ok := errors.AsType[badToken](err); ok {
		return unauthorized("invalid_token", string(bad))
	}
	if err != nil {
		if c.ctx.Err() != nil {
			return errGone
		}
		c.s.Log.Warn("the keys of a JWT authorizer's issuer can't be had", "api", c.table.id, "authorizer", a.ID, "issuer", a.JWT.Issuer, "error", err)
		return unauthorized("invalid_token", "the issuer's keys can't be had").because(err.Error())
	}
	if wanted := c.route.Scopes; len(wanted) > 0 {
		j.Scopes = slices.DeleteFunc(j.Scopes, func(s string) bool { return !slices.Contains(wanted, s) })
		if len(j.Scopes) == 0 {
			r := *errForbidden
			r.header = http.Header{"Www-Authenticate": {`Bearer scope="` + strings.Join(wanted, " ") + `" error="insufficient_scope" error_description="the token has none of the route's scopes"`}}
			return r.because("the token has none of the route's scopes")
		}
	} else {
		j.Scopes = nil
	}
	c.who.jwt = j
	return nil
}

// unauthorized is the refusal for who has not shown who it is.
func unauthorized(code, why string) *refusal {
	challenge := "Bearer"
	if code != "" {
		challenge = `Bearer scope="" error="` + code + `" error_description="` + why + `"`
	}
	return &refusal{status: http.StatusUnauthorized, message: "Unauthorized", sort: "UNAUTHORIZED", reason: why, header: http.Header{"Www-Authenticate": {challenge}}}
}

// parseToken reads a token without believing it: its signature, and the id of
// the key that it names.
func parseToken(token string) (*jose.JSONWebSignature, string, error) {
	if len(token) > maxToken {
		return nil, "", badToken("the token is too long")
	}
	signed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return nil, "", badToken("the token can't be read, or is signed by an algorithm that is not taken")
	}
	return signed, signed.Signatures[0].Header.KeyID, nil
}

// verify checks a token, and returns what it says. An error that is no badToken
// is that the issuer's keys cannot be had.
func (x *issuers) verify(ctx context.Context, j *JWT, token string, now time.Time) (*gateway.JWT, error) {
	signed, kid, err := parseToken(token)
	if err != nil {
		return nil, err
	}
	// The issuer that the token names is looked at before anybody is asked for
	// keys, so that tokens of others cost nothing.
	var said claims
	if err := json.Unmarshal(signed.UnsafePayloadWithoutVerification(), &said); err != nil {
		return nil, badToken("the token's claims can't be read")
	}
	if err := said.check(j, now); err != nil {
		return nil, err
	}
	alg := signed.Signatures[0].Header.Algorithm
	keys, err := x.keys(ctx, j.Issuer, func(k jose.JSONWebKey) bool { return fits(k, kid, alg) })
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if payload, err := signed.Verify(k.Key); err == nil {
			return tell(payload, &said)
		}
	}
	return nil, badToken("no key of the issuer has signed the token")
}

// fits tells whether a key may have signed a token that names the key kid.
func fits(k jose.JSONWebKey, kid, alg string) bool {
	return (kid == "" || k.KeyID == kid) && (k.Algorithm == "" || k.Algorithm == alg) && (k.Use == "" || k.Use == "sig")
}

// check tells what of a token's claims is not as it must be.
func (c *claims) check(j *JWT, now time.Time) error {
	at := func(n *json.Number) (time.Time, bool) {
		f, err := n.Float64()
		return time.UnixMilli(int64(f * 1000)), err == nil && f >= 0 && f < 1e12
	}
	if c.Issuer != j.Issuer {
		return badToken("the token is of another issuer")
	}
	if c.Expires == nil {
		return badToken("the token has no exp")
	}
	if t, ok := at(c.Expires); !ok || !now.Before(t.Add(skew)) {
		return badToken("the token has expired")
	}
	for _, n := range []*json.Number{c.NotBefore, c.Issued} {
		if n == nil {
			continue
		}
		if t, ok := at(n); !ok || now.Add(skew).Before(t) {
			return badToken("the token is not valid yet")
		}
	}
	for _, a := range c.Audience {
		if slices.Contains(j.Audience, a) {
			return nil
		}
	}
	// Access tokens of some issuers name the client in place of an audience.
	if len(c.Audience) == 0 && c.ClientID != "" && slices.Contains(j.Audience, c.ClientID) {
		return nil
	}
	return badToken("the token is for another audience")
}

// tell is what a token says, as events have it: each claim as a text, and the
// scopes.
func tell(payload []byte, c *claims) (*gateway.JWT, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(payload, &all); err != nil {
		return nil, badToken("the token's claims can't be read")
	}
	j := &gateway.JWT{Claims: map[string]string{}, Scopes: c.Scope}
	if len(j.Scopes) == 0 {
		j.Scopes = c.SCP
	}
	for name, raw := range all {
		j.Claims[name] = claimText(raw)
	}
	return j, nil
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
