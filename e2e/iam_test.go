package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRolesByTheAWSCommandLineAndBoto3 makes a role with one client, gives it
// to a function, takes it on with the other, and deletes it. The server is in
// a region that is not IAM's own.
func TestRolesByTheAWSCommandLineAndBoto3(t *testing.T) {
	t.Parallel()
	s := start(t, "--region", "eu-west-1", "--strict-roles")
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	awscli := func(want string, args ...string) {
		t.Helper()
		if out := strings.TrimSpace(s.run(dir, "aws", args...)); want != "" && out != want {
			t.Errorf("aws %s: %q, expected %q", strings.Join(args, " "), out, want)
		}
	}
	write("trust.json", `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
		{"Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": "sts:AssumeRole", "Condition": {"StringEquals": {"sts:ExternalId": "ticket"}}}]}`)
	write("policy.json", `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["logs:*", "lambda:InvokeFunction"], "Resource": "*"}]}`)
	write("fn.zip", string(zipOf(t, map[string]string{"app.py": "import os\ndef handler(event, context):\n    return os.environ['AWS_ACCESS_KEY_ID'][:4]\n"})))
	awscli("arn:aws:iam::000000000000:role/app/fn", "iam", "create-role", "--role-name", "fn", "--path", "/app/", "--assume-role-policy-document", "file://trust.json",
		"--description", "für alle", "--tags", "Key=team,Value=a", "--query", "Role.Arn", "--output", "text")
	awscli("", "iam", "wait", "role-exists", "--role-name", "fn")
	awscli("sts:AssumeRole", "iam", "get-role", "--role-name", "fn", "--query", "Role.AssumeRolePolicyDocument.Statement[0].Action", "--output", "text")
	awscli("", "iam", "put-role-policy", "--role-name", "fn", "--policy-name", "in", "--policy-document", "file://policy.json")
	awscli("logs:*", "iam", "get-role-policy", "--role-name", "fn", "--policy-name", "in", "--query", "PolicyDocument.Statement[0].Action[0]", "--output", "text")
	awscli("arn:aws:iam::000000000000:policy/own", "iam", "create-policy", "--policy-name", "own", "--policy-document", "file://policy.json", "--query", "Policy.Arn", "--output", "text")
	awscli("", "iam", "wait", "policy-exists", "--policy-arn", "arn:aws:iam::000000000000:policy/own")
	awscli("", "iam", "attach-role-policy", "--role-name", "fn", "--policy-arn", "arn:aws:iam::000000000000:policy/own")
	awscli("own", "iam", "list-attached-role-policies", "--role-name", "fn", "--query", "AttachedPolicies[].PolicyName", "--output", "text")
	awscli("", "lambda", "create-function", "--function-name", "fn", "--runtime", "python3.11", "--handler", "app.handler",
		"--role", "arn:aws:iam::000000000000:role/app/fn", "--zip-file", "fileb://fn.zip")
	awscli("", "lambda", "wait", "function-active-v2", "--function-name", "fn")

	script := `
import boto3, json
iam, sts, fn = boto3.client("iam"), boto3.client("sts"), boto3.client("lambda")
arn = "arn:aws:iam::000000000000:role/app/fn"
def refused(code, call, **args):
    try: call(**args); raise SystemExit("not refused: " + code)
    except Exception as e:
        if e.response["Error"]["Code"] != code: raise
        return e.response["Error"]["Message"]
assert "cannot be assumed by Lambda" in refused("InvalidParameterValueException", fn.update_function_configuration, FunctionName="fn", Role="arn:aws:iam::000000000000:role/unknown")
assert "not authorized to perform: sts:AssumeRole" in refused("AccessDenied", sts.assume_role, RoleArn=arn, RoleSessionName="me")
a = sts.assume_role(RoleArn=arn, RoleSessionName="me", ExternalId="ticket", DurationSeconds=900)
c = a["Credentials"]
keys = dict(aws_access_key_id=c["AccessKeyId"], aws_secret_access_key=c["SecretAccessKey"], aws_session_token=c["SessionToken"])
me = boto3.client("sts", **keys).get_caller_identity()
assert me["Arn"] == "arn:aws:sts::000000000000:assumed-role/fn/me" and me["UserId"] == a["AssumedRoleUser"]["AssumedRoleId"], me
assert json.load(boto3.client("lambda", **keys).invoke(FunctionName="fn", Payload=b"{}")["Payload"]) == "ASIA"
assert iam.get_role(RoleName="fn")["Role"]["RoleId"] == me["UserId"].split(":")[0]
assert iam.list_role_policies(RoleName="fn")["PolicyNames"] == ["in"]
assert iam.list_instance_profiles_for_role(RoleName="fn")["InstanceProfiles"] == []
assert iam.list_entities_for_policy(PolicyArn="arn:aws:iam::000000000000:policy/own")["PolicyRoles"][0]["RoleName"] == "fn"
assert iam.get_user()["User"]["Arn"] == "arn:aws:iam::000000000000:root"
t = sts.get_session_token()["Credentials"]
assert boto3.client("sts", aws_access_key_id=t["AccessKeyId"], aws_secret_access_key=t["SecretAccessKey"], aws_session_token=t["SessionToken"]).get_caller_identity()["Arn"] == "arn:aws:iam::000000000000:root"
assert sts.get_access_key_info(AccessKeyId=t["AccessKeyId"])["Account"] == "000000000000"
refused("DeleteConflict", iam.delete_role, RoleName="fn")
refused("InvalidAction", iam.create_login_profile, UserName="bob", Password="secret-1")
fn.delete_function(FunctionName="fn")
iam.delete_role_policy(RoleName="fn", PolicyName="in")
iam.detach_role_policy(RoleName="fn", PolicyArn="arn:aws:iam::000000000000:policy/own")
iam.delete_role(RoleName="fn"); iam.delete_policy(PolicyArn="arn:aws:iam::000000000000:policy/own")
try: iam.get_role(RoleName="fn"); raise SystemExit("still there")
except iam.exceptions.NoSuchEntityException as e: assert "The role with name fn cannot be found." in str(e), e
print("done")
`
	if out := s.run(dir, "python3", "-c", script); strings.TrimSpace(out) != "done" {
		t.Error(out)
	}
}

