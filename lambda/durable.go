package lambda

import (
	"context"
	"errors"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/durable"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

// Durable keeps the durable executions. Its errors are what the caller is
// told. Safe for concurrent use.
type Durable interface {
	Checkpoint(ctx context.Context, p durable.Checkpoint) (next string, changed []*durable.Operation, err error)
	State(ctx context.Context, a durable.ARN, token, marker string, max int) (page []*durable.Operation, next string, err error)
	Get(ctx context.Context, a durable.ARN) (*durable.Execution, error)
	History(ctx context.Context, a durable.ARN, newest bool, marker string, max int) (events []*durable.Event, next string, err error)
	List(ctx context.Context, q durable.List) (all []*durable.Execution, next string, err error)
	Stop(ctx context.Context, a durable.ARN, why *durable.Error) (*durable.Execution, error)
	Callback(ctx context.Context, account hearth.Account, b durable.Callback) error
}

var _ Durable = (*durable.Executions)(nil)

// durableOperations are those of durable executions.
var durableOperations = operationTable{
	"CheckpointDurableExecution":            serve((*Handler).checkpointDurableExecution),
	"GetDurableExecution":                   serve((*Handler).getDurableExecution),
	"GetDurableExecutionHistory":            serve((*Handler).getDurableExecutionHistory),
	"GetDurableExecutionState":              serve((*Handler).getDurableExecutionState),
	"ListDurableExecutionsByFunction":       serve((*Handler).listDurableExecutions),
	"SendDurableExecutionCallbackFailure":   serve((*Handler).sendCallbackFailure),
	"SendDurableExecutionCallbackHeartbeat": serve((*Handler).sendCallbackHeartbeat),
	"SendDurableExecutionCallbackSuccess":   serve((*Handler).sendCallbackSuccess),
	"StopDurableExecution":                  serve((*Handler).stopDurableExecution),
}

// ParseFunctionName reads a function's name as callers write it: a name, a
// partial ARN or a full one, each with a qualifier or without. What it does
// not say is "".
func ParseFunctionName(s string) (account hearth.Account, name, qualifier string, ok bool) {
	t, ok := parseName(s)
	return t.account, t.name, t.qualifier, ok
}

// execution reads the ARN of a durable execution that has passed its pattern.
func (h *Handler) execution(c *call, arn *string, action string) (durable.ARN, error) {
	text := str(arn)
	a, ok := durable.ParseARN(text)
	switch {
	case !ok || a.Region != h.region:
		return a, hearth.Errorf(hearth.NotFound, "Durable Execution does not exist")
	case a.Account != c.account():
		return a, hearth.Errorf(hearth.AccessDenied,
			"User: %s is not authorized to perform: lambda:%s on resource: %s because no resource-based policy allows the lambda:%[2]s action",
			c.claim.Identity.ARN, action, text)
	}
	return a, nil
}

func (h *Handler) checkpointDurableExecution(c *call, in *sdk.CheckpointDurableExecutionInput) (smithy.Serializable, error) {
	a, err := h.execution(c, in.DurableExecutionArn, "CheckpointDurableExecution")
	if err != nil {
		return nil, err
	}
	p := durable.Checkpoint{ARN: a, Token: str(in.CheckpointToken), ClientToken: str(in.ClientToken)}
	for i := range in.Updates {
		p.Updates = append(p.Updates, updateOf(&in.Updates[i]))
	}
	next, changed, err := h.Durable.Checkpoint(c.ctx, p)
	if err != nil {
		return nil, err
	}
	return &sdk.CheckpointDurableExecutionOutput{
		CheckpointToken:   optional(next),
		NewExecutionState: &types.CheckpointUpdatedExecutionState{Operations: operationsOf(changed)},
	}, nil
}

func updateOf(u *types.OperationUpdate) durable.Update {
	out := durable.Update{
		ID: str(u.Id), ParentID: str(u.ParentId), Name: str(u.Name), Type: durable.Type(u.Type), SubType: str(u.SubType),
		Action: durable.Action(u.Action), Payload: u.Payload, Error: durableError(u.Error),
	}
	if o := u.StepOptions; o != nil {
		out.NextAttempt = seconds(o.NextAttemptDelaySeconds)
	}
	if o := u.WaitOptions; o != nil {
		out.Wait = seconds(o.WaitSeconds)
	}
	if o := u.ContextOptions; o != nil {
		out.ReplayChildren = o.ReplayChildren
	}
	if o := u.CallbackOptions; o != nil {
		out.Timeout, out.Heartbeat = int(o.TimeoutSeconds), int(o.HeartbeatTimeoutSeconds)
	}
	if o := u.ChainedInvokeOptions; o != nil {
		out.Function, out.TenantID, out.TraceID = str(o.FunctionName), str(o.TenantId), str(o.XAmznTraceId)
	}
	return out
}

func seconds(n *int32) *int {
	if n == nil {
		return nil
	}
	return new(int(*n))
}

func durableError(e *types.ErrorObject) *durable.Error {
	if e == nil {
		return nil
	}
	return &durable.Error{Message: e.ErrorMessage, Type: e.ErrorType, Data: e.ErrorData, StackTrace: e.StackTrace}
}

func errorOf(e *durable.Error) *types.ErrorObject {
	if e == nil {
		return nil
	}
	return &types.ErrorObject{ErrorMessage: e.Message, ErrorType: e.Type, ErrorData: e.Data, StackTrace: e.StackTrace}
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// operationsOf shows operations as the API does.
func operationsOf(os []*durable.Operation) []types.Operation {
	out := make([]types.Operation, len(os))
	for i, o := range os {
		w := &out[i]
		*w = types.Operation{
			Id: new(o.ID), ParentId: optional(o.ParentID), Name: optional(o.Name), Type: types.OperationType(o.Type),
			SubType: optional(o.SubType), Status: types.OperationStatus(o.Status),
			StartTimestamp: moment(o.Started), EndTimestamp: moment(o.Ended),
		}
		switch o.Type {
		case durable.TypeExecution:
			w.ExecutionDetails = &types.ExecutionDetails{InputPayload: o.Input}
		case durable.TypeContext:
			w.ContextDetails = &types.ContextDetails{Result: o.Result, Error: errorOf(o.Error)}
			if o.ReplayChildren {
				w.ContextDetails.ReplayChildren = new(true)
			}
		case durable.TypeStep:
			w.StepDetails = &types.StepDetails{Attempt: int32(o.Attempt), Result: o.Result, Error: errorOf(o.Error)}
			if o.Status == durable.Pending {
				w.StepDetails.NextAttemptTimestamp = moment(o.Due)
			}
		case durable.TypeWait:
			w.WaitDetails = &types.WaitDetails{ScheduledEndTimestamp: moment(o.Due)}
		case durable.TypeCallback:
			w.CallbackDetails = &types.CallbackDetails{CallbackId: optional(o.CallbackID), Result: o.Result, Error: errorOf(o.Error)}
		case durable.TypeChainedInvoke:
			w.ChainedInvokeDetails = &types.ChainedInvokeDetails{Result: o.Result, Error: errorOf(o.Error)}
		}
	}
	return out
}

func (h *Handler) getDurableExecutionState(c *call, in *sdk.GetDurableExecutionStateInput) (smithy.Serializable, error) {
	a, err := h.execution(c, in.DurableExecutionArn, "GetDurableExecutionState")
	if err != nil {
		return nil, err
	}
	page, next, err := h.Durable.State(c.ctx, a, str(in.CheckpointToken), str(in.Marker), int(in.MaxItems))
	if err != nil {
		return nil, err
	}
	return &sdk.GetDurableExecutionStateOutput{Operations: operationsOf(page), NextMarker: optional(next)}, nil
}

func (h *Handler) getDurableExecution(c *call, in *sdk.GetDurableExecutionInput) (smithy.Serializable, error) {
	a, err := h.execution(c, in.DurableExecutionArn, "GetDurableExecution")
	if err != nil {
		return nil, err
	}
	x, err := h.Durable.Get(c.ctx, a)
	if err != nil {
		return nil, err
	}
	data := in.IncludeExecutionData == nil || *in.IncludeExecutionData
	out := &sdk.GetDurableExecutionOutput{
		DurableExecutionArn: &x.ARN, DurableExecutionName: &x.Name, FunctionArn: &x.FunctionARN, Version: &x.Version,
		Status: types.ExecutionStatus(x.Status), StartTimestamp: &x.Started, EndTimestamp: moment(x.Ended),
		DurableConfig: durableConfigOf(&hearth.Durable{
			ExecutionTimeout: x.Timeout, RetentionDays: x.RetentionDays, KMSKeyARN: x.KMSKeyARN,
		}),
		ExecutionDataIncluded: &data,
	}
	if x.TraceID != "" {
		out.TraceHeader = &types.TraceHeader{XAmznTraceId: &x.TraceID}
	}
	if data {
		out.InputPayload, out.Result, out.Error = x.Input, x.Result, errorOf(x.Error)
	}
	return out, nil
}

func durableConfigOf(d *hearth.Durable) *types.DurableConfig {
	return &types.DurableConfig{
		ExecutionTimeout:      new(int32(d.ExecutionTimeout / time.Second)),
		RetentionPeriodInDays: new(int32(d.RetentionDays)),
		KMSKeyArn:             optional(d.KMSKeyARN),
	}
}

func (h *Handler) getDurableExecutionHistory(c *call, in *sdk.GetDurableExecutionHistoryInput) (smithy.Serializable, error) {
	a, err := h.execution(c, in.DurableExecutionArn, "GetDurableExecutionHistory")
	if err != nil {
		return nil, err
	}
	newest := in.ReverseOrder != nil && *in.ReverseOrder
	events, next, err := h.Durable.History(c.ctx, a, newest, str(in.Marker), int(in.MaxItems))
	if err != nil {
		return nil, err
	}
	out := &sdk.GetDurableExecutionHistoryOutput{Events: []types.Event{}, NextMarker: optional(next)}
	for _, e := range events {
		out.Events = append(out.Events, eventOf(e, in.IncludeExecutionData == nil || *in.IncludeExecutionData))
	}
	return out, nil
}

func (h *Handler) listDurableExecutions(c *call, in *sdk.ListDurableExecutionsByFunctionInput) (smithy.Serializable, error) {
	t, err := h.target(c, in.FunctionName, in.Qualifier, "ListDurableExecutionsByFunction")
	if err != nil {
		return nil, err
	}
	f, err := h.Registry.Get(c.ctx, t.account, t.name, t.qualifier)
	if err != nil {
		return nil, err
	}
	q := durable.List{
		Account: t.account, Function: t.name, Name: str(in.DurableExecutionName),
		Oldest: in.ReverseOrder != nil && *in.ReverseOrder, Marker: str(in.Marker), Max: int(in.MaxItems),
	}
	if t.qualifier != "" {
		q.Version = f.Version // an alias's first
	}
	for _, s := range in.Statuses {
		q.Statuses = append(q.Statuses, durable.Status(s))
	}
	if in.StartedAfter != nil {
		q.After = *in.StartedAfter
	}
	if in.StartedBefore != nil {
		q.Before = *in.StartedBefore
	}
	all, next, err := h.Durable.List(c.ctx, q)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListDurableExecutionsByFunctionOutput{DurableExecutions: []types.Execution{}, NextMarker: optional(next)}
	for _, x := range all {
		out.DurableExecutions = append(out.DurableExecutions, types.Execution{
			DurableExecutionArn: &x.ARN, DurableExecutionName: &x.Name, FunctionArn: &x.FunctionARN,
			Status: types.ExecutionStatus(x.Status), StartTimestamp: &x.Started, EndTimestamp: moment(x.Ended),
			KMSKeyArn: optional(x.KMSKeyARN),
		})
	}
	return out, nil
}

func (h *Handler) stopDurableExecution(c *call, in *sdk.StopDurableExecutionInput) (smithy.Serializable, error) {
	a, err := h.execution(c, in.DurableExecutionArn, "StopDurableExecution")
	if err != nil {
		return nil, err
	}
	x, err := h.Durable.Stop(c.ctx, a, durableError(in.Error))
	if err != nil {
		return nil, err
	}
	if x.Ended.IsZero() {
		return nil, errors.New("a stopped execution has not ended")
	}
	return &sdk.StopDurableExecutionOutput{StopTimestamp: &x.Ended}, nil
}

func (h *Handler) sendCallbackSuccess(c *call, in *sdk.SendDurableExecutionCallbackSuccessInput) (smithy.Serializable, error) {
	b := durable.Callback{ID: str(in.CallbackId)}
	if len(in.Result) > 0 {
		b.Result = new(string(in.Result))
	}
	return &sdk.SendDurableExecutionCallbackSuccessOutput{}, h.Durable.Callback(c.ctx, c.account(), b)
}

func (h *Handler) sendCallbackFailure(c *call, in *sdk.SendDurableExecutionCallbackFailureInput) (smithy.Serializable, error) {
	b := durable.Callback{ID: str(in.CallbackId), Error: durableError(in.Error)}
	if b.Error == nil {
		b.Error = &durable.Error{}
	}
	return &sdk.SendDurableExecutionCallbackFailureOutput{}, h.Durable.Callback(c.ctx, c.account(), b)
}

func (h *Handler) sendCallbackHeartbeat(c *call, in *sdk.SendDurableExecutionCallbackHeartbeatInput) (smithy.Serializable, error) {
	b := durable.Callback{ID: str(in.CallbackId), Heartbeat: true}
	return &sdk.SendDurableExecutionCallbackHeartbeatOutput{}, h.Durable.Callback(c.ctx, c.account(), b)
}
