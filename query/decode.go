package query

import (
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	hearth "github.com/hearth-faas/hearth"
)

// maxMembers bounds a list of an input, so that a form cannot make more of
// itself than it is.
const maxMembers = 1000

// decode reads an input's members from a form. A field is a string, an
// integer, a truth value, a pointer to one of these (nil is not sent), a list
// of strings or a list of structs; its name is the parameter's. An embedded
// struct's fields are as if they were the input's own. A tag form:"name" is of
// a parameter that is called otherwise than the field. Parameters that no field
// is named after are left alone, as the protocol has it.
func decode(form url.Values, into any) error {
	return decodeStruct(form, "", reflect.ValueOf(into).Elem())
}

func decodeStruct(form url.Values, prefix string, v reflect.Value) error {
	for i := range v.NumField() {
		f, name := v.Field(i), prefix+nameOf(v.Type().Field(i))
		var err error
		if v.Type().Field(i).Anonymous {
			err = decodeStruct(form, prefix, f)
		} else if f.Kind() == reflect.Slice {
			err = decodeList(form, name, f)
		} else if values, ok := form[name]; ok && len(values) > 0 {
			err = decodeScalar(name, values[0], f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// nameOf is what a field's parameter is called.
func nameOf(f reflect.StructField) string {
	if name := f.Tag.Get("form"); name != "" {
		return name
	}
	return f.Name
}

// decodeList reads NAME.member.1, NAME.member.2 and so on, to the first that
// is not there. NAME alone, without a value, is an empty list.
func decodeList(form url.Values, name string, v reflect.Value) error {
	if form.Has(name) {
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	}
	for n := 1; ; n++ {
		member := name + ".member." + strconv.Itoa(n)
		if !hasMember(form, member, v.Type().Elem()) {
			return nil
		}
		if n > maxMembers {
			return hearth.Errorf(hearth.Validation, "The list %s has more than %d members", name, maxMembers)
		}
		item := reflect.New(v.Type().Elem()).Elem()
		var err error
		if item.Kind() == reflect.Struct {
			err = decodeStruct(form, member+".", item)
		} else {
			err = decodeScalar(member, form.Get(member), item)
		}
		if err != nil {
			return err
		}
		v.Set(reflect.Append(v, item))
	}
}

func hasMember(form url.Values, name string, t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return form.Has(name)
	}
	for i := range t.NumField() {
		if form.Has(name + "." + nameOf(t.Field(i))) {
			return true
		}
	}
	return false
}

func decodeScalar(name, text string, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return decodeScalar(name, text, v.Elem())
	case reflect.String:
		v.SetString(text)
		return nil
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return malformed(name, text, "an integer")
		}
		v.SetInt(n)
		return nil
	case reflect.Bool:
		switch strings.ToLower(text) {
		case "true":
			v.SetBool(true)
		case "false":
		default:
			return malformed(name, text, "a truth value")
		}
		return nil
	}
	panic(fmt.Sprintf("query: an input has a field of type %s", v.Type()))
}

// MalformedInput is the kind of error of a parameter that is not what its
// member is.
const MalformedInput = hearth.MalformedInput

func malformed(name, text, what string) error {
	return hearth.Errorf(MalformedInput, "The value '%.100s' of the parameter %s is not %s", text, name, what)
}
