package e2e

import (
	"encoding/json"
	"errors"

	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

// member is somebody's credentials at a server.
type member struct {
	s                 *server
	id, secret, token string
}

// account makes an account and returns its root.
func (s *server) account(name, id string) member {
	s.t.Helper()
	out, err := s.hearth("account", "create", name, "--id", id, "--json")
	if err != nil {
		s.t.Fatal(err)
	}
	var made struct{ AccessKeyID, SecretAccessKey string }
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.AccessKeyID == "" {
		s.t.Fatalf("%v in %s", err, out)
	}
	return member{s, made.AccessKeyID, made.SecretAccessKey, ""}
}

func (i member) config() aws.Config {
	c := i.s.config()
	c.Credentials = credentials.NewStaticCredentialsProvider(i.id, i.secret, i.token)
	return c
}

func (i member) lambda() *lambda.Client { return lambda.NewFromConfig(i.config()) }
func (i member) iam() *iam.Client       { return iam.NewFromConfig(i.config()) }
func (i member) sts() *sts.Client       { return sts.NewFromConfig(i.config()) }

// env is what a program needs to be somebody.
func (i member) env() []string {
	return cleanEnv("AWS_ENDPOINT_URL="+i.s.endpoint, "AWS_ACCESS_KEY_ID="+i.id, "AWS_SECRET_ACCESS_KEY="+i.secret, "AWS_SESSION_TOKEN="+i.token,
		"AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true")
}

func (i member) run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = i.env()
	return output(cmd)
}

// deploy makes a python function that answers with its argument's x and the
// account that it runs for.
func (i member) deploy(name, role string) {
	t := i.s.t
	t.Helper()
	zip := zipOf(t, map[string]string{"app.py": "def handler(event, context):\n    print('saw', event)\n    return {'x': event.get('x'), 'account': context.invoked_function_arn.split(':')[4]}\n"})
	_, err := i.lambda().CreateFunction(t.Context(), &lambda.CreateFunctionInput{
		FunctionName: &name, Runtime: types.RuntimePython311, Handler: aws.String("app.handler"), Role: &role, Code: &types.FunctionCode{ZipFile: zip},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := lambda.NewFunctionActiveV2Waiter(i.lambda(), promptly).Wait(t.Context(), &lambda.GetFunctionInput{FunctionName: &name}, patience); err != nil {
		t.Fatal(err)
	}
}

// call invokes a function and returns its answer.
func (i member) call(function string) (string, error) {
	out, err := i.lambda().Invoke(i.s.t.Context(), &lambda.InvokeInput{FunctionName: &function, Payload: []byte(`{"x":1}`)})
	if err != nil {
		return "", err
	}
	return string(out.Payload), nil
}

// refused demands that err is the API's, of a code, and says something.
func refused(t *testing.T, what string, err error, code, text string) {
	t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), text) {
		t.Errorf("%s: %v, want %s: %s", what, err, code, text)
	}
}

// user makes a user with a policy and a key.
func (i member) user(name, policy string) member {
	t := i.s.t
	t.Helper()
	ctx := t.Context()
	if _, err := i.iam().CreateUser(ctx, &iam.CreateUserInput{UserName: &name}); err != nil {
		t.Fatal(err)
	}
	if _, err := i.iam().PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &name, PolicyName: aws.String("p"), PolicyDocument: &policy}); err != nil {
		t.Fatal(err)
	}
	return i.key(name)
}

func (i member) key(user string) member {
	i.s.t.Helper()
	k, err := i.iam().CreateAccessKey(i.s.t.Context(), &iam.CreateAccessKeyInput{UserName: &user})
	if err != nil {
		i.s.t.Fatal(err)
	}
	return member{i.s, *k.AccessKey.AccessKeyId, *k.AccessKey.SecretAccessKey, ""}
}

