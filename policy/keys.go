package policy

import (
	"maps"
	"slices"
	"strings"
)

// Matching are the statements of an effect that apply to a request, by their
// place in the document.
func (d *Document) Matching(r *Request, effect Effect) (statements []int) {
	if d == nil {
		return nil
	}
	for i := range d.Statements {
		if s := &d.Statements[i]; s.Effect == effect && s.applies(r, d.Version == variables) {
			statements = append(statements, i)
		}
	}
	return statements
}

// keys are keys of a request's context as documents write them, by the key in
// lower case.
type keys map[string]string

func (k keys) add(key string) { k[strings.ToLower(key)] = key }

// addVariables adds those of a text's variables.
func (k keys) addVariables(texts ...string) {
	for _, text := range texts {
		for {
			_, rest, found := strings.Cut(text, "${")
			name, after, closed := strings.Cut(rest, "}")
			if !found || !closed {
				break
			}
			if name, _, _ = strings.Cut(name, ","); name != "*" && name != "?" && name != "$" && name != "" {
				k.add(strings.TrimSpace(name))
			}
			text = after
		}
	}
}

func (k keys) addConditions(conditions []Condition, withVariables bool) {
	for _, c := range conditions {
		k.add(c.Key)
		if withVariables {
			k.addVariables(c.Values...)
		}
	}
}

func (k keys) sorted() []string { return slices.Sorted(maps.Values(k)) }

// Keys are the keys of a request's context that the document asks about, as it
// writes them, each once, in order.
func (d *Document) Keys() []string {
	k := keys{}
	for _, s := range d.Statements {
		if d.Version == variables {
			k.addVariables(s.Resource...)
			k.addVariables(s.NotResource...)
		}
		k.addConditions(s.Conditions, d.Version == variables)
	}
	return k.sorted()
}

// Missing are the keys that a request's context lacks, and about which
// statements ask that may apply to it, as the document writes them, each once,
// in order.
func (d *Document) Missing(r *Request) []string {
	if d == nil {
		return nil
	}
	k, withVariables := keys{}, d.Version == variables
	for i := range d.Statements {
		s := d.Statements[i]
		if withVariables {
			anywhere := s
			anywhere.Resource, anywhere.NotResource = nil, nil
			if anywhere.about(r, true) {
				k.addVariables(s.Resource...)
				k.addVariables(s.NotResource...)
			}
		}
		if s.about(r, withVariables) {
			k.addConditions(s.Conditions, withVariables)
		}
	}
	maps.DeleteFunc(k, func(key, _ string) bool { return len(r.Context[key]) > 0 })
	return k.sorted()
}
