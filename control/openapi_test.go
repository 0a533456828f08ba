package control

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/meter"
	"github.com/hearth-faas/hearth/taskset"
)

// document is as much of OpenAPI as openapi.json uses.
type document struct {
	Paths      map[string]map[string]operation `json:"paths"`
	Components struct {
		Schemas   map[string]*schema  `json:"schemas"`
		Responses map[string]response `json:"responses"`
	} `json:"components"`
}

type operation struct {
	OperationID string              `json:"operationId"`
	Parameters  []parameter         `json:"parameters"`
	Responses   map[string]response `json:"responses"`
}

type parameter struct {
	Name     string  `json:"name"`
	In       string  `json:"in"`
	Required bool    `json:"required"`
	Schema   *schema `json:"schema"`
}

type response struct {
	Ref     string `json:"$ref"`
	Content map[string]struct {
		Schema *schema `json:"schema"`
	} `json:"content"`
}

type schema struct {
	Ref        string             `json:"$ref"`
	Type       string             `json:"type"`
	Format     string             `json:"format"`
	Enum       []string           `json:"enum"`
	Required   []string           `json:"required"`
	Properties map[string]*schema `json:"properties"`
	Additional *bool              `json:"additionalProperties"`
	Items      *schema            `json:"items"`
	MinItems   int                `json:"minItems"`
	MaxItems   int                `json:"maxItems"`
}

func load(t *testing.T) *document {
	t.Helper()
	var d document
	if err := json.Unmarshal(openAPI, &d); err != nil {
		t.Fatal(err)
	}
	return &d
}

// only is the one method by which a path is used, and its operation.
func (d *document) only(t *testing.T, path string) (string, operation) {
	t.Helper()
	for method, op := range d.Paths[path] {
		return strings.ToUpper(method), op
	}
	t.Fatalf("%s has no method", path)
	return "", operation{}
}

// check returns what in v, decoded JSON, is not as s says.
func (d *document) check(s *schema, v any, at string) (wrong []string) {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		named := d.Components.Schemas[name]
		if named == nil {
			return []string{at + ": no schema " + name}
		}
		return d.check(named, v, at)
	}
	bad := func() []string { return []string{fmt.Sprintf("%s: %v is no %s", at, v, s.Type)} }
	switch s.Type {
	case "object":
		m, ok := v.(map[string]any)
		if !ok {
			return bad()
		}
		for _, name := range s.Required {
			if _, ok := m[name]; !ok {
				wrong = append(wrong, at+" lacks "+name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(m)) {
			p := s.Properties[name]
			if p != nil {
				wrong = append(wrong, d.check(p, m[name], at+"."+name)...)
			} else if s.Additional != nil && !*s.Additional {
				wrong = append(wrong, at+" has an undocumented "+name)
			}
		}
	case "array":
		list, ok := v.([]any)
		if !ok {
			return bad()
		}
		if len(list) < s.MinItems || s.MaxItems > 0 && len(list) > s.MaxItems {
			wrong = append(wrong, fmt.Sprintf("%s has %d items", at, len(list)))
		}
		for i, item := range list {
			wrong = append(wrong, d.check(s.Items, item, fmt.Sprintf("%s[%d]", at, i))...)
		}
	case "string":
		str, ok := v.(string)
		if !ok {
			return bad()
		}
		if s.Enum != nil && !slices.Contains(s.Enum, str) {
			wrong = append(wrong, fmt.Sprintf("%s: %q is none of %v", at, str, s.Enum))
		}
		if s.Format == "date-time" {
			if _, err := time.Parse(time.RFC3339Nano, str); err != nil {
				wrong = append(wrong, at+": "+err.Error())
			}
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			return bad()
		}
	case "number", "integer":
		n, ok := v.(float64)
		if !ok || s.Type == "integer" && n != float64(int64(n)) {
			return bad()
		}
	case "": // any JSON
	default:
		return []string{at + ": the document has an unknown type " + s.Type}
	}
	return wrong
}

func TestDocumentNamesEveryRouteAndNoOther(t *testing.T) {
	want := slices.Concat(slices.Sorted(maps.Keys((&Handler{}).routes())), slices.Sorted(maps.Keys((&Handler{}).actions())))
	want = append(want, "/events", "/logs", "/openapi.json")
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(load(t).Paths)); !slices.Equal(got, want) {
		t.Errorf("documented %v, served %v", got, want)
	}
}

