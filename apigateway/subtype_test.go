package apigateway

import (
	"context"
	"net/http"
	"reflect"
	"strings"
	"testing"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/gateway"
)

func TestAServiceAnswersARouteWithoutAFunction(t *testing.T) {
	w := newWorld(t)
	var asked *Task
	answer := &gateway.Answer{Status: 200, Header: http.Header{"Content-Type": {"text/xml"}}, Body: []byte("<sent/>")}
	var refused error
	w.Services = func(_ context.Context, q *Task) (*gateway.Answer, error) {
		asked = q
		return answer, refused
	}
	id, integration := w.api("1.0", "POST /things/{id}")
	const role = "arn:aws:iam::111122223333:role/sender"
	parameters := map[string]string{"QueueUrl": "http://h/111122223333/q", "MessageBody": "$request.body.m", "MessageGroupId": "${request.path.id}-${context.stage}", "DelaySeconds": "$request.header.delay"}
	w.integration(id, integration, func(i *Integration) {
		i.URI, i.Method, i.Subtype, i.Credentials, i.RequestParameters = "", "", "SQS-SendMessage", role, parameters
		i.ResponseParameters = map[string]map[string]string{"200": {"overwrite:statuscode": "202"}}
	})
	got := w.send(id, "POST", "/things/7", `{"m":"hello"}`)
	if got.status != 202 || got.body != "<sent/>" || got.header.Get("Content-Type") != "text/xml" || w.ran() != 0 {
		t.Errorf("%+v, %d functions", got, w.ran())
	}
	want := map[string]string{"QueueUrl": "http://h/111122223333/q", "MessageBody": "hello", "MessageGroupId": "7-$default"}
	if asked.Subtype != "SQS-SendMessage" || !reflect.DeepEqual(asked.Parameters, want) || asked.Caller.Account != owner || !strings.Contains(asked.Caller.ARN, "assumed-role/sender/") {
		t.Errorf("%+v", asked)
	}
	for kind, status := range map[hearth.Kind]int{hearth.AccessDenied: 403, hearth.Validation: 400, hearth.Service: 500} {
		refused = hearth.Errorf(kind, "no")
		if got := w.send(id, "POST", "/things/7", `{"m":"hello"}`); got.status != status {
			t.Errorf("%s is %+v", kind, got)
		}
	}
	// It comes out and in again.
	b, err := w.Export(owner, id, Export{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.Import(t.Context(), owner, Import{Document: b})
	if err != nil || w.summary(again.ID) != w.summary(id) {
		t.Errorf("%s: %v", b, err)
	}
}

func TestWhatAServiceCantBeAskedForIsRefused(t *testing.T) {
	w := newWorld(t)
	w.Services = func(context.Context, *Task) (*gateway.Answer, error) { return nil, nil }
	id, _ := w.api("1.0")
	for want, change := range map[string]func(i *Integration){
		"which has EventBridge-PutEvents": func(i *Integration) { i.Subtype = "Kinesis-PutRecord" },
		"credentialsArn is required":      func(i *Integration) { i.Credentials = "" },
		"own account":                     func(i *Integration) { i.Credentials = "arn:aws:iam::444455556666:role/r" },
		"must have MessageBody, QueueUrl": func(i *Integration) { delete(i.RequestParameters, "MessageBody") },
		`"Other"`:                         func(i *Integration) { i.RequestParameters["Other"] = "x" },
		"us-east-1, or left out":          func(i *Integration) { i.RequestParameters["Region"] = "eu-west-1" },
		"names nothing":                   func(i *Integration) { i.RequestParameters["MessageBody"] = "$request.nothing" },
		"no integrationUri":               func(i *Integration) { i.URI = echo },
		"is 1.0":                          func(i *Integration) { i.PayloadFormat = "2.0" },
		"for the integrationType":         func(i *Integration) { i.Type = "HTTP_PROXY" },
	} {
		_, err := w.PutIntegration(t.Context(), owner, id, "", func(i *Integration) error {
			i.Type, i.Subtype, i.PayloadFormat, i.Credentials = "AWS_PROXY", "SQS-SendMessage", "1.0", "arn:aws:iam::111122223333:role/r"
			i.RequestParameters = map[string]string{"QueueUrl": "q", "MessageBody": "b"}
			change(i)
			return nil
		})
		if hearth.KindOf(err) != hearth.Validation || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
