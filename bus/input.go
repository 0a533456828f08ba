package bus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A path names a part of an event: $, then steps such as .detail, ['a name'],
// [0] and [*].
type path []step

type step struct {
	name  string // of a member
	index int    // of an item; -1 is every one
	item  bool
}

func parsePath(text string) (path, error) {
	rest, ok := strings.CutPrefix(text, "$")
	if !ok {
		return nil, fmt.Errorf("a path begins with $: %.80q", text)
	}
	var p path
	for rest != "" {
		switch {
		case rest[0] == '.':
			end := strings.IndexAny(rest[1:], ".[")
			if end < 0 {
				end = len(rest) - 1
			}
			name := rest[1 : end+1]
			if name == "" || strings.ContainsAny(name, "*'\"@?()") {
				return nil, fmt.Errorf("%.80q: a member's name must follow the point", text)
			}
			p, rest = append(p, step{name: name}), rest[end+1:]
		case strings.HasPrefix(rest, "['"):
			end := strings.Index(rest, "']")
			if end < 0 {
				return nil, fmt.Errorf("%.80q: no '] ends the name", text)
			}
			p, rest = append(p, step{name: rest[2:end]}), rest[end+2:]
		case rest[0] == '[':
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				return nil, fmt.Errorf("%.80q: no ] ends the index", text)
			}
			s := step{item: true, index: -1}
			if inner := rest[1:end]; inner != "*" {
				n, err := strconv.ParseUint(inner, 10, 31)
				if err != nil {
					return nil, fmt.Errorf("%.80q: %q is no index", text, inner)
				}
				s.index = int(n)
			}
			p, rest = append(p, s), rest[end+1:]
		default:
			return nil, fmt.Errorf("%.80q: %q is no step", text, rest)
		}
	}
	return p, nil
}

// find returns what p names in event, as it is written there; nil if there is
// nothing. With a [*] it is a list.
func (p path) find(event json.RawMessage) json.RawMessage {
	for i, s := range p {
		if !s.item {
			var object map[string]json.RawMessage
			if json.Unmarshal(event, &object) != nil {
				return nil
			}
			if event = object[s.name]; event == nil {
				return nil
			}
			continue
		}
		var list []json.RawMessage
		if json.Unmarshal(event, &list) != nil {
			return nil
		}
		if s.index >= 0 {
			if s.index >= len(list) {
				return nil
			}
			event = list[s.index]
			continue
		}
		found := [][]byte{}
		for _, item := range list {
			if v := p[i+1:].find(item); v != nil {
				found = append(found, v)
			}
		}
		return append(append([]byte("["), bytes.Join(found, []byte(","))...), ']')
	}
	return bytes.TrimSpace(event)
}

// Bounds of the service.
const (
	maxPaths    = 100
	maxTemplate = 8192
)

const reservedPrefix = "aws.events."

func (t *Transformer) check() error {
	switch {
	case t.Template == "" || len(t.Template) > maxTemplate:
		return fmt.Errorf("a template has between 1 and %d bytes", maxTemplate)
	case len(t.Paths) > maxPaths:
		return fmt.Errorf("there can be %d paths", maxPaths)
	}
	for name, text := range t.Paths {
		if strings.HasPrefix(name, "AWS") || strings.HasPrefix(name, reservedPrefix) || name == "" || strings.ContainsAny(name, "<>") {
			return fmt.Errorf("%q can't be a variable's name", name)
		}
		if _, err := parsePath(text); err != nil {
			return err
		}
	}
	var unknown error
	sample, err := t.fill(func(name string) json.RawMessage {
		if _, ok := t.Paths[name]; !ok && !strings.HasPrefix(name, reservedPrefix) {
			unknown = fmt.Errorf("the variable <%s> has no path", name)
		}
		return json.RawMessage(`"x"`)
	})
	if err := errors.Join(err, unknown); err != nil {
		return err
	}
	if strings.HasPrefix(strings.TrimSpace(t.Template), "{") && !json.Valid(sample) {
		return errors.New("filled with values it is no JSON")
	}
	return nil
}

// fill replaces <name> by its value. In quotes a text is written without its
// own, and other JSON so that it can stand in a text; else JSON as it is. What
// an event does not have is an empty text.
func (t *Transformer) fill(value func(name string) json.RawMessage) ([]byte, error) {
	var out bytes.Buffer
	quoted := false
	text := t.Template
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && quoted && i+1 < len(text):
			out.WriteByte(c)
			i++
			out.WriteByte(text[i])
		case c == '"':
			quoted = !quoted
			out.WriteByte(c)
		case c == '<':
			end := strings.IndexByte(text[i:], '>')
			if end < 0 {
				out.WriteByte(c)
				continue
			}
			v := value(text[i+1 : i+end])
			i += end
			if v == nil {
				v = json.RawMessage(`""`)
			}
			if quoted {
				if v[0] != '"' {
					b, err := json.Marshal(string(v))
					if err != nil {
						return nil, err
					}
					v = b
				}
				v = v[1 : len(v)-1]
			}
			out.Write(v)
		default:
			out.WriteByte(c)
		}
	}
	return out.Bytes(), nil
}

// input is what the target gets of an event.
func (t *Target) input(r *Rule, event []byte, now time.Time) ([]byte, error) {
	switch {
	case t.Input != "":
		return []byte(t.Input), nil
	case t.InputPath != "":
		p, err := parsePath(t.InputPath)
		if err != nil {
			return nil, err
		}
		if v := p.find(event); v != nil {
			return v, nil
		}
		return []byte("null"), nil
	case t.Transformer == nil:
		return event, nil
	}
	out, err := t.Transformer.fill(func(name string) json.RawMessage {
		quote := func(s string) json.RawMessage { return json.RawMessage(strconv.Quote(s)) } // ARNs, names and times need no escapes
		switch name {
		case "aws.events.rule-arn":
			return quote(r.ARN())
		case "aws.events.rule-name":
			return quote(r.Name)
		case "aws.events.event.ingestion-time":
			return quote(now.UTC().Format("2006-01-02T15:04:05Z"))
		case "aws.events.event.json":
			return event
		case "aws.events.event": // without the detail
			var whole map[string]json.RawMessage
			if json.Unmarshal(event, &whole) != nil {
				return nil
			}
			delete(whole, "detail")
			b, err := json.Marshal(whole)
			if err != nil {
				return nil
			}
			return b
		}
		p, err := parsePath(t.Transformer.Paths[name])
		if err != nil {
			return nil
		}
		return p.find(event)
	})
	if err == nil && strings.HasPrefix(t.ARN, "arn:aws:lambda:") && !json.Valid(out) {
		// A function gets JSON whatever the template makes.
		return json.Marshal(string(out))
	}
	return out, err
}
