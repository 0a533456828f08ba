package awsjson_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/awsjson"
)

type input struct{ Name string }
type output struct{ Greeting string }

var service = &awsjson.Service{
	Name: "Test", Target: "Test_2030", Version: "1.0", Namespace: "com.test", Query: true,
	Codes: map[hearth.Kind]awsjson.Code{hearth.NotFound: {Name: "NoSuchThing", Query: "Old.NoSuchThing", Status: 404}},
	Operations: map[string]awsjson.Operation{
		"Greet": awsjson.Op(func(_ context.Context, _ *awsjson.Request, in *input) (*output, error) {
			switch in.Name {
			case "nobody":
				return nil, hearth.Errorf(hearth.NotFound, "There is no %s.", in.Name)
			case "secret":
				return nil, errors.New("a secret")
			}
			return &output{"hello " + in.Name}, nil
		}),
		"Quiet": awsjson.Op(func(context.Context, *awsjson.Request, *input) (*awsjson.Nothing, error) { return nil, nil }),
	},
}

func TestAServiceAnswersAsTheProtocolHasIt(t *testing.T) {
	for _, c := range []struct {
		target, body string
		status       int
		want, query  string
	}{
		{"Test_2030.Greet", `{"Name":"you","Other":1}`, 200, `{"Greeting":"hello you"}`, ""},
		{"Test_2030.Quiet", ``, 200, `{}`, ""},
		{"Test_2030.Greet", `{"Name":"nobody"}`, 404, `{"__type":"com.test#NoSuchThing","message":"There is no nobody."}`, "Old.NoSuchThing;Sender"},
		{"Test_2030.Greet", `{"Name":"secret"}`, 500, `{"__type":"com.test#InternalFailure","message":"An internal error occurred."}`, "InternalFailure;Receiver"},
		{"Test_2030.Greet", `[`, 400, `{"__type":"com.test#SerializationException","message":"The request's body can't be read: unexpected end of JSON input"}`, "SerializationException;Sender"},
		{"Test_2030.Other", `{}`, 400, `{"__type":"com.test#UnknownOperationException","message":"Test has no operation \"Other\" here"}`, "UnknownOperationException;Sender"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Header.Set("X-Amz-Target", c.target)
		w := httptest.NewRecorder()
		err := service.Serve(w, &awsjson.Request{HTTP: r, Body: []byte(c.body)})
		if w.Code != c.status || w.Body.String() != c.want || w.Header().Get("X-Amzn-Query-Error") != c.query || (err == nil) != (c.status == 200) {
			t.Errorf("%s %s: %d %s %q, %v", c.target, c.body, w.Code, w.Body, w.Header().Get("X-Amzn-Query-Error"), err)
		}
	}
}
