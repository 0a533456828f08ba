package lambda

import (
	"errors"
	"strings"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/durable"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

func (w *world) createDurable(name string) {
	w.t.Helper()
	_, err := w.lambda.CreateFunction(w.t.Context(), &sdk.CreateFunctionInput{
		FunctionName: &name, Runtime: types.RuntimeNodejs20x, Handler: new("index.handler"), Role: new("arn:aws:iam::000000000000:role/r"),
		Code: &types.FunctionCode{ZipFile: zipOf(w.t, map[string]string{"index.js": "x"})}, DurableConfig: &types.DurableConfig{ExecutionTimeout: new(int32(600))},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestDurableConfigIsKeptAndCanBeChangedButNotAdded(t *testing.T) {
	w := newWorld(t)
	w.createDurable("flow")
	f, err := w.lambda.GetFunctionConfiguration(t.Context(), &sdk.GetFunctionConfigurationInput{FunctionName: new("flow")})
	if err != nil || *f.DurableConfig.ExecutionTimeout != 600 || *f.DurableConfig.RetentionPeriodInDays != 14 {
		t.Fatalf("%+v %v", f.DurableConfig, err)
	}
	u, err := w.lambda.UpdateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{
		FunctionName: new("flow"), DurableConfig: &types.DurableConfig{RetentionPeriodInDays: new(int32(30))}})
	if err != nil || *u.DurableConfig.ExecutionTimeout != 600 || *u.DurableConfig.RetentionPeriodInDays != 30 {
		t.Fatalf("%+v %v", u, err)
	}
	w.create("plain")
	_, err = w.lambda.UpdateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{
		FunctionName: new("plain"), DurableConfig: &types.DurableConfig{ExecutionTimeout: new(int32(60))}})
	wantError(t, err, "InvalidParameterValueException", "You cannot enable durable execution on an existing function.")
	_, err = w.lambda.CreateFunction(t.Context(), &sdk.CreateFunctionInput{
		FunctionName: new("other"), Runtime: types.RuntimeNodejs20x, Handler: new("i.h"), Role: new("arn:aws:iam::000000000000:role/r"),
		Code: &types.FunctionCode{ZipFile: zipOf(t, map[string]string{"i.js": "x"})}, DurableConfig: &types.DurableConfig{ExecutionTimeout: new(int32(31622401))},
	})
	wantError(t, err, "ValidationException", "Member must have value less than or equal to 31622400")
}

// The function of this test does as the SDK for functions would, through the
// API's own client.
func TestAnExecutionIsDrivenAndShownThroughTheAPI(t *testing.T) {
	w := newWorld(t)
	w.createDurable("flow")
	ctx := t.Context()
	type event struct{ arn, token string }
	invoked, answers := make(chan event), make(chan string)
	w.invoker.answer = func(inv *hearth.Invocation) (*hearth.Result, error) {
		arn, token := inv.DurableARN, string(inv.Payload)
		_, token, _ = strings.Cut(token, `"CheckpointToken":"`)
		token, _, _ = strings.Cut(token, `"`)
		invoked <- event{arn, token}
		return &hearth.Result{Payload: []byte(<-answers)}, nil
	}
	f, err := w.registry.Resolve(ctx, testAccount, "flow", "")
	if err != nil {
		t.Fatal(err)
	}
	arn, err := w.durable.Start(ctx, durable.Begin{Function: f, Name: "order-1", Input: `{"n":1}`, MaxResult: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	e := <-invoked
	if e.arn != arn {
		t.Errorf("invoked for %s, not %s", e.arn, arn)
	}
	first, err := w.lambda.CheckpointDurableExecution(ctx, &sdk.CheckpointDurableExecutionInput{
		DurableExecutionArn: &arn, CheckpointToken: &e.token, Updates: []types.OperationUpdate{
			{Id: new("ctx"), Type: types.OperationTypeContext, Action: types.OperationActionStart, Name: new("all"), SubType: new("RunInChildContext")},
			{Id: new("s"), ParentId: new("ctx"), Type: types.OperationTypeStep, Action: types.OperationActionStart},
			{Id: new("s"), ParentId: new("ctx"), Type: types.OperationTypeStep, Action: types.OperationActionRetry, StepOptions: &types.StepOptions{NextAttemptDelaySeconds: new(int32(5))},
				Error: &types.ErrorObject{ErrorType: new("E"), ErrorMessage: new("m"), ErrorData: new("d"), StackTrace: []string{"at"}}},
			{Id: new("w"), Type: types.OperationTypeWait, Action: types.OperationActionStart, WaitOptions: &types.WaitOptions{WaitSeconds: new(int32(60))}},
			{Id: new("cb"), Type: types.OperationTypeCallback, Action: types.OperationActionStart, CallbackOptions: &types.CallbackOptions{TimeoutSeconds: 600, HeartbeatTimeoutSeconds: 300}},
		}})
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]types.Operation{}
	for _, o := range first.NewExecutionState.Operations {
		by[*o.Id] = o
	}
	if s := by["s"]; s.Status != types.OperationStatusPending || s.StepDetails.Attempt != 1 || !s.StepDetails.NextAttemptTimestamp.After(testNow) || *s.StepDetails.Error.ErrorData != "d" {
		t.Errorf("step %+v", s)
	}
	if o := by["w"]; o.Status != types.OperationStatusStarted || o.WaitDetails.ScheduledEndTimestamp.Sub(*o.StartTimestamp) != time.Minute {
		t.Errorf("wait %+v", o)
	}
	_, err = w.lambda.CheckpointDurableExecution(ctx, &sdk.CheckpointDurableExecutionInput{DurableExecutionArn: &arn, CheckpointToken: &e.token})
	wantError(t, err, "InvalidParameterValueException", "Invalid Checkpoint Token")
	state, err := w.lambda.GetDurableExecutionState(ctx, &sdk.GetDurableExecutionStateInput{DurableExecutionArn: &arn, CheckpointToken: first.CheckpointToken, MaxItems: 2})
	if err != nil || len(state.Operations) != 2 || state.NextMarker == nil || *state.Operations[0].ExecutionDetails.InputPayload != `{"n":1}` {
		t.Fatalf("state %+v %v", state, err)
	}
	state, err = w.lambda.GetDurableExecutionState(ctx, &sdk.GetDurableExecutionStateInput{DurableExecutionArn: &arn, CheckpointToken: first.CheckpointToken, Marker: state.NextMarker})
	if err != nil || len(state.Operations) != 3 || state.NextMarker != nil {
		t.Fatalf("state, second page %+v %v", state, err)
	}
	id := by["cb"].CallbackDetails.CallbackId
	if _, err := w.lambda.SendDurableExecutionCallbackHeartbeat(ctx, &sdk.SendDurableExecutionCallbackHeartbeatInput{CallbackId: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.lambda.SendDurableExecutionCallbackSuccess(ctx, &sdk.SendDurableExecutionCallbackSuccessInput{CallbackId: id, Result: []byte(`"r"`)}); err != nil {
		t.Fatal(err)
	}
	_, err = w.lambda.SendDurableExecutionCallbackFailure(ctx, &sdk.SendDurableExecutionCallbackFailureInput{CallbackId: id})
	if _, ok := errors.AsType[*types.CallbackTimeoutException](err); !ok {
		t.Errorf("a second answer to a callback: %v", err)
	}
	_, err = w.lambda.SendDurableExecutionCallbackSuccess(ctx, &sdk.SendDurableExecutionCallbackSuccessInput{CallbackId: new("QUJD")})
	wantError(t, err, "InvalidParameterValueException", "Invalid callback id")

	answers <- `{"Status":"PENDING"}`
	e = <-invoked // the callback's answer is news
	answers <- `{"Status":"SUCCEEDED","Result":"[1]"}`
	var got *sdk.GetDurableExecutionOutput
	for got == nil || got.Status == types.ExecutionStatusRunning {
		if got, err = w.lambda.GetDurableExecution(ctx, &sdk.GetDurableExecutionInput{DurableExecutionArn: &arn}); err != nil {
			t.Fatal(err)
		}
	}
	if got.Status != types.ExecutionStatusSucceeded || *got.Result != "[1]" || *got.InputPayload != `{"n":1}` || *got.DurableExecutionName != "order-1" ||
		*got.Version != "$LATEST" || !strings.HasSuffix(*got.FunctionArn, ":function:flow:$LATEST") || got.EndTimestamp == nil || *got.DurableConfig.RetentionPeriodInDays != 14 {
		t.Errorf("execution %+v", got)
	}
	brief, err := w.lambda.GetDurableExecution(ctx, &sdk.GetDurableExecutionInput{DurableExecutionArn: &arn, IncludeExecutionData: aws.Bool(false)})
	if err != nil || brief.InputPayload != nil || brief.Result != nil || *brief.ExecutionDataIncluded {
		t.Errorf("without data %+v %v", brief, err)
	}
	history, err := w.lambda.GetDurableExecutionHistory(ctx, &sdk.GetDurableExecutionHistoryInput{DurableExecutionArn: &arn})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for i, ev := range history.Events {
		if kinds = append(kinds, string(ev.EventType)); *ev.EventId != int32(i+1) {
			t.Errorf("event %d has the id %d", i, *ev.EventId)
		}
	}
	if got, want := strings.Join(kinds, " "), "ExecutionStarted ContextStarted StepStarted StepFailed WaitStarted CallbackStarted CallbackSucceeded InvocationCompleted InvocationCompleted ExecutionSucceeded"; got != want {
		t.Errorf("history %s", got)
	}
	if d := history.Events[3].StepFailedDetails; *d.RetryDetails.NextAttemptDelaySeconds != 5 || d.RetryDetails.CurrentAttempt != 1 || *d.Error.Payload.ErrorMessage != "m" || *d.Error.Truncated {
		t.Errorf("StepFailedDetails %+v", d)
	}
	bare, err := w.lambda.GetDurableExecutionHistory(ctx, &sdk.GetDurableExecutionHistoryInput{DurableExecutionArn: &arn, IncludeExecutionData: aws.Bool(false), ReverseOrder: aws.Bool(true), MaxItems: 1})
	if err != nil || len(bare.Events) != 1 || bare.Events[0].EventType != types.EventTypeExecutionSucceeded || bare.Events[0].ExecutionSucceededDetails.Result.Payload != nil || bare.NextMarker == nil {
		t.Errorf("history without data, newest first: %+v %v", bare, err)
	}
	list := func(edit func(*sdk.ListDurableExecutionsByFunctionInput)) int {
		t.Helper()
		in := &sdk.ListDurableExecutionsByFunctionInput{FunctionName: new("flow")}
		edit(in)
		out, err := w.lambda.ListDurableExecutionsByFunction(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		return len(out.DurableExecutions)
	}
	for name, c := range map[string]struct {
		want int
		edit func(*sdk.ListDurableExecutionsByFunctionInput)
	}{
		"all":          {1, func(in *sdk.ListDurableExecutionsByFunctionInput) {}},
		"its name":     {1, func(in *sdk.ListDurableExecutionsByFunctionInput) { in.DurableExecutionName = new("order-1") }},
		"another name": {0, func(in *sdk.ListDurableExecutionsByFunctionInput) { in.DurableExecutionName = new("order-2") }},
		"its version":  {1, func(in *sdk.ListDurableExecutionsByFunctionInput) { in.Qualifier = new("$LATEST") }},
		"its status": {1, func(in *sdk.ListDurableExecutionsByFunctionInput) {
			in.Statuses = []types.ExecutionStatus{"SUCCEEDED", "FAILED"}
		}},
		"another status":  {0, func(in *sdk.ListDurableExecutionsByFunctionInput) { in.Statuses = []types.ExecutionStatus{"RUNNING"} }},
		"began later":     {0, func(in *sdk.ListDurableExecutionsByFunctionInput) { in.StartedAfter = new(testNow.Add(time.Hour)) }},
		"began earlier":   {1, func(in *sdk.ListDurableExecutionsByFunctionInput) { in.StartedBefore = new(testNow.Add(time.Hour)) }},
		"the oldest ones": {1, func(in *sdk.ListDurableExecutionsByFunctionInput) { in.ReverseOrder = new(true) }},
	} {
		if got := list(c.edit); got != c.want {
			t.Errorf("%s: %d executions", name, got)
		}
	}
	stopped, err := w.lambda.StopDurableExecution(ctx, &sdk.StopDurableExecutionInput{DurableExecutionArn: &arn})
	if err != nil || !stopped.StopTimestamp.Equal(*got.EndTimestamp) {
		t.Errorf("stopping what has ended: %+v %v", stopped, err)
	}
	other := strings.Replace(arn, ":000000000000:", ":111111111111:", 1)
	_, err = w.lambda.GetDurableExecution(ctx, &sdk.GetDurableExecutionInput{DurableExecutionArn: &other})
	wantError(t, err, "AccessDeniedException", "lambda:GetDurableExecution")
	nobody := arn[:len(arn)-4] + "0000"
	_, err = w.lambda.GetDurableExecution(ctx, &sdk.GetDurableExecutionInput{DurableExecutionArn: &nobody})
	wantError(t, err, "ResourceNotFoundException", "Durable Execution does not exist")
}
