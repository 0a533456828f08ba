package lambda

import (
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	hearth "github.com/hearth-faas/hearth"

	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/traits"
)

// Binding fills an SDK input struct from a request. The SDK can only write
// its inputs, so reading goes by reflection over the struct, guided by the
// schema: which member is where, and what shape it has.

// place is where a member is bound.
type place uint8

const (
	inBody place = iota
	inLabel
	inQuery
	inHeader
	inPayload // the member is the body
)

// member is one member of a structure and the struct field that takes it.
type member struct {
	name   string // as the schema spells it
	schema *smithy.Schema
	field  int
	place  place
	wire   string // name of the query parameter or header
}

// structPlan is how a structure is read: its members in the struct's order,
// and by the name that they have in JSON.
type structPlan struct {
	members []member
	byName  map[string]*member
	payload *member
}

var plans sync.Map // reflect.Type → *structPlan

func planOf(t reflect.Type, schema *smithy.Schema) *structPlan {
	if p, ok := plans.Load(t); ok {
		return p.(*structPlan)
	}
	p := &structPlan{byName: map[string]*member{}}
	fields := map[string]int{}
	for i := range t.NumField() {
		fields[strings.ToLower(t.Field(i).Name)] = i
	}
	for name, s := range schema.Members() {
		i, ok := fields[strings.ToLower(name)]
		if !ok {
			panic("lambda: " + t.String() + " has no field for member " + name)
		}
		m := member{name: name, schema: s, field: i}
		if _, ok := smithy.SchemaTrait[*traits.HTTPLabel](s); ok {
			m.place, m.wire = inLabel, name
		} else if q, ok := smithy.SchemaTrait[*traits.HTTPQuery](s); ok {
			m.place, m.wire = inQuery, q.Name
		} else if h, ok := smithy.SchemaTrait[*traits.HTTPHeader](s); ok {
			m.place, m.wire = inHeader, http.CanonicalHeaderKey(h.Name)
		} else if _, ok := smithy.SchemaTrait[*traits.HTTPPayload](s); ok {
			m.place = inPayload
		}
		p.members = append(p.members, m)
	}
	slices.SortFunc(p.members, func(a, b member) int { return a.field - b.field })
	for i := range p.members {
		m := &p.members[i]
		p.byName[wireName(m.schema)] = m
		if m.place == inPayload {
			p.payload = m
		}
	}
	have, _ := plans.LoadOrStore(t, p)
	return have.(*structPlan)
}

// wireName is a member's name in a JSON body.
func wireName(s *smithy.Schema) string {
	if n, ok := smithy.SchemaTrait[*traits.JSONName](s); ok {
		return n.Name
	}
	return s.MemberName()
}

// bind reads a request into a new input of op. Its errors are what the caller
// is told.
func bind(rt route, r *http.Request, body []byte) (any, error) {
	op := rt.op
	plan := op.plan()
	in := reflect.New(op.inputType)
	v := in.Elem()
	var query url.Values
	if r.URL.RawQuery != "" {
		var err error
		if query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
			return nil, serialization("The query string is malformed")
		}
	}
	label := 0
	for _, s := range op.path {
		if s.label == "" {
			continue
		}
		text, err := url.PathUnescape(rt.labels[label])
		if err != nil {
			return nil, serialization("The path is malformed")
		}
		label++
		m := plan.byName[s.label]
		if err := setText(v.Field(m.field), m.schema, []string{text}); err != nil {
			return nil, err
		}
	}
	for i := range plan.members {
		m := &plan.members[i]
		var values []string
		switch m.place {
		case inQuery:
			values = query[m.wire]
		case inHeader:
			values = r.Header[m.wire]
		}
		if len(values) == 0 {
			continue
		}
		if err := setText(v.Field(m.field), m.schema, values); err != nil {
			return nil, err
		}
	}
	if plan.payload != nil {
		return in.Interface(), setPayload(v.Field(plan.payload.field), plan.payload.schema, body)
	}
	if len(body) == 0 {
		return in.Interface(), nil
	}
	return in.Interface(), bindBody(v, plan, body)
}

func bindBody(v reflect.Value, plan *structPlan, body []byte) error {
	rd := &jsonReader{data: body}
	t, err := rd.peek()
	switch {
	case err != nil:
	case t == tokenNull:
		err = rd.word("null")
	case t != tokenObject:
		return serialization("Unexpected token (%s), expected START_OBJECT", t)
	default:
		err = rd.structure(v, plan)
	}
	if err == nil {
		err = rd.end()
	}
	if syntax, ok := errors.AsType[*syntaxError](err); ok {
		return serialization("Could not parse request body into json: %s", syntax)
	}
	return err
}

func (r *jsonReader) structure(v reflect.Value, plan *structPlan) error {
	return r.object(func(key string) error {
		m := plan.byName[key]
		if m == nil || m.place != inBody {
			return r.skip()
		}
		return r.value(v.Field(m.field), m.schema)
	})
}

