package lambda

import (
	"context"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/audit"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/worker/logs"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"

	sdklogs "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func TestSTSTellsTheCallerWhoItIs(t *testing.T) {
	w := newWorld(t)
	id, err := sts.NewFromConfig(w.aws).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || *id.Account != "000000000000" || *id.Arn != "arn:aws:iam::000000000000:root" || *id.UserId != "000000000000" {
		t.Errorf("identity %+v %v", id, err)
	}
	_, err = sts.NewFromConfig(w.aws).GetFederationToken(t.Context(), &sts.GetFederationTokenInput{Name: new("bob")})
	wantError(t, err, "InvalidAction", "GetFederationToken is not built")
}

func TestAPresignedSTSRequestIsServed(t *testing.T) {
	w := newWorld(t)
	signed, err := sts.NewPresignClient(sts.NewFromConfig(w.aws)).PresignGetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(signed.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestLogsAreReadWithTheSDK(t *testing.T) {
	w := newWorld(t)
	c := sdklogs.NewFromConfig(w.aws)
	ctx := context.Background()
	groups, err := c.DescribeLogGroups(ctx, &sdklogs.DescribeLogGroupsInput{LogGroupNamePrefix: new("/aws/")})
	if err != nil || len(groups.LogGroups) != 1 || *groups.NextToken != "more" || *groups.LogGroups[0].Arn != "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/hello:*" {
		t.Fatalf("groups %+v %v", groups, err)
	}
	streams, err := c.DescribeLogStreams(ctx, &sdklogs.DescribeLogStreamsInput{LogGroupIdentifier: groups.LogGroups[0].LogGroupArn})
	if err != nil || len(streams.LogStreams) != 1 || *streams.LogStreams[0].LastEventTimestamp != testNow.UnixMilli() {
		t.Fatalf("streams %+v %v", streams, err)
	}
	_, err = c.DescribeLogStreams(ctx, &sdklogs.DescribeLogStreamsInput{LogGroupName: new("other")})
	wantError(t, err, "ResourceNotFoundException", "The specified log group does not exist.")
	events, err := c.GetLogEvents(ctx, &sdklogs.GetLogEventsInput{LogGroupName: groups.LogGroups[0].LogGroupName, LogStreamName: streams.LogStreams[0].LogStreamName})
	if err != nil || len(events.Events) != 4 || *events.NextForwardToken != "f/1" || *events.Events[1].Message != "hello world" {
		t.Fatalf("events %+v %v", events, err)
	}
	filtered, err := c.FilterLogEvents(ctx, &sdklogs.FilterLogEventsInput{LogGroupName: groups.LogGroups[0].LogGroupName, FilterPattern: new("?ERROR ?hello")})
	if err != nil || len(filtered.Events) != 2 || *filtered.Events[0].EventId != "1" {
		t.Errorf("filtered %+v %v", filtered, err)
	}
	_, err = c.FilterLogEvents(ctx, &sdklogs.FilterLogEventsInput{LogGroupName: groups.LogGroups[0].LogGroupName, FilterPattern: new(`"open`)})
	wantError(t, err, "InvalidParameterException", "Invalid filter pattern")
	_, err = c.PutMetricFilter(ctx, &sdklogs.PutMetricFilterInput{LogGroupName: groups.LogGroups[0].LogGroupName, FilterName: new("f"), FilterPattern: new(""), MetricTransformations: []types.MetricTransformation{{MetricName: new("m"), MetricNamespace: new("n"), MetricValue: new("1")}}})
	wantError(t, err, "UnknownOperationException", "PutMetricFilter")
}

func TestLogGroupsAreMadeChangedAndDeletedWithTheSDK(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		store, err := logs.Open(logs.Options{Dir: t.TempDir(), Clock: c.Clock})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		c.Logs = store
	})
	c, ctx := sdklogs.NewFromConfig(w.aws), t.Context()
	name, arn := new("/aws/lambda/f"), new("arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f")
	for range 2 {
		_, err := c.CreateLogGroup(ctx, &sdklogs.CreateLogGroupInput{LogGroupName: name, Tags: map[string]string{"a": "1", "b": "2"}})
		if err == nil {
			continue
		}
		wantError(t, err, "ResourceAlreadyExistsException", "The specified log group already exists")
	}
	for _, in := range []*sdklogs.CreateLogGroupInput{
		{LogGroupName: new("no spaces")}, {LogGroupName: new(strings.Repeat("x", 513))},
		{LogGroupName: new("ok"), LogGroupClass: "GREEN"}, {LogGroupName: new("ok"), Tags: map[string]string{"aws:x": ""}},
	} {
		_, err := c.CreateLogGroup(ctx, in)
		wantError(t, err, "InvalidParameterException", "")
	}
	describe := func(in *sdklogs.DescribeLogGroupsInput) []types.LogGroup {
		t.Helper()
		out, err := c.DescribeLogGroups(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		return out.LogGroups
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.PutRetentionPolicy(ctx, &sdklogs.PutRetentionPolicyInput{LogGroupName: name, RetentionInDays: new(int32(2))})
	wantError(t, err, "InvalidParameterException", "Member must satisfy enum value set: [1, 3, 5, 7, 14")
	_, err = c.PutRetentionPolicy(ctx, &sdklogs.PutRetentionPolicyInput{LogGroupName: name, RetentionInDays: new(int32(14))})
	do(err)
	if gs := describe(&sdklogs.DescribeLogGroupsInput{LogGroupNamePattern: new("lambda")}); len(gs) != 1 || *gs[0].RetentionInDays != 14 || gs[0].LogGroupClass != types.LogGroupClassStandard || *gs[0].LogGroupArn != *arn {
		t.Errorf("%+v", gs)
	}
	if gs := describe(&sdklogs.DescribeLogGroupsInput{LogGroupNamePattern: new("other")}); len(gs) != 0 {
		t.Errorf("%+v", gs)
	}
	_, err = c.DeleteRetentionPolicy(ctx, &sdklogs.DeleteRetentionPolicyInput{LogGroupName: name})
	do(err)
	if gs := describe(&sdklogs.DescribeLogGroupsInput{}); len(gs) != 1 || gs[0].RetentionInDays != nil {
		t.Errorf("%+v", gs)
	}
	_, err = c.TagResource(ctx, &sdklogs.TagResourceInput{ResourceArn: arn, Tags: map[string]string{"b": "3", "c": "4"}})
	do(err)
	_, err = c.UntagResource(ctx, &sdklogs.UntagResourceInput{ResourceArn: arn, TagKeys: []string{"a"}})
	do(err)
	tags, err := c.ListTagsForResource(ctx, &sdklogs.ListTagsForResourceInput{ResourceArn: arn})
	if err != nil || !maps.Equal(tags.Tags, map[string]string{"b": "3", "c": "4"}) {
		t.Errorf("%+v %v", tags, err)
	}
	many := map[string]string{}
	for i := range 50 {
		many[strconv.Itoa(i)] = ""
	}
	_, err = c.TagResource(ctx, &sdklogs.TagResourceInput{ResourceArn: arn, Tags: many})
	wantError(t, err, "TooManyTagsException", "50")
	_, err = c.PutLogGroupDeletionProtection(ctx, &sdklogs.PutLogGroupDeletionProtectionInput{LogGroupIdentifier: arn, DeletionProtectionEnabled: new(true)})
	do(err)
	_, err = c.DeleteLogGroup(ctx, &sdklogs.DeleteLogGroupInput{LogGroupName: name})
	wantError(t, err, "InvalidParameterException", "deletion protection")
	_, err = c.PutLogGroupDeletionProtection(ctx, &sdklogs.PutLogGroupDeletionProtectionInput{LogGroupIdentifier: name, DeletionProtectionEnabled: new(false)})
	do(err)
	_, err = c.DeleteLogGroup(ctx, &sdklogs.DeleteLogGroupInput{LogGroupName: name})
	do(err)
	_, err = c.DeleteLogGroup(ctx, &sdklogs.DeleteLogGroupInput{LogGroupName: name})
	wantError(t, err, "ResourceNotFoundException", "The specified log group does not exist.")
	_, err = c.ListTagsForResource(ctx, &sdklogs.ListTagsForResourceInput{ResourceArn: arn})
	wantError(t, err, "ResourceNotFoundException", "")
}

// onlyRole lets pass one role alone.
type onlyRole string

func (r onlyRole) PassToFunction(account hearth.Account, role, function string) error {
	if role != string(r) || account != testAccount || function != "arn:aws:lambda:us-east-1:000000000000:function:f" {
		return hearth.Errorf(hearth.InvalidParameter, "The role defined for the function cannot be assumed by Lambda.")
	}
	return nil
}

func TestAFunctionGetsOnlyARoleThatMayBePassed(t *testing.T) {
	const good, bad = "arn:aws:iam::000000000000:role/good", "arn:aws:iam::000000000000:role/bad"
	w := newWorld(t, func(c *Config) { c.Roles = onlyRole(good) })
	in := createInput("f")
	in.Role = new(bad)
	_, err := w.lambda.CreateFunction(t.Context(), in)
	wantError(t, err, "InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda.")
	in.Role = new(good)
	if _, err := w.lambda.CreateFunction(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	update := func(role *string) error {
		_, err := w.lambda.UpdateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: new("f"), Timeout: new(int32(5)), Role: role})
		return err
	}
	wantError(t, update(new(bad)), "InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda.")
	if err := update(nil); err != nil {
		t.Error(err)
	}
}

func TestNeighboursCountAmongAnAccountsRequests(t *testing.T) {
	log, err := audit.Open(audit.Config{Dir: t.TempDir(), Clock: clock.System(), Key: plain{}})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *Config) { c.Rate, c.Audit = 3, log })
	identity := func() error {
		_, err := sts.NewFromConfig(w.aws).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
		return err
	}
	for i := range 6 {
		if err := identity(); err != nil {
			t.Fatalf("request %d: %v", i+1, err)
		}
	}
	wantError(t, identity(), "Throttling", "Rate exceeded")
	_, err = w.lambda.ListFunctions(t.Context(), &sdk.ListFunctionsInput{})
	wantError(t, err, "TooManyRequestsException", "Rate exceeded")
	if err := log.Close(); err != nil { // then all is written
		t.Fatal(err)
	}
	for _, action := range []string{"sts:GetCallerIdentity", "lambda:ListFunctions"} {
		refused, err := log.Find(audit.Filter{Action: action, Errors: true, Limit: 10})
		if err != nil || len(refused) != 1 || refused[0].ErrorCode != "TooManyRequestsException" || refused[0].Account != testAccount {
			t.Errorf("refused %s, as recorded: %+v, %v", action, refused, err)
		}
	}
}

func TestMessagesAreNoRequestsOfTheControlPlane(t *testing.T) {
	for target, limited := range map[string]bool{"AmazonSQS.SendMessage": false, "AmazonSQS.CreateQueue": true, "AWSEvents.PutEvents": false, "AWSEvents.PutRule": true} {
		r, err := http.NewRequest(http.MethodPost, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Target", target)
		if got := !carriers[neighbourOperation(nil, r, nil)]; got != limited {
			t.Errorf("%s: limited is %v", target, got)
		}
	}
	r, err := http.NewRequest(http.MethodPost, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	for body, want := range map[string]string{"Action=ReceiveMessage&QueueUrl=x": "ReceiveMessage", "a=%zz": "unknown", "": "unknown"} {
		if got := neighbourOperation(nil, r, []byte(body)); got != want {
			t.Errorf("%q is %q", body, got)
		}
	}
}

func TestAMalformedRequestIsTheClientsMistake(t *testing.T) {
	for _, kind := range []hearth.Kind{hearth.Malformed, hearth.MalformedInput} {
		if s := shapeOf(kind); s.status != http.StatusBadRequest || s.fault == "Server" {
			t.Errorf("%s is %+v", kind, s)
		}
	}
}