func TestSchemasHaveEveryFieldThatIsSentAndNoOther(t *testing.T) {
	d := load(t)
	for _, sent := range []any{Snapshot{}, Instance{}, Container{}, hearth.Decision{}, hearth.Knowledge{}, Runtime{}, Report{}, Check{}, LogLine{}, ParkedEvent{}, Failure{}, Capacity{}, Subpool{}, Feed{}, Spending{}, Node{}, NodeList{}, Drained{}, hearth.Idempotence{}, hearth.Dependency{}, Idempotent{}, IdempotentCounts{}, Forgotten{}, taskset.Quota{}, taskset.Task{}, taskset.Counts{}, TaskList{}, TaskSubscribers{}, taskset.TaskChange{}, taskset.TaskWish{}, TaskSpec{}, meter.Bill{}, meter.Line{}, meter.Prices{}, PriceList{}, hearth.Offer{}, hearth.Parameter{}, hearth.NetworkPolicy{}, hearth.SharedAlias{}, hearth.SharedUse{}, Offers{}, SharedAliases{}, SharedUses{}, SharedRun{}, SharedRuns{}, Account{}, Quotas{}, QuotaChange{}, Usage{}, AccountList{}, AccountMade{}, AccessKey{}, AccessKeyList{}, AccountSession{}, AccountName{}, Can{}, KeyStatus{}, DataKey{}} {
		typ := reflect.TypeOf(sent)
		s := d.Components.Schemas[typ.Name()]
		if s == nil {
			t.Errorf("there is no schema %s", typ.Name())
			continue
		}
		var fields, required []string
		for i := range typ.NumField() {
			name, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if name == "-" {
				continue
			}
			fields = append(fields, name)
			if options == "" {
				required = append(required, name)
			}
		}
		slices.Sort(fields)
		slices.Sort(required)
		if got := slices.Sorted(maps.Keys(s.Properties)); !slices.Equal(got, fields) {
			t.Errorf("%s: documented %v, sent %v", typ.Name(), got, fields)
		}
		if got := slices.Sorted(slices.Values(s.Required)); !slices.Equal(got, required) {
			t.Errorf("%s: documented as always there %v, sent always %v", typ.Name(), got, required)
		}
	}
}

// constants are the values of a file's string constants of a type.
func constants(t *testing.T, path, typ string) (values []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); ok && name.Name == typ {
			for _, v := range spec.Values {
				if lit, ok := v.(*ast.BasicLit); ok {
					s, err := strconv.Unquote(lit.Value)
					if err != nil {
						t.Fatal(err)
					}
					values = append(values, s)
				}
			}
		}
		return true
	})
	return values
}

func TestSchemasNameEveryKindAndState(t *testing.T) {
	d := load(t)
	for at, want := range map[string][]string{
		"Decision.kind":   constants(t, "../decision.go", "DecisionKind"),
		"Container.state": constants(t, "control.go", "ContainerState"),
	} {
		of, field, _ := strings.Cut(at, ".")
		if got := d.Components.Schemas[of].Properties[field].Enum; len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("%s: documented %q, there are %q", at, got, want)
		}
	}
}

func TestSchemaCheckFindsWhatIsWrong(t *testing.T) {
	d := load(t)
	for _, bad := range []string{
		`[]`, `{}`, `{"kind":"x"}`, `{"kind":1,"message":"m"}`, `{"kind":"x","message":"m","more":1}`,
	} {
		var v any
		if err := json.Unmarshal([]byte(bad), &v); err != nil {
			t.Fatal(err)
		}
		if d.check(d.Components.Schemas["Failure"], v, "") == nil {
			t.Errorf("%s passes as a failure", bad)
		}
	}
}
