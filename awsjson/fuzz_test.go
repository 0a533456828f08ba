package awsjson

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	hearth "github.com/hearth-faas/hearth"
)

// Whatever comes as a body and a target is answered with JSON, and never as the
// server's own failure.
func FuzzService(f *testing.F) {
	type input struct {
		Name  string
		Count *int
		Items []struct{ Key string }
		Map   map[string]string
	}
	s := &Service{Name: "a service", Target: "Service", Version: "1.1", Operations: map[string]Operation{
		"Do": Op(func(_ context.Context, _ *Request, in *input) (*input, error) { return in, nil }),
		"No": Op(func(_ context.Context, _ *Request, in *input) (*Nothing, error) {
			return nil, hearth.Errorf(hearth.InvalidParameter, "%s", in.Name)
		}),
	}}
	f.Add("Service.Do", []byte(`{"Name":"x","Count":1,"Items":[{"Key":"k"}],"Map":{"a":"b"}}`))
	f.Add("Service.No", []byte(`{"Name":1}`))
	f.Add("Other.Do", []byte(`null`))
	f.Fuzz(func(t *testing.T, target string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Header.Set("X-Amz-Target", target)
		w := httptest.NewRecorder()
		_ = s.Serve(w, &Request{HTTP: r, Body: body})
		if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}
