package apigateway

import (
	"regexp"
	"strings"
)

// template is a text with variables, compiled once.
type template struct{ parts []part }

// part is a literal, or a variable if source is not "".
type part struct {
	literal      string
	source, name string // such as request.header and x-mine
}

// sources is a set of those that a template may name.
type sources uint8

const (
	stageVariables  sources = 1 << iota // stageVariables.NAME
	pathVariables                       // path.NAME, written {NAME} in URLs
	requestSources                      // request.header.NAME, .querystring.NAME, .body[.PATH], .path[.NAME]
	responseSources                     // response.header.NAME, response.body[.PATH]
	contextSources                      // context.NAME
)

// split tells a variable's source from its name.
func split(variable string, allowed sources) (p part, err error) {
	for _, s := range []struct {
		prefix string
		in     sources
		bare   bool // it may stand without a name
	}{
		{"stageVariables", stageVariables, false}, {"path", pathVariables, false}, {"context", contextSources, false},
		{"request.header", requestSources, false}, {"request.querystring", requestSources, false},
		{"request.body", requestSources, true}, {"request.path", requestSources, true},
		{"response.header", responseSources, false}, {"response.body", responseSources, true},
	} {
		rest, ok := strings.CutPrefix(variable, s.prefix)
		if !ok || s.in&allowed == 0 {
			continue
		}
		if rest == "" && s.bare {
			return part{source: s.prefix}, nil
		}
		if name, ok := strings.CutPrefix(rest, "."); ok && name != "" {
			return part{source: s.prefix, name: name}, nil
		}
	}
	return p, invalid("Invalid mapping expression specified: $%.200s names nothing that can be used here.", variable)
}

// parseTemplate reads a text with variables as ${NAME}, or one variable alone
// as $NAME.
func parseTemplate(text string, allowed sources) (*template, error) {
	t := &template{}
	if strings.HasPrefix(text, "$") && !strings.HasPrefix(text, "${") {
		p, err := split(text[1:], allowed)
		if err != nil {
			return nil, err
		}
		t.parts = []part{p}
		return t, nil
	}
	for text != "" {
		before, rest, ok := strings.Cut(text, "${")
		if before != "" {
			t.parts = append(t.parts, part{literal: before})
		}
		if !ok {
			break
		}
		variable, after, ok := strings.Cut(rest, "}")
		if !ok {
			return nil, invalid("Invalid mapping expression specified: ${ without } in %.200q.", text)
		}
		p, err := split(variable, allowed)
		if err != nil {
			return nil, err
		}
		t.parts, text = append(t.parts, p), after
	}
	return t, nil
}

// logVariable is a variable in an access log's format, where it stands without
// braces.
var logVariable = regexp.MustCompile(`\$context\.[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*`)

// parseLogFormat reads the format of an access log.
func parseLogFormat(text string) *template {
	t := &template{}
	at := 0
	for _, m := range logVariable.FindAllStringIndex(text, -1) {
		if m[0] > at {
			t.parts = append(t.parts, part{literal: text[at:m[0]]})
		}
		t.parts = append(t.parts, part{source: "context", name: text[m[0]+len("$context.") : m[1]]})
		at = m[1]
	}
	if at < len(text) {
		t.parts = append(t.parts, part{literal: text[at:]})
	}
	return t
}

// text is the template with each variable's value; what has none is "".
func (t *template) text(value func(source, name string) (string, bool)) string {
	if len(t.parts) == 1 && t.parts[0].source == "" {
		return t.parts[0].literal
	}
	var b strings.Builder
	for _, p := range t.parts {
		if p.source == "" {
			b.WriteString(p.literal)
		} else if v, ok := value(p.source, p.name); ok {
			b.WriteString(v)
		}
	}
	return b.String()
}

// urlVariable is a variable of the path in a backend's URL.
var urlVariable = regexp.MustCompile(`(^|[^$])\{([A-Za-z0-9._:$-]+)\}`)

// braced writes the variables of the path as templates have them.
func braced(uri string) string { return urlVariable.ReplaceAllString(uri, "$1$${path.$2}") }
