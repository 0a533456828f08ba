package lambda

import (
	"reflect"
	"strings"
	"sync"

	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/traits"
)

// operation is one operation of the API: how it is found on the wire and the
// SDK's type for what goes in. What comes out describes itself (encode).
type operation struct {
	name   string
	method string
	path   []segment         // the URI template, split at slashes
	query  map[string]string // the template's constant part, such as find=LayerVersion
	status int               // of success

	inputType reflect.Type          // a struct, such as sdk.InvokeInput
	input     func() *smithy.Schema // of inputType
	plan      func() *structPlan    // of inputType
}

// segment is one part of a URI template between slashes.
type segment struct {
	literal string // "" for a label
	label   string // the member's name
}

// serializable is what the SDK's generated pointers are.
type serializable[T any] interface {
	*T
	smithy.Serializable
}

// define makes the operation of schema, whose input is I.
func define[I any, PI serializable[I]](schema *smithy.Schema) *operation {
	http, ok := smithy.SchemaTrait[*traits.HTTP](schema)
	if !ok {
		panic("lambda: operation without HTTP trait: " + schema.ID().Name)
	}
	op := &operation{
		name:      schema.ID().Name,
		method:    http.Method,
		status:    http.Code,
		inputType: reflect.TypeFor[I](),
		input:     sync.OnceValue(func() *smithy.Schema { return schemaOf(PI(new(I))) }),
	}
	op.plan = sync.OnceValue(func() *structPlan { return planOf(op.inputType, op.input()) })
	path, query, _ := strings.Cut(http.URI, "?")
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			op.path = append(op.path, segment{label: strings.TrimRight(name, "+}")})
		} else {
			op.path = append(op.path, segment{literal: part})
		}
	}
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		if op.query == nil {
			op.query = map[string]string{}
		}
		key, value, _ := strings.Cut(pair, "=")
		op.query[key] = value
	}
	return op
}

// schemaOf learns the schema of a generated struct from the one thing that
// names it: the struct's own Serialize, which begins with WriteStruct(schema).
func schemaOf(v smithy.Serializable) *smithy.Schema {
	var p schemaProbe
	v.Serialize(&p)
	return p.schema
}

// schemaProbe is given zero values, which write nothing but their struct.
type schemaProbe struct {
	smithy.ShapeSerializer // nil: a call of anything else is a mistake
	schema                 *smithy.Schema
}

func (p *schemaProbe) WriteStruct(s *smithy.Schema) {
	if p.schema == nil {
		p.schema = s
	}
}

func (p *schemaProbe) CloseStruct() {}
