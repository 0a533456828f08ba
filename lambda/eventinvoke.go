package lambda

import (
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

// eventInvokeOperations are those of the configuration of asynchronous invocation.
var eventInvokeOperations = operationTable{
	"DeleteFunctionEventInvokeConfig": serve((*Handler).deleteEventInvoke),
	"GetFunctionEventInvokeConfig":    serve((*Handler).getEventInvoke),
	"ListFunctionEventInvokeConfigs":  serve((*Handler).listEventInvokes),
	"PutFunctionEventInvokeConfig":    serve((*Handler).putEventInvoke),
	"UpdateFunctionEventInvokeConfig": serve((*Handler).updateEventInvoke),
}

// eventInvokeOf is the configuration as the API shows it. The outputs of four
// operations are this structure on the wire; both sides of the destinations
// are there, also when they are empty.
func (h *Handler) eventInvokeOf(t target, e *registry.EventInvoke) *types.FunctionEventInvokeConfig {
	out := &types.FunctionEventInvokeConfig{
		FunctionArn:  new(h.latestARN(t)),
		LastModified: new(e.Modified),
		DestinationConfig: &types.DestinationConfig{
			OnSuccess: &types.OnSuccess{Destination: optional(e.OnSuccess)},
			OnFailure: &types.OnFailure{Destination: optional(e.OnFailure)},
		},
	}
	if e.MaxAgeSeconds != nil {
		out.MaximumEventAgeInSeconds = new(int32(*e.MaxAgeSeconds))
	}
	if e.MaxRetries != nil {
		out.MaximumRetryAttempts = new(int32(*e.MaxRetries))
	}
	return out
}

// latestARN is t's ARN with its qualifier, which is $LATEST where t has none.
func (h *Handler) latestARN(t target) string {
	arn := "arn:aws:lambda:" + h.region + ":" + string(t.account) + ":function:" + t.name + ":"
	if t.qualifier == "" {
		return arn + hearth.Latest
	}
	return arn + t.qualifier
}

// eventInvokeChange is what Put and Update are given: nil is not named.
type eventInvokeChange struct {
	age, retries *int32
	destinations *types.DestinationConfig
}

func (ch eventInvokeChange) apply(e *registry.EventInvoke) {
	if ch.age != nil {
		e.MaxAgeSeconds = new(int(*ch.age))
	}
	if ch.retries != nil {
		e.MaxRetries = new(int(*ch.retries))
	}
	if d := ch.destinations; d != nil {
		// A side that is named without an ARN is cleared, one that is not
		// named stays.
		if d.OnSuccess != nil {
			e.OnSuccess = str(d.OnSuccess.Destination)
		}
		if d.OnFailure != nil {
			e.OnFailure = str(d.OnFailure.Destination)
		}
	}
}

func (h *Handler) putEventInvoke(c *call, in *sdk.PutFunctionEventInvokeConfigInput) (smithy.Serializable, error) {
	ch := eventInvokeChange{in.MaximumEventAgeInSeconds, in.MaximumRetryAttempts, in.DestinationConfig}
	return h.setEventInvoke(c, in.FunctionName, in.Qualifier, "PutFunctionEventInvokeConfig", ch, func(target, *registry.EventInvoke) (*registry.EventInvoke, error) {
		return &registry.EventInvoke{}, nil
	})
}

func (h *Handler) updateEventInvoke(c *call, in *sdk.UpdateFunctionEventInvokeConfigInput) (smithy.Serializable, error) {
	ch := eventInvokeChange{in.MaximumEventAgeInSeconds, in.MaximumRetryAttempts, in.DestinationConfig}
	return h.setEventInvoke(c, in.FunctionName, in.Qualifier, "UpdateFunctionEventInvokeConfig", ch, func(t target, old *registry.EventInvoke) (*registry.EventInvoke, error) {
		if old == nil {
			return nil, h.noEventInvoke(t)
		}
		return new(*old), nil
	})
}

// setEventInvoke applies ch to what begin makes of the present configuration.
func (h *Handler) setEventInvoke(c *call, name, qualifier *string, action string, ch eventInvokeChange, begin func(target, *registry.EventInvoke) (*registry.EventInvoke, error)) (smithy.Serializable, error) {
	t, err := h.target(c, name, qualifier, action)
	if err != nil {
		return nil, err
	}
	if ch == (eventInvokeChange{}) {
		return nil, hearth.Errorf(hearth.InvalidParameter, "You must specify at least one of error handling or destination setting.")
	}
	if _, err := h.Registry.Get(c.ctx, t.account, t.name, t.qualifier); err != nil {
		return nil, noSuchFunction()
	}
	if err := h.checkDestinations(c, t, ch.destinations); err != nil {
		return nil, err
	}
	s, err := h.Registry.Configure(c.ctx, t.account, t.name, t.qualifier, func(s *registry.Settings) error {
		e, err := begin(t, s.EventInvoke)
		if err != nil {
			return err
		}
		ch.apply(e)
		e.Modified = h.Clock.Now().UTC().Round(0)
		s.EventInvoke = e
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h.eventInvokeOf(t, s.EventInvoke), nil
}

func noSuchFunction() error {
	return hearth.Errorf(hearth.NotFound, "The function doesn't exist.")
}

func (h *Handler) noEventInvoke(t target) error {
	return hearth.Errorf(hearth.NotFound, "The function %s doesn't have an EventInvokeConfig", h.latestARN(t))
}

// checkDestinations tells whether t's events may go where d says.
func (h *Handler) checkDestinations(c *call, t target, d *types.DestinationConfig) error {
	if d == nil {
		return nil
	}
	var success, failure string
	if d.OnSuccess != nil {
		success = str(d.OnSuccess.Destination)
	}
	if d.OnFailure != nil {
		failure = str(d.OnFailure.Destination)
	}
	known := true
	for _, side := range []struct {
		arn      string
		services []string
	}{
		{failure, []string{"lambda", "sqs", "sns", "events", "s3"}},
		{success, []string{"lambda", "sqs", "sns", "events"}}, // S3 takes failures only
	} {
		if side.arn == "" {
			continue
		}
		service := serviceOf(side.arn)
		known = known && oneOf(service, side.services...)
		if service == "lambda" {
			if err := h.checkFunctionDestination(c, t, side.arn); err != nil {
				return err
			}
		}
	}
	if known {
		return nil
	}
	shown := func(kind, arn string) string {
		if arn == "" {
			return "null"
		}
		return kind + "(destination=" + arn + ")"
	}
	return hearth.Errorf(hearth.InvalidParameter, "The provided destination config DestinationConfig(onSuccess=%s, onFailure=%s) is invalid.",
		shown("OnSuccess", success), shown("OnFailure", failure))
}

// checkFunctionDestination tells whether arn is of a function, and not t's.
func (h *Handler) checkFunctionDestination(c *call, t target, arn string) error {
	to, ok := parseName(arn)
	if !ok || to.region != h.region {
		return badDestination(arn)
	}
	if _, err := h.Registry.Get(c.ctx, to.account, to.name, to.qualifier); err != nil {
		return badDestination(arn)
	}
	if to.account == t.account && to.name == t.name {
		return hearth.Errorf(hearth.InvalidParameter, "You can't specify the function as a destination for itself.")
	}
	return nil
}

func badDestination(arn string) error {
	return hearth.Errorf(hearth.InvalidParameter, "The destination ARN %s is invalid.", arn)
}

// serviceOf is the service of an ARN; "" if it has none.
func serviceOf(arn string) string {
	parts := strings.SplitN(arn, ":", 4)
	if len(parts) < 4 || parts[0] != "arn" {
		return ""
	}
	return parts[2]
}

func oneOf(s string, of ...string) bool {
	for _, o := range of {
		if s == o {
			return true
		}
	}
	return false
}

// eventInvoke finds the configuration of what a request names. Whatever it
// lacks, a function, a version or a configuration, is answered the same.
func (h *Handler) eventInvoke(c *call, name, qualifier *string, action string) (target, *registry.EventInvoke, error) {
	t, err := h.target(c, name, qualifier, action)
	if err != nil {
		return t, nil, err
	}
	s, err := h.Registry.Settings(c.ctx, t.account, t.name, t.qualifier)
	if err != nil || s.EventInvoke == nil {
		return t, nil, h.noEventInvoke(t)
	}
	return t, s.EventInvoke, nil
}

func (h *Handler) getEventInvoke(c *call, in *sdk.GetFunctionEventInvokeConfigInput) (smithy.Serializable, error) {
	t, e, err := h.eventInvoke(c, in.FunctionName, in.Qualifier, "GetFunctionEventInvokeConfig")
	if err != nil {
		return nil, err
	}
	return h.eventInvokeOf(t, e), nil
}

func (h *Handler) deleteEventInvoke(c *call, in *sdk.DeleteFunctionEventInvokeConfigInput) (smithy.Serializable, error) {
	t, _, err := h.eventInvoke(c, in.FunctionName, in.Qualifier, "DeleteFunctionEventInvokeConfig")
	if err != nil {
		return nil, err
	}
	_, err = h.Registry.Configure(c.ctx, t.account, t.name, t.qualifier, func(s *registry.Settings) error {
		if s.EventInvoke == nil {
			return h.noEventInvoke(t)
		}
		s.EventInvoke = nil
		return nil
	})
	return &sdk.DeleteFunctionEventInvokeConfigOutput{}, err
}

func (h *Handler) listEventInvokes(c *call, in *sdk.ListFunctionEventInvokeConfigsInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "ListFunctionEventInvokeConfigs")
	if err != nil {
		return nil, err
	}
	all, err := h.Registry.AllSettings(c.ctx, t.account, t.name)
	if err != nil {
		return nil, noSuchFunction()
	}
	configured := map[string]*registry.EventInvoke{}
	for qualifier, s := range all {
		if s.EventInvoke != nil {
			configured[qualifier] = s.EventInvoke
		}
	}
	qualifiers, next, err := pageOfKeys(configured, in.Marker, pageOf(in.MaxItems))
	if err != nil {
		return nil, err
	}
	out := &sdk.ListFunctionEventInvokeConfigsOutput{FunctionEventInvokeConfigs: []types.FunctionEventInvokeConfig{}, NextMarker: next}
	for _, q := range qualifiers {
		t.qualifier = q
		out.FunctionEventInvokeConfigs = append(out.FunctionEventInvokeConfigs, *h.eventInvokeOf(t, configured[q]))
	}
	return out, nil
}
