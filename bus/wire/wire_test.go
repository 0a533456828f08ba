package wire_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/awsjson"
	"github.com/hearth-faas/hearth/bus"
	"github.com/hearth-faas/hearth/bus/wire"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/delivery"
	"github.com/hearth-faas/hearth/schedule"
	"github.com/hearth-faas/hearth/store/storetest"
)

// Requests follow one another, as a client sends them.
func TestTheServiceAnswersAsItsProtocolHasIt(t *testing.T) {
	s, c, log := &storetest.Memory{}, clock.NewFake(time.Unix(1700000000, 0)), slog.New(slog.DiscardHandler)
	h := wire.New(bus.New(bus.Config{
		Store: s, Clock: c, Region: "us-east-1", Log: log,
		Timers: schedule.NewTimers(schedule.TimersConfig{Store: s, Clock: c, Log: log}),
		Queue:  delivery.New(delivery.Config{Store: s, Clock: c, Log: log}),
	}))
	const function = "arn:aws:lambda:us-east-1:111111111111:function:f"
	for _, x := range []struct {
		operation, body string
		status          int
		want            string
	}{
		{"CreateEventBus", `{"Name":"b","Description":"d","Tags":[{"Key":"a","Value":"1"}]}`, 200, `{"EventBusArn":"arn:aws:events:us-east-1:111111111111:event-bus/b","Description":"d"}`},
		{"CreateEventBus", `{"Name":"b"}`, 400, `ResourceAlreadyExistsException`},
		{"CreateEventBus", `{"Name":"a","EventSourceName":"aws.partner/x/y"}`, 400, `Partner`},
		{"UpdateEventBus", `{"Name":"b","Description":"e"}`, 200, `"Description":"e"`},
		{"DescribeEventBus", `{"Name":"b"}`, 200, `"CreationTime":1700000000`},
		{"DescribeEventBus", `{}`, 200, `{"Name":"default","Arn":"arn:aws:events:us-east-1:111111111111:event-bus/default"}`},
		{"ListEventBuses", `{"Limit":1}`, 200, `{"EventBuses":[{"Name":"default"`},
		{"PutRule", `{"Name":"r","EventBusName":"b","EventPattern":"{\"a\":[1]}"}`, 200, `{"RuleArn":"arn:aws:events:us-east-1:111111111111:rule/b/r"}`},
		{"PutRule", `{"Name":"r","EventPattern":"{\"a\":1}"}`, 400, `{"__type":"InvalidEventPatternException","message":"Event pattern is not valid. Reason: a: must be`},
		{"PutTargets", `{"Rule":"r","EventBusName":"b","Targets":[{"Id":"1","Arn":"` + function + `","RetryPolicy":{"MaximumRetryAttempts":2}},{"Id":"2","Arn":"no"}]}`, 200,
			`{"FailedEntryCount":1,"FailedEntries":[{"TargetId":"2","ErrorCode":"ValidationException","ErrorMessage":"Provided Arn`},
		{"PutTargets", `{"Rule":"none","EventBusName":"b","Targets":[{"Id":"1","Arn":"` + function + `"}]}`, 400, `Rule none does not exist on EventBus b.`},
		{"ListTargetsByRule", `{"Rule":"r","EventBusName":"b"}`, 200, `{"Targets":[{"Id":"1","Arn":"` + function + `","RetryPolicy":{"MaximumRetryAttempts":2,"MaximumEventAgeInSeconds":86400}}]}`},
		{"ListRuleNamesByTarget", `{"TargetArn":"` + function + `","EventBusName":"b"}`, 200, `{"RuleNames":["r"]}`},
		{"DisableRule", `{"Name":"r","EventBusName":"b"}`, 200, `{}`},
		{"DescribeRule", `{"Name":"r","EventBusName":"arn:aws:events:us-east-1:111111111111:event-bus/b"}`, 200, `"State":"DISABLED"`},
		{"EnableRule", `{"Name":"r","EventBusName":"b"}`, 200, `{}`},
		{"ListRules", `{"EventBusName":"b","NamePrefix":"r"}`, 200, `"State":"ENABLED"`},
		{"TagResource", `{"ResourceARN":"arn:aws:events:us-east-1:111111111111:rule/b/r","Tags":[{"Key":"k","Value":"v"},{"Key":"l","Value":""}]}`, 200, `{}`},
		{"UntagResource", `{"ResourceARN":"arn:aws:events:us-east-1:111111111111:rule/b/r","TagKeys":["l"]}`, 200, `{}`},
		{"ListTagsForResource", `{"ResourceARN":"arn:aws:events:us-east-1:111111111111:rule/b/r"}`, 200, `{"Tags":[{"Key":"k","Value":"v"}]}`},
		{"ListTagsForResource", `{"ResourceARN":"arn:aws:events:us-east-1:222222222222:rule/b/r"}`, 400, `ResourceARN`},
		{"PutEvents", `{"Entries":[{"EventBusName":"b","Source":"s","DetailType":"d","Detail":"{}","Time":1700000000.5},{"Source":"aws.x","DetailType":"d","Detail":"{}"}]}`, 200, `{"FailedEntryCount":1,"Entries":[{"EventId":"`},
		{"PutEvents", `{"Entries":[]}`, 400, `between 1 and 10`},
		{"PutEvents", `{"EndpointId":"x.y","Entries":[{}]}`, 400, `Global endpoints`},
		{"TestEventPattern", `{"EventPattern":"{\"a\":[{\"exists\":false}]}","Event":"{}"}`, 200, `{"Result":true}`},
		{"DeleteEventBus", `{"Name":"b"}`, 400, `has rules`},
		{"DeleteRule", `{"Name":"r","EventBusName":"b"}`, 400, `since it has targets`},
		{"RemoveTargets", `{"Rule":"r","EventBusName":"b","Ids":["1","9"]}`, 200, `{"FailedEntryCount":1,"FailedEntries":[{"TargetId":"9"`},
		{"DeleteRule", `{"Name":"r","EventBusName":"b"}`, 200, `{}`},
		{"DeleteEventBus", `{"Name":"b"}`, 200, `{}`},
		{"DescribeEventBus", `{"Name":"b"}`, 400, `ResourceNotFoundException`},
		{"CreateArchive", `{}`, 400, `UnknownOperationException`},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", http.NoBody)
		r.Header.Set("X-Amz-Target", "AWSEvents."+x.operation)
		w := httptest.NewRecorder()
		err := h.Serve(w, &awsjson.Request{Caller: hearth.Identity{Account: "111111111111"}, HTTP: r, Body: []byte(x.body)})
		if w.Code != x.status || !strings.Contains(w.Body.String(), x.want) || (err == nil) != (x.status == 200) {
			t.Errorf("%s %s: %d %s", x.operation, x.body, w.Code, w.Body)
		}
	}
}
