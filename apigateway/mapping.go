package apigateway

import (
	"encoding/json"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// mapping is one change that an integration makes to a request before it is
// handed on, or to a response.
type mapping struct {
	verb  string // append, overwrite or remove
	where string // header, querystring, path or statuscode
	name  string // of a header, canonical, or of a parameter
	value *template
}

// mappings are an integration's.
type mappings struct {
	request  []mapping
	response map[int][]mapping // by status
}

// reserved are the headers that mappings may not change, in lower case.
var reserved = map[string]bool{
	"authorization": true, "connection": true, "content-encoding": true, "content-length": true, "content-location": true,
	"forwarded": true, "keep-alive": true, "origin": true, "proxy-authenticate": true, "te": true, "trailer": true, "trailers": true,
	"transfer-encoding": true, "upgrade": true, "host": true, "via": true,
	"x-forwarded-for": true, "x-forwarded-host": true, "x-forwarded-proto": true,
}

func isReserved(header string) bool {
	h := strings.ToLower(header)
	if reserved[h] {
		return true
	}
	for _, p := range []string{"access-control-", "apigw-", "x-amz-", "x-amzn-"} {
		if strings.HasPrefix(h, p) {
			return true
		}
	}
	return false
}

// parseMapping reads one entry of requestParameters or responseParameters.
func parseMapping(key, value string, response bool) (m mapping, err error) {
	verb, target, _ := strings.Cut(key, ":")
	where, name, named := strings.Cut(target, ".")
	wrong := func(why string) (mapping, error) {
		return m, invalid("Invalid mapping expression specified: %.200q: %s.", key, why)
	}
	m = mapping{verb: verb, where: where, name: name}
	switch verb {
	case "append", "overwrite", "remove":
	default:
		return wrong("it begins with append:, overwrite: or remove:")
	}
	switch {
	case where == "header" && named:
		if !isToken(name) {
			return wrong("that is no name of a header")
		}
		if isReserved(name) {
			return wrong("that header can't be changed by mappings")
		}
		m.name = textproto.CanonicalMIMEHeaderKey(name)
	case where == "querystring" && named && name != "" && !response:
	case where == "path" && !named && verb == "overwrite" && !response:
	case where == "statuscode" && !named && verb == "overwrite" && response:
	default:
		if response {
			return wrong("it names header.NAME, or overwrites statuscode")
		}
		return wrong("it names header.NAME or querystring.NAME, or overwrites path")
	}
	if verb == "remove" {
		return m, nil
	}
	allowed := requestSources | contextSources | stageVariables
	if response {
		allowed = responseSources | contextSources | stageVariables
	}
	m.value, err = parseTemplate(value, allowed)
	return m, err
}

// compileMappings reads an integration's mappings.
func compileMappings(i *Integration) (c mappings, err error) {
	if len(i.RequestParameters) > 20 {
		return c, invalid("An integration can have at most 20 requestParameters.")
	}
	for _, key := range sortedKeys(i.RequestParameters) {
		m, err := parseMapping(key, i.RequestParameters[key], false)
		if err != nil {
			return c, err
		}
		c.request = append(c.request, m)
	}
	c.response, err = compileResponses(i)
	return c, err
}

// compileResponses reads an integration's mappings of responses, by status.
func compileResponses(i *Integration) (response map[int][]mapping, _ error) {
	for _, status := range sortedKeys(i.ResponseParameters) {
		n, err := strconv.Atoi(status)
		if err != nil || n < 200 || n > 599 {
			return nil, invalid("responseParameters are by status, from 200 to 599: %.40q", status)
		}
		for _, key := range sortedKeys(i.ResponseParameters[status]) {
			m, err := parseMapping(key, i.ResponseParameters[status][key], true)
			if err != nil {
				return nil, err
			}
			if response == nil {
				response = map[int][]mapping{}
			}
			response[n] = append(response[n], m)
		}
	}
	return response, nil
}

// outgoing is a request as an integration gets it.
type outgoing struct {
	path   string // percent-encoded; "" is what the integration says
	query  string
	header http.Header
}

// apply makes the changes. query keeps its order unless it is changed.
func (o *outgoing) apply(ms []mapping, value func(source, name string) (string, bool)) {
	// Values are those of the request as it came, not as other mappings left it.
	values := make([]string, len(ms))
	for i, m := range ms {
		if m.value != nil {
			values[i] = oneLine(m.value.text(value))
		}
	}
	var query url.Values
	for i, m := range ms {
		switch m.where {
		case "header":
			change(o.header, m, values[i])
		case "querystring":
			if query == nil {
				query, _ = url.ParseQuery(o.query) // what can't be read of it is left out
			}
			change(query, m, values[i])
		case "path":
			o.path = values[i]
			if !strings.HasPrefix(o.path, "/") {
				o.path = "/" + o.path
			}
		}
	}
	if query != nil {
		o.query = query.Encode()
	}
}

// change makes one change to headers or parameters; a value that is empty
// changes nothing.
func change[M ~map[string][]string](all M, m mapping, value string) {
	switch {
	case m.verb == "remove":
		delete(all, m.name)
	case value == "":
	case m.verb == "append":
		all[m.name] = append(all[m.name], value)
	default:
		all[m.name] = []string{value}
	}
}

// oneLine takes out what would end a header.
func oneLine(s string) string {
	if !strings.ContainsAny(s, "\r\n\x00") {
		return s
	}
	return strings.NewReplacer("\r", " ", "\n", " ", "\x00", " ").Replace(s)
}

// bodyAt is what stands in a JSON body at a path such as a.b[0].c; a string as
// it is, all else as JSON.
func bodyAt(body []byte, path string) (string, bool) {
	if path == "" {
		return string(body), true
	}
	at := json.RawMessage(body)
	for _, step := range strings.FieldsFunc(strings.TrimPrefix(path, "$."), func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		if n, err := strconv.Atoi(step); err == nil {
			var list []json.RawMessage
			if json.Unmarshal(at, &list) == nil {
				if n < 0 || n >= len(list) {
					return "", false
				}
				at = list[n]
				continue
			}
		}
		var members map[string]json.RawMessage
		if json.Unmarshal(at, &members) != nil || members[step] == nil {
			return "", false
		}
		at = members[step]
	}
	if string(at) == "null" {
		return "", false
	}
	var text string
	if json.Unmarshal(at, &text) == nil {
		return text, true
	}
	return string(at), true
}
