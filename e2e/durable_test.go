package e2e

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// durableZip is testdata/durable with the published SDK for durable
// executions.
func durableZip(t testing.TB) []byte {
	t.Helper()
	b, err := zipDurable()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var zipDurable = sync.OnceValues(func() ([]byte, error) {
	dir, err := installJavaScript()
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	add := func(root, in string) error {
		return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, ".d.ts") || strings.HasSuffix(path, ".map") {
				return err
			}
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			w, err := zw.Create(filepath.Join(in, rel))
			if err != nil {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(w, f)
			return err
		})
	}
	err = errors.Join(add("testdata/durable", ""), add(filepath.Join(dir, "node_modules"), "node_modules"), zw.Close())
	return buf.Bytes(), err
})

// deployDurable makes a durable function of testdata/durable with version 1.
func (s *server) deployDurable(name string, timeout time.Duration) {
	s.t.Helper()
	_, err := s.client().CreateFunction(context.Background(), &lambda.CreateFunctionInput{
		FunctionName: &name, Runtime: types.RuntimeNodejs20x, Handler: aws.String("index.handler"),
		Role: aws.String("arn:aws:iam::000000000000:role/test"), MemorySize: aws.Int32(512), Timeout: aws.Int32(30),
		Code:          &types.FunctionCode{ZipFile: durableZip(s.t)},
		DurableConfig: &types.DurableConfig{ExecutionTimeout: aws.Int32(int32(timeout.Seconds())), RetentionPeriodInDays: aws.Int32(7)},
		Publish:       true,
	})
	if err != nil {
		s.t.Fatalf("create %s: %v", name, err)
	}
	s.waitActive(name)
	s.waitActive(name + ":1")
}

// begin starts an execution that nobody waits for.
func (s *server) begin(function string, event any) (arn string) {
	s.t.Helper()
	payload, err := json.Marshal(event)
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := s.client().Invoke(context.Background(), &lambda.InvokeInput{
		FunctionName: &function, Qualifier: aws.String("1"), Payload: payload, InvocationType: types.InvocationTypeEvent,
	})
	if err != nil || out.StatusCode != 202 || aws.ToString(out.DurableExecutionArn) == "" {
		s.t.Fatalf("begin: %+v %v", out, err)
	}
	return *out.DurableExecutionArn
}

func (s *server) execution(arn string) *lambda.GetDurableExecutionOutput {
	s.t.Helper()
	out, err := s.client().GetDurableExecution(context.Background(), &lambda.GetDurableExecutionInput{DurableExecutionArn: &arn})
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// history is all of an execution's.
func (s *server) history(arn string) (all []types.Event) {
	s.t.Helper()
	p := lambda.NewGetDurableExecutionHistoryPaginator(s.client(), &lambda.GetDurableExecutionHistoryInput{DurableExecutionArn: &arn, MaxItems: 7})
	for p.HasMorePages() {
		page, err := p.NextPage(context.Background())
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, page.Events...)
	}
	return all
}

// story is a history in short.
func story(events []types.Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "%s(%s) ", e.EventType, aws.ToString(e.Name))
	}
	return b.String()
}

