package apigateway

import (
	"context"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/jwt"
)

// defaultTTL is how long what a function says of a caller is kept, in seconds,
// if the authorizer does not say.
const defaultTTL = 300

// Authorizers lists the authorizers of an API.
func (s *Service) Authorizers(account hearth.Account, api string, p Page) ([]*Authorizer, string, error) {
	r, err := s.api(account, api)
	if err != nil {
		return nil, "", err
	}
	list, next := page(r.Authorizers, p, nil)
	return list, next, nil
}

// Authorizer finds an authorizer.
func (s *Service) Authorizer(account hearth.Account, api, id string) (*Authorizer, error) {
	r, err := s.api(account, api)
	if err != nil {
		return nil, err
	}
	if a := r.Authorizers[id]; a != nil {
		return a, nil
	}
	return nil, notFound("Authorizer", id)
}

// PutAuthorizer changes an authorizer, or makes one if id is "".
func (s *Service) PutAuthorizer(ctx context.Context, account hearth.Account, api, id string, change func(*Authorizer) error) (out *Authorizer, _ error) {
	err := s.change(ctx, account, api, func(r *record) (err error) {
		old := &Authorizer{ID: newID(6)}
		switch {
		case id != "":
			if old = r.Authorizers[id]; old == nil {
				return notFound("Authorizer", id)
			}
		default:
			if err := limit("authorizers", len(r.Authorizers), maxAuthorizers); err != nil {
				return err
			}
		}
		if out, err = copyOf(old); err != nil {
			return err
		}
		if err := change(out); err != nil {
			return err
		}
		out.ID = old.ID
		if id != "" && out.Type != old.Type {
			return invalid("authorizerType can't be changed: make another authorizer.")
		}
		if err := s.checkAuthorizer(r, out); err != nil {
			return err
		}
		r.Authorizers[out.ID] = out
		return nil
	})
	return out, err
}

// checkAuthorizer fills in what was left out, and refuses what cannot be.
func (s *Service) checkAuthorizer(r *record, a *Authorizer) error {
	if a.Name == "" || len(a.Name) > 128 {
		return invalid("name must have between 1 and 128 characters.")
	}
	for _, other := range r.Authorizers {
		if other.ID != a.ID && other.Name == a.Name {
			return conflict("Authorizer name must be unique within an API: %s", a.Name)
		}
	}
	if a.IdentitySource == nil {
		a.IdentitySource = []string{}
	}
	switch a.Type {
	case "JWT":
		if r.websocket() {
			return invalid("An authorizer of a WebSocket API is of the type REQUEST.")
		}
		return checkJWTAuthorizer(a)
	case "REQUEST":
		return s.checkRequestAuthorizer(r, a)
	}
	return invalid("Invalid authorizerType %.40q: it is JWT or REQUEST.", a.Type)
}

func checkJWTAuthorizer(a *Authorizer) error {
	if len(a.IdentitySource) != 1 {
		return invalid("A JWT authorizer has one identitySource, such as $request.header.Authorization.")
	}
	if t, err := parseTemplate(a.IdentitySource[0], requestSources); err != nil || len(t.parts) != 1 || t.parts[0].source != "request.header" && t.parts[0].source != "request.querystring" {
		return invalid("The identitySource of a JWT authorizer is $request.header.NAME or $request.querystring.NAME: %.200q", a.IdentitySource[0])
	}
	switch {
	case a.JWT == nil || len(a.JWT.Audience) == 0 || a.JWT.Issuer == "":
		return invalid("A JWT authorizer needs a jwtConfiguration with an audience and an issuer.")
	case a.URI != "" || a.PayloadFormat != "" || a.TTLSeconds != nil && *a.TTLSeconds != 0 || a.Simple:
		return invalid("authorizerUri, authorizerPayloadFormatVersion, authorizerResultTtlInSeconds and enableSimpleResponses are for authorizers of the type REQUEST.")
	}
	if err := jwt.CheckIssuer(a.JWT.Issuer); err != nil {
		return invalid("Invalid issuer: %v.", err)
	}
	return nil
}

