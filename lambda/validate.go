package lambda

import (
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	hearth "github.com/hearth-faas/hearth"

	"github.com/aws/smithy-go"
)

// validate checks an input against the model's constraints and returns the
// service's ValidationException, which lists every violation.
func validate(op *operation, in any) error {
	c := checker{}
	c.layerRuntimes(in)
	c.structure(reflect.ValueOf(in).Elem(), op.plan(), "")
	return c.err()
}

type checker struct{ found []string }

func (c *checker) err() error {
	switch len(c.found) {
	case 0:
		return nil
	case 1:
		return hearth.Errorf(hearth.Validation, "1 validation error detected: %s", c.found[0])
	}
	return hearth.Errorf(hearth.Validation, "%d validation errors detected: %s", len(c.found), strings.Join(c.found, "; "))
}

func (c *checker) violation(value, at, what string) {
	c.found = append(c.found, "Value "+value+" at '"+at+"' failed to satisfy constraint: "+what)
}

const notNull = "Member must not be null"

func (c *checker) structure(v reflect.Value, plan *structPlan, at string) {
	needs := required()[v.Type().Name()]
	for i := range plan.members {
		m := &plan.members[i]
		path := lowerFirst(m.name)
		if at != "" {
			path = at + "." + path
		}
		f := v.Field(m.field)
		if isAbsent(f) {
			if slices.Contains(needs, m.name) {
				c.violation("null", path, notNull)
			}
			continue
		}
		c.value(f, m.schema, path)
	}
}

// isAbsent tells whether a member was not sent. An enumeration is a plain
// string in the SDK, for which empty is not sent.
func isAbsent(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return v.IsNil()
	}
	return v.IsZero()
}

func (c *checker) value(v reflect.Value, schema *smithy.Schema, at string) {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	for _, what := range violations(v, schema) {
		c.violation("'"+display(v)+"'", at, what)
	}
	switch schema.Type() {
	case smithy.ShapeTypeStructure:
		c.structure(v, planOf(v.Type(), schema), at)
	case smithy.ShapeTypeList, smithy.ShapeTypeSet:
		item := schema.ListMember()
		for i := range v.Len() {
			if item.Type() == smithy.ShapeTypeStructure {
				c.value(v.Index(i), item, at+"."+strconv.Itoa(i+1)+".member")
			} else if len(violations(v.Index(i), item)) > 0 {
				c.violation("'"+display(v)+"'", at, "Member must satisfy constraint: "+all(item))
				break
			}
		}
	case smithy.ShapeTypeMap:
		key, value := schema.MapKey(), schema.MapValue()
		for _, k := range v.MapKeys() {
			if len(violations(k, key)) > 0 {
				c.violation("'"+display(v)+"'", at, "Map keys must satisfy constraint: "+all(key))
				break
			}
		}
		for _, k := range v.MapKeys() {
			if len(violations(v.MapIndex(k), value)) > 0 {
				c.violation("'"+display(v)+"'", at, "Map value must satisfy constraint: "+all(value))
				break
			}
		}
	}
}

// constraintOf finds the constraint of the shape that a member targets.
func constraintOf(schema *smithy.Schema) *constraint {
	return constraints()[schema.TargetID().Name]
}

// violations are the texts of the constraints of schema that v breaks, without
// those of v's own members.
func violations(v reflect.Value, schema *smithy.Schema) (broken []string) {
	k := constraintOf(schema)
	if k == nil {
		return nil
	}
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	size := 0.0
	switch v.Kind() {
	case reflect.String:
		size = float64(utf8.RuneCountInString(v.String()))
	case reflect.Slice, reflect.Map:
		size = float64(v.Len())
	case reflect.Int32, reflect.Int64, reflect.Int:
		size = float64(v.Int())
	case reflect.Float64, reflect.Float32:
		size = v.Float()
	default:
		return nil
	}
	if k.max != nil && size > *k.max {
		broken = append(broken, k.textMax())
	}
	if k.min != nil && size < *k.min {
		broken = append(broken, k.textMin())
	}
	if v.Kind() != reflect.String {
		return broken
	}
	if k.regex != "" && !k.match().match(v.String()) {
		broken = append(broken, k.textPattern())
	}
	if k.enum != nil && !slices.Contains(k.enum, v.String()) {
		broken = append(broken, k.textEnum())
	}
	return broken
}

func (k *constraint) textMax() string {
	if k.numeric {
		return "Member must have value less than or equal to " + k.maxText
	}
	return "Member must have length less than or equal to " + k.maxText
}

func (k *constraint) textMin() string {
	if k.numeric {
		return "Member must have value greater than or equal to " + k.minText
	}
	return "Member must have length greater than or equal to " + k.minText
}

func (k *constraint) textPattern() string {
	return "Member must satisfy regular expression pattern: " + k.regex
}

func (k *constraint) textEnum() string {
	return "Member must satisfy enum value set: [" + strings.Join(k.enum, ", ") + "]"
}

// all lists every constraint of a shape, as the service does for the items of
// a list and the keys and values of a map.
func all(schema *smithy.Schema) string {
	var texts []string
	if k := constraintOf(schema); k != nil {
		if k.max != nil {
			texts = append(texts, k.textMax())
		}
		if k.min != nil {
			texts = append(texts, k.textMin())
		}
		if k.regex != "" {
			texts = append(texts, k.textPattern())
		}
		if k.enum != nil {
			texts = append(texts, k.textEnum())
		}
	}
	return "[" + strings.Join(append(texts, notNull), ", ") + "]"
}

// display writes a value as Java's toString does.
func display(v reflect.Value) string {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Float64:
		s := strconv.FormatFloat(v.Float(), 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return "java.nio.HeapByteBuffer"
		}
		items := make([]string, v.Len())
		for i := range items {
			items[i] = display(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Map:
		var items []string
		for _, k := range v.MapKeys() {
			items = append(items, display(k)+"="+display(v.MapIndex(k)))
		}
		sort.Strings(items)
		return "{" + strings.Join(items, ", ") + "}"
	}
	return fmt.Sprint(v.Interface())
}

// lowerFirst spells a member's name as the service's messages do:
// functionName, kMSKeyArn.
func lowerFirst(name string) string {
	r, size := utf8.DecodeRuneInString(name)
	return string(unicode.ToLower(r)) + name[size:]
}
