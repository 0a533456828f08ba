package apigateway

import (
	"context"
	"net/http"
	"slices"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
)

// What a service does for a route, where there needs to be no function: a
// message is sent to a queue, an event is put onto a bus.

// Task is what a service is asked for.
type Task struct {
	Subtype    string // of the integration, such as SQS-SendMessage
	Caller     hearth.Identity
	RequestID  string
	Host       string            // by which the client has come
	Parameters map[string]string // by name; one that is empty is left out
}

// subtypes are what integrationSubtype names, with the parameters that each must
// have and may have.
var subtypes = map[string]struct{ must, may []string }{
	"EventBridge-PutEvents": {[]string{"Detail", "DetailType", "Source"}, []string{"EventBusName", "Region", "Resources", "Time"}},
	"SQS-DeleteMessage":     {[]string{"QueueUrl", "ReceiptHandle"}, []string{"Region"}},
	"SQS-PurgeQueue":        {[]string{"QueueUrl"}, []string{"Region"}},
	"SQS-ReceiveMessage": {[]string{"QueueUrl"}, []string{
		"AttributeNames", "MaxNumberOfMessages", "MessageAttributeNames", "ReceiveRequestAttemptId", "Region", "VisibilityTimeout", "WaitTimeSeconds",
	}},
	"SQS-SendMessage": {[]string{"MessageBody", "QueueUrl"}, []string{
		"DelaySeconds", "MessageAttributes", "MessageDeduplicationId", "MessageGroupId", "MessageSystemAttributes", "Region",
	}},
}

// checkSubtype refuses what a service can't be asked for.
func (s *Service) checkSubtype(i *Integration) error {
	known, ok := subtypes[i.Subtype]
	switch {
	case !ok || s.Services == nil:
		return invalid("The integrationSubtype %.80q is not supported by Hearth, which has %s: use a function.", i.Subtype, strings.Join(sortedKeys(subtypes), ", "))
	case i.Type != "AWS_PROXY":
		return invalid("integrationSubtype is for the integrationType AWS_PROXY.")
	case i.URI != "" || i.Method != "":
		return invalid("An integration with an integrationSubtype has no integrationUri and no integrationMethod: what it calls its requestParameters say.")
	case i.PayloadFormat != "1.0":
		return invalid("The payloadFormatVersion of an integration with an integrationSubtype is 1.0.")
	case i.Credentials == "":
		return invalid("credentialsArn is required with an integrationSubtype: the service is called as that role.")
	}
	for _, name := range known.must {
		if i.RequestParameters[name] == "" {
			return invalid("The requestParameters of %s must have %s.", i.Subtype, strings.Join(known.must, ", "))
		}
	}
	for _, name := range sortedKeys(i.RequestParameters) {
		if !slices.Contains(known.must, name) && !slices.Contains(known.may, name) {
			return invalid("The requestParameters of %s are %s: %.80q", i.Subtype, strings.Join(append(slices.Clone(known.must), known.may...), ", "), name)
		}
	}
	if region := i.RequestParameters["Region"]; region != "" && region != s.Region {
		return invalid("The Region of %s is this server's, %s, or left out: %.40q", i.Subtype, s.Region, region)
	}
	return nil
}

// compileSubtype reads what the parameters of a service are made of.
func compileSubtype(i *Integration) (map[string]*template, error) {
	parameters := map[string]*template{}
	for name, value := range i.RequestParameters {
		var err error
		if parameters[name], err = parseTemplate(value, requestSources|contextSources|stageVariables); err != nil {
			return nil, err
		}
	}
	return parameters, nil
}

// callService answers by a service, whose answer is the client's as it is.
func (c *call) callService(ctx context.Context, w http.ResponseWriter, i *integration) error {
	q := &Task{Subtype: i.Subtype, Caller: session(c.table.account, i.Credentials, c.requestID), RequestID: c.requestID, Host: c.http.Host, Parameters: map[string]string{}}
	for name, t := range i.parameters {
		if v := t.text(c.value); v != "" {
			q.Parameters[name] = v
		}
	}
	began := c.s.Clock.Now()
	a, err := c.s.Services(access.Arrived(ctx, access.Inside), q)
	c.integrated = c.s.Clock.Now().Sub(began)
	switch hearth.KindOf(err) {
	case hearth.AccessDenied:
		return errForbidden.because(message(err))
	case hearth.Validation:
		return errBadRequest.because(message(err))
	}
	if err != nil {
		return c.notRun(ctx, err)
	}
	c.integrationIs, c.returned = a.Status, a.Status
	return c.answer(w, i, a)
}
