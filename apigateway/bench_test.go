package apigateway

import (
	"context"
	"fmt"
	"net/http/httptest"
	"testing"

	hearth "github.com/hearth-faas/hearth"

	"github.com/go-jose/go-jose/v4"
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

// BenchmarkToken is a checked JSON Web Token whose issuer's keys are known.
func BenchmarkToken(b *testing.B) {
	for _, alg := range []string{"RS256", "ES256"} {
		b.Run(alg, func(b *testing.B) {
			w, i := newWorld(b), newIssuer(b)
			k := i.rotate("one", algorithmOf(alg))
			token := i.token(k, i.claims(w.clock.Now(), nil))
			for b.Loop() {
				if _, err := w.issuers.verify(b.Context(), &JWT{Audience: []string{"shop"}, Issuer: i.url}, token, w.clock.Now()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func algorithmOf(name string) jose.SignatureAlgorithm { return jose.SignatureAlgorithm(name) }

type invokerFunc func() *hearth.Result

func (f invokerFunc) Invoke(context.Context, *hearth.Invocation) (*hearth.Result, error) {
	return f(), nil
}