func says(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

const (
	teamA, teamB = "111122223333", "444455556666"
	unkeptRole   = "arn:aws:iam::" + teamA + ":role/any"
	functionF    = "arn:aws:lambda:us-east-1:" + teamA + ":function:f"
	functionG    = "arn:aws:lambda:us-east-1:" + teamA + ":function:g"
)

// TestTwoAccountsOnOneServer is a day of two teams: each with its own things,
// users who may do what their policies say, roles taken on over the border, a
// key that is rotated, a suspension, a kill, and an end.
func TestTwoAccountsOnOneServer(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := start(t)
	a, b := s.account("team-a", teamA), s.account("team-b", teamB)
	a.deploy("f", unkeptRole)
	a.deploy("g", unkeptRole)
	b.deploy("f", "arn:aws:iam::"+teamB+":role/any")

	// Each has functions of its own under the same name, and sees no other's.
	for who, i := range map[string]member{teamA: a, teamB: b} {
		if out, err := i.call("f"); err != nil || !strings.Contains(out, who) {
			t.Errorf("%s: %s, %v", who, out, err)
		}
	}
	_, err := b.call(functionF)
	refused(t, "another account's function", err, "AccessDeniedException", "no resource-based policy allows")
	list, err := b.lambda().ListFunctions(ctx, &lambda.ListFunctionsInput{})
	if err != nil || len(list.Functions) != 1 {
		t.Errorf("%+v, %v", list, err)
	}

	// A user who may invoke one function, by three clients.
	ann := a.user("ann", says(`{"Sid":"OnlyF","Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"`+functionF+`"}`))
	if out, err := ann.call("f"); err != nil || !strings.Contains(out, teamA) {
		t.Errorf("ann: %s, %v", out, err)
	}
	_, err = ann.call("g")
	refused(t, "ann and g", err, "AccessDeniedException", "User: arn:aws:iam::111122223333:user/ann is not authorized to perform: lambda:InvokeFunction on resource: "+functionG+" because no identity-based policy allows the lambda:InvokeFunction action")
	_, err = ann.lambda().DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: aws.String("f")})
	refused(t, "ann deletes", err, "AccessDeniedException", "lambda:DeleteFunction")
	_, err = ann.lambda().ListFunctions(ctx, &lambda.ListFunctionsInput{})
	refused(t, "ann lists", err, "AccessDeniedException", "lambda:ListFunctions")
	_, err = ann.iam().CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("mallory")})
	refused(t, "ann makes users", err, "AccessDenied", "iam:CreateUser")
	answer := filepath.Join(t.TempDir(), "answer")
	if out, err := ann.run("aws", "lambda", "invoke", "--function-name", "f", "--payload", `{"x":2}`, answer); err != nil {
		t.Errorf("aws: %s %v", out, err)
	}
	if _, err := ann.run("aws", "lambda", "invoke", "--function-name", "g", answer); err == nil || !strings.Contains(err.Error(), "AccessDeniedException") {
		t.Errorf("aws and g: %v", err)
	}
	if _, err := ann.run("aws", "sqs", "--endpoint-url", s.endpoint, "create-queue", "--queue-name", "q"); err == nil || !strings.Contains(err.Error(), "sqs:CreateQueue") {
		t.Errorf("aws sqs: %v", err)
	}
	if _, err := ann.run("aws", "events", "put-rule", "--name", "r", "--schedule-expression", "rate(1 hour)"); err == nil || !strings.Contains(err.Error(), "events:PutRule") {
		t.Errorf("aws events: %v", err)
	}
	script := `
import boto3, json
fn = boto3.client("lambda")
assert json.load(fn.invoke(FunctionName="f", Payload=b'{"x": 3}')["Payload"])["x"] == 3
try: fn.invoke(FunctionName="g"); raise SystemExit("let in")
except fn.exceptions.ClientError as e: assert e.response["Error"]["Code"] == "AccessDeniedException", e
assert boto3.client("sts").get_caller_identity()["Arn"] == "arn:aws:iam::` + teamA + `:user/ann"
`
	if out, err := ann.run("python3", "-c", script); err != nil {
		t.Errorf("boto3: %s %v", out, err)
	}

	// An explicit deny wins, and hearth can tells by which statement.
	bob := a.user("bob", says(`{"Effect":"Allow","Action":"lambda:*","Resource":"*"}`, `{"Sid":"NotG","Effect":"Deny","Action":"lambda:InvokeFunction","Resource":"`+functionG+`"}`))
	if _, err := bob.call("f"); err != nil {
		t.Error(err)
	}
	_, err = bob.call("g")
	refused(t, "bob and g", err, "AccessDeniedException", "with an explicit deny in an identity-based policy")
	out, err := s.hearth("can", "--account", "team-a", "bob", "lambda:InvokeFunction", "g", "--json")
	var verdict struct {
		Allowed, Explicit bool
		By, SID           string
		Statement         map[string]any
	}
	if jerr := json.Unmarshal([]byte(out), &verdict); err == nil || jerr != nil || verdict.Allowed || !verdict.Explicit || verdict.SID != "NotG" || verdict.Statement["Effect"] != "Deny" {
		t.Errorf("hearth can: %s, %v", out, err)
	}
	if out, err := s.hearth("can", "--account", "team-a", "ann", "lambda:InvokeFunction", "f"); err != nil || !strings.Contains(out, "OnlyF") {
		t.Errorf("hearth can: %s, %v", out, err)
	}

	// A role that is passed on only to where it may.
	_, err = bob.lambda().UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), Role: aws.String(unkeptRole + "2")})
	refused(t, "bob passes a role", err, "AccessDeniedException", "iam:PassRole")

	// A role of team-a, taken on by a user of team-b: both sides must let him.
	trust := says(`{"Effect":"Allow","Principal":{"AWS":"` + teamB + `"},"Action":"sts:AssumeRole"}`)
	role, err := a.iam().CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("visitor"), AssumeRolePolicyDocument: &trust})
	if err != nil {
		t.Fatal(err)
	}
	visiting := says(`{"Effect":"Allow","Action":"lambda:*","Resource":"` + functionF + `"}`)
	if _, err := a.iam().PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: aws.String("visitor"), PolicyName: aws.String("p"), PolicyDocument: &visiting}); err != nil {
		t.Fatal(err)
	}
	carl := b.user("carl", says(`{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"`+*role.Role.Arn+`"}`))
	dora := b.user("dora", says(`{"Effect":"Allow","Action":"lambda:*","Resource":"*"}`))
	assume := func(who member, policy *string) (member, error) {
		out, err := who.sts().AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: role.Role.Arn, RoleSessionName: aws.String("me"), Policy: policy})
		if err != nil {
			return member{}, err
		}
		return member{s, *out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken}, nil
	}
	_, err = assume(dora, nil)
	refused(t, "dora takes it on", err, "AccessDenied", "sts:AssumeRole")
	_, err = assume(ann, nil)
	refused(t, "ann, whom it does not trust", err, "AccessDenied", "sts:AssumeRole")
	session, err := assume(carl, nil)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := session.call("f"); err != nil || !strings.Contains(out, teamA) {
		t.Errorf("carl as the visitor: %s, %v", out, err)
	}
	_, err = session.call("g")
	refused(t, "the visitor and g", err, "AccessDeniedException", "assumed-role/visitor/me")
	less, err := assume(carl, aws.String(says(`{"Effect":"Allow","Action":"lambda:GetFunction","Resource":"*"}`)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = less.call("f")
	refused(t, "a session with a policy", err, "AccessDeniedException", "because no session policy allows")
	if _, err := less.lambda().GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: aws.String("f")}); err != nil {
		t.Errorf("within the session's policy: %v", err)
	}

	// A key is rotated: the new one first, then the old one away.
	second := a.key("ann")
	_, err = a.iam().UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: aws.String("ann"), AccessKeyId: &ann.id, Status: iamtypes.StatusTypeInactive})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ann.call("f")
	refused(t, "the old key", err, "UnrecognizedClientException", "")
	if _, err := second.call("f"); err != nil {
		t.Errorf("the new key: %v", err)
	}

	// Quotas.
	if _, err := s.hearth("account", "quota", "team-b", "--functions", "1", "--concurrency", "7", "--weight", "3"); err != nil {
		t.Fatal(err)
	}
	settings, err := b.lambda().GetAccountSettings(ctx, &lambda.GetAccountSettingsInput{})
	if err != nil || settings.AccountLimit.ConcurrentExecutions != 7 {
		t.Errorf("%+v, %v", settings, err)
	}
	_, err = b.lambda().CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: aws.String("one-more"), Runtime: types.RuntimePython311, Handler: aws.String("app.handler"), Role: aws.String("arn:aws:iam::" + teamB + ":role/any"),
		Code: &types.FunctionCode{ZipFile: zipOf(t, map[string]string{"app.py": ""})},
	})
	refused(t, "a function too many", err, "LimitExceeded", "may have no more than 1")

	// A kill loses none of it.
	s.kill9()
	s2 := startIn(t, s.dir)
	*s = *s2
	second.s, a.s, b.s = s, s, s
	if _, err := second.call("f"); err != nil {
		t.Errorf("after a kill: %v", err)
	}
	_, err = second.call("g")
	refused(t, "after a kill", err, "AccessDeniedException", "identity-based")
	if out, err := s.hearth("account", "quota", "team-b", "--json"); err != nil || !strings.Contains(out, `"weight": 3`) {
		t.Errorf("after a kill: %s, %v", out, err)
	}
	if _, err := s.hearth("account", "quota", "team-b", "--weight", "101"); err == nil || !strings.Contains(err.Error(), "1 to 100") {
		t.Errorf("a weight of 101: %v", err)
	}

	// Operating is the operator's, and so are the machine's files.
	if out, err := a.run(hearthBinary, "source", "add", "host", "file://"+s.dir); err == nil || !strings.Contains(err.Error(), "operator") {
		t.Errorf("team-a reads the server's files: %s, %v", out, err)
	}
	if out, err := a.run(hearthBinary, "doctor"); err == nil || !strings.Contains(err.Error(), "operator") {
		t.Errorf("team-a sees the machine: %s, %v", out, err)
	}
	if out, err := a.run(hearthBinary, "account", "suspend", "team-b"); err == nil || !strings.Contains(err.Error(), "operator") {
		t.Errorf("team-a suspends team-b: %s, %v", out, err)
	}
	if out, err := a.run(hearthBinary, "ls", "--json"); err != nil || !strings.Contains(out, `"g"`) || strings.Contains(out, teamB) {
		t.Errorf("hearth ls of team-a: %s, %v", out, err)
	}
	if _, err := s.hearth("account", "delete", "operator"); err == nil || !strings.Contains(err.Error(), "operator") {
		t.Errorf("the operator's account is deleted: %v", err)
	}
	if _, err := s.hearth("account", "delete", "team-b"); err == nil || !strings.Contains(err.Error(), "functions f") {
		t.Errorf("what team-b has is not told: %v", err)
	}
	if _, err := s.hearth("account", "delete", "team-b", "--everything"); err != nil {
		t.Fatal(err)
	}
	_, err = b.call("f")
	refused(t, "a deleted account", err, "UnrecognizedClientException", "")
	if _, err := a.call("f"); err != nil {
		t.Errorf("the other account: %v", err)
	}
	if out, err := s.hearth("account", "list", "--json"); err != nil || strings.Contains(out, "team-b") || !strings.Contains(out, "team-a") {
		t.Errorf("%s, %v", out, err)
	}
}

