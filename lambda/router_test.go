package lambda

import (
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPathsFindTheirOperations(t *testing.T) {
	r := newRouter(operations)
	for _, c := range []struct{ request, op, label string }{
		{"POST /2015-03-31/functions/f/invocations", "Invoke", "f"},
		{"POST /2015-03-31/functions/f%3A1/invocations?Qualifier=1", "Invoke", "f%3A1"},
		{"GET /2015-03-31/functions", "ListFunctions", ""},
		{"GET /2015-03-31/functions/", "ListFunctions", ""}, // older SDKs
		{"GET /2015-03-31/functions/?FunctionVersion=ALL", "ListFunctions", ""},
		{"GET /2015-03-31/functions/arn:aws:lambda:us-east-1:000000000000:function:f:2/configuration?Qualifier=2", "GetFunctionConfiguration", "arn:aws:lambda:us-east-1:000000000000:function:f:2"},
		{"GET /2018-10-31/layers", "ListLayers", ""},
		{"GET /2018-10-31/layers?Arn=x&find=LayerVersion", "GetLayerVersionByArn", ""},
		{"GET /2018-10-31/layers?find=Other", "ListLayers", ""},
		{"GET /2019-09-30/functions/f/provisioned-concurrency?List=ALL", "ListProvisionedConcurrencyConfigs", "f"},
		{"GET /2019-09-30/functions/f/provisioned-concurrency?Qualifier=1", "GetProvisionedConcurrencyConfig", "f"},
		{"GET /2025-12-01/durable-executions/arn%3Aaws%3Alambda%3Aus-east-1%3A0%3Afunction%3Af%3A1%2Fdurable-execution%2Fn%2Fi/history", "GetDurableExecutionHistory", "arn%3Aaws%3Alambda%3Aus-east-1%3A0%3Afunction%3Af%3A1%2Fdurable-execution%2Fn%2Fi"},
		{"GET /2025-12-01/durable-executions/arn:aws:lambda:r:0:function:f:1/durable-execution/n/i/history", "GetDurableExecutionHistory", "arn:aws:lambda:r:0:function:f:1/durable-execution/n/i"},
		{"GET /2025-12-01/durable-executions/arn:aws:lambda:r:0:function:f:1/durable-execution/n/i", "GetDurableExecution", "arn:aws:lambda:r:0:function:f:1/durable-execution/n/i"},
		{"GET /", "", ""},
		{"GET /2015-03-31", "", ""},
		{"PATCH /2015-03-31/functions", "", ""},
		{"GET /2015-03-31/functions//configuration", "", ""},
		{"GET /2015-03-31/functions/f/g/configuration", "", ""},
		{"GET /2015-03-31/functions/" + strings.Repeat("x", maxPath), "", ""},
	} {
		method, target, _ := strings.Cut(c.request, " ")
		path, query, _ := strings.Cut(target, "?")
		rt, ok := r.find(method, path, query)
		got := ""
		if ok {
			got = rt.op.name
		}
		if got != c.op || ok && rt.labels[0] != c.label {
			t.Errorf("%s: %q with %q, want %q with %q", c.request, got, rt.labels[0], c.op, c.label)
		}
	}
}

// TestEveryOperationIsFoundByItsOwnPath fills each template with labels of any
// text and expects that operation and those labels.
func TestEveryOperationIsFoundByItsOwnPath(t *testing.T) {
	r := newRouter(operations)
	rapid.Check(t, func(t *rapid.T) {
		op := rapid.SampledFrom(operations).Draw(t, "operation")
		path := ""
		var labels []string
		for _, s := range op.path {
			text := s.literal
			if s.label != "" {
				text = url.PathEscape(rapid.StringMatching(`(arn:aws:lambda:)?[a-zA-Z0-9:/%$ _-]{1,20}`).Draw(t, "label"))
				labels = append(labels, text)
			}
			path += "/" + text
		}
		query := url.Values{}
		for k, v := range op.query {
			query.Set(k, v)
		}
		query.Set("Marker", rapid.String().Draw(t, "marker"))
		rt, ok := r.find(op.method, path, query.Encode())
		if !ok || rt.op != op {
			t.Fatalf("%s %s?%s finds %v", op.method, path, query.Encode(), rt.op)
		}
		for i, want := range labels {
			if rt.labels[i] != want {
				t.Fatalf("label %d is %q, want %q", i, rt.labels[i], want)
			}
		}
	})
}

func TestFindingTheInvokeRouteAllocatesNothing(t *testing.T) {
	r := newRouter(operations)
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := r.find("POST", "/2015-03-31/functions/hello/invocations", "Qualifier=1"); !ok {
			t.Fatal("not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzRoute(f *testing.F) {
	f.Add("POST", "/2015-03-31/functions/f/invocations", "Qualifier=1")
	f.Add("GET", "/2018-10-31/layers", "find=%4cayerVersion&a=+")
	f.Add("GET", "/2025-12-01/durable-executions/arn:a/b/c/history", "")
	f.Add("POST", "/2018-10-31/layers/arn:/versions/arn:/versions/policy", "")
	r := newRouter(operations)
	f.Fuzz(func(t *testing.T, method, path, query string) {
		rt, ok := r.find(method, path, query)
		if !ok {
			return
		}
		if rt.op.method != method {
			t.Errorf("%s %s finds %s", method, path, rt.op.name)
		}
		label := 0
		rebuilt := ""
		for _, s := range rt.op.path {
			if s.label == "" {
				rebuilt += "/" + s.literal
				continue
			}
			if rt.labels[label] == "" {
				t.Errorf("%s finds %s with an empty label", path, rt.op.name)
			}
			rebuilt += "/" + rt.labels[label]
			label++
		}
		if rebuilt != "/"+strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/") {
			t.Errorf("%s finds %s, whose labels make %s", path, rt.op.name, rebuilt)
		}
	})
}

func BenchmarkRouteInvoke(b *testing.B) {
	r := newRouter(operations)
	b.ReportAllocs()
	for b.Loop() {
		r.find("POST", "/2015-03-31/functions/hello/invocations", "")
	}
}