// eventually polls, as the API wants it.
func (s *server) eventually(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			s.t.Fatalf("after %v still not: %s", patience, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// ended waits for the end of an execution.
func (s *server) ended(arn string) *lambda.GetDurableExecutionOutput {
	s.t.Helper()
	var out *lambda.GetDurableExecutionOutput
	s.eventually("the end of "+arn, func() bool {
		out = s.execution(arn)
		return out.Status != types.ExecutionStatusRunning
	})
	return out
}

// happened waits until the history has an event.
func (s *server) happened(arn string, typ types.EventType) {
	s.t.Helper()
	s.eventually(string(typ), func() bool {
		for _, e := range s.history(arn) {
			if e.EventType == typ {
				return true
			}
		}
		return false
	})
}

// effects counts the effects of a name in the function's log.
func (s *server) effects(function, name string) (n int) {
	s.t.Helper()
	out, err := s.hearth("logs", function)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Count(out, "EFFECT "+name+" ")
}

// callback waits for the id of a callback that the function has printed.
func (s *server) callback(function, tag string) (id string) {
	s.t.Helper()
	shape := regexp.MustCompile(`CALLBACK ` + tag + ` ([A-Za-z0-9+/=]+)`)
	s.eventually("a callback", func() bool {
		out, err := s.hearth("logs", function)
		if err != nil {
			s.t.Fatal(err)
		}
		if m := shape.FindStringSubmatch(out); m != nil {
			id = m[1]
		}
		return id != ""
	})
	return id
}

func TestDurableExecutionsWithThePublishedSDK(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deployDurable("flow", 10*time.Minute)
	s.deploy(function{name: "plain", runtime: "nodejs20.x", handler: "index.plain", files: map[string]string{
		"index.js": "exports.plain = async (e) => ({twice: e.n * 2});"}})

	arn := s.begin("flow", map[string]any{"do": "everything", "tag": "t1", "plain": "plain", "durable": "flow:1"})
	id := s.callback("flow", "t1")
	if _, err := s.client().SendDurableExecutionCallbackSuccess(context.Background(), &lambda.SendDurableExecutionCallbackSuccessInput{
		CallbackId: &id, Result: []byte(`"yes"`)}); err != nil {
		t.Fatal(err)
	}
	out := s.ended(arn)
	want := `{"one":1,"flaky":3,"both":["l","r"],"squares":[1,4,9],"child":42,"called":{"twice":40},"durably":42,` +
		`"refused":"Function not found: arn:aws:lambda:us-east-1:000000000000:function:nobody","approved":"\"yes\"","failed":"never works"}`
	if out.Status != types.ExecutionStatusSucceeded || aws.ToString(out.Result) != want || aws.ToString(out.Version) != "1" {
		t.Errorf("%s %s %+v", out.Status, aws.ToString(out.Result), out.Error)
	}
	// However often it was replayed, each step happened once, and the flaky
	// one once an attempt.
	for name, want := range map[string]int{"t1-one": 1, "t1-flaky": 3, "t1-left": 1, "t1-right": 1, "t1-inner": 1} {
		if got := s.effects("flow", name); got != want {
			t.Errorf("%s happened %d times, want %d", name, got, want)
		}
	}
	events := s.history(arn)
	if got, want := story(events), regexp.MustCompile(
		`^ExecutionStarted\(\S+\) StepStarted\(one\) StepSucceeded\(one\) StepStarted\(flaky\) StepFailed\(flaky\) .*StepSucceeded\(flaky\) `+
			`WaitStarted\(nap\) (InvocationCompleted\(\) )?WaitSucceeded\(nap\) .*ContextStarted\(both\) .*ContextSucceeded\(both\) .*ContextSucceeded\(squares\) .*`+
			`ContextSucceeded\(child\) .*ChainedInvokeSucceeded\(call\) .*ChainedInvokeSucceeded\(call durably\) .*ChainedInvokeFailed\(call nobody\) .*`+
			`ContextStarted\(approval\) .*CallbackSucceeded\(\) .*StepFailed\(last\) InvocationCompleted\(\) ExecutionSucceeded\(\S+\) $`); !want.MatchString(got) {
		t.Errorf("history: %s", got)
	}
	for i, e := range events {
		if aws.ToInt32(e.EventId) != int32(i+1) {
			t.Fatalf("event %d has the id %d", i, aws.ToInt32(e.EventId))
		}
	}

	ctx := context.Background()
	c := s.client()
	invoke := func(function, qualifier, name, payload string) (*lambda.InvokeOutput, error) {
		in := &lambda.InvokeInput{FunctionName: &function, Payload: []byte(payload)}
		if qualifier != "" {
			in.Qualifier = &qualifier
		}
		if name != "" {
			in.DurableExecutionName = &name
		}
		return c.Invoke(ctx, in)
	}
	// Who waits gets the result, and by the same name the same again.
	first, err := invoke("flow", "1", "twice-7", `{"do":"double","n":7}`)
	if err != nil || string(first.Payload) != "14" || first.FunctionError != nil || !strings.Contains(aws.ToString(first.DurableExecutionArn), ":flow:1/durable-execution/twice-7/") {
		t.Fatalf("%+v %v", first, err)
	}
	again, err := invoke("flow", "1", "twice-7", `{"do":"double","n":7}`)
	if err != nil || string(again.Payload) != "14" || *again.DurableExecutionArn != *first.DurableExecutionArn {
		t.Errorf("again: %+v %v", again, err)
	}
	if _, err := invoke("flow", "1", "twice-7", `{"do":"double","n":8}`); !isError[*types.DurableExecutionAlreadyStartedException](err) {
		t.Errorf("another input: %v", err)
	}
	if _, err := invoke("flow", "", "", `{}`); err == nil || !strings.Contains(err.Error(), "You cannot invoke a durable function using an unqualified ARN.") {
		t.Errorf("unqualified: %v", err)
	}
	failed, err := invoke("flow", "1", "", `{"do":"fail"}`)
	if err != nil || aws.ToString(failed.FunctionError) != "Unhandled" || !strings.Contains(string(failed.Payload), `"errorType":"RangeError"`) || !strings.Contains(string(failed.Payload), `"errorMessage":"as asked"`) {
		t.Errorf("failed: %+v %s %v", failed, failed.Payload, err)
	}

	// The process of the function ends amid a step: only that one runs again.
	crashing := s.begin("flow", map[string]any{"do": "crash", "tag": "t2", "until": time.Now().Add(6 * time.Second).UnixMilli()})
	// One waits too long for its callback, one is stopped, one times out.
	late := s.begin("flow", map[string]any{"do": "call", "tag": "t3", "timeout": 600, "heartbeat": 1})
	stopped := s.begin("flow", map[string]any{"do": "sleep", "tag": "t4", "seconds": 3600})
	s.deployDurable("hasty", 2*time.Second)
	hasty := s.begin("hasty", map[string]any{"do": "sleep", "tag": "t5", "seconds": 3600})

	s.happened(stopped, types.EventTypeWaitStarted)
	if _, err := c.StopDurableExecution(ctx, &lambda.StopDurableExecutionInput{DurableExecutionArn: &stopped, Error: &types.ErrorObject{ErrorMessage: aws.String("enough")}}); err != nil {
		t.Fatal(err)
	}
	if out := s.ended(stopped); out.Status != types.ExecutionStatusStopped || aws.ToString(out.Error.ErrorMessage) != "enough" {
		t.Errorf("stopped: %s %+v", out.Status, out.Error)
	}
	if out := s.ended(crashing); out.Status != types.ExecutionStatusSucceeded || aws.ToString(out.Result) != `"survived"` {
		t.Errorf("crashing: %s %s %+v", out.Status, aws.ToString(out.Result), out.Error)
	}
	if safe, deadly := s.effects("flow", "t2-safe"), s.effects("flow", "t2-deadly"); safe != 1 || deadly < 2 {
		t.Errorf("the safe step happened %d times, the deadly one %d", safe, deadly)
	}
	if out := s.ended(late); out.Status != types.ExecutionStatusFailed || !strings.Contains(aws.ToString(out.Error.ErrorMessage), "Callback timed out on heartbeat") {
		t.Errorf("late: %s %+v", out.Status, out.Error)
	}
	if out := s.ended(hasty); out.Status != types.ExecutionStatusTimedOut || aws.ToString(out.Error.ErrorMessage) != "Execution timed out after 2 seconds." {
		t.Errorf("hasty: %s %+v", out.Status, out.Error)
	}
	list, err := c.ListDurableExecutionsByFunction(ctx, &lambda.ListDurableExecutionsByFunctionInput{
		FunctionName: aws.String("flow"), Statuses: []types.ExecutionStatus{types.ExecutionStatusStopped}})
	if err != nil || len(list.DurableExecutions) != 1 || *list.DurableExecutions[0].DurableExecutionArn != stopped {
		t.Errorf("%+v %v", list, err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"durable", "list", "flow"}, "twice-7"},
		{[]string{"durable", "show", stopped}, "enough"},
		{[]string{"durable", "history", stopped}, "ExecutionStopped"},
		{[]string{"durable", "stop", stopped}, ""},
	} {
		if out, err := s.hearth(c.args...); err != nil || !strings.Contains(out, c.want) {
			t.Errorf("hearth %v: %s %v", c.args, out, err)
		}
	}
}

func isError[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestADurableWaitSurvivesKill9(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deployDurable("flow", time.Hour)
	calling := s.begin("flow", map[string]any{"do": "call", "tag": "call", "timeout": 600})
	id := s.callback("flow", "call")
	const night = 8 * time.Second
	arn := s.begin("flow", map[string]any{"do": "sleep", "tag": "night", "seconds": int(night.Seconds())})
	s.happened(arn, types.EventTypeInvocationCompleted) // last, so that the night is longer than what is done in it
	s.kill9()

	s = startIn(t, s.dir)
	out := s.execution(arn)
	if out.Status != types.ExecutionStatusRunning && time.Since(*out.StartTimestamp) < night { // a start may take longer
		t.Errorf("after the restart: %s", out.Status)
	}
	if _, err := s.client().SendDurableExecutionCallbackSuccess(context.Background(), &lambda.SendDurableExecutionCallbackSuccessInput{
		CallbackId: &id, Result: []byte("there")}); err != nil {
		t.Fatal(err)
	}
	if out := s.ended(calling); out.Status != types.ExecutionStatusSucceeded || aws.ToString(out.Result) != `"there"` {
		t.Errorf("the callback: %s %s %+v", out.Status, aws.ToString(out.Result), out.Error)
	}
	out = s.ended(arn)
	if out.Status != types.ExecutionStatusSucceeded || out.EndTimestamp.Sub(*out.StartTimestamp) < night {
		t.Errorf("the wait: %s after %s, %+v", out.Status, out.EndTimestamp.Sub(*out.StartTimestamp), out.Error)
	}
	var streams struct{ Before, After string }
	if err := json.Unmarshal([]byte(aws.ToString(out.Result)), &streams); err != nil || streams.Before == streams.After {
		t.Errorf("it ran in %+v, %v: in the same environment after a restart", streams, err)
	}
	if before, after := s.effects("flow", "night-before"), s.effects("flow", "night-after"); before != 1 || after != 1 {
		t.Errorf("the step before the wait happened %d times, the one after it %d", before, after)
	}
	if got := story(s.history(arn)); !strings.HasSuffix(got, "WaitStarted(long) InvocationCompleted() WaitSucceeded(long) StepStarted(after) StepSucceeded(after) InvocationCompleted() ExecutionSucceeded("+aws.ToString(out.DurableExecutionName)+") ") {
		t.Errorf("history: %s", got)
	}
}
