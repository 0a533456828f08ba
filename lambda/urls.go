package lambda

import (
	"crypto/rand"
	"encoding/base32"
	"maps"
	"slices"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

// urlOperations are those of functions' URLs.
var urlOperations = operationTable{
	"CreateFunctionUrlConfig": serve((*Handler).createURL),
	"DeleteFunctionUrlConfig": serve((*Handler).deleteURL),
	"GetFunctionUrlConfig":    serve((*Handler).getURL),
	"ListFunctionUrlConfigs":  serve((*Handler).listURLs),
	"UpdateFunctionUrlConfig": serve((*Handler).updateURL),
}

// newURLID makes the id of a URL, the first label of its host name: 32 letters
// and digits, which nobody guesses.
func newURLID() string {
	var b [20]byte
	rand.Read(b[:]) // never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// urlTarget reads whose URL it is: a function's, or an alias's.
func (h *Handler) urlTarget(c *call, name, qualifier *string, action string) (target, error) {
	t, err := h.target(c, name, qualifier, action)
	if err != nil {
		return t, err
	}
	if t.qualifier == hearth.Latest {
		t.qualifier = ""
	}
	if t.qualifier == "" { // also of what can't be run just now
		_, err = h.Registry.Settings(c.ctx, t.account, t.name, "")
	} else {
		// A version has no URL, and its number is no alias.
		_, err = h.Registry.Alias(c.ctx, t.account, t.name, t.qualifier)
	}
	if hearth.KindOf(err) == hearth.NotFound {
		err = hearth.Errorf(hearth.NotFound, "Function does not exist")
	}
	return t, err
}

func noURL() error {
	return hearth.Errorf(hearth.NotFound, "The resource you requested does not exist.")
}

// urlTime is how URLs' times are written.
const urlTime = "2006-01-02T15:04:05.000000Z"

// urlOf is a URL as the API shows it. The outputs of four operations are this
// structure on the wire.
func (h *Handler) urlOf(c *call, t target, u *registry.URL) types.FunctionUrlConfig {
	return types.FunctionUrlConfig{
		AuthType:         types.FunctionUrlAuthType(u.AuthType),
		Cors:             corsOf(u.CORS),
		CreationTime:     new(u.Created.UTC().Format(urlTime)),
		FunctionArn:      new(t.arn(h.region)),
		FunctionUrl:      new(h.FunctionURL(c.http, u.ID)),
		InvokeMode:       types.InvokeMode(u.InvokeMode),
		LastModifiedTime: new(u.Modified.UTC().Format(urlTime)),
	}
}

func corsOf(c *registry.CORS) *types.Cors {
	if c == nil {
		return nil
	}
	out := &types.Cors{
		AllowCredentials: c.AllowCredentials, AllowHeaders: c.AllowHeaders, AllowMethods: c.AllowMethods,
		AllowOrigins: c.AllowOrigins, ExposeHeaders: c.ExposeHeaders,
	}
	if c.MaxAge != nil {
		out.MaxAge = new(int32(*c.MaxAge))
	}
	return out
}

// methods are what AllowMethods may name. OPTIONS is not among them: the
// browser's question is answered for every URL with CORS.
var methods = []string{"GET", "PUT", "HEAD", "POST", "PATCH", "DELETE", "*"}

// setCORS takes over what a request says about CORS: nothing leaves it as it
// is, an empty object clears it.
func setCORS(u *registry.URL, c *types.Cors) error {
	if c == nil {
		return nil
	}
	for _, m := range c.AllowMethods {
		if !slices.Contains(methods, m) {
			return hearth.Errorf(hearth.InvalidParameter, "Invalid Cors method '%s': valid values are %s", m, strings.Join(methods, ", "))
		}
	}
	cors := &registry.CORS{
		AllowCredentials: c.AllowCredentials, AllowHeaders: c.AllowHeaders, AllowMethods: c.AllowMethods,
		AllowOrigins: c.AllowOrigins, ExposeHeaders: c.ExposeHeaders,
	}
	if c.MaxAge != nil {
		cors.MaxAge = new(int(*c.MaxAge))
	}
	empty := cors.AllowCredentials == nil && cors.MaxAge == nil &&
		len(cors.AllowHeaders)+len(cors.AllowMethods)+len(cors.AllowOrigins)+len(cors.ExposeHeaders) == 0
	if u.CORS = cors; empty {
		u.CORS = nil
	}
	return nil
}

func (h *Handler) createURL(c *call, in *sdk.CreateFunctionUrlConfigInput) (smithy.Serializable, error) {
	t, err := h.urlTarget(c, in.FunctionName, in.Qualifier, "CreateFunctionUrlConfig")
	if err != nil {
		return nil, err
	}
	now := h.Clock.Now()
	u := &registry.URL{ID: newURLID(), AuthType: string(in.AuthType), InvokeMode: string(in.InvokeMode), Created: now, Modified: now}
	if u.InvokeMode == "" {
		u.InvokeMode = string(types.InvokeModeBuffered)
	}
	if err := setCORS(u, in.Cors); err != nil {
		return nil, err
	}
	if f, err := h.Registry.Get(c.ctx, t.account, t.name, t.qualifier); err == nil && f.TenantIsolation != "" {
		// A URL has no way to say for which tenant a request is.
		return nil, hearth.Errorf(hearth.InvalidParameter, "Function URLs are not supported for functions with tenant isolation.")
	}
	_, err = h.Registry.Configure(c.ctx, t.account, t.name, t.qualifier, func(s *registry.Settings) error {
		if s.URL != nil {
			return hearth.Errorf(hearth.Conflict,
				"Failed to create function url config for [functionArn = %s]. Error message:  FunctionUrlConfig exists for this Lambda function", t.arn(h.region))
		}
		s.URL = u
		return nil
	})
	if err != nil {
		return nil, err
	}
	o := h.urlOf(c, t, u)
	return &sdk.CreateFunctionUrlConfigOutput{
		AuthType: o.AuthType, Cors: o.Cors, CreationTime: o.CreationTime, FunctionArn: o.FunctionArn,
		FunctionUrl: o.FunctionUrl, InvokeMode: o.InvokeMode,
	}, nil
}

func (h *Handler) updateURL(c *call, in *sdk.UpdateFunctionUrlConfigInput) (smithy.Serializable, error) {
	t, err := h.urlTarget(c, in.FunctionName, in.Qualifier, "UpdateFunctionUrlConfig")
	if err != nil {
		return nil, err
	}
	s, err := h.Registry.Configure(c.ctx, t.account, t.name, t.qualifier, func(s *registry.Settings) error {
		if s.URL == nil {
			return noURL()
		}
		if in.AuthType != "" {
			s.URL.AuthType = string(in.AuthType)
		}
		if in.InvokeMode != "" {
			s.URL.InvokeMode = string(in.InvokeMode)
		}
		s.URL.Modified = h.Clock.Now()
		return setCORS(s.URL, in.Cors)
	})
	if err != nil {
		return nil, err
	}
	return new(h.urlOf(c, t, s.URL)), nil
}

func (h *Handler) getURL(c *call, in *sdk.GetFunctionUrlConfigInput) (smithy.Serializable, error) {
	t, err := h.urlTarget(c, in.FunctionName, in.Qualifier, "GetFunctionUrlConfig")
	if err != nil {
		return nil, err
	}
	s, err := h.Registry.Settings(c.ctx, t.account, t.name, t.qualifier)
	if err != nil {
		return nil, err
	}
	if s.URL == nil {
		return nil, noURL()
	}
	return new(h.urlOf(c, t, s.URL)), nil
}

func (h *Handler) deleteURL(c *call, in *sdk.DeleteFunctionUrlConfigInput) (smithy.Serializable, error) {
	t, err := h.urlTarget(c, in.FunctionName, in.Qualifier, "DeleteFunctionUrlConfig")
	if err != nil {
		return nil, err
	}
	_, err = h.Registry.Configure(c.ctx, t.account, t.name, t.qualifier, func(s *registry.Settings) error {
		if s.URL == nil {
			return noURL()
		}
		s.URL = nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteFunctionUrlConfigOutput{}, nil
}

// listURLs lists the URLs of a function and of its aliases, by their names.
// The marker is the name of the last one listed.
func (h *Handler) listURLs(c *call, in *sdk.ListFunctionUrlConfigsInput) (smithy.Serializable, error) {
	t, err := h.urlTarget(c, in.FunctionName, nil, "ListFunctionUrlConfigs")
	if err != nil {
		return nil, err
	}
	all, err := h.Registry.AllSettings(c.ctx, t.account, t.name)
	if err != nil {
		return nil, err
	}
	after := str(in.Marker)
	out := &sdk.ListFunctionUrlConfigsOutput{FunctionUrlConfigs: []types.FunctionUrlConfig{}}
	max := pageOf(in.MaxItems)
	for _, qualifier := range slices.Sorted(maps.Keys(all)) {
		if all[qualifier].URL == nil || in.Marker != nil && markerOfURL(qualifier) <= after {
			continue
		}
		if len(out.FunctionUrlConfigs) == max {
			out.NextMarker = new(after)
			break
		}
		t.qualifier, after = qualifier, markerOfURL(qualifier)
		out.FunctionUrlConfigs = append(out.FunctionUrlConfigs, h.urlOf(c, t, all[qualifier].URL))
	}
	return out, nil
}

// markerOfURL is never empty: "" would be no marker. It sorts as the
// qualifiers do.
func markerOfURL(qualifier string) string { return "." + qualifier }
