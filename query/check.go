package query

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"unicode/utf8"

	hearth "github.com/hearth-faas/hearth"
)

// Members are the constraints of a service's members, by the names that these
// have in all of its inputs. A field of an input with the tag `query:"required"`
// must have been sent.
type Members map[string]Constraint

// Constraint is what a member must be. The zero Constraint lets everything
// pass.
type Constraint struct {
	Min, Max int // characters of a text, items of a list, or a number's bounds; 0 is none
	// Pattern is of the whole text. Message, if there is one, is what the
	// service says in place of naming the pattern.
	Pattern *regexp.Regexp
	Message string
	Enum    []string
}

// Pattern makes a Constraint's Pattern: a text matches as a whole.
func Pattern(expr string) *regexp.Regexp { return regexp.MustCompile(`^(?:` + expr + `)$`) }

// check tells what is wrong with an input, all of it in one error.
func (m Members) check(in any) error {
	c := checker{members: m}
	c.structure(reflect.ValueOf(in).Elem(), "")
	switch len(c.found) {
	case 0:
		return nil
	case 1:
		if c.message != "" {
			return hearth.Errorf(hearth.Validation, "%s", c.message)
		}
		return hearth.Errorf(hearth.Validation, "1 validation error detected: %s", c.found[0])
	}
	return hearth.Errorf(hearth.Validation, "%d validation errors detected: %s", len(c.found), strings.Join(c.found, "; "))
}

type checker struct {
	members Members
	found   []string
	message string // of the first one found that has one
}

func (c *checker) structure(v reflect.Value, prefix string) {
	for i := range v.NumField() {
		f, field := v.Field(i), v.Type().Field(i)
		at := prefix + strings.ToLower(field.Name[:1]) + field.Name[1:]
		if field.Anonymous {
			c.structure(f, prefix)
			continue
		}
		if absent(f) {
			if field.Tag.Get("query") == "required" {
				c.violated("null", at, "Member must not be null", "")
			}
			continue
		}
		c.value(f, c.members[field.Name], at)
	}
}

// absent tells whether a member was not sent. A text that is not a pointer is
// of a member that is not sent empty, unless it is required, when it is as if
// it were not there.
func absent(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice:
		return v.IsNil()
	case reflect.Bool:
		return false
	}
	return v.IsZero()
}

func (c *checker) violated(value, at, what, message string) {
	c.found = append(c.found, "Value "+value+" at '"+at+"' failed to satisfy constraint: "+what)
	if c.message == "" {
		c.message = message
	}
}

func (c *checker) value(v reflect.Value, k Constraint, at string) {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	size, of := 0, "length"
	switch v.Kind() {
	case reflect.String:
		size = utf8.RuneCountInString(v.String())
	case reflect.Slice:
		size = v.Len()
	case reflect.Int:
		size, of = int(v.Int()), "value"
	default:
		return
	}
	shown := "'" + show(v) + "'"
	switch {
	case size < k.Min:
		c.violated(shown, at, fmt.Sprintf("Member must have %s greater than or equal to %d", of, k.Min), "")
	case k.Max > 0 && size > k.Max:
		c.violated(shown, at, fmt.Sprintf("Member must have %s less than or equal to %d", of, k.Max), "")
	}
	if v.Kind() == reflect.String {
		if k.Pattern != nil && !k.Pattern.MatchString(v.String()) {
			expr := strings.TrimSuffix(strings.TrimPrefix(k.Pattern.String(), "^(?:"), ")$")
			c.violated(shown, at, "Member must satisfy regular expression pattern: "+expr, k.Message)
		}
		c.enum(v.String(), k, at)
	}
	if v.Kind() != reflect.Slice {
		return
	}
	for i := range v.Len() {
		if item := v.Index(i); item.Kind() == reflect.Struct {
			c.structure(item, fmt.Sprintf("%s.%d.member.", at, i+1))
		} else {
			c.enum(item.String(), k, fmt.Sprintf("%s.%d.member", at, i+1))
		}
	}
}

func (c *checker) enum(s string, k Constraint, at string) {
	if k.Enum == nil {
		return
	}
	for _, e := range k.Enum {
		if e == s {
			return
		}
	}
	c.violated("'"+s+"'", at, "Member must satisfy enum value set: ["+strings.Join(k.Enum, ", ")+"]", "")
}

// show is a value as a message quotes it.
func show(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Slice:
		var items []string
		for i := range v.Len() {
			if v.Index(i).Kind() == reflect.String {
				items = append(items, v.Index(i).String())
			} else {
				items = append(items, fmt.Sprintf("%+v", v.Index(i).Interface()))
			}
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Int:
		return fmt.Sprint(v.Int())
	}
	return v.String()
}
