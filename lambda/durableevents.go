package lambda

import (
	"github.com/hearth-faas/hearth/durable"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// eventOf shows an event of a durable execution's history as the API does,
// with the payloads or without. Without them they count as truncated.
func eventOf(e *durable.Event, data bool) types.Event {
	out := types.Event{
		EventId: new(int32(e.ID)), EventType: types.EventType(e.Type), EventTimestamp: new(e.At),
		Id: optional(e.OperationID), ParentId: optional(e.ParentID), Name: optional(e.Name), SubType: optional(e.SubType),
	}
	result := &types.EventResult{Truncated: new(!data)}
	failure := &types.EventError{Truncated: new(!data)}
	input := &types.EventInput{Truncated: new(!data)}
	if data {
		result.Payload, failure.Payload, input.Payload = e.Result, errorOf(e.Error), e.Input
	}
	some := func(n int) *int32 {
		if n == 0 {
			return nil
		}
		return new(int32(n))
	}
	retry := &types.RetryDetails{CurrentAttempt: int32(e.Attempt)}
	if e.NextAttempt != nil {
		retry.NextAttemptDelaySeconds = new(int32(*e.NextAttempt))
	}
	switch e.Type {
	case durable.ExecutionStarted:
		out.ExecutionStartedDetails = &types.ExecutionStartedDetails{ExecutionTimeout: new(int32(e.Seconds)), Input: input}
	case durable.ExecutionSucceeded:
		out.ExecutionSucceededDetails = &types.ExecutionSucceededDetails{Result: result}
	case durable.ExecutionFailed:
		out.ExecutionFailedDetails = &types.ExecutionFailedDetails{Error: failure}
	case durable.ExecutionTimedOut:
		out.ExecutionTimedOutDetails = &types.ExecutionTimedOutDetails{Error: failure}
	case durable.ExecutionStopped:
		out.ExecutionStoppedDetails = &types.ExecutionStoppedDetails{Error: failure}
	case durable.ContextStarted:
		out.ContextStartedDetails = &types.ContextStartedDetails{}
	case durable.ContextSucceeded:
		out.ContextSucceededDetails = &types.ContextSucceededDetails{Result: result}
	case durable.ContextFailed:
		out.ContextFailedDetails = &types.ContextFailedDetails{Error: failure}
	case durable.WaitStarted:
		out.WaitStartedDetails = &types.WaitStartedDetails{Duration: new(int32(e.Seconds)), ScheduledEndTimestamp: new(e.ScheduledEnd)}
	case durable.WaitSucceeded:
		out.WaitSucceededDetails = &types.WaitSucceededDetails{Duration: new(int32(e.Seconds))}
	case durable.WaitCancelled:
		out.WaitCancelledDetails = &types.WaitCancelledDetails{}
		if e.Error != nil {
			out.WaitCancelledDetails.Error = failure
		}
	case durable.StepStarted:
		out.StepStartedDetails = &types.StepStartedDetails{}
	case durable.StepSucceeded:
		out.StepSucceededDetails = &types.StepSucceededDetails{Result: result, RetryDetails: retry}
	case durable.StepFailed:
		out.StepFailedDetails = &types.StepFailedDetails{Error: failure, RetryDetails: retry}
	case durable.ChainedInvokeStarted:
		out.ChainedInvokeStartedDetails = &types.ChainedInvokeStartedDetails{
			FunctionName: new(e.Function), DurableExecutionArn: optional(e.Child), ExecutedVersion: optional(e.Version),
			TenantId: optional(e.TenantID), Input: input,
		}
	case durable.ChainedInvokeSucceeded:
		out.ChainedInvokeSucceededDetails = &types.ChainedInvokeSucceededDetails{Result: result}
	case durable.ChainedInvokeFailed:
		out.ChainedInvokeFailedDetails = &types.ChainedInvokeFailedDetails{Error: failure}
	case durable.ChainedInvokeTimedOut:
		out.ChainedInvokeTimedOutDetails = &types.ChainedInvokeTimedOutDetails{Error: failure}
	case durable.ChainedInvokeStopped:
		out.ChainedInvokeStoppedDetails = &types.ChainedInvokeStoppedDetails{Error: failure}
	case durable.CallbackStarted:
		out.CallbackStartedDetails = &types.CallbackStartedDetails{
			CallbackId: new(e.CallbackID), Timeout: some(e.Seconds), HeartbeatTimeout: some(e.Heartbeat),
		}
	case durable.CallbackSucceeded:
		out.CallbackSucceededDetails = &types.CallbackSucceededDetails{Result: result}
	case durable.CallbackFailed:
		out.CallbackFailedDetails = &types.CallbackFailedDetails{Error: failure}
	case durable.CallbackTimedOut:
		out.CallbackTimedOutDetails = &types.CallbackTimedOutDetails{Error: failure}
	case durable.InvocationCompleted:
		out.InvocationCompletedDetails = &types.InvocationCompletedDetails{
			RequestId: new(e.RequestID), StartTimestamp: new(e.Began), EndTimestamp: new(e.Ended),
		}
		if e.Error != nil {
			out.InvocationCompletedDetails.Error = failure
		}
	}
	return out
}
