package apigateway

import (
	"context"
	"fmt"
	"net/http/httptest"
	"testing"

	hearth "github.com/hearth-faas/hearth"
)

// BenchmarkServe is what the gateway adds to an invocation, with one route and
// with as many as an API can have, of which the last fits.
func BenchmarkServe(b *testing.B) {
	for _, n := range []int{1, maxRoutes} {
		b.Run(fmt.Sprint(n, " routes"), func(b *testing.B) {
			w := newWorld(b)
			keys := make([]string, n)
			for i := range keys {
				keys[i] = fmt.Sprintf("GET /shops/{shop}/part-%d/{id}", i)
			}
			id, _ := w.api("2.0", keys...)
			answer := &hearth.Result{Payload: []byte(`{"statusCode":200,"body":"hello"}`)}
			w.Invoker = invokerFunc(func() *hearth.Result { return answer })
			r := httptestRequest("GET", "http://"+Host(id, "us-east-1", "localhost")+fmt.Sprintf("/shops/1/part-%d/7?a=b", n-1), nil)
			h := w.Over(nil)
			b.ReportAllocs()
			for b.Loop() {
				rec := httptest.NewRecorder()
				if h.ServeHTTP(rec, r); rec.Code != 200 {
					b.Fatal(rec.Code, rec.Body)
				}
			}
		})
	}
}

type invokerFunc func() *hearth.Result

func (f invokerFunc) Invoke(context.Context, *hearth.Invocation) (*hearth.Result, error) {
	return f(), nil
}
