package lambda

import (
	"context"
	"net/http"
	"testing"

	sdklogs "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func TestSTSTellsTheCallerWhoItIs(t *testing.T) {
	w := newWorld(t)
	id, err := sts.NewFromConfig(w.aws).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || *id.Account != "000000000000" || *id.Arn != "arn:aws:iam::000000000000:root" || *id.UserId != "000000000000" {
		t.Errorf("identity %+v %v", id, err)
	}
	_, err = sts.NewFromConfig(w.aws).GetSessionToken(t.Context(), &sts.GetSessionTokenInput{})
	wantError(t, err, "InvalidAction", "Could not find operation GetSessionToken for version 2011-06-15")
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
	_, err = c.DeleteLogGroup(ctx, &sdklogs.DeleteLogGroupInput{LogGroupName: groups.LogGroups[0].LogGroupName})
	wantError(t, err, "UnknownOperationException", "DeleteLogGroup")
}
