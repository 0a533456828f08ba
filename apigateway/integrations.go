package apigateway

import (
	"context"
	"net/url"
	"strings"

	hearth "github.com/hearth-faas/hearth"
)

const (
	// maxTimeout is the longest that an integration may take, in milliseconds.
	maxTimeout = 30000
	// socketTimeout is how long a WebSocket API's may take if it does not say.
	socketTimeout = 29000
)

// Integrations lists the integrations of an API.
func (s *Service) Integrations(account hearth.Account, api string, p Page) ([]*Integration, string, error) {
	r, err := s.api(account, api)
	if err != nil {
		return nil, "", err
	}
	list, next := page(r.Integrations, p, nil)
	return list, next, nil
}

// Integration finds an integration.
func (s *Service) Integration(account hearth.Account, api, id string) (*Integration, error) {
	r, err := s.api(account, api)
	if err != nil {
		return nil, err
	}
	if i := r.Integrations[id]; i != nil {
		return i, nil
	}
	return nil, notFound("Integration", id)
}

// PutIntegration changes an integration, or makes one if id is "".
func (s *Service) PutIntegration(ctx context.Context, account hearth.Account, api, id string, change func(*Integration) error) (out *Integration, _ error) {
	err := s.change(ctx, account, api, func(r *record) (err error) {
		old := &Integration{ID: newID(7)}
		switch {
		case id != "":
			if old = r.Integrations[id]; old == nil {
				return notFound("Integration", id)
			}
		default:
			if err := limit("integrations", len(r.Integrations), maxIntegrations); err != nil {
				return err
			}
		}
		if out, err = copyOf(old); err != nil {
			return err
		}
		if err := change(out); err != nil {
			return err
		}
		out.ID, out.Managed = old.ID, old.Managed
		if err := s.checkIntegration(r, out); err != nil {
			return err
		}
		r.Integrations[out.ID] = out
		return nil
	})
	return out, err
}

// checkIntegration fills in what was left out, and refuses what cannot be.
func (s *Service) checkIntegration(r *record, i *Integration) error {
	if i.ConnectionType == "" {
		i.ConnectionType = "INTERNET"
	}
	if i.TimeoutMillis == 0 {
		i.TimeoutMillis = maxTimeout
		if r.websocket() {
			i.TimeoutMillis = socketTimeout
		}
	}
	switch {
	case i.Subtype != "" && r.websocket():
		return invalid("integrationSubtype is for HTTP APIs.")
	case i.ConnectionType == "VPC_LINK":
		return invalid("VPC links are not supported by Hearth, which reaches private addresses as it is: use the connectionType INTERNET.")
	case i.ConnectionType != "INTERNET":
		return invalid("Invalid connectionType %.40q: it is INTERNET.", i.ConnectionType)
	case i.TimeoutMillis < 50 || i.TimeoutMillis > maxTimeout:
		return invalid("timeoutInMillis must be between 50 and %d.", maxTimeout)
	case len(i.Description) > 1024:
		return invalid("description must have at most 1024 characters.")
	case i.URI == "" && i.Type != "MOCK" && i.Subtype == "" || len(i.URI) > 2048:
		return invalid("integrationUri is required, and has at most 2048 characters.")
	case i.PayloadFormat != "1.0" && i.PayloadFormat != "2.0":
		return invalid("payloadFormatVersion must be 1.0 or 2.0.")
	}
	if r.websocket() {
		if err := checkSocketIntegration(i); err != nil {
			return err
		}
	} else {
		if len(i.RequestTemplates) > 0 || i.TemplateSelection != "" || i.ContentHandling != "" {
			return invalid("requestTemplates, templateSelectionExpression and contentHandlingStrategy are for WebSocket APIs.")
		}
		i.Passthrough = "" // which Terraform sends whatever the API is
	}
	switch i.Type {
	case "AWS_PROXY":
		if i.Subtype != "" {
			if err := s.checkSubtype(i); err != nil {
				return err
			}
		} else if err := checkFunctionURI(i.URI, s.Region); err != nil {
			return err
		} else if i.Method == "" {
			i.Method = "POST"
		} else if i.Method != "POST" {
			return invalid("The integrationMethod of a function is POST.")
		}
		if i.Credentials != "" && i.Credentials != "arn:aws:iam::*:user/*" {
			if !isRole(r.Account, i.Credentials) {
				return invalid("credentialsArn must be the ARN of a role of the API's own account, such as arn:aws:iam::%s:role/NAME: %.200q", r.Account, i.Credentials)
			}
			if s.Role != nil {
				if err := s.Role(r.Account, i.Credentials, s.executeARN(r.Account, r.API.ID)+"/*"); err != nil {
					return invalid("%s", message(err))
				}
			}
		}
		if i.Credentials == "arn:aws:iam::*:user/*" {
			return invalid("The caller's own credentials can't be passed on by Hearth: give a role as credentialsArn, or leave it out and let the function's policy allow apigateway.amazonaws.com.")
		}
	case "HTTP_PROXY":
		if i.Subtype != "" {
			return s.checkSubtype(i)
		}
		if i.Method != "ANY" && !isMethod(i.Method) {
			return invalid("integrationMethod is required for HTTP_PROXY: ANY or a method.")
		}
		if i.PayloadFormat != "1.0" {
			return invalid("The payloadFormatVersion of HTTP_PROXY must be 1.0.")
		}
		if err := checkURL(i.URI); err != nil {
			return err
		}
	case "MOCK":
		if r.websocket() {
			break
		}
		fallthrough
	default:
		return invalid("Invalid integrationType %.40q: an HTTP API has AWS_PROXY and HTTP_PROXY.", i.Type)
	}
	return i.compiles(r.websocket())
}

