package lambda

import (
	"io"
	"net/http"

	hearth "github.com/hearth-faas/hearth"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"
)

// invokeAsync serves what came before InvocationType Event, and is still in
// the API: the same with another shape.
func (h *Handler) invokeAsync(c *call, in *sdk.InvokeAsyncInput) (smithy.Serializable, error) {
	t, err := h.target(c, in.FunctionName, nil, "InvokeAsync")
	if err != nil {
		return nil, err
	}
	payload, err := io.ReadAll(in.InvokeArgs)
	if err != nil {
		return nil, err
	}
	if len(payload) == 0 {
		return nil, hearth.Errorf(hearth.Validation, "1 validation error detected: Value null at 'invokeArgs' failed to satisfy constraint: Member must not be null")
	}
	if err := validJSON(payload); err != nil {
		return nil, hearth.Errorf(hearth.InvalidContent, "Could not parse request body into json: Could not parse payload into json: %s", err)
	}
	inv := &hearth.Invocation{
		RequestID: c.requestID, Caller: c.claim.Identity, Account: t.account, Name: t.name, Qualifier: t.qualifier,
		InvokedARN: t.arn(h.region), Payload: payload, Async: true,
	}
	inv.Timeline.Begin(c.began)
	if h.Within != nil {
		inv.Within = h.Within(c.http)
	}
	_, err = h.Invoker.Invoke(c.ctx, inv)
	c.requestID = inv.RequestID // as in invoke
	if h.Done != nil {
		h.Done(inv)
	}
	if err != nil {
		return nil, err
	}
	return &sdk.InvokeAsyncOutput{Status: http.StatusAccepted}, nil
}
