package policy

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Parse reads a document. It refuses what is not of the language's form:
// members that it does not know or that occur twice, conditions whose operator
// it does not know. Check tells whether what was read makes sense.
//
// Its errors are sentences for the one who wrote the document, in IAM's words.
func Parse(document []byte) (*Document, error) {
	d, _, err := ParsePlaced(document)
	return d, err
}

// UnmarshalJSON implements json.Unmarshaler by Parse.
func (d *Document) UnmarshalJSON(document []byte) error {
	read, err := Parse(document)
	if err == nil {
		*d = *read
	}
	return err
}

// sentence is an error in the words that IAM has for it, which begin with a
// capital letter, and may end with a period.
func sentence(format string, args ...any) error { return fmt.Errorf(format, args...) }

func syntax(format string, args ...any) error {
	return sentence("Syntax errors in policy. "+format, args...)
}

// reader reads JSON that is known to be valid token by token, since the
// language's names heed their case and may not occur twice, which
// json.Unmarshal would both let pass.
type reader struct {
	*json.Decoder
	ends [][2]int64 // of the statements that were read: their spans in bytes
}

// object reads an object. member reads the value of the member whose name it
// is given.
func (r *reader) object(what string, member func(name string) error) error {
	t, err := r.Token()
	if err != nil {
		return err
	}
	return r.members(t, what, member)
}

// members is object for one whose first token was read.
func (r *reader) members(first json.Token, what string, member func(name string) error) error {
	if first != json.Delim('{') {
		return syntax("%s must be an object.", what)
	}
	seen := map[string]bool{}
	for r.More() {
		t, err := r.Token()
		if err != nil {
			return err
		}
		name := t.(string)
		if seen[name] {
			return syntax("%s has the member %s twice.", what, name)
		}
		seen[name] = true
		if err := member(name); err != nil {
			return err
		}
	}
	_, err := r.Token()
	return err
}

// text reads a string.
func (r *reader) text(what string) (string, error) {
	t, err := r.Token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", syntax("%s must be a string.", what)
	}
	return s, nil
}

// texts reads a string or a list of strings; loose allows numbers and truth
// values too, as conditions do.
func (r *reader) texts(what string, loose bool) ([]string, error) {
	t, err := r.Token()
	if err != nil {
		return nil, err
	}
	scalar := func(t json.Token) (string, error) {
		switch v := t.(type) {
		case string:
			return v, nil
		case json.Number:
			if loose {
				return v.String(), nil
			}
		case bool:
			if loose {
				return fmt.Sprint(v), nil
			}
		}
		return "", syntax("%s must be a string or a list of strings.", what)
	}
	if t != json.Delim('[') {
		s, err := scalar(t)
		return []string{s}, err
	}
	list := []string{}
	for r.More() {
		if t, err = r.Token(); err != nil {
			return nil, err
		}
		s, err := scalar(t)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	_, err = r.Token()
	return list, err
}

func (d *Document) read(r *reader) error {
	err := r.object("The policy", func(name string) (err error) {
		switch name {
		case "Version":
			d.Version, err = r.text(name)
		case "Id":
			d.ID, err = r.text(name)
		case "Statement":
			err = d.readStatements(r)
		default:
			err = syntax("There is no element %s.", name)
		}
		return err
	})
	if err != nil {
		return err
	}
	if _, err := r.Token(); !errors.Is(err, io.EOF) {
		return sentence("This policy contains invalid Json")
	}
	return nil
}

// readStatements reads one statement or a list.
func (d *Document) readStatements(r *reader) error {
	first, err := r.Token()
	if err != nil {
		return err
	}
	start := r.InputOffset()
	one := func(first json.Token) error {
		s := Statement{}
		if err := r.members(first, "A statement", func(name string) error { return s.read(r, name) }); err != nil {
			return err
		}
		d.Statements = append(d.Statements, s)
		end := r.InputOffset()
		r.ends = append(r.ends, [2]int64{start, end})
		start = end
		return nil
	}
	if first != json.Delim('[') {
		return one(first)
	}
	for r.More() {
		t, err := r.Token()
		if err != nil {
			return err
		}
		if err := one(t); err != nil {
			return err
		}
	}
	_, err = r.Token()
	return err
}

func (s *Statement) read(r *reader, name string) (err error) {
	switch name {
	case "Sid":
		s.SID, err = r.text(name)
	case "Effect":
		var effect string
		effect, err = r.text(name)
		s.Effect = Effect(effect)
	case "Principal":
		s.Principal, err = readPrincipals(r, name)
	case "NotPrincipal":
		s.NotPrincipal, err = readPrincipals(r, name)
	case "Action":
		s.Action, err = r.texts(name, false)
	case "NotAction":
		s.NotAction, err = r.texts(name, false)
	case "Resource":
		s.Resource, err = r.texts(name, false)
	case "NotResource":
		s.NotResource, err = r.texts(name, false)
	case "Condition":
		s.Conditions, err = readConditions(r)
	default:
		err = syntax("There is no element %s in a statement.", name)
	}
	return err
}

func readPrincipals(r *reader, what string) (*Principals, error) {
	first, err := r.Token()
	if err != nil {
		return nil, err
	}
	if s, ok := first.(string); ok {
		if s != "*" {
			return nil, syntax("%s must be \"*\" or an object.", what)
		}
		return &Principals{Any: true}, nil
	}
	p := new(Principals)
	err = r.members(first, what, func(name string) (err error) {
		switch name {
		case "AWS":
			if p.AWS, err = r.texts(name, false); err == nil {
				for i, s := range p.AWS {
					if isAccount(s) {
						p.AWS[i] = AccountARN(s)
					}
				}
			}
		case "Service":
			p.Service, err = r.texts(name, false)
		case "Federated":
			p.Federated, err = r.texts(name, false)
		case "CanonicalUser":
			p.Canonical, err = r.texts(name, false)
		default:
			err = syntax("There is no sort of principals %s.", name)
		}
		return err
	})
	return p, err
}

func readConditions(r *reader) ([]Condition, error) {
	var cs []Condition
	err := r.object("Condition", func(operator string) error {
		if _, ok := operatorOf(operator); !ok {
			return syntax("There is no condition operator %s.", operator)
		}
		return r.object(operator, func(key string) error {
			values, err := r.texts(key, true)
			cs = append(cs, Condition{operator, key, values})
			return err
		})
	})
	sortConditions(cs)
	return cs, err
}

// sortConditions gives them the order that their JSON has.
func sortConditions(cs []Condition) {
	slices.SortFunc(cs, func(a, b Condition) int {
		return cmp.Or(cmp.Compare(a.Operator, b.Operator), cmp.Compare(a.Key, b.Key))
	})
}
