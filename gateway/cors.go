package gateway

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth/registry"
)

// IsPreflight tells a browser's question whether a page may make a request.
func IsPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// corsHeaders are those that a URL's configuration decides about, whatever the
// function says.
var corsHeaders = []string{
	"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers",
	"Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Max-Age",
}

// AllowOrigin sets what lets a page of the request's origin see the response,
// and reports whether it may.
func AllowOrigin(header http.Header, r *http.Request, c *registry.CORS) bool {
	if c == nil {
		return false
	}
	for _, name := range corsHeaders {
		delete(header, name)
	}
	origin := r.Header.Get("Origin")
	credentials := c.AllowCredentials != nil && *c.AllowCredentials
	wild := slices.Contains(c.AllowOrigins, "*")
	switch {
	case origin == "":
		return false
	case wild && !credentials:
		origin = "*"
	case wild || slices.ContainsFunc(c.AllowOrigins, func(o string) bool { return allows(o, origin) }):
		// The answer is of this origin only; a cache must know.
		header.Add("Vary", "Origin")
	default:
		header.Add("Vary", "Origin")
		return false
	}
	header["Access-Control-Allow-Origin"] = []string{origin}
	if credentials {
		header["Access-Control-Allow-Credentials"] = []string{"true"}
	}
	if len(c.ExposeHeaders) > 0 {
		header["Access-Control-Expose-Headers"] = []string{strings.Join(c.ExposeHeaders, ",")}
	}
	return true
}

// allows tells whether an entry of a list of origins lets one in: itself, or all
// of a scheme, as https://*.
func allows(entry, origin string) bool {
	if scheme, ok := strings.CutSuffix(entry, "://*"); ok {
		got, _, _ := strings.Cut(origin, "://")
		return strings.EqualFold(got, scheme)
	}
	return strings.EqualFold(entry, origin)
}

// AnswerPreflight answers in the function's place.
func AnswerPreflight(w http.ResponseWriter, r *http.Request, c *registry.CORS) {
	Preflight(w.Header(), r, c)
	w.Header()["Content-Length"] = []string{"0"}
	w.WriteHeader(http.StatusOK)
}

// Preflight sets the headers of an answer to a browser's question.
func Preflight(header http.Header, r *http.Request, c *registry.CORS) {
	if AllowOrigin(header, r, c) {
		delete(header, "Access-Control-Expose-Headers") // it is about real answers
		credentials := c.AllowCredentials != nil && *c.AllowCredentials
		list := func(name, asked string, allowed []string) {
			switch {
			case len(allowed) == 0:
			case credentials && slices.Contains(allowed, "*") && asked != "":
				// With credentials browsers take "*" for a name.
				header[name] = []string{asked}
			default:
				header[name] = []string{strings.Join(allowed, ",")}
			}
		}
		list("Access-Control-Allow-Methods", r.Header.Get("Access-Control-Request-Method"), c.AllowMethods)
		list("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"), c.AllowHeaders)
		if c.MaxAge != nil {
			header["Access-Control-Max-Age"] = []string{strconv.Itoa(*c.MaxAge)}
		}
	}
}
