package e2e

import (
	"bufio"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// letEventBridgeCall lets rules of a name call a function.
func (s *server) letEventBridgeCall(function, rule string) {
	s.t.Helper()
	_, err := s.client().AddPermission(s.t.Context(), &lambda.AddPermissionInput{
		FunctionName: &function, StatementId: aws.String("rule-" + strings.Trim(rule, "*")), Action: aws.String("lambda:InvokeFunction"), Principal: aws.String("events.amazonaws.com"),
		SourceArn: aws.String("arn:aws:events:us-east-1:000000000000:rule/" + rule),
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// The events that were accepted reach a function whose policy lets the rule in,
// through a kill too; those of other rules go to its dead letters.
func TestEventsOnABusReachTheirTargetsThroughAKill(t *testing.T) {
	t.Parallel()
	s := start(t)
	dir := t.TempDir()
	s.deploy(function{name: "target", runtime: "python3.11", handler: "app.handler", zip: zipOf(t, map[string]string{"app.py": `
def handler(event, context):
    print("GOT<%s>" % (event.get("n") or event.get("detail", {}).get("n") or event.get("source")))
`})})
	s.letEventBridgeCall("target", "orders")
	s.letEventBridgeCall("target", "shaped")
	awscli := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(s.run(dir, "aws", args...))
	}
	awscli("events", "put-rule", "--name", "orders", "--event-pattern", `{"source":["shop"],"detail":{"total":[{"numeric":[">",10]}]}}`)
	awscli("events", "put-targets", "--rule", "orders", "--targets", "Id=1,Arn=arn:aws:lambda:us-east-1:000000000000:function:target")
	script := `
import boto3, json, sys
c = boto3.client("events")
q = boto3.client("sqs")
dead = q.create_queue(QueueName="dead")["QueueUrl"]
fn = "arn:aws:lambda:us-east-1:000000000000:function:target"
c.create_event_bus(Name="side", Tags=[{"Key": "a", "Value": "b"}])
c.put_rule(Name="on", EventPattern='{"source": ["shop"]}')
c.put_targets(Rule="on", Targets=[{"Id": "bus", "Arn": "arn:aws:events:us-east-1:000000000000:event-bus/side"}])
c.put_rule(Name="shut", EventBusName="side", EventPattern='{"source": [{"prefix": ""}]}')
# This rule may not call the function, nor yet send to the queue of dead letters.
r = c.put_targets(Rule="shut", EventBusName="side", Targets=[{"Id": "1", "Arn": fn, "DeadLetterConfig": {"Arn": "arn:aws:sqs:us-east-1:000000000000:dead"}}])
assert r["FailedEntryCount"] == 0, r
q.set_queue_attributes(QueueUrl=dead, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
    "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": "*",
    "Condition": {"ArnEquals": {"aws:SourceArn": "arn:aws:events:us-east-1:000000000000:rule/side/shut"}}}]})})
c.put_rule(Name="shaped", EventPattern='{"detail-type": ["Shape"]}')
c.put_targets(Rule="shaped", Targets=[{"Id": "1", "Arn": fn, "InputTransformer": {"InputPathsMap": {"n": "$.detail.n"}, "InputTemplate": '{"n": "<n>-shaped"}'}}])
assert [x["Name"] for x in c.list_rules()["Rules"]] == ["on", "orders", "shaped"]
assert c.list_rule_names_by_target(TargetArn=fn)["RuleNames"] == ["orders", "shaped"]
assert c.describe_rule(Name="shut", EventBusName="side")["Arn"] == "arn:aws:events:us-east-1:000000000000:rule/side/shut"
assert [b["Name"] for b in c.list_event_buses()["EventBuses"]] == ["default", "side"]
assert c.list_tags_for_resource(ResourceARN="arn:aws:events:us-east-1:000000000000:event-bus/side")["Tags"] == [{"Key": "a", "Value": "b"}]
assert c.test_event_pattern(EventPattern='{"a": [{"wildcard": "x*z"}]}', Event='{"a": "xyz"}')["Result"]
try: c.put_rule(Name="bad", EventPattern='{"a": [{"like": 1}]}'); raise SystemExit("taken")
except c.exceptions.InvalidEventPatternException as e: assert "a[0].like" in str(e), e
try: c.describe_rule(Name="none"); raise SystemExit("there")
except c.exceptions.ResourceNotFoundException: pass
r = c.put_events(Entries=[{"Source": "shop", "DetailType": "Order", "Detail": json.dumps({"n": "a%d" % i, "total": 11})} for i in range(9)] +
    [{"Source": "shop", "DetailType": "Order", "Detail": "no"}])
assert r["FailedEntryCount"] == 1 and r["Entries"][9]["ErrorCode"] == "MalformedDetail", r
r = c.put_events(Entries=[{"Source": "x", "DetailType": "Shape", "Detail": '{"n": "b"}'}])
assert r["FailedEntryCount"] == 0, r
print("done")
`
	if out := s.run(dir, "python3", "-c", script); strings.TrimSpace(out) != "done" {
		t.Fatal(out)
	}
	s.loggedTimes("target", map[string]int{"GOT<a0>": 1, "GOT<a4>": 1, "GOT<a8>": 1, "GOT<b-shaped>": 1})

	// Killed while events are put and delivered: each that was acknowledged
	// arrives, in a queue, where it stays.
	putting := exec.Command("python3", "-u", "-c", `
import boto3, botocore, json
q = boto3.client("sqs")
kept = q.create_queue(QueueName="kept", Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
    "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": "*"}]})})
c = boto3.client("events", config=botocore.config.Config(retries={"total_max_attempts": 1}))
c.put_rule(Name="kept", EventPattern='{"source": ["kept"]}')
c.put_targets(Rule="kept", Targets=[{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:000000000000:kept", "InputPath": "$.detail.n"}])
n = 0
try:
    while True:
        r = c.put_events(Entries=[{"Source": "kept", "DetailType": "Order", "Detail": json.dumps({"n": n + i})} for i in range(5)])
        if r["FailedEntryCount"]: break
        n += 5
        print(n)
except Exception: pass
`)
	putting.Env = cleanEnv(append(s.env, "AWS_EC2_METADATA_DISABLED=true")...)
	acknowledged, err := putting.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := putting.Start(); err != nil {
		t.Fatal(err)
	}
	events := 0
	for lines := bufio.NewScanner(acknowledged); lines.Scan(); {
		if events, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(err)
		}
		if events == 50 {
			s.kill9()
		}
	}
	if err := putting.Wait(); err != nil || events < 50 {
		t.Fatalf("%d events were put: %v", events, err)
	}
	s = startIn(t, s.dir)
	arrived := s.run(dir, "python3", "-c", fmt.Sprintf(`
import boto3, time
q = boto3.client("sqs")
url, want, got, end = q.get_queue_url(QueueName="kept")["QueueUrl"], set(range(%d)), set(), time.time() + 60
while want - got and time.time() < end:
    for m in q.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=2).get("Messages", []): got.add(int(m["Body"]))
print(sorted(want - got))
`, events))
	if strings.TrimSpace(arrived) != "[]" {
		t.Errorf("of %d events these were acknowledged and lost: %s", events, arrived)
	}
	message := s.run(dir, "python3", "-c", `
import boto3
q = boto3.client("sqs")
url = q.get_queue_url(QueueName="dead")["QueueUrl"]
for _ in range(6):
    m = q.receive_message(QueueUrl=url, MessageAttributeNames=["All"], WaitTimeSeconds=10).get("Messages")
    if m: break
print(m)
`)
	if !strings.Contains(message, `"source":"shop"`) || !strings.Contains(message, "AccessDeniedException") || !strings.Contains(message, "rule/side/shut") {
		t.Errorf("dead letter %s", message)
	}
}

// A schedule fires, also the one whose time passed while the server was down,
// and that once.
func TestSchedulesFireAndCatchUpAfterDowntime(t *testing.T) {
	t.Parallel()
	s := start(t)
	dir := t.TempDir()
	s.deploy(function{name: "tick", runtime: "python3.11", handler: "app.handler", zip: zipOf(t, map[string]string{"app.py": `
def handler(event, context):
    print("GOT<%s>" % event.get("what", event.get("detail-type")))
`})})
	script := `
import boto3, datetime
c = boto3.client("scheduler")
def at(seconds): return "at(%s)" % (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
def say(what): return {"Arn": "arn:aws:lambda:us-east-1:000000000000:function:tick", "RoleArn": "arn:aws:iam::000000000000:role/r", "Input": '{"what": "%s"}' % what}
c.create_schedule(Name="now", ScheduleExpression=at(5), FlexibleTimeWindow={"Mode": "OFF"}, Target=say("now"), ActionAfterCompletion="DELETE")
c.create_schedule(Name="later", ScheduleExpression=at(3600), FlexibleTimeWindow={"Mode": "OFF"}, Target=say("later"))
c.create_schedule_group(Name="g", Tags=[{"Key": "a", "Value": "b"}])
t = {"Arn": "arn:aws:lambda:us-east-1:000000000000:function:tick", "RoleArn": "arn:aws:iam::000000000000:role/r", "RetryPolicy": {"MaximumRetryAttempts": 3, "MaximumEventAgeInSeconds": 600}}
end = datetime.datetime(2040, 1, 1, tzinfo=datetime.timezone.utc)
c.create_schedule(Name="daily", GroupName="g", ScheduleExpression="cron(30 2 ? * MON-FRI *)", ScheduleExpressionTimezone="Europe/Berlin", EndDate=end,
    FlexibleTimeWindow={"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15}, Target=t, Description="d")
s = c.get_schedule(Name="daily", GroupName="g")
assert s["ScheduleExpressionTimezone"] == "Europe/Berlin" and s["EndDate"] == end and s["Target"]["RetryPolicy"]["MaximumRetryAttempts"] == 3, s
c.update_schedule(Name="daily", GroupName="g", ScheduleExpression="rate(2 hours)", FlexibleTimeWindow={"Mode": "OFF"}, Target=t, State="DISABLED")
assert [x["Name"] for x in c.list_schedules(GroupName="g", State="DISABLED")["Schedules"]] == ["daily"]
assert [x["Name"] for x in c.list_schedule_groups()["ScheduleGroups"]] == ["default", "g"]
arn = c.get_schedule_group(Name="g")["Arn"]
c.tag_resource(ResourceArn=arn, Tags=[{"Key": "c", "Value": "d"}]); c.untag_resource(ResourceArn=arn, TagKeys=["a"])
assert c.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "c", "Value": "d"}]
for change, error in (({"ScheduleExpression": "rate(5 seconds)"}, c.exceptions.ValidationException), ({"Name": "daily", "GroupName": "g"}, c.exceptions.ConflictException), ({"GroupName": "none"}, c.exceptions.ResourceNotFoundException)):
    try: c.create_schedule(**{**dict(Name="x", ScheduleExpression="rate(1 hour)", FlexibleTimeWindow={"Mode": "OFF"}, Target=t), **change}); raise SystemExit("taken: %s" % change)
    except error: pass
c.delete_schedule_group(Name="g")
try: c.get_schedule(Name="daily", GroupName="g"); raise SystemExit("there")
except c.exceptions.ResourceNotFoundException: pass
print("done")
`
	if out := s.run(dir, "python3", "-c", script); strings.TrimSpace(out) != "done" {
		t.Fatal(out)
	}
	s.loggedTimes("tick", map[string]int{"GOT<now>": 1})
	script = `
import boto3, datetime
c = boto3.client("scheduler")
try: c.get_schedule(Name="now"); raise SystemExit("there after its last time")
except c.exceptions.ResourceNotFoundException: pass
at = "at(%s)" % (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=6)).strftime("%Y-%m-%dT%H:%M:%S")
print(c.create_schedule(Name="down", ScheduleExpression=at, FlexibleTimeWindow={"Mode": "OFF"}, Target={"Arn": "arn:aws:lambda:us-east-1:000000000000:function:tick", "RoleArn": "arn:aws:iam::000000000000:role/r", "Input": '{"what": "down"}'})["ScheduleArn"])
`
	if out := s.run(dir, "python3", "-c", script); strings.TrimSpace(out) != "arn:aws:scheduler:us-east-1:000000000000:schedule/default/down" {
		t.Fatal(out)
	}
	due := time.Now().Add(6 * time.Second)
	s.kill9()
	time.Sleep(time.Until(due)) // the time must pass while nothing runs
	s = startIn(t, s.dir)
	s.loggedTimes("tick", map[string]int{"GOT<down>": 1})
	out, err := s.hearth("logs", "tick")
	if err != nil || strings.Count(out, "GOT<down>") != 1 || strings.Contains(out, "GOT<later>") {
		t.Errorf("%v\n%s", err, out)
	}
}
