package jwt

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

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

// BadToken is why a token is not taken, which whoever has sent it may be told.
// It has no quotes.
type BadToken string

func (e BadToken) Error() string { return string(e) }

// Bearer is the token of a header's text, with or without the scheme before it;
// "" is none.
func Bearer(text string) string {
	text = strings.TrimSpace(text)
	if strings.EqualFold(text, "bearer") {
		return ""
	}
	if scheme, rest, ok := strings.Cut(text, " "); ok && strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(rest)
	}
	return text
}

// Challenge is the header WWW-Authenticate for whoever has not shown a token
// that is taken: by a code of RFC 6750 and why, or "" where there was none.
func Challenge(scopes []string, code, why string) string {
	if code == "" {
		return "Bearer"
	}
	return `Bearer scope="` + strings.Join(scopes, " ") + `" error="` + code + `" error_description="` + why + `"`
}

// parse reads a token without believing it: its signature, and the id of
// the key that it names.
func parse(token string) (*jose.JSONWebSignature, string, error) {
	if len(token) > maxToken {
		return nil, "", BadToken("the token is too long")
	}
	signed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return nil, "", BadToken("the token can't be read, or is signed by an algorithm that is not taken")
	}
	return signed, signed.Signatures[0].Header.KeyID, nil
}

// Trust says whose tokens are taken, and those for whom.
type Trust struct {
	Audience []string `json:"audience,omitempty"`
	Issuer   string   `json:"issuer,omitempty"` // see CheckIssuer
}

// Token is what a token says that was checked.
type Token struct {
	Claims map[string]json.RawMessage
	Scopes []string
}

// Verify checks a token: that the issuer has signed it, for whom, and that its
// time has come and is not over. An error that is no BadToken is that the
// issuer's keys cannot be had.
func (x *Issuers) Verify(ctx context.Context, t Trust, token string) (*Token, error) {
	signed, kid, err := parse(token)
	if err != nil {
		return nil, err
	}
	// The issuer that the token names is looked at before anybody is asked for
	// keys, so that tokens of others cost nothing.
	var said claims
	if err := json.Unmarshal(signed.UnsafePayloadWithoutVerification(), &said); err != nil {
		return nil, BadToken("the token's claims can't be read")
	}
	if err := said.check(t, x.clock.Now()); err != nil {
		return nil, err
	}
	alg := signed.Signatures[0].Header.Algorithm
	keys, err := x.keys(ctx, t.Issuer, func(k jose.JSONWebKey) bool { return fits(k, kid, alg) })
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		payload, err := signed.Verify(k.Key)
		if err != nil {
			continue
		}
		return Read(payload)
	}
	return nil, BadToken("no key of the issuer has signed the token")
}

// Read reads what a token says, whoever may have signed it. An error is a
// BadToken.
func Read(payload []byte) (*Token, error) {
	var said claims
	t := new(Token)
	if json.Unmarshal(payload, &said) != nil || json.Unmarshal(payload, &t.Claims) != nil || t.Claims == nil {
		return nil, BadToken("the token's claims can't be read")
	}
	if t.Scopes = said.Scope; len(t.Scopes) == 0 {
		t.Scopes = said.SCP
	}
	return t, nil
}

// Wanted are the token's scopes that are among those; nil if it has none of
// them.
func (t *Token) Wanted(scopes []string) (have []string) {
	for _, s := range t.Scopes {
		if slices.Contains(scopes, s) {
			have = append(have, s)
		}
	}
	return have
}

// fits tells whether a key may have signed a token that names the key kid.
func fits(k jose.JSONWebKey, kid, alg string) bool {
	return (kid == "" || k.KeyID == kid) && (k.Algorithm == "" || k.Algorithm == alg) && (k.Use == "" || k.Use == "sig")
}

// check tells what of a token's claims is not as it must be.
func (c *claims) check(j Trust, now time.Time) error {
	at := func(n *json.Number) (time.Time, bool) {
		f, err := n.Float64()
		return time.UnixMilli(int64(f * 1000)), err == nil && f >= 0 && f < 1e12
	}
	if c.Issuer != j.Issuer {
		return BadToken("the token is of another issuer")
	}
	if c.Expires == nil {
		return BadToken("the token has no exp")
	}
	if t, ok := at(c.Expires); !ok || !now.Before(t.Add(skew)) {
		return BadToken("the token has expired")
	}
	for _, n := range []*json.Number{c.NotBefore, c.Issued} {
		if n == nil {
			continue
		}
		if t, ok := at(n); !ok || now.Add(skew).Before(t) {
			return BadToken("the token is not valid yet")
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
	return BadToken("the token is for another audience")
}
