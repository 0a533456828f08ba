package policy

import (
	"bytes"
	"encoding/json"
)

// The wire's form: the order of these members is the order in which the
// service writes them.
type (
	wireDocument struct {
		Version   string `json:",omitempty"`
		Id        string `json:",omitempty"`
		Statement []Statement
	}
	wireStatement struct {
		Sid          string      `json:",omitempty"`
		Effect       Effect      `json:",omitempty"`
		Principal    *Principals `json:",omitempty"`
		NotPrincipal *Principals `json:",omitempty"`
		Action       list        `json:",omitempty"`
		NotAction    list        `json:",omitempty"`
		Resource     list        `json:",omitempty"`
		NotResource  list        `json:",omitempty"`
		Condition    any         `json:",omitempty"`
	}
	wirePrincipals struct {
		AWS           list `json:",omitempty"`
		Service       list `json:",omitempty"`
		Federated     list `json:",omitempty"`
		CanonicalUser list `json:",omitempty"`
	}
)

// list is written as the value alone if it has one.
type list []string

func (l list) MarshalJSON() ([]byte, error) {
	if len(l) == 1 {
		return plain(l[0])
	}
	return plain([]string(l))
}

// plain is json.Marshal without its escapes for HTML, which ARNs' wildcards
// and conditions do not need.
func plain(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// MarshalJSON writes the canonical form.
func (d Document) MarshalJSON() ([]byte, error) {
	statements := d.Statements
	if statements == nil {
		statements = []Statement{}
	}
	return plain(wireDocument{d.Version, d.ID, statements})
}

// MarshalJSON writes the canonical form.
func (s Statement) MarshalJSON() ([]byte, error) {
	w := wireStatement{s.SID, s.Effect, s.Principal, s.NotPrincipal, s.Action, s.NotAction, s.Resource, s.NotResource, nil}
	if len(s.Conditions) > 0 {
		m := map[string]map[string]list{}
		for _, c := range s.Conditions {
			if m[c.Operator] == nil {
				m[c.Operator] = map[string]list{}
			}
			m[c.Operator][c.Key] = c.Values
		}
		w.Condition = m
	}
	return plain(w)
}

// MarshalJSON writes the canonical form.
func (p Principals) MarshalJSON() ([]byte, error) {
	if p.Any {
		return plain("*")
	}
	return plain(wirePrincipals{p.AWS, p.Service, p.Federated, p.Canonical})
}

// String is the document's canonical JSON.
func (d Document) String() string { return text(d) }

// String is the statement's canonical JSON.
func (s Statement) String() string { return text(s) }

func text(v any) string {
	b, err := plain(v)
	if err != nil {
		panic("policy: " + err.Error()) // strings in lists and maps always have a JSON
	}
	return string(b)
}
