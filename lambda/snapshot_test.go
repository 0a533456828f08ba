package lambda

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/traits"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/aws/smithy-go/transport/http/protocol/restjson1"
)

// The SDK's snapshots are what its own client sends for each operation with
// every member set, and what it understands as an answer.

func sdkFiles(t *testing.T, pattern string) map[string][]byte {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/lambda").Output()
	if err != nil {
		t.Fatalf("where the SDK's source is: %v", err)
	}
	names, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("the SDK has no %s (%v)", pattern, err)
	}
	files := map[string][]byte{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		base, _, _ := strings.Cut(filepath.Base(name), ".")
		files[base] = data
	}
	return files
}

type snapshot struct {
	first  string // request or status line
	header http.Header
	body   []byte
}

func parseSnapshot(t *testing.T, data []byte, gap string) snapshot {
	t.Helper()
	first, rest, ok := strings.Cut(string(data), "\n"+gap)
	if !ok {
		t.Fatalf("snapshot without headers: %q", data)
	}
	s := snapshot{first: first, header: http.Header{}}
	head, body, _ := strings.Cut(rest, "\n\n")
	if strings.HasPrefix(rest, "\n") { // no headers
		head, body = "", strings.TrimPrefix(rest, "\n")
	}
	for line := range strings.Lines(head) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			s.header.Add(k, v)
		}
	}
	s.body = []byte(body)
	return s
}

func operationNamed(t *testing.T, name string) *operation {
	t.Helper()
	for _, op := range operations {
		if op.name == name {
			return op
		}
	}
	t.Fatalf("no operation %s", name)
	return nil
}

func TestEveryOperationOfTheSDKIsRouted(t *testing.T) {
	names := map[string]bool{}
	for _, op := range operations {
		names[op.name] = true
	}
	client := reflect.TypeFor[*sdk.Client]()
	count := 0
	for m := range client.Methods() {
		if m.Type.NumIn() < 3 || m.Type.In(1) != reflect.TypeFor[context.Context]() {
			continue
		}
		count++
		if !names[m.Name] {
			t.Errorf("the SDK's client has %s, the table of operations has not", m.Name)
		}
	}
	if count != len(operations) {
		t.Errorf("the SDK has %d operations, the table %d", count, len(operations))
	}
	for name := range built {
		if !names[name] {
			t.Errorf("%s is built and no operation", name)
		}
	}
}

func TestMethodsPathsAndStatusesAreThoseOfTheServiceModel(t *testing.T) {
	data, err := os.ReadFile("../../shared/data/lambda-model/operations.tsv")
	if err != nil {
		t.Fatalf("the table of operations is missing: %v", err)
	}
	seen := 0
	for fields := range rows(string(data)) {
		seen++
		op := operationNamed(t, fields[0])
		http, _ := smithy.SchemaTrait[*traits.HTTP](httpSchema(op))
		if op.method != fields[1] || http.URI != fields[2] || strconv.Itoa(op.status) != fields[3] {
			t.Errorf("%s is %s %s %d, want %v", op.name, op.method, http.URI, op.status, fields[1:4])
		}
	}
	if seen < 80 {
		t.Errorf("the table has only %d operations", seen)
	}
}

// TestEveryRequestOfTheSDKIsBoundWhole reads each recorded request and has the
// SDK write it again: method, path, query, headers and body must be the same,
// so every member was bound, and to the value that was sent.
func TestEveryRequestOfTheSDKIsBoundWhole(t *testing.T) {
	router := newRouter(operations)
	protocol := restjson1.New(nil)
	for name, data := range sdkFiles(t, "request_snapshot/*.snap") {
		t.Run(name, func(t *testing.T) {
			s := parseSnapshot(t, data, "\n")
			method, target, _ := strings.Cut(s.first, " ")
			u, err := url.ParseRequestURI(target)
			if err != nil {
				t.Fatal(err)
			}
			rt, ok := router.find(method, u.EscapedPath(), u.RawQuery)
			if !ok || rt.op.name != name {
				t.Fatalf("%s is routed to %v", s.first, rt.op)
			}
			in, err := bind(rt, &http.Request{Method: method, URL: u, Header: s.header}, s.body)
			if err != nil {
				t.Fatal(err)
			}
			v := reflect.ValueOf(in).Elem()
			for _, m := range rt.op.plan().members {
				if isAbsent(v.Field(m.field)) {
					t.Errorf("%s was not bound", m.name)
				}
			}
			again := smithyhttp.NewStackRequest().(*smithyhttp.Request)
			again.URL = &url.URL{Path: "/"}
			op := smithy.NewOperationSchema(httpSchema(rt.op), rt.op.input(), nil)
			if err := protocol.SerializeRequest(t.Context(), op, in.(smithy.Serializable), again); err != nil {
				t.Fatal(err)
			}
			built := again.Build(t.Context())
			if built.Method != method || built.URL.EscapedPath() != u.EscapedPath() || built.URL.Query().Encode() != u.Query().Encode() {
				t.Errorf("%s %s?%s\nwas read as\n%s %s", method, u.EscapedPath(), u.RawQuery, built.Method, built.URL)
			}
			built.Header.Del("Content-Length")
			if !reflect.DeepEqual(built.Header, s.header) {
				t.Errorf("headers %v\nwere read as %v", s.header, built.Header)
			}
			var body []byte
			if built.Body != nil {
				body, err = io.ReadAll(built.Body)
			}
			if err != nil || !sameBody(body, s.body) {
				t.Errorf("body %s\nwas read as %s (%v)", s.body, body, err)
			}
		})
	}
}