// identitySource is an identity source as HTTP APIs have them: those of
// WebSocket APIs are written route.request.header.NAME and so on.
func identitySource(s string) string {
	if rest, ok := strings.CutPrefix(s, "route."); ok {
		return "$" + rest
	}
	return s
}

func (s *Service) checkRequestAuthorizer(r *record, a *Authorizer) error {
	if a.TTLSeconds == nil {
		ttl := 0
		if len(a.IdentitySource) > 0 && !r.websocket() {
			ttl = defaultTTL
		}
		a.TTLSeconds = &ttl
	}
	if r.websocket() {
		if a.PayloadFormat != "" || a.Simple || *a.TTLSeconds != 0 {
			return invalid("authorizerPayloadFormatVersion, enableSimpleResponses and authorizerResultTtlInSeconds are for HTTP APIs.")
		}
	} else if a.PayloadFormat == "" {
		return invalid("authorizerPayloadFormatVersion is a required parameter for REQUEST authorizer: 1.0 or 2.0.")
	}
	switch {
	case !r.websocket() && a.PayloadFormat != "1.0" && a.PayloadFormat != "2.0":
		return invalid("authorizerPayloadFormatVersion must be 1.0 or 2.0.")
	case a.Simple && a.PayloadFormat != "2.0":
		return invalid("enableSimpleResponses needs the authorizerPayloadFormatVersion 2.0.")
	case *a.TTLSeconds < 0 || *a.TTLSeconds > 3600:
		return invalid("authorizerResultTtlInSeconds must be between 0 and 3600.")
	case *a.TTLSeconds > 0 && len(a.IdentitySource) == 0:
		return invalid("An authorizer whose results are kept (authorizerResultTtlInSeconds) needs an identitySource to keep them by.")
	case a.JWT != nil:
		return invalid("jwtConfiguration is for authorizers of the type JWT.")
	case a.URI == "":
		return invalid("authorizerUri is required for an authorizer of the type REQUEST.")
	}
	for _, source := range a.IdentitySource {
		if _, err := parseTemplate(identitySource(source), requestSources|contextSources|stageVariables); err != nil || !strings.HasPrefix(identitySource(source), "$") {
			return invalid("An identitySource is $request.header.NAME, $request.querystring.NAME, $context.NAME or $stageVariables.NAME: %.200q", source)
		}
	}
	if err := checkFunctionURI(a.URI, s.Region); err != nil {
		return err
	}
	if a.Credentials != "" {
		if !isRole(r.Account, a.Credentials) {
			return invalid("authorizerCredentialsArn must be the ARN of a role of the API's own account, such as arn:aws:iam::%s:role/NAME: %.200q", r.Account, a.Credentials)
		}
		if s.Role != nil {
			if err := s.Role(r.Account, a.Credentials, s.executeARN(r.Account, r.API.ID)+"/authorizers/"+a.ID); err != nil {
				return invalid("%s", message(err))
			}
		}
	}
	return nil
}

// DeleteAuthorizer deletes an authorizer that no route has.
func (s *Service) DeleteAuthorizer(ctx context.Context, account hearth.Account, api, id string) error {
	return s.change(ctx, account, api, func(r *record) error {
		if r.Authorizers[id] == nil {
			return notFound("Authorizer", id)
		}
		for _, route := range r.Routes {
			if route.AuthorizerID == id {
				return conflict("Cannot delete authorizer '%s', is referenced in route: %s", id, route.Key)
			}
		}
		delete(r.Authorizers, id)
		return nil
	})
}

// ResetAuthorizers forgets what functions said of the callers of a stage.
func (s *Service) ResetAuthorizers(account hearth.Account, api, stage string) error {
	r, err := s.api(account, api)
	if err != nil {
		return err
	}
	if r.Stages[stage] == nil {
		return notFound("Stage", stage)
	}
	if t := s.table(api); t != nil && t.stages[stage] != nil {
		for _, a := range t.stages[stage].authorizers {
			a.forget()
		}
	}
	return nil
}