// value reads the next value into v, whose shape is schema. null leaves v as
// it is.
func (r *jsonReader) value(v reflect.Value, schema *smithy.Schema) error {
	t, err := r.peek()
	if err != nil {
		return err
	}
	if t == tokenNull {
		return r.word("null")
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	switch schema.Type() {
	case smithy.ShapeTypeString, smithy.ShapeTypeEnum:
		if t != tokenString {
			return mismatch(t, "a String")
		}
		s, err := r.string()
		if err == nil {
			v.SetString(s)
		}
		return err
	case smithy.ShapeTypeBoolean:
		switch t {
		case tokenTrue:
			v.SetBool(true)
			return r.word("true")
		case tokenFalse:
			return r.word("false")
		}
		return mismatch(t, "a Boolean")
	case smithy.ShapeTypeInteger, smithy.ShapeTypeLong, smithy.ShapeTypeShort, smithy.ShapeTypeByte, smithy.ShapeTypeIntEnum:
		if t != tokenNumber {
			return mismatch(t, "an Integer")
		}
		text, err := r.number()
		if err != nil {
			return err
		}
		return setInt(v, text)
	case smithy.ShapeTypeDouble, smithy.ShapeTypeFloat:
		if t != tokenNumber {
			return mismatch(t, "a Double")
		}
		f, err := r.float()
		if err == nil {
			v.SetFloat(f)
		}
		return err
	case smithy.ShapeTypeTimestamp:
		if t != tokenNumber {
			return mismatch(t, "a Timestamp")
		}
		f, err := r.float()
		if err == nil {
			v.Set(reflect.ValueOf(time.UnixMilli(int64(f * 1000)).UTC()))
		}
		return err
	case smithy.ShapeTypeBlob:
		if t != tokenString {
			return mismatch(t, "a Blob")
		}
		b, err := r.blob()
		if err == nil {
			v.SetBytes(b)
		}
		return err
	case smithy.ShapeTypeList, smithy.ShapeTypeSet:
		if t != tokenArray {
			return mismatch(t, "a List")
		}
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 4))
		}
		item := schema.ListMember()
		return r.array(func() error {
			e := reflect.New(v.Type().Elem()).Elem()
			if err := r.value(e, item); err != nil {
				return err
			}
			v.Set(reflect.Append(v, e))
			return nil
		})
	case smithy.ShapeTypeMap:
		if t != tokenObject {
			return mismatch(t, "a Map")
		}
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		value := schema.MapValue()
		return r.object(func(key string) error {
			e := reflect.New(v.Type().Elem()).Elem()
			if err := r.value(e, value); err != nil {
				return err
			}
			v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), e)
			return nil
		})
	case smithy.ShapeTypeStructure:
		if t != tokenObject {
			return mismatch(t, "a Structure")
		}
		return r.structure(v, planOf(v.Type(), schema))
	}
	panic("lambda: input shape of a type that is not read: " + schema.TargetID().String())
}

// setText sets a member that is bound to a label, query parameter or header.
func setText(v reflect.Value, schema *smithy.Schema, values []string) error {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch schema.Type() {
	case smithy.ShapeTypeString, smithy.ShapeTypeEnum:
		v.SetString(values[0])
	case smithy.ShapeTypeBoolean:
		switch values[0] {
		case "true":
			v.SetBool(true)
		case "false":
		default:
			return serialization("'%s' can not be converted to a Boolean", values[0])
		}
	case smithy.ShapeTypeInteger, smithy.ShapeTypeLong, smithy.ShapeTypeShort, smithy.ShapeTypeByte:
		return setInt(v, values[0])
	case smithy.ShapeTypeTimestamp:
		at, err := time.Parse(time.RFC3339, values[0])
		if err != nil {
			f, err := strconv.ParseFloat(values[0], 64)
			if err != nil {
				return serialization("'%s' can not be converted to a Timestamp", values[0])
			}
			at = time.UnixMilli(int64(f * 1000))
		}
		v.Set(reflect.ValueOf(at.UTC()))
	case smithy.ShapeTypeList, smithy.ShapeTypeSet:
		list := reflect.MakeSlice(v.Type(), len(values), len(values))
		for i := range values {
			if err := setText(list.Index(i), schema.ListMember(), values[i:i+1]); err != nil {
				return err
			}
		}
		v.Set(list)
	default:
		panic("lambda: member of a shape that is not read from text: " + schema.MemberName())
	}
	return nil
}

func setInt(v reflect.Value, text string) error {
	n, err := strconv.ParseInt(text, 10, v.Type().Bits())
	if err != nil {
		// 3.0 and 1e3 are integers too.
		f, ferr := strconv.ParseFloat(text, 64)
		n = int64(f)
		if ferr != nil || float64(n) != f || v.OverflowInt(n) {
			return serialization("'%s' can not be converted to an Integer", text)
		}
	}
	v.SetInt(n)
	return nil
}

// setPayload sets the member that is the whole body.
func setPayload(v reflect.Value, schema *smithy.Schema, body []byte) error {
	if v.Kind() == reflect.Interface { // a streaming blob, an io.Reader
		v.Set(reflect.ValueOf(strings.NewReader(string(body))))
		return nil
	}
	if schema.Type() == smithy.ShapeTypeBlob {
		v.SetBytes(body)
		return nil
	}
	if len(body) == 0 {
		return nil
	}
	target := v
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		target = v.Elem()
	}
	return bindBody(target, planOf(target.Type(), schema), body)
}

// serialization is the error of a request that is not of its shape.
func serialization(format string, args ...any) error {
	return hearth.Errorf(kindSerialization, format, args...)
}

func mismatch(t token, want string) error {
	switch t {
	case tokenObject:
		return serialization("Start of structure or map found where not expected.")
	case tokenArray:
		return serialization("Start of list found where not expected")
	}
	return serialization("%s can not be converted to %s", t, want)
}
