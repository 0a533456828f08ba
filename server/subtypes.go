package server

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/apigateway"
	"github.com/hearth-faas/hearth/awsjson"
	"github.com/hearth-faas/hearth/gateway"
)

// apiServices are the services that HTTP APIs' integrations may ask for something,
// as their clients ask them: who calls the API gets the answer that they give.
type apiServices struct {
	s             *Server
	queues, buses awsjson.Handler
}

// do is what apigateway.Config.Services is.
func (x *apiServices) do(ctx context.Context, q *apigateway.Task) (*gateway.Answer, error) {
	service, operation, _ := strings.Cut(q.Subtype, "-")
	var handler awsjson.Handler
	var body []byte
	var err error
	header := http.Header{}
	switch service {
	case "SQS": // which asks whether the caller may by itself
		handler = x.queues
		header.Set("Content-Type", "application/x-www-form-urlencoded")
		body, err = queryOf(operation, q.Parameters)
	case "EventBridge":
		if err := x.s.authorize(ctx, q.Caller, "events:"+operation, x.s.busARN(q.Caller.Account, q.Parameters["EventBusName"])); err != nil {
			return nil, err
		}
		handler = x.buses
		header.Set("Content-Type", "application/x-amz-json-1.1")
		header.Set("X-Amz-Target", "AWSEvents."+operation)
		body, err = entriesOf(q.Parameters)
	default:
		err = hearth.Errorf(hearth.UnknownOperation, "There is no service for %s.", q.Subtype)
	}
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+q.Host+"/", http.NoBody)
	if err != nil {
		return nil, err
	}
	r.Header = header
	w := &kept{header: http.Header{}, status: http.StatusOK}
	// What the client is told of an error is in the answer.
	if err := handler.Serve(w, &awsjson.Request{Caller: q.Caller, RequestID: q.RequestID, HTTP: r, Body: body}); err != nil && hearth.KindOf(err).Status() >= 500 {
		x.s.log.Error("an integration with a service", "service", q.Subtype, "request", q.RequestID, "err", err)
	}
	return &gateway.Answer{Status: w.status, Header: w.header, Body: w.body.Bytes()}, nil
}

// busARN is the ARN of an account's bus; "" is the default one.
func (s *Server) busARN(account hearth.Account, name string) string {
	switch {
	case strings.HasPrefix(name, "arn:"):
		return name
	case name == "":
		name = "default"
	}
	return "arn:aws:events:" + s.cfg.Region + ":" + string(account) + ":event-bus/" + name
}

// entriesOf is the input of PutEvents.
func entriesOf(parameters map[string]string) ([]byte, error) {
	entry := map[string]any{}
	for name, value := range parameters {
		switch name {
		case "Region":
		case "Resources":
			list, err := listOf(value)
			if err != nil {
				return nil, err
			}
			entry[name] = list
		case "Time":
			if entry[name] = value; json.Valid([]byte(value)) {
				entry[name] = json.RawMessage(value) // seconds since 1970
			}
		default:
			entry[name] = value
		}
	}
	return json.Marshal(map[string]any{"Entries": []any{entry}})
}

// listOf reads a parameter that is a list: JSON, or one text alone.
func listOf(value string) (list []string, _ error) {
	if !strings.HasPrefix(value, "[") {
		return []string{value}, nil
	}
	if err := json.Unmarshal([]byte(value), &list); err != nil {
		return nil, hearth.Errorf(hearth.Validation, "It is no list of texts: %s", err)
	}
	return list, nil
}

// queryOf is the form of a request to SQS, whose lists and maps are flat.
func queryOf(action string, parameters map[string]string) ([]byte, error) {
	form := url.Values{"Action": {action}, "Version": {"2012-11-05"}}
	for name, value := range parameters {
		switch name {
		case "Region":
		case "AttributeNames", "MessageAttributeNames":
			list, err := listOf(value)
			if err != nil {
				return nil, err
			}
			for i, item := range list {
				form.Set(strings.TrimSuffix(name, "s")+"."+strconv.Itoa(i+1), item)
			}
		case "MessageAttributes", "MessageSystemAttributes":
			var attributes map[string]map[string]string
			if err := json.Unmarshal([]byte(value), &attributes); err != nil {
				return nil, hearth.Errorf(hearth.Validation, "%s is no map of attributes: %s", name, err)
			}
			for i, n := range slices.Sorted(maps.Keys(attributes)) {
				item := strings.TrimSuffix(name, "s") + "." + strconv.Itoa(i+1)
				form.Set(item+".Name", n)
				for member, v := range attributes[n] {
					form.Set(item+".Value."+member, v)
				}
			}
		default:
			form.Set(name, value)
		}
	}
	return []byte(form.Encode()), nil
}

// kept is an answer that is kept, and not sent.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *kept) Header() http.Header         { return w.header }
func (w *kept) WriteHeader(status int)      { w.status = status }
func (w *kept) Write(b []byte) (int, error) { return w.body.Write(b) }