// compiles refuses mappings and templates that can't be read.
func (i *Integration) compiles(websocket bool) error {
	n := &integration{Integration: i}
	return n.compile(websocket)
}

// message is what a caller is told of an error.
func message(err error) string {
	if e, ok := asError(err); ok {
		return e.Message
	}
	return "An internal error occurred."
}

// isRole tells a role of the account: whoever acts as one of another account
// would act as that account.
func isRole(account hearth.Account, arn string) bool {
	name, ok := strings.CutPrefix(arn, "arn:aws:iam::"+string(account)+":role/")
	return ok && name != ""
}

// functionARN is the ARN of the function in an integration's URI.
func functionARN(uri string) string {
	if rest, ok := strings.CutPrefix(uri, "arn:aws:apigateway:"); ok {
		if _, arn, ok := strings.Cut(rest, ":lambda:path/2015-03-31/functions/"); ok {
			return strings.TrimSuffix(arn, "/invocations")
		}
	}
	return uri
}

// function is whose function an integration calls.
type function struct {
	account         hearth.Account
	name, qualifier string
	arn             string
}

// parseFunction reads a function's ARN. ok is false if it is none of the
// region's.
func parseFunction(uri, region string) (f function, ok bool) {
	f.arn = functionARN(uri)
	parts := strings.Split(f.arn, ":")
	if len(parts) != 7 && len(parts) != 8 || parts[0] != "arn" || parts[2] != "lambda" || parts[3] != region || len(parts[4]) != 12 || parts[5] != "function" || parts[6] == "" {
		return f, false
	}
	f.account, f.name = hearth.Account(parts[4]), parts[6]
	if len(parts) == 8 {
		f.qualifier = parts[7]
	}
	return f, len(parts) == 7 || f.qualifier != ""
}

// checkFunctionURI refuses what cannot be a function, whatever the stage
// variables in it are.
func checkFunctionURI(uri, region string) error {
	t, err := parseTemplate(uri, stageVariables)
	if err != nil {
		return err
	}
	filled := t.text(func(_, _ string) (string, bool) { return "x", true })
	if _, ok := parseFunction(filled, region); !ok {
		return invalid("Invalid function ARN %.300q: the integrationUri of AWS_PROXY is arn:aws:lambda:%s:ACCOUNT:function:NAME, which may have a version or an alias.", uri, region)
	}
	return nil
}

// checkURL refuses what cannot be the URL of a backend.
func checkURL(uri string) error {
	t, err := parseTemplate(braced(uri), stageVariables|pathVariables)
	if err != nil {
		return err
	}
	filled := t.text(func(_, _ string) (string, bool) { return "1", true })
	u, err := url.Parse(filled)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return invalid("Invalid HTTP endpoint specified for URI: %.300q: it begins with http:// or https:// and a host.", uri)
	}
	return nil
}

// DeleteIntegration deletes an integration that no route has.
func (s *Service) DeleteIntegration(ctx context.Context, account hearth.Account, api, id string) error {
	return s.change(ctx, account, api, func(r *record) error {
		if r.Integrations[id] == nil {
			return notFound("Integration", id)
		}
		for _, route := range r.Routes {
			if route.Target == "integrations/"+id {
				return conflict("Cannot delete Integration %s: the route %s (%s) has it. Delete the route, or give it another target.", id, route.ID, route.Key)
			}
		}
		delete(r.Integrations, id)
		return nil
	})
}
