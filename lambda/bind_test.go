package lambda

import (
	"net/http"
	"net/url"
	"testing"

	hearth "github.com/hearth-faas/hearth"
)

// FuzzBind sends any path, query and body to any operation: it is bound and
// checked, or refused with an error that tells the caller what is wrong.
func FuzzBind(f *testing.F) {
	f.Add("POST", "/2015-03-31/functions", "", []byte(`{"FunctionName":"f","Code":{"ZipFile":"UEs="},"Tags":{"a":"b"},"VpcConfig":{"SubnetIds":["s"]}}`))
	f.Add("GET", "/2015-03-31/functions", "MaxItems=1e1&Marker=%zz", []byte{})
	f.Add("GET", "/2018-10-31/layers/l%2f/versions/x", "", []byte(`null`))
	f.Add("GET", "/2025-12-01/functions/f/durable-executions", "StartedAfter=2025-01-01T00:00:00Z&ReverseOrder=maybe&Statuses=a&Statuses=b", []byte{})
	f.Add("POST", "/2015-03-31/event-source-mappings", "", []byte(`{"StartingPositionTimestamp":1e99,"BatchSize":-1,"Enabled":null}`))
	f.Add("POST", "/2014-11-13/functions/f/invoke-async", "", []byte(`x`))
	router := newRouter(operations)
	f.Fuzz(func(t *testing.T, method, path, query string, body []byte) {
		rt, ok := router.find(method, path, query)
		if !ok {
			return
		}
		r := &http.Request{Method: method, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{"X-Amz-Log-Type": {query}}}
		in, err := bind(rt, r, body)
		if err == nil {
			err = validate(rt.op, in)
		}
		switch hearth.KindOf(err) {
		case "", hearth.Validation, kindSerialization:
		default:
			t.Errorf("%s %s?%s %q: %v", method, path, query, body, err)
		}
	})
}