// httpSchema is an operation's schema made of what the router knows of it.
func httpSchema(op *operation) *smithy.Schema {
	uri := ""
	for _, s := range op.path {
		if uri += "/"; s.label != "" {
			uri += "{" + s.label + "}"
		} else {
			uri += s.literal
		}
	}
	for k, v := range op.query {
		uri += "?" + k + "=" + v
	}
	return smithy.NewSchema(smithy.ShapeID{Name: op.name}, smithy.ShapeTypeOperation, 0,
		&traits.HTTP{Method: op.method, URI: uri, Code: op.status})
}

func sameBody(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return bytes.Equal(a, b)
	}
	return reflect.DeepEqual(x, y)
}

func TestEveryAnswerOfTheSDKIsWrittenWhole(t *testing.T) {
	protocol := restjson1.New(nil)
	client := reflect.TypeFor[*sdk.Client]()
	for name, data := range sdkFiles(t, "response_snapshot/*.response.snap") {
		t.Run(name, func(t *testing.T) {
			s := parseSnapshot(t, data, "")
			status, err := strconv.Atoi(s.first)
			if err != nil {
				t.Fatal(err)
			}
			op := operationNamed(t, name)
			method, _ := client.MethodByName(name)
			out := reflect.New(method.Type.Out(0).Elem()).Interface()
			resp := &smithyhttp.Response{Response: &http.Response{
				StatusCode: status, Header: s.header, Body: io.NopCloser(bytes.NewReader(s.body)), ContentLength: int64(len(s.body)),
			}}
			output := schemaOf(out.(smithy.Serializable))
			schema := smithy.NewOperationSchema(httpSchema(op), op.input(), output)
			if err := protocol.DeserializeResponse(t.Context(), schema, sdk.TypeRegistry, resp, out.(smithy.Deserializable)); err != nil {
				t.Fatal(err)
			}
			a := encode(status, out.(smithy.Serializable))
			if a.status != status {
				t.Errorf("status %d, want %d", a.status, status)
			}
			members := map[string]*smithy.Schema{}
			if output != nil {
				members = output.Members()
			}
			for member, schema := range members {
				if _, ok := smithy.SchemaTrait[*traits.HTTPResponseCode](schema); ok {
					// The recorder puts it into the body too, where it is not bound.
					s.body = bytes.ReplaceAll(s.body, []byte(`{"`+member+`":200}`), []byte(`{}`))
				}
			}
			compareAnswer(t, a, s)
		})
	}
}

func TestEveryErrorOfTheSDKIsWrittenWhole(t *testing.T) {
	protocol := restjson1.New(nil)
	for name, data := range sdkFiles(t, "response_snapshot/*.error.snap") {
		t.Run(name, func(t *testing.T) {
			s := parseSnapshot(t, data, "")
			status, err := strconv.Atoi(s.first)
			if err != nil {
				t.Fatal(err)
			}
			shape, ok := errorShapes()[name]
			if !ok || shape.status != status {
				t.Fatalf("shape %+v, want status %d", shape, status)
			}
			resp := &smithyhttp.Response{Response: &http.Response{
				StatusCode: status, Header: s.header, Body: io.NopCloser(bytes.NewReader(s.body)),
			}}
			read := protocol.DeserializeResponse(t.Context(), &smithy.OperationSchema{}, sdk.TypeRegistry, resp, nil)
			v, ok := read.(smithy.Serializable)
			if !ok {
				t.Fatalf("the SDK reads %T: %v", read, read)
			}
			var body map[string]any
			if err := json.Unmarshal(s.body, &body); err != nil {
				t.Fatal(err)
			}
			delete(body, "__type") // it is told by a header here, as by the service
			if s.body, err = json.Marshal(body); err != nil {
				t.Fatal(err)
			}
			compareAnswer(t, encode(status, v), s)
			if _, ok := body[shape.message]; !ok {
				t.Errorf("the message is not spelled %q in %s", shape.message, s.body)
			}
		})
	}
}

func compareAnswer(t *testing.T, a answer, s snapshot) {
	t.Helper()
	if len(s.body) > 0 && !sameBody(a.body, s.body) {
		t.Errorf("body\n%s\nwant\n%s", a.body, s.body)
	}
	if len(s.body) == 0 && len(a.body) > 0 && string(a.body) != "{}" {
		t.Errorf("body %s, want none", a.body)
	}
	for k, v := range s.header {
		if !reflect.DeepEqual(a.header[k], v) {
			t.Errorf("header %s is %v, want %v", k, a.header[k], v)
		}
	}
	for k := range a.header {
		if s.header[k] == nil && k != "Content-Type" {
			t.Errorf("header %s is too much", k)
		}
	}
}
