package e2e

import (
	"strings"
	"testing"
)

// A user may do with functions, mappings and queues what their tags let him, and
// make only what he tags so; hearth can says the same, with the tags that there
// are, and with what queues' and roles' policies say.
func TestPoliciesAskAboutTags(t *testing.T) {
	t.Parallel()
	s := start(t, "--pool", "0")
	out := s.run(t.TempDir(), "python3", "-c", `
import boto3, io, json, zipfile
iam, fn, sqs = boto3.client("iam"), boto3.client("lambda"), boto3.client("sqs", endpoint_url=boto3.client("sts").meta.endpoint_url)
b = io.BytesIO()
with zipfile.ZipFile(b, "w") as z: z.writestr("index.py", "def handler(e, c): return 1")
role = "arn:aws:iam::000000000000:role/any"
def make(client, name, **tags):
    return client.create_function(FunctionName=name, Runtime="python3.12", Handler="index.handler", Role=role, Code={"ZipFile": b.getvalue()}, Tags=tags)
make(fn, "mine", team="web"); make(fn, "theirs", team="db"); make(fn, "plain")
q = sqs.create_queue(QueueName="q", tags={"team": "web"})["QueueUrl"]
for name in ("mine", "theirs"): fn.get_waiter("function_active_v2").wait(FunctionName=name)
m = fn.create_event_source_mapping(EventSourceArn="arn:aws:sqs:us-east-1:000000000000:q", FunctionName="mine", Enabled=False, Tags={"team": "web"})["UUID"]
iam.create_user(UserName="ann")
iam.put_user_policy(UserName="ann", PolicyName="tags", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [
  {"Sid": "Tagged", "Effect": "Allow", "Action": ["lambda:GetFunction", "lambda:InvokeFunction", "lambda:GetEventSourceMapping", "sqs:GetQueueAttributes", "sqs:SendMessage", "sts:AssumeRole"], "Resource": "*", "Condition": {"StringEquals": {"aws:ResourceTag/team": "web"}}},
  {"Sid": "Make", "Effect": "Allow", "Action": ["lambda:CreateFunction", "lambda:TagResource"], "Resource": "*", "Condition": {"StringEquals": {"aws:RequestTag/team": "web"}, "ForAllValues:StringEquals": {"aws:TagKeys": ["team", "stage"]}}},
  {"Effect": "Allow", "Action": "lambda:UntagResource", "Resource": "*", "Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": ["stage"]}}},
  {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*"}]}))
k = iam.create_access_key(UserName="ann")["AccessKey"]
ann = boto3.client("lambda", aws_access_key_id=k["AccessKeyId"], aws_secret_access_key=k["SecretAccessKey"])
def refused(call, **args):
    try: call(**args); raise SystemExit("not refused: %s %s" % (call, args))
    except Exception as e:
        if e.response["Error"]["Code"] not in ("AccessDeniedException", "AccessDenied"): raise
ann.get_function(FunctionName="mine")
ann.invoke(FunctionName="mine", Payload=b"{}")
for name in ("theirs", "plain", "none"): refused(ann.get_function, FunctionName=name)
refused(ann.invoke, FunctionName="theirs", Payload=b"{}")
ann.get_event_source_mapping(UUID=m)
fn.untag_resource(Resource="arn:aws:lambda:us-east-1:000000000000:event-source-mapping:" + m, TagKeys=["team"])
refused(ann.get_event_source_mapping, UUID=m)
make(ann, "new", team="web", stage="beta")
refused(make, client=ann, name="bad", team="db")
refused(make, client=ann, name="bad")
refused(make, client=ann, name="bad", team="web", cost="1")
arn = "arn:aws:lambda:us-east-1:000000000000:function:new"
refused(ann.untag_resource, Resource=arn, TagKeys=["stage", "team"])
ann.untag_resource(Resource=arn, TagKeys=["stage"])
refused(ann.tag_resource, Resource=arn, Tags={"team": "db"})
fn.tag_resource(Resource=arn, Tags={"team": "db"})
refused(ann.get_function, FunctionName="new")
sqs.set_queue_attributes(QueueUrl=q, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [
  {"Sid": "NoSend", "Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::000000000000:user/ann"}, "Action": "sqs:SendMessage", "Resource": "arn:aws:sqs:us-east-1:000000000000:q"}]})})
iam.create_role(RoleName="open", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:user/ann"}, "Action": "sts:AssumeRole"}]}))
iam.create_role(RoleName="asked", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [{"Sid": "Asked", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:user/ann"}, "Action": "sts:AssumeRole", "Condition": {"StringEquals": {"sts:ExternalId": "x"}}}]}))
iam.create_role(RoleName="shut", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}))
print("done")
`)
	if strings.TrimSpace(out) != "done" {
		t.Fatal(out)
	}
	for args, want := range map[string]string{"ann sts:AssumeRole none": "role with name none cannot be found", "ann events:PutRule r": "no ARN"} {
		if _, err := s.hearth(append([]string{"can"}, strings.Fields(args)...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("can %s: %v; want %q", args, err, want)
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"ann", "lambda:GetFunction", "mine"}, "yes: inline policy tags"},
		{[]string{"ann", "lambda:GetFunction", "theirs"}, "no: none of the caller's policies"},
		{[]string{"ann", "lambda:CreateFunction", "another", "--context", "aws:RequestTag/team=web", "--context", "aws:TagKeys=team"}, "yes"},
		{[]string{"ann", "lambda:CreateFunction", "another", "--context", "aws:RequestTag/team=web", "--context", "aws:TagKeys=cost"}, "no"},
		{[]string{"ann", "sqs:GetQueueAttributes", "q"}, "yes"},
		{[]string{"ann", "sqs:SendMessage", "q"}, "no: the resource's policy denies it\nstatement NoSend"},
		{[]string{"ann", "sts:AssumeRole", "arn:aws:iam::000000000000:role/open"}, "yes: the role's trust policy"},
		{[]string{"root", "sts:AssumeRole", "arn:aws:iam::000000000000:role/shut"}, "no: the role's trust policy does not allow it\n"},
		{[]string{"ann", "sts:AssumeRole", "asked"}, "no: the role's trust policy does not allow it; it would, were it not for its condition StringEquals of sts:ExternalId, which is not known"},
		{[]string{"ann", "sts:AssumeRole", "asked", "--context", "sts:ExternalId=x"}, "yes: the role's trust policy names the caller himself\nstatement Asked"},
		{[]string{"ann", "sts:AssumeRole", "arn:aws:iam::000000000000:role/none"}, "no: there is no role arn:aws:iam::000000000000:role/none"},
	} {
		out, err := s.hearth(append([]string{"can"}, c.args...)...)
		if !strings.HasPrefix(out, c.want) || (err == nil) != strings.HasPrefix(c.want, "yes") {
			t.Errorf("%v: %s, %v; want %q", c.args, out, err, c.want)
		}
	}
}