// TestPoliciesAreSimulatedByTheAWSCommandLine asks by aws what hearth can tells,
// and both by what the API then does.
func TestPoliciesAreSimulatedByTheAWSCommandLine(t *testing.T) {
	t.Parallel()
	s := start(t)
	dir := t.TempDir()
	want := func(want string, args ...string) {
		t.Helper()
		if out := strings.Join(strings.Fields(s.run(dir, "aws", args...)), " "); out != want {
			t.Errorf("aws %s: %q, expected %q", strings.Join(args, " "), out, want)
		}
	}
	const policy = `{"Version":"2012-10-17","Statement":[{"Sid":"Invoke","Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"*"},{"Sid":"NotG","Effect":"Deny","Action":"lambda:*","Resource":"arn:aws:lambda:*:*:function:g"},{"Effect":"Allow","Action":"sqs:*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}]}`
	s.run(dir, "aws", "iam", "create-user", "--user-name", "bob")
	s.run(dir, "aws", "iam", "put-user-policy", "--user-name", "bob", "--policy-name", "p", "--policy-document", policy)
	const f, g = "arn:aws:lambda:us-east-1:000000000000:function:f", "arn:aws:lambda:us-east-1:000000000000:function:g"
	const columns = "EvaluationResults[].[EvalActionName,EvalResourceName,EvalDecision,MatchedStatements[0].SourcePolicyId,MatchedStatements[0].StartPosition.Column,MissingContextValues[0]]"
	bob := []string{"iam", "simulate-principal-policy", "--policy-source-arn", "arn:aws:iam::000000000000:user/bob", "--output", "text", "--query", columns}
	// The command line gets the pages itself.
	want("lambda:InvokeFunction "+f+" allowed user_bob_p 38 None lambda:InvokeFunction "+g+" explicitDeny user_bob_p 119 None",
		append(bob, "--action-names", "lambda:InvokeFunction", "--resource-arns", f, g, "--page-size", "1")...)
	want("sqs:SendMessage * implicitDeny None None aws:SourceIp", append(bob, "--action-names", "sqs:SendMessage")...)
	want("sqs:SendMessage * allowed user_bob_p 213 None", append(bob, "--action-names", "sqs:SendMessage",
		"--context-entries", "ContextKeyName=aws:SourceIp,ContextKeyType=ip,ContextKeyValues=10.1.1.1")...)
	want("sqs:SendMessage * allowed PolicyInputList.1 213 None", "iam", "simulate-custom-policy", "--policy-input-list", policy, "--action-names", "sqs:SendMessage",
		"--context-entries", "ContextKeyName=aws:SourceIp,ContextKeyType=ip,ContextKeyValues=10.1.1.1", "--output", "text", "--query", columns)
	want("aws:SourceIp", "iam", "get-context-keys-for-principal-policy", "--policy-source-arn", "arn:aws:iam::000000000000:user/bob", "--output", "text", "--query", "ContextKeyNames")
	for resource, allowed := range map[string]bool{f: true, g: false} {
		if out, err := s.hearth("can", "bob", "lambda:InvokeFunction", resource); (err == nil) != allowed {
			t.Errorf("hearth can says %s, %v", out, err)
		}
	}
	audit, err := s.hearth("audit", "--action", "iam:SimulatePrincipalPolicy", "--json")
	if err != nil || !strings.Contains(audit, "arn:aws:iam::000000000000:user/bob") || !strings.Contains(audit, "sqs:SendMessage") || strings.Contains(audit, "10.1.1.1") {
		t.Error(audit, err)
	}
}
