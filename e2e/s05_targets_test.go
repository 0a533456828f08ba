package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/apigatewayv2"
	gatewaytypes "github.com/aws/aws-sdk-go-v2/service/apigatewayv2/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/meter"
)

// A shared alias is what everything can be pointed at that takes a function, and
// on each of these ways its caller pays, code and secrets are withheld and a
// revocation holds.

// s05Ways are A1's ways to its alias. The URL is signed for and open, by turns.
type s05Ways struct {
	*s05
	arn          string
	url, api     string
	in, ok, dead string // queues: a source, and destinations
	seen         strings.Builder
}

func newS05Ways(t *testing.T) *s05Ways {
	w := &s05Ways{s05: newS05(t)}
	a, ctx := w.a1, t.Context()
	c := a.client()
	w.arn = "arn:aws:lambda:us-east-1:" + a.id + ":function:" + s05Alias
	w.url = a.urlOf(s05Alias, "", func(in *lambda.CreateFunctionUrlConfigInput) { in.AuthType = types.FunctionUrlAuthTypeAwsIam })
	w.in, w.ok, w.dead = a.queue("in", map[string]string{"VisibilityTimeout": "120"}), a.queue("ok", nil), a.queue("dead", nil)
	queue := func(name string) *string { return ptr("arn:aws:sqs:us-east-1:" + a.id + ":" + name) }
	if _, err := c.PutFunctionEventInvokeConfig(ctx, &lambda.PutFunctionEventInvokeConfigInput{
		FunctionName: ptr(s05Alias), MaximumRetryAttempts: new(int32(0)),
		DestinationConfig: &types.DestinationConfig{OnSuccess: &types.OnSuccess{Destination: queue("ok")}, OnFailure: &types.OnFailure{Destination: queue("dead")}},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateEventSourceMapping(ctx, &lambda.CreateEventSourceMappingInput{FunctionName: ptr(s05Alias), EventSourceArn: queue("in"), BatchSize: new(int32(1))}); err != nil {
		t.Fatal(err)
	}
	api, err := a.gateway().CreateApi(ctx, &apigatewayv2.CreateApiInput{Name: ptr("api"), ProtocolType: gatewaytypes.ProtocolTypeHttp, Target: &w.arn})
	if err != nil {
		t.Fatal(err)
	}
	w.api = *api.ApiEndpoint
	a.letAPIsCall(s05Alias, "arn:aws:execute-api:us-east-1:"+a.id+":"+*api.ApiId+"/*")
	if _, err := c.AddPermission(ctx, &lambda.AddPermissionInput{
		FunctionName: ptr(s05Alias), StatementId: ptr("rule"), Action: ptr("lambda:InvokeFunction"), Principal: ptr("events.amazonaws.com"),
		SourceArn: ptr("arn:aws:events:us-east-1:" + a.id + ":rule/orders"),
	}); err != nil {
		t.Fatal(err)
	}
	w.aws("events", "put-rule", "--name", "orders", "--event-pattern", `{"source":["shop"]}`)
	w.aws("events", "put-targets", "--rule", "orders", "--targets", "Id=1,Arn="+w.arn)
	return w
}

func (w *s05Ways) aws(args ...string) string {
	w.t.Helper()
	return w.a1.run(w.t.TempDir(), "aws", append([]string{"--region", "us-east-1"}, args...)...)
}

// get is a request of the alias's URL with a body, signed as somebody or not.
func (w *s05Ways) get(as *tenant, body string) fetched {
	w.t.Helper()
	r, err := http.NewRequest("POST", w.url, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if as != nil {
		keys, err := as.config().Credentials.Retrieve(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(body))
		if err := v4.NewSigner().SignHTTP(w.t.Context(), keys, r, hex.EncodeToString(sum[:]), "lambda", "us-east-1", time.Now()); err != nil {
			w.t.Fatal(err)
		}
	}
	return w.note(send(w.t, r))
}

func (w *s05Ways) byAPI(body string) fetched {
	w.t.Helper()
	return w.note(fetch(w.t, "POST", w.api+"/", body, "Content-Type", "application/json"))
}

func (w *s05Ways) note(got fetched) fetched {
	fmt.Fprintln(&w.seen, got.status, got.header, got.body)
	return got
}

func (w *s05Ways) put(body string) {
	w.t.Helper()
	if _, err := w.a1.queues().SendMessage(w.t.Context(), &sqs.SendMessageInput{QueueUrl: &w.in, MessageBody: &body}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *s05Ways) event(body string) {
	w.t.Helper()
	if _, err := w.a1.client().Invoke(w.t.Context(), &lambda.InvokeInput{FunctionName: ptr(s05Alias), InvocationType: types.InvocationTypeEvent, Payload: []byte(body)}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *s05Ways) onBus(detail string) {
	w.t.Helper()
	entry, err := json.Marshal([]map[string]string{{"Source": "shop", "DetailType": "Order", "Detail": detail}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.aws("events", "put-events", "--entries", string(entry))
}

func (w *s05Ways) schedule(name, input string) {
	w.t.Helper()
	target, err := json.Marshal(map[string]string{"Arn": w.arn, "RoleArn": "arn:aws:iam::" + w.a1.id + ":role/r", "Input": input})
	if err != nil {
		w.t.Fatal(err)
	}
	// The command line takes its time, and what is past is refused.
	for ahead := 2 * time.Second; ; ahead *= 2 {
		cmd := exec.Command("aws", "--region", "us-east-1", "scheduler", "create-schedule", "--name", name, "--flexible-time-window", "Mode=OFF",
			"--schedule-expression", "at("+time.Now().UTC().Add(ahead).Format("2006-01-02T15:04:05")+")", "--target", string(target))
		cmd.Env = cleanEnv(append(w.a1.env, "AWS_EC2_METADATA_DISABLED=true")...)
		out, err := cmd.CombinedOutput()
		if err == nil {
			return
		}
		if !strings.Contains(string(out), "is past") || ahead > time.Minute {
			w.t.Fatalf("the schedule %s: %v\n%s", name, err, out)
		}
	}
}

// next waits for a message of a queue of A1's.
func (w *s05Ways) next(url string) string {
	w.t.Helper()
	var m *sqstypes.Message
	await(w.t, patience, "a message", func() bool {
		out, err := w.a1.queues().ReceiveMessage(w.t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url, WaitTimeSeconds: 5})
		if err != nil {
			w.t.Fatal(err)
		}
		if len(out.Messages) > 0 {
			m = &out.Messages[0]
		}
		return m != nil
	})
	if _, err := w.a1.queues().DeleteMessage(w.t.Context(), &sqs.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: m.ReceiptHandle}); err != nil {
		w.t.Fatal(err)
	}
	fmt.Fprintln(&w.seen, *m.Body)
	return *m.Body
}

func (w *s05Ways) stored(name string) {
	w.t.Helper()
	await(w.t, patience, name+" is stored", func() bool { _, ok := w.buckets.get("a1/archive/" + name); return ok })
}

// runs are the decisions about runs of the alias that got an instance.
func (w *s05Ways) runs() (all []hearth.Decision) {
	w.t.Helper()
	for _, d := range w.a1.decisions("place") {
		if d.Function == s05Alias && d.Instance != "" {
			all = append(all, d)
		}
	}
	return all
}

// permitOf lets an account invoke the alias.
func (w *s05Ways) permitOf(a *tenant) {
	w.t.Helper()
	if _, err := w.a1.client().AddPermission(w.t.Context(), &lambda.AddPermissionInput{
		FunctionName: ptr(s05Alias), StatementId: ptr("account"), Action: ptr("lambda:InvokeFunction"), Principal: ptr(a.id),
	}); err != nil {
		w.t.Fatal(err)
	}
}

// s05Caller calls the alias without needing the answer yet (S10).
const s05Caller = `import hearth_calls

def handler(event, context):
    return hearth_calls.call("` + s05Alias + `", event, need_in=5).result()
`

func TestS05AnAliasIsATargetLikeAnyFunction(t *testing.T) {
	t.Parallel()
	w := newS05Ways(t)
	a, ctx := w.a1, t.Context()

	// By its URL: signed for, and then open to all.
	if got := w.get(a, put("url", 1)); got.status != 200 || !strings.Contains(got.body, w.arn) {
		t.Errorf("by its URL: %+v", got)
	}
	for who, as := range map[string]*tenant{"unsigned": nil, "A2": w.a2, "B": w.b} {
		if got := w.get(as, put("url-refused", 1)); got.status != 403 {
			t.Errorf("by its URL, %s: %+v", who, got)
		}
	}
	if _, err := a.client().UpdateFunctionUrlConfig(ctx, &lambda.UpdateFunctionUrlConfigInput{FunctionName: ptr(s05Alias), AuthType: types.FunctionUrlAuthTypeNone}); err != nil {
		t.Fatal(err)
	}
	if got := w.get(nil, put("url-refused", 1)); got.status != 403 {
		t.Errorf("open, but by no policy: %+v", got)
	}
	a.permit(s05Alias, "")
	if got := w.get(nil, put("url-open", 1)); got.status != 200 {
		t.Errorf("open: %+v", got)
	}
	// By another account that its policy lets in; A1 pays.
	if _, err := w.a2.client().Invoke(ctx, &lambda.InvokeInput{FunctionName: &w.arn, Payload: []byte(put("lent-refused", 1))}); code(err) != "AccessDeniedException" {
		t.Errorf("A2 has A1's alias: %v", err)
	}
	w.permitOf(w.a2)
	if out, err := w.a2.client().Invoke(ctx, &lambda.InvokeInput{FunctionName: &w.arn, Payload: []byte(put("lent", 1))}); err != nil || out.FunctionError != nil {
		t.Errorf("A2, whom A1 lets: %v, %+v", err, out)
	}
	// By an HTTP API, a queue, an event, a bus and a schedule.
	if got := w.byAPI(put("api", 1)); got.status != 200 {
		t.Errorf("by an HTTP API: %+v", got)
	}
	w.put(put("queue", 1))
	w.event(put("event", 1))
	if told := w.next(w.ok); !strings.Contains(told, `"stored"`) || !strings.Contains(told, s05Alias) {
		t.Errorf("the destination is told %s", told)
	}
	calls, err := os.ReadFile("../clients/python/hearth_calls.py")
	if err != nil {
		t.Fatal(err)
	}
	a.deploy(function{name: "caller", runtime: "python3.12", timeout: 30, files: map[string]string{"index.py": s05Caller, "hearth_calls.py": string(calls)}})
	a.mustInvoke("caller", put("call", 1))
	w.onBus(put("bus", 1))
	w.schedule("s", put("schedule", 1))
	names := []string{"url", "url-open", "lent", "api", "queue", "event", "call", "bus", "schedule"}
	for _, name := range names {
		w.stored(name)
	}
	for _, name := range []string{"url-refused", "lent-refused"} {
		if _, ok := w.buckets.get("a1/archive/" + name); ok {
			t.Errorf("%s ran", name)
		}
	}

	// All of it is A1's expense, and nobody else's.
	for who, calls := range map[*tenant]int64{a: int64(len(names)) + 1, w.a2: 0, w.b: 0} { // and caller's
		await(t, patience, fmt.Sprintf("%d calls on the bill of %s", calls, who.id), func() bool {
			b, err := who.controlClient().Bill(ctx, meter.Query{})
			if err != nil {
				t.Fatal(err)
			}
			if who == w.b && b.RevenueTotal.Calls != int64(len(names)) {
				return false
			}
			return b.Total.Calls == calls
		})
	}

	// What fails on these ways tells nothing of the code, to A1 nor to its callers.
	fail := `{"do":"raise","x":"input-of-a1"}`
	if got := w.get(nil, fail); got.status != 502 {
		t.Errorf("a failure by its URL: %+v", got)
	}
	if got := w.byAPI(fail); got.status != 500 {
		t.Errorf("a failure by an HTTP API: %+v", got)
	}
	if _, err := a.client().UpdateFunctionUrlConfig(ctx, &lambda.UpdateFunctionUrlConfigInput{FunctionName: ptr(s05Alias), InvokeMode: types.InvokeModeResponseStream}); err != nil {
		t.Fatal(err)
	}
	w.get(nil, fail)
	out, err := w.a2.client().Invoke(ctx, &lambda.InvokeInput{FunctionName: &w.arn, LogType: types.LogTypeTail, Payload: []byte(fail)})
	if err != nil || out.FunctionError == nil {
		t.Errorf("%v, %+v", err, out)
	} else {
		fmt.Fprintln(&w.seen, string(out.Payload), decoded(t, *out.LogResult))
	}
	w.event(fail)
	if told := w.next(w.dead); !strings.Contains(told, "ValueError") || !strings.Contains(told, "input-of-a1") {
		t.Errorf("the destination is told %s", told)
	}
	w.onBus(fail)
	w.next(w.dead)
	w.schedule("f", fail)
	w.next(w.dead)
	w.put(fail)
	await(t, patience, "all to have been tried", func() bool { return len(w.runs()) >= len(names)+8 })
	fmt.Fprintln(&w.seen, w.told(a, s05Alias), w.told(w.a2, w.arn))
	for _, secret := range []string{s05Source, s05Owned, w.keys[a]} {
		if i, s := strings.Index(w.seen.String(), secret), w.seen.String(); i >= 0 {
			t.Errorf("A1 or a caller of its sees %q: …%s…", secret, s[max(0, i-300):min(len(s), i+200)])
		}
	}
	seen := w.told(w.b, "archive") + w.told(w.b, s05Alias) + w.told(w.b, w.arn)
	for _, secret := range []string{w.keys[a], "input-of-a1", "url-open"} {
		if i := strings.Index(seen, secret); i >= 0 {
			t.Errorf("B sees %q: …%s…", secret, seen[max(0, i-300):min(len(seen), i+200)])
		}
	}
	for _, d := range w.runs() {
		if string(d.Owner) != w.b.id || string(d.Account) != a.id {
			t.Errorf("a run was for %s and %s: %+v", d.Account, d.Owner, d)
		}
	}

	w.revokedOnEveryWay()
	w.gone()
}

// revokedOnEveryWay: B takes it back, and none of the ways leads to it any more.
func (w *s05Ways) revokedOnEveryWay() {
	t, ctx := w.t, w.t.Context()
	w.b.must("offer", "revoke", w.offer, w.a1.id)
	if got := w.get(nil, put("late", 1)); got.status != 403 {
		t.Errorf("by its URL: %+v", got)
	}
	if got := w.byAPI(put("late", 1)); got.status < 400 {
		t.Errorf("by an HTTP API: %+v", got)
	}
	if _, err := w.a2.client().Invoke(ctx, &lambda.InvokeInput{FunctionName: &w.arn, Payload: []byte(put("late", 1))}); !withdrawn(err) {
		t.Errorf("by A2: %v", err)
	}
	w.onBus(put("late", 1))
	w.schedule("late", put("late", 1))
	await(t, patience, "what the bus and the schedule have for it is parked", func() bool {
		out := w.a1.must("parked", "--json")
		return strings.Contains(out, "rule/orders") && strings.Contains(out, "schedule/default/late")
	})
	if _, ok := w.buckets.get("a1/archive/late"); ok {
		t.Error("it ran after it was revoked")
	}
	// What is A1's can be changed all the same.
	if _, err := w.a1.client().RemovePermission(ctx, &lambda.RemovePermissionInput{FunctionName: ptr(s05Alias), StatementId: ptr("account")}); err != nil {
		t.Errorf("the policy of a revoked alias: %v", err)
	}
	w.b.must("offer", "grant", w.offer, w.a1.id)
	if got := w.get(nil, put("again", 1)); got.status != 200 {
		t.Errorf("granted again, by its URL: %+v", got)
	}
}

// gone: what was configured of an alias goes with it, and is not what a function
// has that is called the same.
func (w *s05Ways) gone() {
	t, ctx, a := w.t, w.t.Context(), w.a1
	a.must("shared-alias", "delete", s05Alias)
	if got := w.get(nil, put("late", 1)); got.status != 403 {
		t.Errorf("its URL is there: %+v", got)
	}
	f := w.archive()
	f.name = s05Alias
	a.deploy(f)
	c := a.client()
	for what, err := range map[string]error{
		"a policy": second(c.GetPolicy(ctx, &lambda.GetPolicyInput{FunctionName: ptr(s05Alias)})),
		"a URL":    second(c.GetFunctionUrlConfig(ctx, &lambda.GetFunctionUrlConfigInput{FunctionName: ptr(s05Alias)})),
		"a config": second(c.GetFunctionEventInvokeConfig(ctx, &lambda.GetFunctionEventInvokeConfigInput{FunctionName: ptr(s05Alias)})),
	} {
		if code(err) != "ResourceNotFoundException" {
			t.Errorf("a function of the alias's name has %s: %v", what, err)
		}
	}
}

// What an alias can't have is refused with what can be done instead.
func TestS05WhatAnAliasCantHaveIsRefusedWithTheWayOut(t *testing.T) {
	t.Parallel()
	w := newS05(t)
	ctx, c, name := t.Context(), w.a1.client(), ptr(s05Alias)
	for what, err := range map[string]error{
		"shared-alias update":        second(c.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: name, MemorySize: new(int32(256))})),
		"update --version":           second(c.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: name, ZipFile: zipOf(t, map[string]string{"index.py": "x"})})),
		"create --version":           second(c.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: name, Name: ptr("prod"), FunctionVersion: ptr("$LATEST")})),
		"shared-alias delete":        second(c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: name})),
		"from a function of your":    second(c.PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: name, ReservedConcurrentExecutions: new(int32(1))})),
		"update --description":       second(c.TagResource(ctx, &lambda.TagResourceInput{Resource: ptr("arn:aws:lambda:us-east-1:" + w.a1.id + ":function:" + s05Alias), Tags: map[string]string{"a": "b"}})),
		"functions of one's own":     second(c.PutRuntimeManagementConfig(ctx, &lambda.PutRuntimeManagementConfigInput{FunctionName: name, UpdateRuntimeOn: types.UpdateRuntimeOnFunctionUpdate})),
		"a function of your own":     second(w.a1.hearth("idempotent", "set", s05Alias, `{"dependencies":[{"http":"http://`+w.buckets.at+`/{env.OWNED}"}]}`)),
		"hearth shared-alias update": second(c.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: name})),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Functions that can't be offered say why.
	for name, change := range map[string]func(*lambda.CreateFunctionInput){
		"durable": func(in *lambda.CreateFunctionInput) {
			in.DurableConfig = &types.DurableConfig{ExecutionTimeout: new(int32(60))}
		},
		"provided": func(in *lambda.CreateFunctionInput) {
			provider, err := w.b.client().CreateCapacityProvider(ctx, &lambda.CreateCapacityProviderInput{
				CapacityProviderName: ptr("share"), PermissionsConfig: &types.CapacityProviderPermissionsConfig{CapacityProviderOperatorRoleArn: in.Role},
				VpcConfig:                     &types.CapacityProviderVpcConfig{SubnetIds: []string{"subnet-12345678"}, SecurityGroupIds: []string{}},
				CapacityProviderScalingConfig: &types.CapacityProviderScalingConfig{MaxVCpuCount: new(int32(2))},
			})
			if err != nil {
				t.Fatal(err)
			}
			in.CapacityProviderConfig = &types.CapacityProviderConfig{LambdaManagedInstancesCapacityProviderConfig: &types.LambdaManagedInstancesCapacityProviderConfig{CapacityProviderArn: provider.CapacityProvider.CapacityProviderArn, ExecutionEnvironmentMemoryGiBPerVCpu: new(2.0)}}
			in.MemorySize = new(int32(2048))
		},
	} {
		in := &lambda.CreateFunctionInput{
			FunctionName: &name, Runtime: types.RuntimePython312, Handler: ptr("index.handler"), Role: ptr("arn:aws:iam::" + w.b.id + ":role/r"),
			Code: &types.FunctionCode{ZipFile: zipOf(t, map[string]string{"index.py": "def handler(e, c): return 1"})},
		}
		change(in)
		if _, err := w.b.client().CreateFunction(ctx, in); err != nil {
			t.Fatal(err)
		}
		w.b.waitActive(name)
		why := map[string]string{"durable": "history would show", "provided": "serve several invocations at once"}[name]
		if out, err := w.b.hearth("offer", "create", name, "--public"); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s is offered: %v %s", name, err, out)
		}
		published, err := w.b.client().PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: &name})
		if err != nil {
			t.Fatal(err)
		}
		w.b.must("tasks", "create", name)
		if out, err := w.b.hearth("tasks", "put", name, "t="+name+":"+*published.Version); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s is a task: %v %s", name, err, out)
		}
	}
}