// TestASuspendedAccountKeepsEverythingAndGoesOn: what was accepted before waits,
// what is asked meanwhile is refused, and all of it runs once the account goes on.
func TestASuspendedAccountKeepsEverythingAndGoesOn(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := start(t)
	a := s.account("team-a", teamA)
	a.deploy("f", unkeptRole)
	queue, err := a.run("aws", "sqs", "--endpoint-url", s.endpoint, "create-queue", "--queue-name", "q", "--query", "QueueUrl", "--output", "text")
	if err != nil {
		t.Fatal(err)
	}
	queue = strings.TrimSpace(queue)
	if _, err := a.lambda().CreateEventSourceMapping(ctx, &lambda.CreateEventSourceMappingInput{
		FunctionName: aws.String("f"), EventSourceArn: aws.String("arn:aws:sqs:us-east-1:" + teamA + ":q"),
	}); err != nil {
		t.Fatal(err)
	}
	url, err := a.lambda().CreateFunctionUrlConfig(ctx, &lambda.CreateFunctionUrlConfigInput{FunctionName: aws.String("f"), AuthType: types.FunctionUrlAuthTypeNone})
	if err != nil {
		t.Fatal(err)
	}
	send := func(text string) {
		t.Helper()
		if _, err := a.run("aws", "sqs", "--endpoint-url", s.endpoint, "send-message", "--queue-url", queue, "--message-body", text); err != nil {
			t.Fatal(err)
		}
	}
	saw := func(text string) bool {
		t.Helper()
		out, err := a.run(hearthBinary, "logs", "f")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(out, text)
	}
	awaitSeen := func(text string) {
		t.Helper()
		for deadline := time.Now().Add(patience); !saw(text); time.Sleep(200 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the function did not see %s", text)
			}
		}
	}
	send("before")
	awaitSeen("before")

	if _, err := s.hearth("account", "suspend", "team-a", "--reason", "moving house"); err != nil {
		t.Fatal(err)
	}
	_, err = a.call("f")
	refused(t, "an invocation", err, "AccessDeniedException", "The account 111122223333 is suspended (moving house)")
	_, err = a.iam().ListUsers(ctx, &iam.ListUsersInput{})
	refused(t, "IAM", err, "AccessDenied", "suspended")
	stranger := a
	stranger.secret = "not the secret"
	_, err = stranger.call("f")
	refused(t, "who has no key of it", err, "InvalidSignatureException", "does not match")
	if _, err := stranger.run(hearthBinary, "account", "keys"); err == nil || strings.Contains(err.Error(), "moving house") {
		t.Errorf("a stranger is told %v", err)
	}
	// The refusals are in the audit log, each of who has proven who he is, as soon
	// as they are written.
	await(t, patience, "a refusal and two wrong signatures in the audit log", func() bool {
		proven, wrong := 0, 0
		for _, e := range s.audited("--errors") {
			switch {
			case e.ErrorCode == "AccessDeniedException" && e.Account == teamA && strings.HasPrefix(e.Action, "iam:"):
				proven++
			case e.ErrorCode == "InvalidSignatureException" && e.Account == "" && e.Principal == "":
				wrong++
			case e.ErrorCode == "InvalidSignatureException":
				t.Fatalf("a wrong signature passes for %s's: %+v", e.Principal, e)
			}
		}
		return proven > 0 && wrong > 1
	})
	if _, err := a.run("aws", "sqs", "--endpoint-url", s.endpoint, "send-message", "--queue-url", queue, "--message-body", "x"); err == nil || !strings.Contains(err.Error(), "suspended") {
		t.Errorf("SQS: %v", err)
	}
	if _, err := a.run(hearthBinary, "ls"); err == nil || !strings.Contains(err.Error(), "suspended") {
		t.Errorf("the control API: %v", err)
	}
	if out, err := a.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *url.FunctionUrl); err != nil || strings.TrimSpace(out) != "403" {
		t.Errorf("the function URL: %s, %v", out, err)
	}

	// It stays so over a kill, and the event that waits is not lost.
	s.kill9()
	s2 := startIn(t, s.dir)
	*s = *s2
	_, err = a.call("f")
	refused(t, "after a kill", err, "AccessDeniedException", "suspended")
	if _, err := s.hearth("account", "resume", "team-a"); err != nil {
		t.Fatal(err)
	}
	if out, err := a.call("f"); err != nil || !strings.Contains(out, teamA) {
		t.Errorf("resumed: %s, %v", out, err)
	}
	queue = strings.Replace(queue, queue[:strings.LastIndex(queue, "/"+teamA)], s.endpoint, 1)
	send("after")
	awaitSeen("after")

	// One that is suspended can be deleted.
	if _, err := s.hearth("account", "suspend", "team-a"); err != nil {
		t.Fatal(err)
	}
	if out, err := s.hearth("account", "list"); err != nil || !strings.Contains(out, "Suspended") {
		t.Errorf("%s, %v", out, err)
	}
	if _, err := s.hearth("account", "delete", "team-a", "--everything"); err != nil {
		t.Errorf("a suspended account is not deleted: %v", err)
	}
}
